"""Purge, embargo and look-back for any labels: random frames against a look at every pair of rows, and against skfolio."""
import json
import pickle
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from futures_nb.kfold import CombinatorialPurged, Nested, PurgedKFold, assemble_paths, inner_split
from futures_nb.schema import DataError, make_index
from futures_nb.splits import Fold, WalkForward
from futures_nb.labels import row_dates
from futures_nb.sessions import session_table
from futures_nb.targets import make_target

DAYS = pd.bdate_range("2025-02-03", periods=16)
WILD_DAYS = pd.bdate_range("2025-02-03", periods=32)
CONTRACTS = ["ESH25", "ESM25", "ESU25"]


@st.composite
def targets(draw):
    """One to three contracts that overlap, a few rows a day at odd minutes, labels that end anywhere, some missing."""
    parts = []
    for k in range(draw(st.integers(1, 3))):
        days = DAYS[2 * k:draw(st.integers(8, 16))]
        minutes = draw(st.lists(st.integers(1, len(days) * 1380), min_size=len(days), max_size=3 * len(days), unique=True))
        minute = np.sort(minutes) - 1
        ts = (days[minute // 1380] - pd.Timedelta("1h") + pd.to_timedelta(minute % 1380 + 1, "min")).tz_localize("UTC")
        span = draw(st.lists(st.sampled_from([1, 60, 1380, 1440, 4320]), min_size=len(ts), max_size=len(ts)))
        y = draw(st.lists(st.sampled_from([1.0, 1.0, 1.0, np.nan]), min_size=len(ts), max_size=len(ts)))
        parts.append(pd.DataFrame({"y": y, "t1": ts + pd.to_timedelta(span, "min")}, make_index(CONTRACTS[k], ts)))
    return pd.concat(parts)


splitters = st.builds(
    WalkForward, n_folds=st.integers(1, 4), train=st.sampled_from([None, None, 5]), valid=st.sampled_from([0, 0.2, 0.4]),
    min_train=st.sampled_from([0.4, 0.6]), embargo=st.sampled_from(["0D", "1D", "3D", "6h", "36h"]),
)


def overlap(t0_a, t1_a, t0_b, t1_b, gap):
    """Any-to-any: does a span of a, lengthened by `gap`, touch a span of b? Shape (a, b)."""
    return (t0_a[:, None] <= t1_b) & (t0_b <= (t1_a + gap)[:, None])


def parts_of(target):
    """ts, t1 [us], their trade dates, and which rows have a label."""
    ts, t1 = target.index.get_level_values("ts").as_unit("us").asi8, pd.DatetimeIndex(target["t1"]).as_unit("us").asi8
    return ts, t1, row_dates(target.index), row_dates(target.index, target["t1"]), target["y"].notna().to_numpy()


def free_of(target, dates, embargo, rows, later):
    """Which of `rows` reach none of `later`, by looking at every pair."""
    ts, t1, date, date_t1, _ = parts_of(target)
    touches = overlap(ts[rows], t1[rows], ts[later], t1[later], pd.Timedelta(embargo) // pd.Timedelta("1us"))
    between = ((dates > date_t1[rows][:, None, None]) & (dates < date[later][None, :, None])).sum(-1)   # (rows, later)
    return ~(touches | (between < pd.Timedelta(embargo).days)).any(axis=1)


def check_walk(target, splitter):
    """Every law of a walk forward; False if there are too few dates for it."""
    try:
        folds = splitter.folds(target)
    except DataError as error:
        assert "labelled trade dates" in str(error)
        return False
    ts, t1, date, date_t1, known = parts_of(target)
    dates = np.unique(date[known])
    tested = np.concatenate([f.test for f in folds])
    assert len(np.unique(tested)) == len(tested)
    assert set(tested) == set(np.flatnonzero(known & (date >= date[tested].min())))
    for fold in folds:
        start_of_test = date[fold.test].min()
        learn = dates[dates < start_of_test][-(splitter.train or len(dates)):]
        n_valid = int(np.ceil(round(splitter.valid * len(learn), 9)))
        in_learn = np.flatnonzero(np.isin(date, learn) & known)
        left = np.unique(date[in_learn[free_of(target, dates, splitter.embargo, in_learn, fold.test)]])
        is_valid = date >= left[-n_valid] if n_valid else np.zeros(len(date), bool)
        blocks = {"train": np.isin(date, learn) & known & ~is_valid, "valid": np.isin(date, learn) & known & is_valid}
        n_purged = 0
        for part, later in (("valid", fold.test), ("train", np.concatenate([np.flatnonzero(blocks["valid"]), fold.test]))):
            rows = np.flatnonzero(blocks[part])
            if len(rows) == 0:
                continue
            free = rows[free_of(target, dates, splitter.embargo, rows, later)]
            assert set(getattr(fold, part)) == set(free)          # nothing kept that reaches, nothing lost that does not
            n_purged += (~free_of(target, dates, "0D", rows, later)).sum()
        for part in (fold.train, fold.valid, fold.test):
            assert part.dtype == np.int64 and (np.diff(ts[part]) >= 0).all() and known[part].all()
        assert fold.info["n_purged"] == n_purged
        assert fold.info["n_train"] + fold.info["n_valid"] + fold.info["n_purged"] + fold.info["n_embargoed"] == blocks["train"].sum() + blocks["valid"].sum()
    return True


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
@given(targets(), splitters)
def test_laws(target, splitter):
    check_walk(target, splitter)


REASON = {"lookback": 1, "embargoed": 2, "purged": 3}


def dense_reasons(target, cv):
    """Why row i may not teach while row j judges, for every pair of rows of the frame: 0 if it may."""
    ts, t1, date, date_t1, _ = parts_of(target)
    why = np.zeros((len(ts), len(ts)), int)
    between = ((np.unique(date) > date_t1[None, :, None]) & (np.unique(date) < date[:, None, None])).sum(-1)
    after = ts[:, None] > t1[None, :]
    for name, gap in (("lookback", pd.Timedelta(cv.lookback)), ("embargoed", pd.Timedelta(cv.embargo))):
        starts_too_soon = ts[:, None] - gap // pd.Timedelta("1us") <= t1[None, :]
        why[after & (starts_too_soon | (between < gap.days))] = REASON[name]
    why[overlap(ts, t1, ts, t1, 0)] = REASON["purged"]
    return why


def block_of(target, n_blocks):
    """Which block of trade dates each row is in, -1 without a label."""
    *_, date, _, known = parts_of(target)
    dates = np.unique(date[known])
    edges = np.round(np.linspace(0, len(dates), n_blocks + 1)).astype(int)
    block = np.searchsorted(edges, np.searchsorted(dates, date), "right") - 1
    return np.where(known, block, -1)


def check_kfold(target, cv):
    """Every law of a k-fold, combinatorial or not; False if walls or dates leave too little, as the pairs say too."""
    n_blocks, n_test = (cv.n_folds, 1) if isinstance(cv, PurgedKFold) else (cv.n_blocks, cv.n_test)
    ts, _, date, _, known = parts_of(target)
    why, block, choices = dense_reasons(target, cv), block_of(target, n_blocks), list(combinations(range(n_blocks), n_test))
    tests = [np.flatnonzero(np.isin(block, blocks)) for blocks in choices]
    reasons = [np.where(known & ~np.isin(block, blocks), why[:, test].max(axis=1, initial=0), -1) for blocks, test in zip(choices, tests)]
    try:
        folds = cv.folds(target)
    except DataError as error:
        assert len(np.unique(date[known])) < n_blocks or any((r == 0).sum() == 0 for r in reasons) or (cv.valid and "leave no train rows" in str(error)), error
        return False
    assert len(folds) == len(choices) == cv.get_n_splits()
    counts = np.bincount(np.concatenate([f.test for f in folds]), minlength=len(target))
    assert (counts[known] == len(choices) * n_test // n_blocks).all() and (counts[~known] == 0).all()
    for k, (fold, test, reason) in enumerate(zip(folds, tests, reasons)):
        assert fold.number == k and set(fold.test) == set(test)
        assert not set(date[fold.test]) & set(date[np.concatenate([fold.train, fold.valid])]) and not set(date[fold.valid]) & set(date[fold.train])
        free = np.flatnonzero(reason == 0)
        if cv.valid:
            days = np.unique(date[free])
            is_valid = date[free] >= days[-int(np.ceil(round(cv.valid * len(days), 9)))]
            learn, free_valid = free[~is_valid], free[is_valid]
            assert set(fold.valid) == set(free_valid)
            assert set(fold.train) == set(learn[free_of(target, np.unique(date), cv.embargo, learn, free_valid)])
        else:
            assert set(fold.train) == set(free) and len(fold.valid) == 0
            assert {name: fold.info[f"n_{name}"] for name in REASON} == {name: (reason == code).sum() for name, code in REASON.items()}
        for part in (fold.train, fold.valid, fold.test): assert part.dtype == np.int64 and (np.diff(ts[part]) >= 0).all()
        assert json.loads(json.dumps(fold.info)) == fold.info
        assert sum(fold.info[f"n_{name}"] for name in (*REASON, "train", "valid", "test")) == known.sum()
    return True


def wild_target(rng):
    """One to three contracts that overlap, holes of days, labels of a minute to a week, some missing; every other frame on whole hours, so that ends meet."""
    parts, grid = [], 60 if rng.random() < 0.5 else 1
    for k in range(rng.integers(1, 4)):
        days = WILD_DAYS[4 * k:rng.integers(16, 33)]
        days = days[np.sort(rng.choice(len(days), rng.integers(6, len(days) + 1), replace=False))]
        minute = np.unique(rng.integers(0, len(days) * 1380 // grid, rng.integers(2, 4) * len(days))) * grid
        ts = (days[minute // 1380] - pd.Timedelta("1h") + pd.to_timedelta(minute % 1380 + 1, "min")).tz_localize("UTC")
        span = rng.choice([1, 60, 1380, 1440, 4320, 10080], len(ts), p=[0.3, 0.2, 0.2, 0.2, 0.08, 0.02])
        parts.append(pd.DataFrame({"y": np.where(rng.random(len(ts)) < 0.1, np.nan, 1.0), "t1": ts + pd.to_timedelta(span, "min")}, make_index(CONTRACTS[k], ts)))
    return pd.concat(parts)


@pytest.mark.parametrize("hundred", range(3))
def test_three_hundred_random_frames_and_every_pair_of_their_rows(hundred):
    rng, done = np.random.default_rng(hundred), {}
    for _ in range(100):
        target, pick = wild_target(rng), lambda *values: values[rng.integers(len(values))]
        gaps = dict(embargo=pick("0D", "1D", "2D", "6h", "36h"), valid=pick(0, 0, 0.2))
        back = dict(lookback=pick("0D", "1D", "3D", "30h"))
        for check, cv in ((check_walk, WalkForward(n_folds=pick(1, 2, 3), train=pick(None, 5), min_train=0.5, **gaps)),
                          (check_kfold, PurgedKFold(pick(2, 3, 5), **gaps, **back)),
                          (check_kfold, CombinatorialPurged(*pick((4, 2), (5, 2), (5, 3), (6, 2), (3, 1)), **gaps, **back))):
            name = type(cv).__name__
            done[name] = done.get(name, 0) + check(target, cv)
    assert min(done.values()) > 60, done


def daily(n, horizon):
    """One row a trade date, labels `horizon` rows long; the last `horizon` rows have none."""
    ts = (pd.bdate_range("2025-02-24", periods=2 * n) + pd.Timedelta("20h")).tz_localize("UTC")
    ts = ts[np.unique(row_dates(make_index("ESM25", ts)), return_index=True)[1]][:n + horizon]     # a holiday's rows belong to the next trade date
    return pd.DataFrame({"y": np.r_[np.ones(n), np.full(horizon, np.nan)], "t1": ts[horizon:].append(pd.DatetimeIndex([pd.NaT] * horizon, tz="UTC"))}, make_index("ESM25", ts))


@pytest.mark.parametrize("horizon, embargo", [(1, 0), (1, 1), (2, 1), (3, 2)])
def test_against_skfolio(horizon, embargo):
    """skfolio counts rows: one row a trade date and labels of equal length are the case in which that is right."""
    from skfolio.model_selection import CombinatorialPurgedCV
    from skfolio.model_selection import WalkForward as TheirWalk
    target = daily(30, horizon)
    X = np.zeros((30, 1))
    for n_blocks, n_test in ((3, 2), (5, 3)) if horizon + embargo < 5 else ((3, 2),):
        theirs = CombinatorialPurgedCV(n_blocks, n_test, purged_size=horizon, embargo_size=embargo) if horizon + embargo < 30 // n_blocks - 1 else None
        if theirs is None: continue
        ours = CombinatorialPurged(n_blocks, n_test, embargo=f"{embargo}D", lookback="0D")
        assert (ours.paths() == theirs.recombined_paths.T).all()
        for fold, (train, test) in zip(ours.folds(target), theirs.split(X), strict=True):
            assert fold.train.tolist() == train.tolist() and fold.test.tolist() == np.concatenate(test).tolist()
    gap = horizon + embargo
    for rolling in (True, False):
        ours = WalkForward(n_folds=3, train=12 if rolling else None, min_train=0.4, valid=0, embargo=f"{embargo}D")
        theirs = TheirWalk(train_size=12 - gap, test_size=6, purged_size=gap, expand_train=not rolling)
        for fold, (train, test) in zip(ours.folds(target), theirs.split(X), strict=True):
            assert fold.train.tolist() == train.tolist() and fold.test.tolist() == test.tolist()


def test_where_skfolio_differs():
    """Two rows a day, labels to the next day's last row: a purge by the count of rows takes too few or too many."""
    from skfolio.model_selection import CombinatorialPurgedCV
    days = pd.bdate_range("2025-02-24", periods=13)
    ts = pd.DatetimeIndex(np.sort(np.concatenate([days + pd.Timedelta("15h"), days + pd.Timedelta("20h")]))).tz_localize("UTC")
    t1 = pd.Series(ts).where(np.arange(26) % 2 == 1).bfill().shift(-2)
    target = pd.DataFrame({"y": np.where(t1.isna(), np.nan, 1.0), "t1": t1.to_numpy()}, make_index("ESM25", ts)).assign(t1=pd.DatetimeIndex(t1))
    ours = CombinatorialPurged(3, 2, "0D", "0D").folds(target)
    lost = [24 - len(fold.train) - len(fold.test) for fold in ours]
    assert lost == [2, 4, 2]     # before a block its two rows of yesterday; after it, of today; in the middle both
    for size in (1, 2, 3):
        theirs = [24 - len(train) - len(np.concatenate(test)) for train, test in CombinatorialPurgedCV(3, 2, purged_size=size).split(np.zeros((24, 1)))]
        assert theirs == [size, 2 * size, size]


def frame(n_days=60):
    ts = (pd.bdate_range("2024-01-02", periods=n_days) + pd.Timedelta("20h")).tz_localize("UTC")
    close = 5000 + np.random.default_rng(0).normal(size=n_days).cumsum()
    return pd.DataFrame({"close": close}, make_index("ESH24", ts))


def test_in_scikit_learn():
    bars = frame()
    target = make_target(bars)
    X = pd.DataFrame({"a": np.random.default_rng(1).normal(size=len(bars))}, bars.index)
    splitter = WalkForward(n_folds=3, valid=0)
    direct = cross_val_score(Ridge(), X, target.y, groups=target, cv=splitter)
    listed = cross_val_score(Ridge(), X, target.y, cv=list(splitter.split(target)))
    assert len(direct) == 3 and (direct == listed).all()
    for one, two in zip(splitter.split(X, target), splitter.split(target), strict=True):
        assert (one[0] == two[0]).all() and (one[1] == two[1]).all()
    with pytest.raises(DataError, match="the index of X"):
        list(splitter.split(X.iloc[1:], target))
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1e3]}, cv=splitter, refit=False)
    assert len(search.fit(X, target.y, groups=target).cv_results_["params"]) == 2


@pytest.mark.parametrize("cv", [PurgedKFold(3), CombinatorialPurged(4, 2)])
def test_kfold_in_scikit_learn(cv):
    bars = frame()
    target = make_target(bars)
    X = pd.DataFrame({"a": np.random.default_rng(1).normal(size=len(bars))}, bars.index)
    direct = cross_val_score(Ridge(), X, target.y, groups=target, cv=cv)
    by_fold = [Ridge().fit(X.iloc[f.train], target.y.iloc[f.train]).score(X.iloc[f.test], target.y.iloc[f.test]) for f in cv.folds(target)]
    np.testing.assert_allclose(direct, by_fold, rtol=1e-12)
    assert len(direct) == cv.get_n_splits(X, target.y, target)
    search = GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1e3]}, cv=cv, refit=False)
    assert type(cv).__name__ in repr(search) and clone(search).cv == cv
    assert len(search.fit(X, target.y, groups=target).cv_results_["params"]) == 2
    assert pickle.loads(pickle.dumps(cv)) == cv  # noqa: S301 - our own bytes


@pytest.mark.parametrize("inner", [PurgedKFold(3), CombinatorialPurged(4, 2), WalkForward(2, valid=0)])
@pytest.mark.parametrize("outer", [PurgedKFold(3), CombinatorialPurged(4, 2), WalkForward(2, valid=0)])
def test_a_search_inside_the_train_rows(outer, inner):
    rng = np.random.default_rng(0)
    target = wild_target(rng)
    while target.y.count() < 60: target = wild_target(rng)
    target = target.assign(t1=target.index.get_level_values("ts") + pd.Timedelta("1h"), y=rng.normal(size=len(target)) * target.y)
    X = pd.DataFrame(rng.normal(size=(len(target), 2)), target.index)
    fold = outer.folds(target)[1]
    X.iloc[fold.test], target.iloc[fold.test, 0] = 1e12, 1e12    # a look at a test row would be seen
    nested = Nested(fold, target, inner)
    for one, (train, test) in zip(nested.folds(), nested.split(X.iloc[fold.train]), strict=True):
        assert (fold.train[train] == one.train).all() and (fold.train[test] == one.test).all() and set(one.train) | set(one.test) <= set(fold.train)
        assert len(one.train) and not free_of(target, np.unique(row_dates(target.index)), "0D", one.train, one.test).size - free_of(target, np.unique(row_dates(target.index)), "0D", one.train, one.test).sum()
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1e3]}, cv=nested, error_score="raise").fit(X.iloc[fold.train], target.y.iloc[fold.train])
    assert np.abs(search.best_estimator_.coef_).max() < 10 and len(search.cv_results_["params"]) == 2
    with pytest.raises(DataError, match="so that a refit cannot see the test rows"): list(nested.split(X))
    with pytest.raises(DataError, match="train rows"): list(nested.split(X.iloc[np.roll(fold.train, 1)]))


