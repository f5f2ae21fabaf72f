"""The scalers as scikit-learn estimators, and what a notebook cannot show: pickling, random columns, any size of input, real features."""
import json
import pickle
import time

import numpy as np
import pandas as pd
import pytest
import sklearn.preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.utils.estimator_checks import parametrize_with_checks

import futures_nb as fnb
from futures_nb.autoscale import SCALERS, AutoScaler, DeclaredScaler, make_scaler, scaler_from_dict
from futures_nb.rolling import RollingScaler, session_scales
from futures_nb.scalers import Log1pScaler, PowerScaler, QuantileScaler, WinsorScaler
from futures_nb.scaling import RobustScaler, StandardScaler, _read, column_hash, percentiles
from futures_nb.schema import DataError, make_index


class MeanScaler(StandardScaler):
    """Our StandardScaler under another name: two of scikit-learn's checks set `with_mean` on anything called "StandardScaler"."""


class OnSessions(RollingScaler):
    """The rolling scaler for arrays, as scikit-learn's checks pass them: a row every six hours of ESZ24."""

    @staticmethod
    def stamped(X):
        if isinstance(X, list) or (hasattr(X, "__array__") and not isinstance(X, pd.DataFrame)): X = np.asarray(X)
        if not isinstance(X, (np.ndarray, pd.DataFrame)) or X.ndim != 2 or X.size == 0: return X
        times = pd.date_range("2024-10-01 00:15", periods=len(X), freq="6h", tz="UTC")
        return pd.DataFrame(X).set_axis(make_index("ESZ24", times), axis=0)

    def fit(self, X, y=None):
        table = self.stamped(X)
        if not isinstance(table, pd.DataFrame): _read(self, X, reset=True)   # scikit-learn's own words for what is no table
        return super().fit(table)

    def transform(self, X):
        table = self.stamped(X)
        if not isinstance(table, pd.DataFrame): _read(self, X, reset=False)
        return super().transform(table)


# No exceptions for any scaler whose rows are scaled one by one: every check scikit-learn has for a transformer passes as it is.
EXCEPTIONS = {
    "rolling": {
        "check_methods_sample_order_invariance": "rows are told apart by their time, and here the time is the position",
        "check_methods_subset_invariance": "the same: a batch that is given alone begins at another time",
    },
}
ESTIMATORS = [RobustScaler(), MeanScaler(), RobustScaler(unit=1e-3), QuantileScaler(), QuantileScaler("uniform", n_quantiles=7), PowerScaler(), WinsorScaler(),
              WinsorScaler(share=0.2), Log1pScaler(), DeclaredScaler(), DeclaredScaler(center=1.0, scale=2.0), AutoScaler(), OnSessions(window=2, min_sessions=1)]


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: EXCEPTIONS.get(estimator.kind, {}))
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_every_kind_is_checked():
    assert {estimator.kind for estimator in ESTIMATORS} == set(SCALERS)


numbers = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, 5000.0, 5000.0 + 9.1e-13, 9.1e-13, 1e-300, 1e15]))


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(2, 40), st.just(1)), elements=numbers))
def test_bounded_and_invertible_or_refused(x):
    scaler = RobustScaler()
    try:
        scaled = scaler.fit_transform(x)
    except DataError as error:
        assert "column 'x0'" in str(error)
        return
    assert np.isfinite(scaled).all() and np.abs(scaled).max() <= 1.0001e6
    size = np.abs(x).max()
    np.testing.assert_allclose(scaler.inverse_transform(scaled), x, rtol=0, atol=1e-12 * size)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, (30, 2), elements=st.floats(-1e3, 1e3)), st.randoms())
def test_order_of_rows_means_nothing(x, random):
    rows = list(range(len(x)))
    random.shuffle(rows)
    outcomes = []
    for values in (x, x[rows]):
        try:
            outcomes.append(RobustScaler(exempt=("x0", "x1")).fit(values).to_dict())
        except DataError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_agrees_with_scikit_learn_on_healthy_columns():
    x = np.random.default_rng(0).standard_t(4, (3001, 5)) * [1e-6, 1e-3, 1, 1e3, 1e6]
    ours, theirs = RobustScaler().fit(x), sklearn.preprocessing.RobustScaler().fit(x)
    np.testing.assert_allclose(ours.center_, theirs.center_, rtol=1e-12)
    np.testing.assert_allclose(ours.scale_, theirs.scale_, rtol=1e-12)
    assert ours.n_floored == 0


