"""Targets on real contracts, beside plain versions; their laws on random markets; and at full size."""
import json
import time

import numpy as np
import pandas as pd
import pytest

from futures_nb.barriers import known_volatility
from futures_nb.bars import read_bars
from futures_nb.health import assert_scale_free
from futures_nb.kfold import PurgedKFold
from futures_nb.labels import label_uniqueness, row_dates
from futures_nb.schema import DataError, make_index
from futures_nb.sessions import session_table, to_sessions
from futures_nb.splits import WalkForward
from futures_nb.synth import synth_bars
from futures_nb.targets import KINDS, FittedRank, check_fitted, describe_target, fitted_from_dict, inverse_target, make_target
from futures_nb.testing import assert_causal


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


# ---- the kinds

def market(**options):
    return synth_bars(**(dict(n_contracts=3, n_days=16, overlap=3, minutes=15, roll_gap=0.2, seed=3) | options))


def signal(bars, seed=0):
    return pd.Series(np.random.default_rng(seed).choice([-1.0, 0.0, 1.0, np.nan], len(bars)), bars.index)


def first_half(bars):
    ts = bars.index.get_level_values("ts")
    return np.flatnonzero(ts < ts.sort_values()[len(ts) // 2])


def asked(kind, bars):
    """Options of `kind` that use all it can."""
    first = first_half(bars)
    return {"rank": dict(fit_on=first), "direction": dict(fit_on=first, band=(0.3, "volatility")), "triple_barrier": dict(fit_on=first, barriers=(1.5, 0.7)),
            "meta": dict(fit_on=first, side=signal(bars), barriers=(1.2, 0.8), band=(1, "ticks"))}.get(kind, {})


def fitted(kind, bars):
    """The same, with what is fitted given, so that it does not change with the bars."""
    options = asked(kind, bars)
    if "fit_on" in options: options["fit_on"] = fitted_from_dict(make_target(bars, kind=kind, **options).attrs["target"]["fitted"])
    return options


FITTED = ("rank", "direction", "triple_barrier", "meta")


@pytest.mark.parametrize("horizon", ["1D", "2D", 7])
@pytest.mark.parametrize("kind", KINDS)
def test_no_label_crosses_a_contract_or_ends_before_it_begins(kind, horizon):
    bars = market(missing=0.2)
    target = make_target(bars, kind=kind, horizon=horizon, **asked(kind, bars))
    known = target.dropna(subset="y")
    contract, ts = known.index.get_level_values("contract"), known.index.get_level_values("ts")
    last = pd.Series(bars.index.get_level_values("ts"), bars.index).groupby("contract", sort=False).max()
    assert len(known) > 900 and (known["t1"] > ts).all() and (known["t1"].to_numpy() <= last[contract].to_numpy()).all()
    assert pd.MultiIndex.from_arrays([contract, known["t1"]]).isin(bars.index).all()      # t1 is a bar of the same contract
    assert target.loc[target["y"].isna(), ["t1", "weight"]].isna().all(axis=None) and known["weight"].between(0, 1, inclusive="right").all()
    if isinstance(horizon, int): assert (row_dates(known.index) == row_dates(known.index, known["t1"])).all()
    for column in {"ret", "sigma"} & set(known): assert known[column].notna().all()
    if "ret" in known: assert known["ret"].abs().max() < 0.15 < np.log(1.2)
    told = target.attrs["target"]
    assert told["n"] + sum(told["missing"].values()) == len(bars) and json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("kind", KINDS)
def test_the_future_after_t1_changes_no_answer(kind):
    bars, rng, n = market(), np.random.default_rng(1), 0
    options, ts = fitted(kind, bars), bars.index.get_level_values("ts")
    for horizon in ("1D", 9):
        whole = make_target(bars, kind=kind, horizon=horizon, **options)
        for cut in rng.choice(ts.unique()[300:], 4):
            noise = np.sort(rng.uniform(1, 9000, (len(bars), 4)), axis=1)
            other = bars.assign(**{c: bars[c].where(ts <= cut, noise[:, k]) for k, c in enumerate(("low", "open", "close", "high"))})
            settled = (whole["t1"] <= cut).to_numpy()
            part = make_target(other, kind=kind, horizon=horizon, **options)
            pd.testing.assert_frame_equal(part[settled].drop(columns="weight"), whole[settled].drop(columns="weight"), check_exact=True)
            n += settled.sum()
    assert n > 1000


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_once_given_stays(kind):
    bars, rng = market(missing=0.3), np.random.default_rng(2)
    options, ts = fitted(kind, bars), bars.index.get_level_values("ts")
    for horizon in ("1D", 5):
        whole = make_target(bars, kind=kind, horizon=horizon, **options)
        for cut in rng.choice(ts.unique()[400:], 4):
            early = options | ({"side": options["side"][ts <= cut]} if kind == "meta" else {})
            part = make_target(bars[ts <= cut], kind=kind, horizon=horizon, **early).dropna(subset="y").drop(columns="weight")
            pd.testing.assert_frame_equal(part, whole.loc[part.index].drop(columns="weight"), check_exact=True)
            assert len(part) > 100


def test_a_row_is_never_left_out_for_its_answer():
    """The rows with a label are those of any other prices at the same times."""
    bars, rng = market(), np.random.default_rng(4)
    other = bars.assign(**dict(zip(("low", "open", "close", "high"), np.sort(4000 * np.exp(rng.normal(0, 0.05, (len(bars), 4))), axis=1).T)))
    for kind in KINDS:
        options = asked(kind, bars)
        assert (make_target(bars, kind=kind, **options)["y"].isna() == make_target(other, kind=kind, **options)["y"].isna()).all(), kind


@pytest.mark.parametrize("kind", KINDS)
def test_back_to_returns(kind):
    bars = market()
    target = make_target(bars, kind=kind, **asked(kind, bars)).dropna(subset="y")
    returns = make_target(bars)["y"][target.index].to_numpy()
    y, back = target["y"].to_numpy(), inverse_target(target, target["y"])
    if kind in ("return", "quantile", "vol_scaled"):
        np.testing.assert_allclose(back, returns, rtol=1e-14)
        np.testing.assert_allclose(inverse_target(target, np.stack([y] * 5, axis=1)), np.stack([returns] * 5, axis=1), rtol=1e-14)
    elif kind == "rank":
        inside = np.abs(y) < 1
        np.testing.assert_allclose(back[inside], returns[inside], rtol=1e-8, atol=1e-12)
        assert inside.mean() > 0.9 and (np.sign(back) == np.sign(returns)).all()
    elif kind == "realised_vol": np.testing.assert_array_equal(back, y)
    else:
        scale, sign = target["sigma"].to_numpy(), target["side"].to_numpy() if kind == "meta" else 1.0
        rows = np.isin(bars.index.get_indexer(target.index), first_half(bars))
        for c in np.unique(y):        # what a class is worth is its mean over the train rows, in units of volatility
            mean = (target["ret"] * sign / scale)[rows & (y == c)].mean()
            np.testing.assert_allclose((back * sign / scale)[y == c], mean, rtol=1e-9)
        one = target.iloc[:1]
        classes = np.unique(y)
        mixed = np.full((1, len(classes)), 1 / len(classes))
        np.testing.assert_allclose(inverse_target(one, mixed), np.mean([inverse_target(one, [c]) for c in classes]), rtol=1e-12)


def test_a_part_of_the_rows_comes_back_by_itself():
    bars = market()
    target = make_target(bars, kind="vol_scaled").dropna(subset="y")
    part = target.iloc[100:200]
    np.testing.assert_allclose(inverse_target(part, part["y"]), make_target(bars)["y"][part.index], rtol=1e-14)


# ---- ranks and other fitted things

@pytest.mark.parametrize("seed", range(8))
def test_signed_ranks(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5000))
    returns = rng.choice([1e-2, 1e-9, 1.0]) * rng.standard_t(2.5, n)
    if seed % 2: returns = np.round(returns, rng.integers(1, 5))          # ties and zeros
    if not np.abs(returns).max() > 0: returns[0] = 0.1
    rank = FittedRank.fit(returns)
    z = rank.transform(returns)
    assert (np.sign(z) == np.sign(returns)).all() and np.abs(z).max() == 1
    assert (np.diff(z[np.argsort(returns, kind="stable")]) >= 0).all()
    share = np.searchsorted(np.sort(np.abs(returns)), np.abs(returns), side="right") / n       # of the sizes no larger
    moved = returns != 0
    assert np.abs(np.abs(z) - share)[moved].max() <= rank.error + 1e-12 <= 0.002 + 1e-12
    assert len(rank.x) <= 1001 and (np.diff(rank.x) > 0).all() and (np.diff(rank.p) > 0).all()
    np.testing.assert_allclose(rank.inverse_transform(z), returns, rtol=1e-7, atol=1e-9 * np.abs(returns).max())
    grid = rng.uniform(-3, 3, 500) * np.abs(returns).max()
    assert (np.sign(rank.transform(grid)) == np.sign(grid)).all() and (np.diff(rank.transform(np.sort(grid))) >= 0).all()
    again = fitted_from_dict(json.loads(json.dumps(rank.to_dict())))
    assert again.transform(grid).tobytes() == rank.transform(grid).tobytes()
    with pytest.warns(UserWarning, match="1 of 2 ranks"): assert rank.inverse_transform([0.5, -1.5])[1] == -rank.x[-1]


def test_a_jump_of_the_distribution_stays_a_jump():
    returns = np.append(np.linspace(1e-4, 0.01, 20_000), np.full(10_000, 0.00501))
    rank = FittedRank.fit(returns)
    assert rank.error <= 0.002 and len(rank.x) <= 1001


@pytest.mark.parametrize("kind", FITTED)
def test_fitted_to_json_and_back(kind):
    bars = market()
    target = make_target(bars, kind=kind, **asked(kind, bars))
    told = json.loads(json.dumps(target.attrs["target"]["fitted"]))
    again = make_target(bars, kind=kind, **(asked(kind, bars) | {"fit_on": fitted_from_dict(told)}))
    pd.testing.assert_frame_equal(again, target, check_exact=True)
    assert again.attrs == target.attrs and fitted_from_dict(told).to_dict() == target.attrs["target"]["fitted"]
    known = target.dropna(subset="y")
    np.testing.assert_array_equal(inverse_target(known, known["y"]), inverse_target(again.loc[known.index], known["y"]))


def test_a_fitted_target_does_not_know_the_rows_it_is_applied_to():
    bars, ts = market(), market().index.get_level_values("ts")
    first = first_half(bars)
    cut = ts[first].max()
    other = bars.assign(close=bars["close"].where(ts <= cut, bars["close"] * np.where(np.arange(len(bars)) % 2, 1.3, 0.7)))
    inside = first[(make_target(bars)["t1"].iloc[first] <= cut).to_numpy()]
    for kind, options in (("rank", {}), ("direction", dict(band=(1 / 3, "quantile")))):
        one, two = (make_target(b, kind=kind, fit_on=inside, **options) for b in (bars, other))
        assert one.attrs["target"]["fitted"] == two.attrs["target"]["fitted"]
        pd.testing.assert_frame_equal(one.iloc[inside], two.iloc[inside])


def test_thirds_of_the_train_rows_are_thirds():
    bars = market(minutes=5)
    first = first_half(bars)
    target = make_target(bars, kind="direction", band=(1 / 3, "quantile"), fit_on=first)
    y = target["y"].iloc[first].dropna()
    assert abs((y == 0).mean() - 1 / 3) < 0.01
    fitted_ = fitted_from_dict(target.attrs["target"]["fitted"])
    known = target.dropna(subset="y")
    np.testing.assert_array_equal(fitted_.transform(known["ret"]), known["y"])


def test_folds_positions_and_rows_are_the_same_fit():
    bars = market()
    target = make_target(bars)
    fold = WalkForward(n_folds=2).folds(target)[0]
    frames = [make_target(bars, kind="rank", fit_on=fit_on) for fit_on in (fold, fold.train, bars.index[fold.train])]
    assert frames[0].attrs == frames[1].attrs == frames[2].attrs
    for f in frames[1:]: pd.testing.assert_frame_equal(f, frames[0])
    record = frames[0].attrs["target"]["fitted"]["fitted_on"]
    other = make_target(bars, kind="rank", fit_on=fold.train[1:]).attrs["target"]["fitted"]["fitted_on"]
    assert record["n"] == len(fold.train) == other["n"] + 1 and record["hash"] != other["hash"]


def test_walk_forward_folds_are_not_refused_and_foreign_ones_are():
    bars = market()
    for horizon in ("1D", 4):
        base = make_target(bars, horizon=horizon)
        folds = WalkForward(n_folds=3).folds(base)
        for fold in folds:
            target = make_target(bars, kind="rank", horizon=horizon, fit_on=fold)
            assert check_fitted(target, fold.test) is target and check_fitted(target, fold.valid) is target
            assert check_fitted(target, target.index[fold.test]) is target
            with pytest.raises(DataError, match="fitted on"): check_fitted(target, fold.train[-1:])
        late = make_target(bars, kind="rank", horizon=horizon, fit_on=folds[-1])        # learned from the first fold's test rows
        with pytest.raises(DataError, match=f"{len(folds[0].test)} of {len(folds[0].test)} test rows"): check_fitted(late, folds[0].test)
        assert check_fitted(base, folds[0].test) is base                                # nothing is fitted


@pytest.mark.parametrize("seed", range(6))
def test_refusal_is_that_of_every_pair_of_rows(seed):
    """A row of the frame is refused exactly if its span touches that of a row the target was fitted on."""
    rng, bars, horizon = np.random.default_rng(seed), market(n_contracts=2, n_days=16, minutes=120, overlap=3), ["1D", 2, "2D"][seed % 3]
    target = make_target(bars, horizon=horizon)
    rows = np.flatnonzero(target["y"].notna())
    train = rows[len(rows) // 3:len(rows) // 2] if seed % 2 else rng.choice(rows, int(rng.integers(1, 5)), replace=False)
    ranked, n_free = make_target(bars, kind="rank", horizon=horizon, fit_on=train), 0
    t0, t1 = (pd.DatetimeIndex(t).as_unit("us").asi8 for t in (target.index.get_level_values("ts"), target["t1"]))
    for row in np.setdiff1d(rows, train):
        touches = ((t0[train] <= t1[row]) & (t1[train] >= t0[row])).any()
        if touches:
            with pytest.raises(DataError, match="1 of 1 test rows"): check_fitted(ranked, [row])
        else: check_fitted(ranked, [row])
        n_free += not touches
    assert n_free > 5


def test_blocks_join_over_nights_and_not_over_other_rows():
    bars = market(n_contracts=1, n_days=8)
    target = make_target(bars, horizon=2)
    rows = np.flatnonzero(target["y"].notna())
    blocks = lambda train: make_target(bars, kind="rank", horizon=2, fit_on=train).attrs["target"]["fitted"]["fitted_on"]["blocks"]
    assert len(blocks(rows)) == 1                                     # nothing begins in the nights
    ts = bars.index.get_level_values("ts")
    assert blocks(rows)[0] == [ts[rows[0]].isoformat(), target["t1"].max().isoformat()]
    assert len(blocks(rows[[0, 50, 100]])) == 3


# ---- the kinds against plain versions

def test_direction_against_plain_formulas(es):
    r = make_target(es)["y"]
    two = make_target(es, kind="direction")
    np.testing.assert_array_equal(two["y"], np.where(r.isna(), np.nan, np.where(r > 0, 1, -1)))
    assert two.attrs["target"]["n_zero"] == (r == 0).sum() > 0
    close = es["close"].to_numpy()
    later = pd.Series(close, es.index.get_level_values("ts")).reindex(two["t1"]).to_numpy()       # the close at t1
    for band, points in (((2, "ticks"), 0.5), ((25, "cost"), 0.5), ((30, "cost"), 0.6)):
        three = make_target(es, kind="direction", band=band)
        np.testing.assert_array_equal(three["y"], np.sign(later - close) * (np.abs(later - close) > points))
        assert ((np.abs(later - close) == 0.5) & (three["y"] == 0)).sum() > 10                    # just the band is inside it, up and down
        assert sum(c["n"] for c in three.attrs["target"]["classes"]) == r.notna().sum()
    sigma = known_volatility(es)
    wild = make_target(es, kind="direction", band=(0.5, "volatility"))
    want = np.where(r.isna() | sigma.isna(), np.nan, np.sign(r) * (r.abs() > 0.5 * sigma))
    np.testing.assert_array_equal(wild["y"], want)


def test_realised_vol_of_a_real_contract(es):
    target, r = make_target(es, kind="realised_vol"), np.log(es["close"]).diff().to_numpy()
    known = np.flatnonzero(target["y"].notna())
    place = pd.Series(np.arange(len(es)), es.index.get_level_values("ts"))
    for i in np.random.default_rng(0).choice(known, 60):
        j = place[target["t1"].iloc[i]]
        np.testing.assert_allclose(target["y"].iloc[i], np.sqrt((r[i + 1:j + 1] ** 2).sum()), rtol=1e-12)
    five = make_target(es, kind="realised_vol", horizon=5)
    want = np.sqrt(pd.Series(r**2).rolling(5).sum().shift(-5).to_numpy())
    has = five["y"].notna().to_numpy()
    np.testing.assert_allclose(five["y"][has], want[has], rtol=1e-6, atol=1e-10)
    assert (target["y"].dropna() > 0).all()


def test_barriers_of_a_real_contract(es):
    target, sigma = make_target(es, kind="triple_barrier", barriers=(1.0, 0.5)), known_volatility(es)
    ts, close, high, low = es.index.get_level_values("ts"), *(es[c].to_numpy() for c in ("close", "high", "low"))
    vertical = make_target(es)["t1"]
    known = np.flatnonzero(target["y"].notna())
    assert (target["t1"].dropna() <= vertical[target["t1"].notna()]).all()
    for i in np.random.default_rng(1).choice(known, 60):
        up, down, end = close[i] * np.exp(sigma.iloc[i]), close[i] * np.exp(-0.5 * sigma.iloc[i]), ts.get_loc(vertical.iloc[i])
        hit = np.flatnonzero((high[i + 1:end + 1] >= up) | (low[i + 1:end + 1] <= down))
        at = i + 1 + hit[0] if len(hit) else end
        assert target["t1"].iloc[i] == ts[at]
        if len(hit) == 0: assert target["y"].iloc[i] == 0
        elif not (high[at] >= up and low[at] <= down): assert target["y"].iloc[i] == (1 if high[at] >= up else -1)
    told = target.attrs["target"]
    assert told["n_independent"] > make_target(es).attrs["target"]["n_independent"]      # labels that end sooner share less


def test_meta_is_the_trade(es):
    """Long trades are those of triple_barrier; a short one is a long one in the mirrored market."""
    ones = pd.Series(1.0, es.index)
    long, plain = make_target(es, kind="meta", side=ones, barriers=(1.0, 0.5)), make_target(es, kind="triple_barrier", barriers=(1.0, 0.5))
    pd.testing.assert_frame_equal(long[["t1", "ret", "sigma"]], plain[["t1", "ret", "sigma"]])
    np.testing.assert_array_equal(long["y"], np.where(plain["y"].isna(), np.nan, plain["ret"] > 0))
    short = make_target(es, kind="meta", side=-ones, barriers=(1.0, 0.5))
    k = 4000.0**2                                                                        # prices become k / price
    mirror = es.assign(open=k / es["open"], high=k / es["low"], low=k / es["high"], close=k / es["close"])
    other = make_target(mirror, kind="meta", side=ones, barriers=(1.0, 0.5), volatility=short["sigma"])
    same = (short["t1"] == other["t1"]) | short["t1"].isna()
    assert same.mean() > 0.9999 and (short["y"][same & short["y"].notna()] == other["y"][same & short["y"].notna()]).mean() > 0.9999
    dear = make_target(es, kind="meta", side=ones, barriers=(1.0, 0.5), band=(200, "cost"))
    assert (dear["y"].dropna() <= long["y"].dropna()).all() and dear["y"].sum() < long["y"].sum()


def test_kinds_on_real_nasdaq_bars(data_dir):
    bars = read_bars([data_dir / "nq_firstrate" / "NQ_1min_sample.csv"], contract="NQZ23", source="firstrate")
    for kind in KINDS:
        target = make_target(bars, kind=kind, **asked(kind, bars))
        known = target.dropna(subset="y")
        assert len(known) > 1000 and (known["t1"] > known.index.get_level_values("ts")).all(), kind
        if kind == "rank": assert (np.sign(known["y"]) == np.sign(known["ret"])).all()
    scaled = make_target(bars, kind="vol_scaled").dropna(subset="y")
    assert 0.2 < scaled["y"].std() < 2


def volatility_by_table(bars, horizon):
    """`known_volatility` of one contract from a table, sessions by minutes."""
    at = to_sessions(bars)
    square = np.log(bars["close"]).diff().fillna(0) ** 2
    table = pd.Series(square.to_numpy(), [at["trade_date"].to_numpy(), at["minute"].to_numpy()]).unstack(fill_value=0).reindex(columns=range(1441), fill_value=0)
    out = []
    for date, minute in zip(at["trade_date"], at["minute"]):
        past = table.loc[table.index < date].iloc[-20:]
        mean = past.mean()
        if len(past) < 5: out.append(np.nan)
        elif isinstance(horizon, str): out.append(int(horizon[:-1]) * mean.sum() + mean[minute + 1:].sum())
        else:
            last, ahead = mean[mean > 0].index.max(), horizon * 30
            stop = min(minute + ahead + 30, last)
            first = min(max(minute - 30, -1), stop - 1)
            out.append(mean[first + 1:stop + 1].sum() * ahead / (stop - first))
    return np.maximum(np.sqrt(out), np.log1p(0.25 / bars["close"]))


@pytest.mark.parametrize("horizon", ["1D", "2D", 1, 6])
def test_known_volatility_is_that_of_a_table(horizon):
    bars = market(n_contracts=1, n_days=27, minutes=30, overlap=0, missing=0.1, seed=5)
    np.testing.assert_allclose(known_volatility(bars, horizon), volatility_by_table(bars, horizon), rtol=1e-9)


def test_a_bar_that_touches_both_barriers_is_the_loss():
    bars = market(n_contracts=1, n_days=8, minutes=30, overlap=0)
    wide = bars.assign(high=bars["high"] * 1.2, low=bars["low"] / 1.2)               # every bar touches both, and opens between them
    one = pd.Series(1.0, bars.index)
    for kind, side, options in (("triple_barrier", 1, {}), ("meta", 1, dict(side=one)), ("meta", -1, dict(side=-one))):
        target = make_target(wide, kind=kind, volatility=0.05 * one, **options)
        known = target.dropna(subset="y")
        assert len(known) > 100 and target.attrs["target"]["n_both"] == len(known)
        assert (known["y"] == (-1 if kind == "triple_barrier" else 0)).all()
        np.testing.assert_allclose(known["ret"], -0.05 * side, rtol=1e-12)
    gap = bars.assign(open=bars["close"] * 1.5, high=bars["close"] * 1.6, low=bars["close"] / 1.2)   # opened above: no doubt
    target = make_target(gap, kind="triple_barrier", volatility=0.05 * one)
    assert target.attrs["target"]["n_both"] == 0 and (target["y"].dropna() == 1).all() and (target["ret"].dropna() > 0.3).all()


def test_own_volatility_is_used_and_floored():
    bars = market()
    own = pd.Series(0.01, bars.index)
    own.iloc[::7], own.iloc[3::11] = np.nan, 0.0
    target = make_target(bars, kind="vol_scaled", volatility=own)
    r, tick = make_target(bars)["y"], np.log1p(0.25 / bars["close"])
    np.testing.assert_allclose(target["y"], r / own.where(own.isna() | (own > 0), tick), rtol=1e-14)
    told = target.attrs["target"]
    assert told["n_floored"] == (own == 0).sum() and told["missing"]["no_volatility"] == (own.isna() & r.notna()).sum()


@pytest.mark.parametrize("kind", ["vol_scaled", "triple_barrier"])
def test_volatility_sees_no_future_and_no_level(kind):
    bars = market(n_contracts=2, minutes=30)
    column = lambda b: make_target(b, kind=kind)[["sigma"]] if kind == "vol_scaled" else known_volatility(b, 4).to_frame()
    assert_causal(column, bars, n_cuts=8)
    assert_scale_free(column, bars)


def test_a_quantile_target_is_for_the_pinball_loss():
    """The constant with the smallest mean pinball loss at each level is the quantile of y."""
    target = make_target(market(), kind="quantile", quantiles=(0.1, 0.5, 0.9)).dropna()
    y, levels = target["y"].to_numpy(), np.array(target.attrs["target"]["quantiles"])
    tried = np.quantile(y, np.linspace(0.02, 0.98, 49))
    loss = [[np.maximum(a * (y - q), (a - 1) * (y - q)).mean() for q in tried] for a in levels]
    np.testing.assert_allclose(np.linspace(0.02, 0.98, 49)[np.argmin(loss, axis=1)], levels, atol=0.021)


def test_description_says_it_all():
    bars = market()
    for kind in KINDS:
        said = describe_target(make_target(bars, kind=kind, **asked(kind, bars)))["value"]
        assert {"asked", "labels", "independent", "min", "max", "beyond 5 MAD", "balance"} <= set(said.index), kind
        assert ("fitted on" in said.index) == (kind in FITTED)
    assert "clipped" in describe_target(make_target(bars, clip=0.001)).index
    assert describe_target(make_target(bars.iloc[:3])).loc["labels", "value"] == "0 of 3 rows"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_over_a_million_rows(kind):
    bars = synth_bars(n_contracts=12, n_days=70, overlap=4)
    options = asked(kind, bars)
    start = time.perf_counter()
    target = make_target(bars, kind=kind, **options)
    assert time.perf_counter() - start < 10 and target.attrs["target"]["n"] > 500_000


# ---- what a frame may bring along

def test_a_contract_that_is_only_in_the_levels_is_of_no_account():
    bars = synth_bars(n_contracts=1, n_days=20, minutes=60, seed=1)
    strange = pd.concat([bars.reset_index(), bars.reset_index().assign(contract="XX1!")]).set_index(["contract", "ts"])
    left = strange[strange.index.get_level_values("contract") != "XX1!"]
    for kind in ("return", "direction", "triple_barrier"):
        options = {"band": (1, "ticks")} if kind == "direction" else {}
        pd.testing.assert_frame_equal(make_target(left, kind=kind, **options).reset_index(drop=True), make_target(bars, kind=kind, **options).reset_index(drop=True))


def test_a_fitted_target_says_so_after_a_join():
    bars = synth_bars(n_contracts=1, n_days=40, minutes=60, seed=2)
    ranked = make_target(bars, kind="rank", fit_on=np.arange(len(bars)))
    joined = ranked.join(bars[["volume"]])
    assert "fit" in joined and "target" not in joined.attrs
    for ask in (lambda t: check_fitted(t, np.array([5])), lambda t: PurgedKFold().folds(t)):
        with pytest.raises(DataError, match="record of its rows was lost"): ask(joined)
    joined.attrs = ranked.attrs
    with pytest.raises(DataError, match="was fitted on"): check_fitted(joined, np.array([5]))
    assert "fit" not in make_target(bars)


def test_options_that_make_no_sense_are_refused_and_arrays_are_options():
    bars = synth_bars(n_contracts=1, n_days=20, minutes=60, seed=3)
    for kind, name, value in (("triple_barrier", "barriers", (1.0, 2.0)), ("quantile", "quantiles", (0.1, 0.9))):
        pd.testing.assert_frame_equal(make_target(bars, kind=kind, **{name: np.array(value)}), make_target(bars, kind=kind, **{name: value}))
    with pytest.raises(DataError, match="clip is 0.1"): make_target(bars, clip="0.1")
    sigma = pd.Series(0.01, bars.index)
    sigma.iloc[7] = -1.0
    with pytest.raises(DataError, match="volatility is -1.0 in row"): make_target(bars, kind="vol_scaled", volatility=sigma)
    with pytest.raises(DataError, match="has no trade_date"): make_target(bars.assign(trade_date=pd.NaT))


def test_an_infinite_price_is_no_volatility():
    bars = synth_bars(n_contracts=1, n_days=20, minutes=60, seed=4)
    bars.iloc[60, bars.columns.get_loc("close")] = np.inf
    target = make_target(bars, kind="realised_vol", horizon=5)
    assert np.isfinite(target["y"].dropna()).all() and (target["y"].notna() == target["t1"].notna()).all()


@pytest.mark.parametrize("contract, first, last", [("ESH24", "2024-02-26", "2024-03-14"), ("ESZ24", "2024-10-21", "2024-11-15"), ("ESH25", "2024-11-18", "2024-12-31"), ("ESU24", "2024-06-24", "2024-07-12")])
def test_labels_end_at_the_next_close_over_both_clock_changes_and_half_days(contract, first, last):
    """The exchange's closes move by an hour in UTC, and come early on half days: a label ends on the next session's last bar all the same."""
    table = session_table("ES", first, last)
    ts = pd.DatetimeIndex(np.concatenate([pd.date_range(o + pd.Timedelta("30min"), c, freq="30min").tz_localize(None) for o, c in zip(table["open"], table["close"])]), tz="UTC").as_unit("us")
    close = 5000 + 0.25 * np.random.default_rng(0).integers(-8, 9, len(ts)).cumsum()
    bars = pd.DataFrame({c: close for c in ("open", "high", "low", "close")} | {"volume": 1.0}, make_index(contract, ts))
    assert len({c.time() for c in table["close"]}) >= 2                       # the closes do move
    target, date = make_target(bars), row_dates(bars.index)
    ends = pd.Series(ts, date).groupby(level=0).max()
    want = pd.DatetimeIndex(ends.shift(-1).reindex(date))
    has = target["t1"].notna().to_numpy()
    assert (pd.DatetimeIndex(target["t1"])[has] == want[has]).all() and has[date < ends.index[-2]].all()
    for fold in WalkForward(n_folds=2).folds(target):
        parts = [set(date[rows]) for rows in (fold.train, fold.valid, fold.test)]
        assert not parts[0] & parts[1] and not parts[1] & parts[2] and not parts[0] & parts[2]
        assert target["t1"].iloc[fold.valid].max() < ts[fold.test].min()


def test_a_close_below_zero_has_a_direction_and_barriers_but_no_return():
    """Crude oil's May contract settled at -37.63 on 20 April 2020; a market of our own falls through zero in the same way, day by day."""
    days = pd.bdate_range("2020-03-30", "2020-04-24").drop("2020-04-10")
    close = np.round(20 + np.cumsum(np.random.default_rng(0).normal(0, 0.5, len(days))), 2)
    close[-5:] = -37.63, 10.01, 9.0, 11.0, 12.0
    o = np.r_[close[0], close[:-1]]
    bars = pd.DataFrame({"open": o, "high": np.maximum(o, close), "low": np.minimum(o, close), "close": close},
                        make_index("CLK20", (days + pd.Timedelta("21h")).tz_localize("UTC")))
    at = len(days) - 5
    by_return = make_target(bars, kind="return")
    assert by_return.attrs["target"]["missing"]["bad_price"] == 2 and by_return["y"].iloc[at - 1:at + 1].isna().all()
    for band, want in ((None, [-1, 1]), ((10, "ticks"), [-1, 1]), ((10_000, "ticks"), [0, 0]), ((100.0, "cost"), [-1, 1])):
        target = make_target(bars, kind="direction", band=band, fit_on=np.arange(len(bars)))
        told = target.attrs["target"]
        assert target["y"].iloc[at - 1:at + 1].tolist() == want and target["ret"].iloc[at - 1:at + 1].isna().all()
        assert told["n_no_return"] == 2 and told["missing"]["bad_price"] == 0
        assert told["fitted"]["fitted_on"]["n"] == told["n"] - 2      # the two have no part in a class's mean return
        used = target.dropna(subset=["ret"])
        for c, mean in zip(told["fitted"]["classes"], told["fitted"]["means"]):
            if mean is not None:
                assert abs(mean - used["ret"][used["y"] == c].mean()) < 1e-15
    sigma = pd.Series(0.05, bars.index)
    by_vol = make_target(bars, kind="direction", band=(1, "volatility"), volatility=sigma)
    assert by_vol["y"].iloc[at - 1] == -1 and by_vol.attrs["target"]["missing"]["bad_price"] == 1      # from below zero there is no volatility
    touched = make_target(bars, kind="triple_barrier", volatility=sigma)
    assert touched["y"].iloc[at - 1] == -1 and np.isfinite(touched["ret"].iloc[at - 1]) and np.isnan(touched["y"].iloc[at])
    bars.loc[bars.index[at], "open"] = -1.0                             # it opens below zero: the touch has no log return
    short = make_target(bars, kind="meta", side=pd.Series(-1.0, bars.index), volatility=sigma, band=(10, "ticks"))
    assert short["y"].iloc[at - 1] == 1 and np.isnan(short["ret"].iloc[at - 1]) and short.attrs["target"]["n_no_return"] == 1
    wide = make_target(bars, kind="meta", side=pd.Series(-1.0, bars.index), volatility=sigma, band=(10, "volatility"))
    assert wide["y"].iloc[at - 1] == 1
