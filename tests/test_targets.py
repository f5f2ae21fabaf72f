"""Targets on a real contract, beside a plain pandas version; and at full size."""
import time

import numpy as np
import pandas as pd
import pytest

from futures_nb.bars import read_bars
from futures_nb.sessions import to_sessions
from futures_nb.splits import WalkForward
from futures_nb.synth import synth_bars
from futures_nb.targets import label_uniqueness, make_target, row_dates


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
    np.testing.assert_allclose(target["y"], want, rtol=0, atol=1e-15)
    assert target["y"].isna().sum() == (date == date.max()).sum()
    told = target.attrs["target"]
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