def test_pickles_and_clones_between_processes():
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["a", "b"])
    scaler = RobustScaler(unit={"a": 0.1}, exempt=("b",)).fit(x)
    again = pickle.loads(pickle.dumps(scaler))  # noqa: S301 - our own bytes: joblib sends estimators this way
    assert json.dumps(again.to_dict()) == json.dumps(scaler.to_dict())


def test_state_without_names():
    x = np.random.default_rng(0).normal(size=(50, 3))
    scaler = RobustScaler().fit(x)
    again = scaler_from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert not hasattr(again, "feature_names_in_")
    assert again.transform(x).tobytes() == scaler.transform(x).tobytes()
    assert again.columns_hash_ == column_hash(["x0", "x1", "x2"])
    with pytest.raises(ValueError, match="4 features"):
        again.transform(np.ones((2, 4)))


def test_a_huge_value_far_from_its_column_is_named():
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 2)), columns=["a", "b"])
    x.loc[123, "b"] = 1e15
    with pytest.raises(DataError, match="column 'b' .* row 123"):
        RobustScaler().fit(x)


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64, st.integers(1, 60), elements=numbers), st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_percentiles_are_numpys(x, q):
    q = sorted(q)
    np.testing.assert_array_equal(percentiles(x, q), np.percentile(x, q))


@pytest.mark.parametrize("order", ["C", "F"])
def test_layout_in_memory_means_nothing(order):
    x = np.random.default_rng(0).standard_t(3, (5000, 13))
    other = np.asarray(x, order=order)
    for kind in SCALERS:
        if kind == "rolling": continue
        scaler = make_scaler(kind).fit(x)
        assert json.dumps(make_scaler(kind).fit(other).to_dict()) == json.dumps(scaler.to_dict())
        assert (scaler.transform(other) == scaler.transform(x)).all()
        assert not np.shares_memory(scaler.transform(other), other)


@settings(max_examples=150, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(2, 40), st.just(1)), elements=numbers), st.sampled_from(["quantile", "power", "winsor", "log1p", "auto"]))
def test_bending_scalers_are_finite_and_invertible_or_refuse(x, kind):
    scaler = make_scaler(kind)
    try:
        scaled = scaler.fit_transform(x)
    except DataError as error:
        assert "column 'x0'" in str(error)
        return
    assert np.isfinite(scaled).all()
    clipped = (scaler.clip_report(x)["share"] > 0).any()
    if kind == "power" or clipped: return      # a power may be so steep that its inverse has no digits left
    np.testing.assert_allclose(scaler.inverse_transform(scaled), x, rtol=1e-6, atol=1e-9 * np.abs(x).max())


def test_agrees_with_scikit_learn_inside_the_train_rows():
    x = np.random.default_rng(0).standard_t(4, (3001, 3))
    inside = (x > x.min(axis=0)) & (x < x.max(axis=0))
    for output in ("normal", "uniform"):
        theirs = sklearn.preprocessing.QuantileTransformer(output_distribution=output, subsample=None).fit(x)
        ours = QuantileScaler(output).fit(x)
        np.testing.assert_array_equal(ours.knots_.T, theirs.quantiles_)
        np.testing.assert_allclose(ours.transform(x)[inside], theirs.transform(x)[inside], rtol=1e-9, atol=1e-12)
    even = RobustScaler().fit_transform(x)
    theirs = sklearn.preprocessing.PowerTransformer().fit(even)
    np.testing.assert_array_equal(PowerScaler().fit(x).power_, theirs.lambdas_)
    np.testing.assert_allclose(PowerScaler().fit_transform(x), theirs.transform(even), rtol=1e-9, atol=1e-9)
    positive = np.exp(0.3 * x)
    scaled = positive / RobustScaler().fit(positive).scale_
    np.testing.assert_allclose(PowerScaler("box-cox").fit_transform(positive), sklearn.preprocessing.PowerTransformer("box-cox").fit_transform(scaled), rtol=1e-9, atol=1e-9)