def test_inner_split_holds_out_what_comes_last():
    target = daily(40, 2)
    for outer in (PurgedKFold(4), CombinatorialPurged(5, 2), WalkForward(3, valid=0)):
        for fold in outer.folds(target):
            inner = inner_split(fold, target, 0.25, "1D")
            assert inner.info["n_valid"] == np.ceil(0.25 * len(fold.train)) and inner.valid.tolist() == fold.train[-len(inner.valid):].tolist()
            taken = [row for row in fold.train if row not in set(inner.train) | set(inner.valid)]
            assert taken == [row for row in fold.train if inner.valid[0] - 3 <= row < inner.valid[0]]    # two labels that reach, one date of embargo
            assert (inner.test == fold.test).all()


def test_paths_hold_every_row_once():
    rng = np.random.default_rng(5)
    target = wild_target(rng)
    cv = CombinatorialPurged(5, 3, "0D", "0D")
    folds = cv.folds(target)
    told = [pd.DataFrame({"y_hat": f.number + f.test / 1e6}, target.index[f.test]).sample(frac=1, random_state=1) for f in folds]
    walks = assemble_paths(told, folds, target)
    block, known = block_of(target, 5), target.y.notna().to_numpy()
    assert len(walks) == len(cv.paths()) == 6
    pairs = []
    for path, walk in enumerate(walks):
        assert walk.index.equals(target.index[known]) and set(walk.path) == {path}
        judge = cv.paths()[path][block[known]]
        np.testing.assert_allclose(walk.y_hat, judge + np.flatnonzero(known) / 1e6, rtol=0, atol=1e-12)
        pairs += list(zip(cv.paths()[path].tolist(), range(5)))
    assert sorted(pairs) == sorted((k, b) for k, blocks in enumerate(combinations(range(5), 3)) for b in blocks)


