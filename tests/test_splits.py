"""Purge and embargo for any labels: random frames against a look at every pair of rows."""
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score

from futures_nb.schema import DataError, make_index
from futures_nb.splits import Fold, WalkForward
from futures_nb.labels import row_dates
from futures_nb.targets import make_target

DAYS = pd.bdate_range("2025-02-03", periods=16)
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


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
@given(targets(), splitters)
def test_laws(target, splitter):
    try:
        folds = splitter.folds(target)
    except DataError as error:
        assert "labelled trade dates" in str(error)
        return
    ts = target.index.get_level_values("ts").asi8
    t1 = pd.DatetimeIndex(target["t1"]).as_unit("us").asi8
    date, known = row_dates(target.index), target["y"].notna().to_numpy()
    date_t1 = row_dates(target.index, target["t1"])
    dates = np.unique(date[known])
    gap = pd.Timedelta(splitter.embargo)
    n_dates = gap.days

    def free_of(rows, later):
        """Which of `rows` reach none of `later`, by looking at every pair."""
        touches = overlap(ts[rows], t1[rows], ts[later], t1[later], gap // pd.Timedelta("1us"))
        between = ((dates > date_t1[rows][:, None, None]) & (dates < date[later][None, :, None])).sum(-1)   # (rows, later)
        return ~(touches | (between < n_dates)).any(axis=1)

    tested = np.concatenate([f.test for f in folds])
    assert len(np.unique(tested)) == len(tested)
    assert set(tested) == set(np.flatnonzero(known & (date >= date[tested].min())))
    for fold in folds:
        start_of_test = date[fold.test].min()
        learn = dates[dates < start_of_test][-(splitter.train or len(dates)):]
        n_valid = int(np.ceil(round(splitter.valid * len(learn), 9)))
        in_learn = np.flatnonzero(np.isin(date, learn) & known)
        left = np.unique(date[in_learn[free_of(in_learn, fold.test)]])
        is_valid = date >= left[-n_valid] if n_valid else np.zeros(len(date), bool)
        blocks = {"train": np.isin(date, learn) & known & ~is_valid, "valid": np.isin(date, learn) & known & is_valid}
        for part, later in (("valid", fold.test), ("train", np.concatenate([np.flatnonzero(blocks["valid"]), fold.test]))):
            rows = np.flatnonzero(blocks[part])
            if len(rows) == 0:
                continue
            free = rows[free_of(rows, later)]
            assert set(getattr(fold, part)) == set(free)          # nothing kept that reaches, nothing lost that does not
        for part in (fold.train, fold.valid, fold.test):
            assert part.dtype == np.int64 and (np.diff(ts[part]) >= 0).all() and known[part].all()
        assert fold.info["n_train"] + fold.info["n_valid"] + fold.info["n_purged"] + fold.info["n_embargoed"] == blocks["train"].sum() + blocks["valid"].sum()


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