def sessions(columns, n=400, seed=0):
    """A frame every kind of scaler takes: rows every six hours of ESZ24."""
    times = pd.date_range("2024-10-01 00:15", periods=n, freq="6h", tz="UTC")
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(n, len(columns))) + 3, make_index("ESZ24", times), columns)


@pytest.mark.parametrize("kind", sorted(SCALERS))
@pytest.mark.parametrize("columns, others", [([0, 1], [1, 0]), ([0, 1], [0, 2]), ([0, 1], ["0", "1"]), (["a", "b"], [0, 1]), ([0, 1], [0, 1, 2])])
def test_labels_of_any_type_are_compared(kind, columns, others):
    x, swapped = sessions(columns), sessions(others)
    scaler = make_scaler(kind).fit(x)
    for one in (scaler, scaler_from_dict(json.loads(json.dumps(scaler.to_dict())))):
        assert one.transform(x.copy()).tobytes() == scaler.transform(x).tobytes()
        with pytest.raises(DataError, match="when fitted; give the columns as fitted"): one.transform(swapped)   # scikit-learn may warn first
    if kind in ("rolling", "winsor"): return          # the one needs an index, the other cuts
    if columns == [0, 1]: assert scaler.transform(x.to_numpy()).shape == (400, 2)   # an array has no labels
    if columns == [0, 1] and others == [1, 0]:
        scaled = pd.DataFrame(scaler.transform(x), x.index, columns)
        np.testing.assert_allclose(scaler.inverse_transform(scaled), x, atol=1e-6)
        with pytest.raises(DataError, match="not the columns that transform returns. Column 0 is 1"): scaler.inverse_transform(scaled[others])


def test_a_scale_that_one_value_makes_is_refused():
    """One value of a million standard deviations makes the standard deviation, and all others are squashed to nothing."""
    x = np.random.default_rng(0).standard_normal(100_000)
    assert make_scaler("standard").fit(x[:, None]).floor_ == ["spread"]
    x[7] = 1e9
    for kind in ("standard", "robust"):
        with pytest.raises(DataError, match="column 'x0' has a value 1e\\+09 from its centre.* row 7"): make_scaler(kind).fit(x[:, None])
    x[7] = 1e5                                                   # far, and not absurd
    for kind in ("standard", "robust"): assert np.isfinite(make_scaler(kind).fit_transform(x[:, None])).all()


@pytest.mark.parametrize("exempt", [(), ("x0",)])
def test_a_scale_beyond_float64_is_refused(exempt):
    x = np.random.default_rng(0).standard_normal((1000, 1))
    with pytest.raises(DataError, match="column 'x0' has a centre of .* and a scale of inf"): StandardScaler().fit(x * 1e160)
    if exempt: assert np.isfinite(StandardScaler(exempt=exempt).fit_transform(x * 1e160)).all()   # by its range
    for kind in ("standard", "robust"):
        with pytest.raises(DataError, match="more than float64 holds"), np.errstate(over="ignore", invalid="ignore"):
            make_scaler(kind, exempt=exempt).fit(np.where(x > 0, 1.7e308, -1.7e308))


def numbers_of(state, path=()):
    """The paths of all numbers in a state."""
    if isinstance(state, dict): return [p for k, v in state.items() for p in numbers_of(v, (*path, k))]
    if isinstance(state, list): return [p for k, v in enumerate(state) for p in numbers_of(v, (*path, k))]
    return [path] if isinstance(state, (int, float)) else []