@pytest.mark.parametrize("make", [lambda v: WalkForward(n_folds=3, valid=v), lambda v: PurgedKFold(3, valid=v), lambda v: CombinatorialPurged(4, 2, valid=v)])
def test_scikit_learn_has_no_validation_rows_so_they_teach(make):
    target = make_target(frame(90))
    folds = make(0).folds(target)
    for held, (train, test), fold in zip(make(0.3).folds(target), make(0.3).split(target), folds, strict=True):
        assert train.tolist() == fold.train.tolist() and test.tolist() == fold.test.tolist()
        assert set(held.train) | set(held.valid) <= set(train) and len(held.valid) and len(held.train) < len(train)
    outer = PurgedKFold(3).folds(target)[0]
    for (train, _), fold in zip(Nested(outer, target, make(0.3)).split(target.iloc[outer.train]), Nested(outer, target, make(0)).folds(), strict=True):
        assert outer.train[train].tolist() == fold.train.tolist()
    assert [t.tolist() for t, _ in WalkForward().split(target)] == [f.train.tolist() for f in WalkForward(valid=0).folds(target)]


@pytest.mark.parametrize("wrong", ["a", None, True, np.nan, -0.1, 1, [0.1]])
def test_a_share_is_a_number(wrong):
    for make in (lambda: WalkForward(valid=wrong), lambda: WalkForward(min_train=wrong), lambda: PurgedKFold(valid=wrong), lambda: CombinatorialPurged(valid=wrong),
                 lambda: inner_split(PurgedKFold(3).folds(make_target(frame()))[0], make_target(frame()), valid=wrong)):
        with pytest.raises(DataError, match=r"(valid|min_train) is .*; give a share"): make()


