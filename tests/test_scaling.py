"""The scalers as scikit-learn estimators, and what a notebook cannot show: pickling, random columns, any size of input."""
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn.preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.utils.estimator_checks import parametrize_with_checks

from futures_nb.scaling import RobustScaler, StandardScaler, column_hash, scaler_from_dict
from futures_nb.schema import DataError


class MeanScaler(StandardScaler):
    """Our StandardScaler under another name: two of scikit-learn's checks set `with_mean` on anything called "StandardScaler"."""


# No exceptions: every check scikit-learn has for a transformer passes as it is.
@parametrize_with_checks([RobustScaler(), MeanScaler(), RobustScaler(unit=1e-3)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


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