@pytest.mark.parametrize("kind", sorted(SCALERS))
def test_a_changed_number_is_refused(kind):
    x = sessions(["a", "b", "c"], 300)
    x["b"] = np.where(np.arange(300) % 3 == 0, x["b"], 0.0)
    x["c"] **= 5
    scaler = make_scaler(kind, **(dict(n_quantiles=10) if kind == "quantile" else {}), **({} if kind in ("auto", "declared") else dict(unit={"a": np.float32(0.25)}))).fit(x)
    text = json.dumps(scaler.to_dict(), allow_nan=False)
    assert json.dumps(scaler_from_dict(json.loads(text)).to_dict()) == text
    paths = numbers_of(json.loads(text))
    assert len(paths) >= 14
    for path in paths[::1 + len(paths) // 60]:
        state = json.loads(text)
        at = state
        for key in path[:-1]: at = at[key]
        at[path[-1]] = (not at[path[-1]]) if isinstance(at[path[-1]], bool) else float(np.nextafter(at[path[-1]], np.inf))
        with pytest.raises(DataError, match="do not match their hash .*fit again"): scaler_from_dict(state)
    for key in json.loads(text):
        state = json.loads(text)
        del state[key]
        with pytest.raises(DataError): scaler_from_dict(state)
    with pytest.raises(DataError, match="not what to_dict wrote"): scaler_from_dict([])


@pytest.fixture(scope="module")
def es_features(es_file):
    bars = fnb.read_bars(es_file)
    names = [name for name, f in fnb.FEATURES.items() if f.family in ("returns", "volume", "clock", "vpoc") and f.lookback <= 8280]
    return fnb.make_features(bars, features=names, progress=False).dropna()


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(SCALERS) - {"declared"}))
def test_real_features(es_features, kind):
    """The ES contract of March 2025: fitted on its first half, every scaler is finite on the second, inverts, and survives JSON."""
    half = len(es_features) // 2
    train, test = es_features.iloc[:half], es_features.iloc[half:]
    if kind in ("robust", "standard", "power", "winsor", "quantile", "log1p", "rolling"):
        exempt = [c for c in train if fnb.FEATURES[c].unit in ("0/1", "count")]
        scaler = make_scaler(kind, exempt=exempt).fit(train)
    else:
        scaler = make_scaler(kind).fit(train)
    scaled = scaler.transform(test)
    assert np.isfinite(scaled).all()
    again = scaler_from_dict(json.loads(json.dumps(scaler.to_dict(), allow_nan=False)))
    assert again.transform(test).tobytes() == scaled.tobytes()
    inside = scaler.clip_report(train)["share"].to_numpy() == 0
    back = pd.DataFrame(scaler.transform(train), train.index, scaler.get_feature_names_out())
    np.testing.assert_allclose(scaler.inverse_transform(back)[:, inside], train.to_numpy()[:, inside], rtol=1e-5, atol=1e-8)   # quantiles end at ranks of 1e-7


@pytest.mark.slow
def test_rolling_on_the_real_file(es_features):
    """Cutting and spoiling the future changes nothing, test rows alone are as behind the train rows, and the scale is what pandas makes of the sessions before."""
    x = es_features[["return_60", "volume_session", "poc_distance"]]
    half, cut = len(x) // 2, 2 * len(x) // 3
    scaler = RollingScaler().fit(x.iloc[:half])
    whole = scaler.transform(x)
    assert scaler.transform(x.iloc[half:]).tobytes() == whole[half:].tobytes()
    assert scaler.transform(x.iloc[:cut]).tobytes() == whole[:cut].tobytes()
    wild = x.copy()
    wild.iloc[cut:] = 1e12
    assert scaler.transform(wild)[:cut].tobytes() == whole[:cut].tobytes()
    scales = session_scales(scaler, x)
    days = pd.Series(fnb.trade_dates(x.index.get_level_values("ts"), "ES"), x.index)
    order = days.drop_duplicates().tolist()
    for k in (25, 40):
        window = x[days.isin(order[k - 20:k])]
        np.testing.assert_allclose(scales.xs("center", axis=1, level=1).iloc[k], window.mean(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(scales.xs("scale", axis=1, level=1).iloc[k], 1.3489795003921634 * window.std(ddof=0), rtol=1e-9)


@pytest.mark.slow
def test_a_million_rows_in_seconds():
    """A bound against growth, ten times what it takes: robust on 1.14M x 60."""
    x = np.random.default_rng(0).standard_normal((1_142_640, 60))
    start = time.perf_counter()
    RobustScaler().fit(x).transform(x)
    assert time.perf_counter() - start < 30