def calendar_bars(contract, start, end, minutes=30):
    """Bars over every session of the exchange's calendar, closes a random walk."""
    table = session_table("ES", start, end)
    ts = [pd.date_range(a, b, freq=f"{minutes}min")[1:] for a, b in zip(table["open"], table["close"])]
    ts = ts[0].append(ts[1:])
    return pd.DataFrame({"close": 5000 + np.random.default_rng(0).normal(size=len(ts)).cumsum()}, make_index(contract, ts))


@pytest.mark.parametrize("contract, start, end, change", [("ESM24", "2024-02-20", "2024-03-28", "2024-03-10"), ("ESZ24", "2024-10-15", "2024-11-20", "2024-11-03")])
def test_the_change_of_the_clocks_cuts_no_trade_date(contract, start, end, change):
    """Trade dates told here by the clock in Chicago alone: a session begins at 17:00 and belongs to the next weekday."""
    target = make_target(calendar_bars(contract, start, end))
    chicago = (target.index.get_level_values("ts") - pd.Timedelta("1us")).tz_convert("America/Chicago")
    assert len({t.utcoffset() for t in chicago}) == 2 and chicago[0] < pd.Timestamp(change, tz="America/Chicago") < chicago[-1]
    day = (chicago.tz_localize(None) + pd.Timedelta("7h")).normalize()
    assert set(day.day_of_week) <= {0, 1, 2, 3, 4}
    ts, t1, known = target.index.get_level_values("ts"), target["t1"], target["y"].notna().to_numpy()
    n_bars, tested = pd.Series(known).groupby(day.to_numpy()).sum(), []
    for cv in (WalkForward(n_folds=6), WalkForward(n_folds=8, valid=0, embargo="0D"), PurgedKFold(6, valid=0.2), CombinatorialPurged(5, 2)):
        for fold in cv.folds(target):
            parts = [set(day[part]) for part in (fold.train, fold.valid, fold.test)]
            assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
            counts = pd.Series(1, day[fold.test]).groupby(level=0).sum()
            assert (counts == n_bars[counts.index]).all()                    # whole dates
            if isinstance(cv, WalkForward):
                assert t1.iloc[fold.train].max() < ts[fold.test].min()
                tested += [parts[2]]
    assert any(pd.Timestamp(change) + pd.Timedelta("1D") in days for days in tested)


