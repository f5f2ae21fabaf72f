"""Targets on a real contract, beside a plain pandas version; and at full size."""
import time

import numpy as np
import pandas as pd
import pytest

from futures_nb.bars import read_bars
from futures_nb.labels import label_uniqueness, row_dates
from futures_nb.schema import make_index
from futures_nb.sessions import to_sessions
from futures_nb.splits import WalkForward
from futures_nb.synth import synth_bars
from futures_nb.targets import make_target


@pytest.fixture(scope="module")
def es(es_file):
    return read_bars([es_file])


def test_next_close_of_a_real_contract(es):
    target = make_target(es)
    date = to_sessions(es)["trade_date"].to_numpy()
    last = es["close"].groupby(date).last()
    want = np.log(last.shift(-1).reindex(date).to_numpy() / es["close"].to_numpy())
    gap = pd.Series(last.index).diff(-1).abs().max()
    assert gap <= pd.Timedelta("5D")          # Thanksgiving, Christmas and New Year are inside, no hole is
    told, days = target.attrs["target"], np.unique(date)
    assert told["missing"]["unfinished"] == (date == days[-2]).sum() > 0   # the file ends at 10:18 in Chicago
    np.testing.assert_allclose(target["y"], np.where(date >= days[-2], np.nan, want), rtol=0, atol=1e-15)
    assert told["missing"]["hole"] == told["missing"]["bad_price"] == 0
    assert 0 < told["n_independent"] < len(last)      # 70,000 rows are fewer answers than there are days


def test_a_clip_of_ten_percent_never_binds(es):
    assert make_target(es, clip=0.1).attrs["target"]["n_clipped"] == 0


def test_dates_are_those_of_the_sessions(es):
    assert (row_dates(es.index) == to_sessions(es)["trade_date"].to_numpy()).all()


def test_a_trade_date_column_is_used(es):
    pd.testing.assert_frame_equal(make_target(to_sessions(es)), make_target(es))


def test_folds_of_a_real_contract(es):
    target = make_target(es)
    folds = WalkForward().folds(target)
    ts = target.index.get_level_values("ts")
    for fold in folds:
        assert target["t1"].iloc[fold.train].max() < ts[fold.valid].min() < ts[fold.test].min()
        assert target["t1"].iloc[fold.valid].max() < ts[fold.test].min()
    assert sum(len(f.test) for f in folds) == len(set(np.concatenate([f.test for f in folds])))


def test_uniqueness_of_five_thousand_real_labels(es):
    target = make_target(es).dropna().iloc[20_000:25_000]
    t0, t1 = target.index.get_level_values("ts").asi8, pd.DatetimeIndex(target["t1"]).asi8
    grid = np.unique(np.concatenate([t0, t1]))
    alive = np.zeros(len(grid))
    for a, b in zip(t0, t1):
        alive[(grid > a) & (grid <= b)] += 1
    dense = [np.mean(1 / alive[(grid > a) & (grid <= b)]) for a, b in zip(t0, t1)]
    np.testing.assert_allclose(label_uniqueness(target.index.get_level_values("ts"), target["t1"]), dense, rtol=1e-9)


@pytest.mark.slow
def test_a_million_rows_take_seconds():
    bars = synth_bars(n_contracts=12, n_days=70, overlap=4)
    start = time.perf_counter()
    target = make_target(bars)
    folds = WalkForward().folds(target)
    seconds = time.perf_counter() - start
    assert len(bars) > 1_100_000 and len(folds) == 5
    assert seconds < 15


def in_nanoseconds(frame):
    return frame.set_index(frame.index.set_levels(frame.index.levels[1].astype("datetime64[ns, UTC]"), level="ts"))


@pytest.mark.parametrize("horizon", ["1D", 3])
def test_nanoseconds_are_the_same_moments(horizon):
    bars = synth_bars(n_contracts=2, n_days=14, overlap=3, minutes=60)
    want, got = make_target(bars, horizon=horizon), make_target(in_nanoseconds(bars), horizon=horizon)
    pd.testing.assert_frame_equal(got.reset_index(drop=True), want.reset_index(drop=True))
    assert got.attrs == want.attrs
    for one, two in zip(WalkForward(n_folds=3).folds(want), WalkForward(n_folds=3).folds(got)):
        for part in ("train", "valid", "test"):
            np.testing.assert_array_equal(getattr(one, part), getattr(two, part))
        assert one.info == two.info


@pytest.mark.parametrize("horizon", ["1D", "2D", 1, 7])
def test_a_label_once_known_never_changes(horizon):
    """Cut anywhere, with bars missing and the last minutes of some days among them: what is there is what will be there."""
    rng, n_absent = np.random.default_rng(5), 0
    for seed in range(2):
        bars = synth_bars(n_contracts=3, n_days=8, overlap=2, minutes=15, seed=seed)
        bars = bars[rng.random(len(bars)) < 0.6]
        whole, ts = make_target(bars, horizon=horizon), bars.index.get_level_values("ts")
        date = row_dates(bars.index)
        last_bars = ts[:-1][date[1:] != date[:-1]]
        for cut in [*rng.choice(ts.unique(), 20), *rng.choice(last_bars, 8)]:
            part = make_target(bars[ts <= cut], horizon=horizon)
            known = part["y"].notna().to_numpy()
            later = whole.loc[part.index[known]]
            pd.testing.assert_frame_equal(part.loc[known, ["y", "t1"]], later[["y", "t1"]], check_exact=True)
            n_absent += int(((whole["t1"] <= cut) & ~whole.index.isin(part.index[known])).sum())
            assert known.sum() > 0 or cut < ts.min() + pd.Timedelta("4D")
    assert (n_absent > 0) == isinstance(horizon, str)     # the close of a day whose last minutes did not trade is known later than its last bar


def test_a_date_is_finished_by_its_last_minute_or_by_a_later_bar_of_the_market():
    bars = synth_bars(n_contracts=1, n_days=4, overlap=0, minutes=30)
    assert bars.index[0][0] == "ESH22"
    bars = pd.concat([bars, bars.set_axis(make_index("ESM22", bars.index.get_level_values("ts")))])
    date = row_dates(bars.index)
    front = bars.index.get_level_values("contract") == bars.index[0][0]
    last = date == date.max()
    whole = make_target(bars)
    assert whole.attrs["target"]["missing"]["unfinished"] == 0                                # both reach the close
    ts = bars.index.get_level_values("ts")
    early = bars[~(last & (ts > ts[last].min() + pd.Timedelta("5h")))]
    told = make_target(early).attrs["target"]["missing"]
    assert told["unfinished"] == (date == date[~last].max()).sum()                     # the open session: no label
    other_goes_on = bars[~(front & (ts == ts[front].max()))]                                  # one contract's last bar is missing
    assert make_target(other_goes_on).attrs["target"]["missing"]["unfinished"] == (front & ~last & (date == date[~last].max())).sum()
    day_before = front & (date == date[~last].max())                                          # the day before: a later bar is there
    assert make_target(bars[~(day_before & (ts == ts[day_before].max()))]).attrs["target"]["missing"]["unfinished"] == 0
