"""Baselines beside scikit-learn and a slow walk through the rows, and their comparison with a net."""
import copy

import numpy as np
import pandas as pd
import pytest
from fit_script import small_dataset

from futures_nb.baselines import KINDS, Baseline, bounded, choose_alpha, fit_baseline, last_known, predict_baseline, ridge_path, rows_of, time_splits
from futures_nb.schema import DataError, make_index
from futures_nb.versus import compare_forecasts


def both_signs(n=400):
    return small_dataset(n=n, seed=3)


def test_ridge_and_logistic_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression, Ridge
    data = both_signs()
    r = rows_of(data)
    ours = fit_baseline(Baseline("ridge", alpha=0.03), data)
    theirs = Ridge(alpha=0.03 * r.weight.sum()).fit(r.X, r.y, sample_weight=r.weight)
    np.testing.assert_allclose(predict_baseline(ours, data).y_hat, theirs.predict(bounded(data.X[data.test])) * data.y_scale, rtol=1e-7, atol=1e-12)
    ours = fit_baseline(Baseline("logistic", alpha=0.03), data)
    theirs = LogisticRegression(C=1 / (0.03 * r.weight.sum()), tol=1e-10, max_iter=10_000).fit(r.X, r.y > 0, sample_weight=r.weight)
    np.testing.assert_allclose(predict_baseline(ours, data).p_up, theirs.predict_proba(bounded(data.X[data.test]))[:, 1], atol=2e-3)


def test_ridge_survives_a_column_that_never_moves_and_one_twice():
    X = np.random.default_rng(0).standard_normal((200, 3))
    X[:, 1], X[:, 2] = 4.0, X[:, 0]
    level, coef = ridge_path(X, X[:, 0] + 1, np.ones(200), [0.0, 1e-6])
    np.testing.assert_allclose(coef, [[0.5, 0, 0.5]] * 2, atol=1e-5)
    np.testing.assert_allclose(level, 1, atol=1e-5)


def test_last_known_is_the_slow_walk():
    rng = np.random.default_rng(0)
    data = both_signs(60)
    data.t1 = data.index.get_level_values("ts") + pd.to_timedelta(rng.integers(1, 9, 60), unit="h")
    ts, t1 = data.index.get_level_values("ts"), pd.DatetimeIndex(data.t1)
    for i, got in enumerate(last_known(data, np.arange(60))):
        known = [k for k in range(60) if t1[k] <= ts[i]]
        if not known: assert np.isnan(got)
        else: assert got == pytest.approx(data.y[max(known, key=lambda k: (t1[k], ts[k]))])


def test_no_answer_before_a_block_is_unknown_when_it_begins():
    rng = np.random.default_rng(1)
    ts = np.sort(rng.integers(0, 200, 500))
    t1 = ts + rng.integers(1, 60, 500)
    for before, block in time_splits(ts, t1, 5):
        assert t1[before].max() <= ts[block].min()
        assert not set(ts[before]) & set(ts[block])


def test_alpha_is_chosen_as_by_a_plain_loop():
    from sklearn.linear_model import Ridge
    r, alphas = rows_of(both_signs()), (1e-3, 1e-1, 10.0)
    error, total = np.zeros(3), 0
    for before, block in time_splits(r.ts, r.t1):
        w = r.weight[before]
        for k, alpha in enumerate(alphas):
            said = Ridge(alpha=alpha * w.sum()).fit(r.X[before], r.y[before], sample_weight=w).predict(r.X[block])
            error[k] += r.weight[block] @ (r.y[block] - said) ** 2
        total += r.weight[block].sum()
    best, found = choose_alpha(r, alphas)
    np.testing.assert_allclose(found, error / total, rtol=1e-9)
    assert best == alphas[int(np.argmin(error))]


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"har"}))
def test_test_rows_teach_nothing_and_units_carry_through(name):
    data = both_signs()
    said = predict_baseline(fit_baseline(Baseline(name), data), data, "valid")
    spoiled = copy.deepcopy(data)
    spoiled.X[spoiled.test], spoiled.y[spoiled.test] = 9.0, 1.0
    assert predict_baseline(fit_baseline(Baseline(name), spoiled), spoiled, "valid").y_hat.equals(said.y_hat)
    percent = copy.deepcopy(data)
    percent.y, percent.y_scale = (100 * data.y.astype(np.float64)), 100 * data.y_scale
    np.testing.assert_allclose(predict_baseline(fit_baseline(Baseline(name), percent), percent, "valid").y_hat, 100 * said.y_hat, rtol=1e-4, atol=1e-9)


def test_trees_stop_at_the_best_stage_of_the_valid_rows():
    from sklearn.ensemble import HistGradientBoostingRegressor
    data = both_signs()
    done = fit_baseline(Baseline("boosting"), data)
    k, (train, valid) = done.told["n_trees"], (rows_of(data, part) for part in ("train", "valid"))
    assert 0 < k < done.told["n_tried"]
    options = {key: v for key, v in KINDS["boosting"][1].items() if key != "n_iter_no_change"} | {"max_iter": k, "early_stopping": False}
    alone = HistGradientBoostingRegressor(**options).fit(train.X, train.y, sample_weight=train.weight)
    np.testing.assert_allclose(predict_baseline(done, data).y_hat, alone.predict(bounded(data.X[data.test])) * data.y_scale, rtol=1e-6, atol=1e-12)
    longer = HistGradientBoostingRegressor(**options | {"max_iter": done.told["n_tried"]}).fit(train.X, train.y, sample_weight=train.weight)
    errors = [np.average((valid.y - said) ** 2, weights=valid.weight) for said in longer.staged_predict(valid.X)]
    assert k == 1 + int(np.argmin(errors))


def test_windows_are_read_at_their_last_row():
    data = both_signs(100)
    wide = copy.deepcopy(data)
    wide.at = np.arange(100) + 5
    wide.X = np.concatenate([np.full((5, data.X.shape[1]), 7, np.float32), data.X])
    a, b = (predict_baseline(fit_baseline(Baseline("ridge", alpha=0.1), d), d).y_hat for d in (data, wide))
    assert a.equals(b)


def test_a_bad_answer_or_weight_is_named():
    for field, value in (("y", np.nan), ("weight", -1.0), ("weight", np.inf)):
        data = both_signs()
        getattr(data, field)[7] = value
        with pytest.raises(DataError, match="drop such rows"): fit_baseline(Baseline("mean"), data)


def test_a_copy_of_a_day_is_no_second_piece_of_news():
    """Each row ten times: the same interval to the last digits."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal(120)
    ts = pd.date_range("2024-01-02 15:00", periods=120, freq="D", tz="UTC")

    def frame(said, times):
        when = ts.repeat(times) + pd.to_timedelta(np.tile(np.arange(times), 120), unit="min")
        return pd.DataFrame({"y": y.repeat(times), "y_hat": said.repeat(times)}, make_index("ESH25", when))
    a, b = 0.3 * rng.standard_normal(120), 0.1 * y
    once, tenfold = (compare_forecasts(frame(a, n), frame(b, n)) for n in (1, 10))
    np.testing.assert_allclose(tenfold.interval, once.interval, rtol=1e-9)
    assert (once.n, tenfold.n, once.n_days) == (120, 1200, tenfold.n_days)