def test_an_embargo_in_time_takes_rows_and_one_in_trade_dates_whole_dates():
    target = make_target(calendar_bars("ESM24", "2024-04-01", "2024-05-31"), horizon=2)
    day, known = row_dates(target.index), target["y"].notna().to_numpy()
    dates = np.unique(day[known])
    for embargo, whole in (("6h", False), ("1D", True), ("2D", True)):
        for fold in WalkForward(n_folds=3, valid=0, embargo=embargo).folds(target):
            last = day[fold.train].max()
            n_kept, n_there = (day[fold.train] == last).sum(), (known & (day == last)).sum()
            assert n_kept == n_there if whole else 0 < n_kept < n_there
            first = day[fold.test].min()
            assert (day[fold.test] == first).sum() == (known & (day == first)).sum()      # the block begins with its trade date
            assert np.searchsorted(dates, first) - np.searchsorted(dates, last) == {"6h": 1, "1D": 2, "2D": 3}[embargo]


def test_a_contract_that_is_not_there_stops_no_split():
    target = make_target(frame())
    other = pd.DataFrame({"y": [1.0], "t1": [target.index[5][1]]}, make_index("XX1!", [target.index[0][1]]))
    both = pd.concat([target, other])
    left = both[both.index.get_level_values("contract") == "ESH24"]
    assert "XX1!" in left.index.levels[0]
    for cv in (WalkForward(n_folds=3), PurgedKFold(3), CombinatorialPurged(4, 2)):
        for one, two in zip(cv.folds(left), cv.folds(target), strict=True): assert (one.train == two.train).all() and (one.test == two.test).all()


def test_pickles():
    target = make_target(frame())
    splitter = WalkForward(n_folds=2)
    again = pickle.loads(pickle.dumps(splitter))  # noqa: S301 - our own bytes: joblib sends splitters this way
    assert again == splitter
    for a, b in zip(again.folds(target), splitter.folds(target)):
        assert isinstance(a, Fold) and (a.train == b.train).all() and a.info == b.info


def test_one_day_of_bars_is_too_few():
    with pytest.raises(DataError, match="1 labelled trade dates"):
        WalkForward().folds(make_target(frame(3)))  # of three days the last is not over: one label
