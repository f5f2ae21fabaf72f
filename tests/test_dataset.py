"""Data sets: windows against a slow loop, one digest in every process, kill -9 in the middle of a save, and no second copy of the frame in memory."""
import json
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin

from futures_nb.dataset import Dataset, make_dataset
from futures_nb.schema import DataError, contract_runs, make_index
from futures_nb.sessions import trade_dates
from futures_nb.splits import Fold, WalkForward
from futures_nb.synth import synth_bars
from futures_nb.targets import make_target

SAVE_FOR_EVER = """
import sys
import numpy as np, pandas as pd
from futures_nb.dataset import make_dataset
from futures_nb.splits import WalkForward
from futures_nb.synth import synth_bars
from futures_nb.targets import make_target
bars = synth_bars(n_contracts=1, n_days=30, overlap=0, minutes=5)
target = make_target(bars)
fold = WalkForward(n_folds=2).folds(target)[0]
k = 0
while True:
    features = pd.DataFrame(np.random.default_rng(k % 2).normal(size=(len(bars), 20)), bars.index, columns=[f"f{j}" for j in range(20)])
    make_dataset(features, target, fold).save(sys.argv[1])
    if k == 1: print("saved", flush=True)
    k += 1
"""


def test_killed_while_saving_leaves_a_whole_data_set(tmp_path):
    rng = np.random.default_rng(0)
    seen = set()
    child = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "saved\n"
        for _ in range(8):                     # stop it at any moment, look, let it go on
            time.sleep(rng.uniform(0.01, 0.08))
            child.send_signal(signal.SIGSTOP)
            seen.add(Dataset.load(tmp_path).X.tobytes())
            child.send_signal(signal.SIGCONT)
    finally:
        child.kill()
        child.wait()
    seen.add(Dataset.load(tmp_path).X.tobytes())
    assert 1 <= len(seen) <= 2                 # one of the two data sets, never a mixture


@pytest.mark.slow
def test_a_million_rows_need_no_second_copy():
    import resource
    bars = synth_bars(n_contracts=12, n_days=70, overlap=4)
    target = make_target(bars)
    features = pd.DataFrame(np.random.default_rng(0).normal(size=(len(bars), 20)), bars.index, columns=[f"f{j}" for j in range(20)])
    fold = WalkForward().folds(target)[-1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    dataset = make_dataset(features, target, fold)
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert len(dataset) > 900_000
    assert seconds < 10
    assert grown < 3.5 * len(dataset) * 20 * 8


def test_nanoseconds_are_the_same_moments(tmp_path):
    def in_nanoseconds(frame):
        return frame.set_index(frame.index.set_levels(frame.index.levels[1].astype("datetime64[ns, UTC]"), level="ts"))

    bars = synth_bars(n_contracts=2, n_days=14, overlap=3, minutes=60)
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(len(bars), 2)), bars.index, columns=["a", "b"])
    target = make_target(bars)
    want = make_dataset(features, target, WalkForward(n_folds=2).folds(target)[1])
    fine = make_target(in_nanoseconds(bars))
    for other in (features, in_nanoseconds(features), in_nanoseconds(features).iloc[:-1]):
        got = make_dataset(other, fine, WalkForward(n_folds=2).folds(fine)[1])
        got.save(tmp_path)
        for one in (got, Dataset.load(tmp_path)):
            assert one.index.equals(want.index) and (one.t1 == want.t1).all()
            for name in ("X", "y", "weight", "train", "valid", "test"):
                assert getattr(one, name).tobytes() == getattr(want, name).tobytes()


def market(seed=0, n_columns=3, n_contracts=2, holes=0, minutes=60):
    """Features with a column that is the row's own number, a target two bars ahead, and a fold of both."""
    bars = synth_bars(n_contracts=n_contracts, n_days=14, overlap=4, minutes=minutes, seed=seed)
    rng = np.random.default_rng(seed)
    features = pd.DataFrame(rng.normal(size=(len(bars), n_columns)), bars.index, columns=[f"f{j}" for j in range(n_columns)])
    features["f0"] = np.arange(len(bars), dtype=float)
    if holes: features.iloc[rng.choice(len(bars), holes, replace=False), 1] = np.nan
    target = make_target(bars, horizon=2)
    target.loc[features.isna().any(axis=1).to_numpy(), "y"] = np.nan
    return features, target, WalkForward(n_folds=2).folds(target)[1]


def walked_back(features, row, T, gap):
    """The positions of the window that ends at `row`, by walking back bar by bar; None where something is in the way."""
    names, ts = features.index.get_level_values(0), features.index.get_level_values(1)
    date = trade_dates(ts, calendar=names[row])
    found = [row]
    while len(found) < T:
        k = found[0] - 1
        if k < 0 or names[k] != names[row] or (gap == "session" and date[k] != date[row]) or features.iloc[k].isna().any(): return None
        found.insert(0, k)
    return found


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_windows_are_what_a_loop_finds(data):
    seed, T, gap = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 40)), data.draw(st.sampled_from(["contract", "session"]))
    features, target, fold = market(seed, holes=data.draw(st.integers(0, 6)))
    if gap == "session": T = min(T, 20)
    dataset = make_dataset(features, target, fold, window=T, gap=gap, scaler=Untouched())
    every, at = np.concatenate([fold.train, fold.valid, fold.test]), features.index.get_indexer(dataset.index)
    assert set(at) <= set(every)
    for part in ("train", "valid", "test"): assert set(at[getattr(dataset, part)]) <= set(getattr(fold, part))
    picked = data.draw(st.lists(st.sampled_from(sorted(every)), min_size=1, max_size=25))
    for row in picked:
        want = walked_back(features, row, T, gap)
        sample = np.flatnonzero(at == row)
        assert len(sample) == (want is not None)
        if want is None: continue
        x, = dataset.inputs(sample)
        np.testing.assert_array_equal(x, features.iloc[want].to_numpy(np.float32))
        assert dataset.x_index[dataset.at[sample[0]]] == dataset.index[sample[0]]
        assert dataset.y[sample[0]] == np.float32(target["y"].iloc[row])
    assert sum(dataset.info["n_short"].values()) == sum(dataset.info["why_short"].values()) == len(every) - len(dataset)


class Untouched(TransformerMixin, BaseEstimator):
    """Scales nothing, so that numbers can be followed."""
    def fit(self, X, y=None): return self
    def transform(self, X): return X


@pytest.mark.parametrize("gap", ["contract", "session"])
def test_no_window_crosses(gap):
    """All of them, in one comparison: the column that counts rows rises by one, and nothing changes inside."""
    features, target, fold = market(n_contracts=3, holes=5)
    dataset = make_dataset(features, target, fold, window=7, gap=gap, scaler=Untouched())
    rows = dataset.inputs(np.arange(len(dataset)))[:, :, 0].astype(int)
    assert len(rows) > 300 and (np.diff(rows, axis=1) == 1).all()
    contract = features.index.codes[0][rows]
    assert (contract == contract[:, :1]).all()
    date = np.concatenate([trade_dates(features.index[a:b].get_level_values(1), calendar=name).to_numpy() for name, a, b in contract_runs(features.index)])[rows]
    assert (date == date[:, :1]).all() == (gap == "session")
    assert not features.isna().any(axis=1).to_numpy()[rows].any()


def test_features_may_have_other_rows_than_the_target():
    """A target once a day, windows of all bars."""
    features, target, _ = market()
    daily = target[(np.arange(len(target)) % 23 == 22) & target["y"].notna().to_numpy()]
    n = len(daily)
    dataset = make_dataset(features, daily, Fold(np.arange(n - 5), np.arange(n - 5, n - 3), np.arange(n - 3, n)), window=10, scaler=Untouched())
    assert (dataset.inputs(dataset.train)[:, -1, 0] == features.index.get_indexer(dataset.index[dataset.train])).all()
    assert (np.diff(dataset.inputs(dataset.train)[:, :, 0], axis=1) == 1).all()


@pytest.mark.parametrize("last_test, window, is_over", [(49, 8, False), (49, 9, True), (50, 8, True)])
def test_a_window_may_begin_right_after_the_last_answer(last_test, window, is_over):
    """Test rows to `last_test`, answers an hour later; the train rows go on at row 58."""
    index = make_index("ESZ24", pd.date_range("2024-10-01", periods=100, freq="h", tz="UTC"))
    features = pd.DataFrame({"f": np.random.default_rng(0).normal(size=100)}, index)
    target = pd.DataFrame({"y": 0.01, "t1": index.get_level_values("ts") + pd.Timedelta("1h")}, index)
    fold = Fold(np.r_[20:40, 58:80], np.arange(0), np.arange(41, last_test + 1))
    if is_over:
        with pytest.raises(DataError, match="over valid or test rows and their answers.*give the splitter a lookback"): make_dataset(features, target, fold, window=window)
    else: make_dataset(features, target, fold, window=window)
    for valid, test in ((fold.test, np.arange(90, 95)), (np.arange(58, 80), fold.test)):   # after a validation block; validation rows after a test block
        other = Fold(np.r_[20:40, 58:80] if valid is fold.test else np.arange(20, 40), valid, test)
        if is_over:
            with pytest.raises(DataError, match="give the splitter a lookback"): make_dataset(features, target, other, window=window)
        else: make_dataset(features, target, other, window=window)


def test_the_longest_answer_counts_not_the_last():
    index = make_index("ESZ24", pd.date_range("2024-10-01", periods=100, freq="h", tz="UTC"))
    features = pd.DataFrame({"f": np.random.default_rng(0).normal(size=100)}, index)
    target = pd.DataFrame({"y": 0.01, "t1": index.get_level_values("ts") + pd.Timedelta("1h")}, index)
    target.iloc[42, 1] = index[55][1]                      # a test row in the middle is answered late
    fold = Fold(np.r_[20:40, 58:80], np.arange(0), np.arange(41, 46))
    make_dataset(features, target, fold, window=3)
    with pytest.raises(DataError, match=r"window of train row \(ESZ24, 2024-10-03 10:00 UTC\) reaches back to 2024-10-03 07:00.*as do 1 of 42 train windows"):
        make_dataset(features, target, fold, window=4)


@pytest.mark.parametrize("window", [None, 4])
def test_a_sample_without_its_own_row_is_an_error_and_not_a_short_past(window):
    features, target, fold = market()
    features.iloc[fold.test[7], 2] = np.nan
    with pytest.raises(DataError, match="features column 'f2' is nan in row"): make_dataset(features, target, fold, window=window)


def test_an_infinite_past_is_an_error():
    features, target, fold = market()
    dataset = make_dataset(features, target, fold, window=4)
    needed = features.index.get_indexer(dataset.x_index)
    only_past = np.setdiff1d(needed, np.concatenate([fold.train, fold.valid, fold.test]))[0]
    features.iloc[only_past, 2] = np.inf
    make_dataset(features, target, fold)                   # the row is no sample
    with pytest.raises(DataError, match="features column 'f2' is inf in row"): make_dataset(features, target, fold, window=4)


def test_the_scale_is_that_of_the_train_rows_themselves():
    """Rows that are only somebody's past teach no scale, and rows left out for their short past do not either."""
    from futures_nb.autoscale import make_scaler
    features, target, fold = market()
    dataset = make_dataset(features, target, fold, window=9)
    own = features.loc[dataset.index[dataset.train]]
    assert len(own) < len(fold.train)
    assert dataset.scaler.to_dict() == make_scaler("robust").fit(own).to_dict()
    assert dataset.y_scale == float(target.loc[own.index, "y"].to_numpy().std())


@pytest.mark.parametrize("key, value", [("y_scale", 0.5), ("window", 4), ("columns", ["f0", "f2", "f1"]), ("digest", "0" * 64), ("format", 1)])
def test_a_changed_json_is_refused(tmp_path, key, value):
    make_dataset(*market(), window=5).save(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match="save the data set again"): Dataset.load(tmp_path)


def test_all_windows_need_no_memory_of_their_own():
    features, target, fold = market(n_columns=20, n_contracts=6, minutes=5)
    T = 200
    tracemalloc.start()
    dataset = make_dataset(features, target, fold, window=T)
    made = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    x = dataset.inputs(dataset.train[:10])
    asked = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    all_windows = len(dataset) * T * dataset.n_features * 4
    assert made < all_windows / 8 and asked < 3 * x.nbytes + 100_000
    assert len(dataset) > 10_000 and dataset.X.nbytes < all_windows / 100


EPOCHS = """
import resource, sys
import numpy as np, torch
from futures_nb.dataset import Dataset
torch.set_num_threads(1)
dataset = Dataset.load(sys.argv[1])
dataset.tensors()["X"].index_select(0, torch.arange(64))       # torch itself is warm
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n = sum(len(x) for x, *_ in dataset.batches("train", batch_size=64))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, n)
"""


def test_an_epoch_of_windows_needs_the_memory_of_a_batch(tmp_path):
    features, target, fold = market(n_columns=20, n_contracts=6, minutes=5)
    dataset = make_dataset(features, target, fold, window=200)
    dataset.save(tmp_path)
    done = subprocess.run([sys.executable, "-c", EPOCHS, str(tmp_path)], capture_output=True, text=True, check=True)
    grown, n = map(int, done.stdout.split())
    assert n == len(dataset.train)
    assert grown < 6 * 64 * 200 * 20 * 4 + 10_000_000 < n * 200 * 20 * 4 / 8


def test_batches_are_those_of_the_training():
    import torch

    from futures_nb.train import epoch_order
    features, target, fold = market()
    for options in ({}, {"window": 5}):
        dataset = make_dataset(features, target, fold, **options)
        for seed, epoch in ((0, 0), (7, 3)):
            rows = torch.cat([row for *_, row in dataset.batches("train", 50, seed=seed, epoch=epoch)])
            np.testing.assert_array_equal(rows, dataset.train[epoch_order(len(dataset.train), seed, epoch)])


@pytest.mark.parametrize("batch_size", [1, 33, 1024, 8192, 10_000])
@pytest.mark.parametrize("window", [None, 3])
def test_an_epoch_has_every_sample_once(batch_size, window, monkeypatch):
    monkeypatch.setattr("futures_nb.dataset.NEAR", 100)
    features, target, fold = market(n_contracts=3)
    dataset = make_dataset(features, target, fold, window=window)
    n = len(dataset.train)
    for drop_last in (False, True):
        batches = list(dataset.batches("train", batch_size, seed=1, drop_last=drop_last))
        sizes = [len(row) for *_, row in batches]
        assert sizes == [batch_size] * (n // batch_size) + ([] if drop_last or n % batch_size == 0 else [n % batch_size])
        rows = np.concatenate([row for *_, row in batches]) if batches else np.arange(0)
        assert len(np.unique(rows)) == len(rows) and set(rows) <= set(dataset.train)
        for x, y, weight, row in batches:
            np.testing.assert_array_equal(x, dataset.inputs(row))
            np.testing.assert_array_equal(y, dataset.y[row])
            np.testing.assert_array_equal(weight, dataset.weight[row])


def test_a_net_of_single_rows_refuses_windows():
    from futures_nb.nets import ResidualMLP
    from futures_nb.train import fit, predict
    features, target, fold = market()
    windows, single = (make_dataset(features, target, fold, window=w) for w in (4, None))
    quiet = dict(epochs=1, progress=False, live=False, net_options=dict(hidden=4, depth=1))
    with pytest.raises(DataError, match="fit: the dataset has windows of 4 rows"): fit(ResidualMLP, windows, **quiet)
    done = fit(ResidualMLP, single, **quiet)
    with pytest.raises(DataError, match="predict: the dataset has windows of 4 rows"): predict(done, windows)
    with pytest.raises(DataError, match="evaluate: the dataset has windows of 4 rows"): done.evaluate(windows)


DIGEST = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_dataset import market
from futures_nb.dataset import make_dataset
print(json.dumps([make_dataset(*market(holes=3), **options).digest for options in ({}, dict(scaler="standard"), dict(window=5, gap="session"))]))
"""


def test_another_process_finds_the_same_digest(tmp_path):
    from pathlib import Path
    here = [make_dataset(*market(holes=3), **options).digest for options in ({}, dict(scaler="standard"), dict(window=5, gap="session"))]
    done = subprocess.run([sys.executable, "-c", DIGEST, str(Path(__file__).parent)], capture_output=True, text=True, check=True, env=other_hash_seed())
    assert json.loads(done.stdout) == here and len(set(here)) == 3


def other_hash_seed():
    import os
    return os.environ | {"PYTHONHASHSEED": "12345"}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_other_number_gives_another_digest(data):
    features, target, fold = market()
    window = data.draw(st.sampled_from([None, 4]))
    first = make_dataset(features, target, fold, window=window)
    which = data.draw(st.sampled_from(["features", "y", "weight", "t1"]))
    seen = first.x_index if which == "features" else first.index
    row = seen[data.draw(st.integers(0, len(seen) - 1))]
    features, target = features.copy(), target.copy()
    if which == "features": features.loc[row, "f2"] = np.nextafter(features.loc[row, "f2"], np.inf)
    elif which == "t1": target.loc[row, "t1"] += pd.Timedelta("1us")
    else: target.loc[row, which] = np.nextafter(target.loc[row, which], np.inf)
    assert make_dataset(features, target, fold, window=window).digest != first.digest


def test_a_foreign_scaler_is_in_the_digest():
    from sklearn.preprocessing import RobustScaler
    features, target, fold = market()
    digests = [make_dataset(features, target, fold, scaler=s).digest for s in (RobustScaler(), RobustScaler(), RobustScaler(quantile_range=(10, 90)), "robust", Following())]
    assert digests[0] == digests[1] and len(set(digests)) == 4


def test_what_no_sample_needs_changes_no_digest():
    features, target, fold = market()
    first = make_dataset(features, target, fold, window=4)
    unused = ~features.index.isin(first.x_index)
    assert unused.sum() > 20
    unused[features.index.get_indexer(first.x_index)] = False
    changed = features.copy()
    changed.loc[unused, "f2"] += 1
    assert make_dataset(changed, target, fold, window=4).digest == first.digest
    assert make_dataset(features.astype(object).astype(float), target, fold, window=4).digest == first.digest


@pytest.mark.parametrize("gap", ["contract", "session"])
def test_windows_come_back_from_disk(tmp_path, gap):
    import warnings
    features, target, fold = market(n_contracts=3, holes=4)
    kept = make_dataset(features, target, fold, window=6, gap=gap)
    kept.save(tmp_path)
    again = Dataset.load(tmp_path)
    for name in ("X", "y", "weight", "at", "train", "valid", "test"):
        a, b = getattr(again, name), getattr(kept, name)
        assert a.tobytes() == b.tobytes() and a.dtype == b.dtype and a.shape == b.shape
    assert again.index.equals(kept.index) and again.x_index.equals(kept.x_index) and again.info == kept.info and again.window == 6 and again.digest == kept.digest
    assert json.loads((tmp_path / "dataset.json").read_text())["digest"] == kept.digest
    with warnings.catch_warnings():
        warnings.simplefilter("error")              # torch warns of memory it may not write to
        for one, two in zip(again.batches("test", 9), kept.batches("test", 9), strict=True):
            assert all(a.equal(b) for a, b in zip(one, two))


def test_tensors_share_the_memory():
    features, target, fold = market()
    dataset = make_dataset(features, target, fold, window=3)
    tensors = dataset.tensors()
    tensors["X"][5, 1] = 77.0
    assert dataset.X[5, 1] == 77.0
    assert dataset.tensors("cpu")["y"].data_ptr() == dataset.y.ctypes.data   # the CPU is where they are


class Following(TransformerMixin, BaseEstimator):
    """Each row minus the mean of the rows before it in its contract, in the order it is given them."""
    rowwise = False

    def fit(self, X, y=None): return self

    def transform(self, X):
        assert X.index.codes[0].max() == X.index.codes[0].min() and X.index.is_monotonic_increasing and np.isfinite(X).all(axis=None)
        return (X - X.expanding().mean().shift(fill_value=0.0)).to_numpy()


@pytest.mark.parametrize("window", [None, 5])
def test_a_scaler_that_follows_its_rows_sees_all_of_them_in_order(window):
    features, target, fold = market(n_contracts=3, holes=3)
    whole = features.dropna()
    want = pd.concat([whole.loc[[name]] - whole.loc[[name]].expanding().mean().shift(fill_value=0.0) for name in whole.index.get_level_values(0).unique()])
    dataset = make_dataset(features, target, fold, window=window, scaler=Following())
    np.testing.assert_array_equal(dataset.X, want.loc[dataset.x_index].to_numpy(np.float32))
    later = features.copy()
    for name, a, b in contract_runs(features.index):
        mine = dataset.x_index.get_level_values("ts")[dataset.x_index.get_level_values("contract") == name]
        if len(mine): later.iloc[a + np.flatnonzero(features.index[a:b].get_level_values("ts") > mine.max())] = np.inf
    assert not later.equals(features)
    assert make_dataset(later, target, fold, window=window, scaler=Following()).X.tobytes() == dataset.X.tobytes()


class Doubled(Following):
    """Two columns out of one."""
    rowwise = True

    def transform(self, X): return np.hstack([X, np.asarray(X) != 0])
    def get_feature_names_out(self, input_features=None): return [*self.names, *(f"{c}_nonzero" for c in self.names)]

    def fit(self, X, y=None):
        self.names = list(X.columns)
        return self


def test_a_scaler_may_add_columns_that_it_names():
    features, target, fold = market()
    dataset = make_dataset(features, target, fold, window=3, scaler=Doubled())
    assert dataset.columns == ["f0", "f1", "f2", "f0_nonzero", "f1_nonzero", "f2_nonzero"] and dataset.inputs([0]).shape == (1, 3, 6)
    twice = type("Twice", (Doubled,), {"get_feature_names_out": lambda self, input_features=None: ["a"] * 6})
    with pytest.raises(DataError, match="Twice makes 6 columns and has 1 names"): make_dataset(features, target, fold, scaler=twice())


def test_a_sparse_result_is_written_out():
    from sklearn.preprocessing import OneHotEncoder
    features, target, fold = market()
    features = pd.DataFrame({"weekday": features.index.get_level_values("ts").day_of_week.astype(float)}, features.index)
    dataset = make_dataset(features, target, fold, scaler=OneHotEncoder(handle_unknown="ignore"))
    assert dataset.n_features >= 5 and set(np.unique(dataset.X)) == {0.0, 1.0} and dataset.columns[0] == "weekday_0.0"


def test_real_minutes_of_es(es_file):
    """Windows of the March 2025 contract: no stray bar of a weekend joins two sessions, every bar that could have a window has one."""
    from futures_nb.bars import read_bars
    from futures_nb.sessions import off_session
    bars = read_bars(es_file, source="ninjatrader")
    bars = bars[~off_session(bars)].iloc[:30_000]
    close = np.log(bars["close"])
    features = pd.DataFrame({f"momentum_{k}": close.diff(k) for k in (1, 5, 30)} | {"row": np.arange(len(bars))})
    target = make_target(bars, horizon=5)
    target.loc[features.isna().any(axis=1).to_numpy(), "y"] = np.nan
    fold = WalkForward(n_folds=3).folds(target)[-1]
    dataset = make_dataset(features, target, fold, window=60, gap="session")
    row = np.rint(dataset.scaler.inverse_transform(pd.DataFrame(dataset.X.astype(float), columns=dataset.columns))[:, 3]).astype(int)
    date = trade_dates(bars.index.get_level_values("ts"), calendar="ESH25").to_numpy()
    seen = row[dataset.at[:, None] + np.arange(-59, 1)]
    assert len(seen) > 15_000 and (date[seen] == date[seen[:, :1]]).all() and (np.diff(seen, axis=1) == 1).all()
    every = np.concatenate([fold.train, fold.valid, fold.test])
    place = np.arange(len(bars)) - np.searchsorted(date, date)             # bars since the session's first
    place -= np.where(date == date[0], 30, 0)                              # of the first session 30 are warm-up
    assert set(seen[:, -1]) == set(every[place[every] >= 59])
    assert dataset.info["why_short"]["session"] == sum(dataset.info["n_short"].values()) - dataset.info["why_short"]["missing"] > 500
    x = next(iter(dataset.batches("test", 512, shuffle=False)))[0]
    assert x.shape == (512, 60, 4) and bool(x.isfinite().all())


@pytest.mark.parametrize("window", [None, 4])
def test_a_rolling_scaler_inside_another_follows_its_rows(window, monkeypatch):
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, make_pipeline

    from futures_nb.autoscale import make_scaler
    monkeypatch.setattr("futures_nb.dataset.BLOCK", 64)
    features, target, fold = market(n_contracts=3, holes=2)
    features["f0"] += 0.0
    rolling, names = make_scaler("rolling", min_sessions=1, window=3), ["f0", "f1", "f2"]
    want = make_dataset(features, target, fold, scaler=rolling, window=window).X
    for scaler in (make_pipeline(rolling), make_pipeline("passthrough", make_pipeline(rolling)), ColumnTransformer([("a", rolling, names)]), FeatureUnion([("a", rolling)]),
                   ColumnTransformer([("a", make_pipeline(rolling), names), ("b", "drop", ["f0"])])):
        np.testing.assert_array_equal(make_dataset(features, target, fold, scaler=scaler, window=window).X, want)


def test_other_scalers_still_come_in_blocks(monkeypatch):
    from sklearn.pipeline import make_pipeline

    from futures_nb.autoscale import make_scaler
    from futures_nb.dataset import _is_rowwise
    assert all(_is_rowwise(s) for s in (make_scaler("robust"), make_pipeline(make_scaler("robust"), Untouched()), Untouched(), object()))
    assert not any(_is_rowwise(s) for s in (make_scaler("rolling"), make_pipeline(Following(), Untouched()), Following()))


@pytest.mark.parametrize("data, words", [(b'{"format": 2, "tens', "is cut short or is no JSON"), (b"\xff\xfe\x00\x93", "is cut short or is no JSON"), (b"", "is cut short or is no JSON"),
                                         (b"[]", "holds a list"), (b"null", "holds a NoneType"), (b"{}", "has format None")])
def test_a_json_that_is_none_is_named(tmp_path, data, words):
    make_dataset(*market()).save(tmp_path)
    (tmp_path / "dataset.json").write_bytes(data)
    with pytest.raises(DataError, match=rf"dataset\.json {words}.*save the data set again"): Dataset.load(tmp_path)


def test_columns_that_are_no_numbers_are_named():
    features, target, fold = market()
    n = len(features)
    for wrong in (["up"] * n, pd.date_range("2024-01-01", periods=n), pd.to_timedelta(np.arange(n), "s"), pd.Categorical([1.0] * n), np.ones(n) * 1j, ["1.5"] * n):
        with pytest.raises(DataError, match="make_dataset: features column 'odd' is of type .*; make numbers of it or leave it out"):
            make_dataset(features.assign(odd=wrong), target, fold)
    for name in ("y", "weight"):
        with pytest.raises(DataError, match=f"make_dataset: target column '{name}' is of type"): make_dataset(features, target.assign(**{name: "up"}), fold)
    twice = features.set_axis(["f0", "f1", "f0"], axis=1)
    with pytest.raises(DataError, match="features column 'f0' is there twice; rename one or leave it out"): make_dataset(twice, target, fold)
    with pytest.raises(DataError, match="target column 'y' is there twice"): make_dataset(features, pd.concat([target, target[["y"]]], axis=1), fold)
    with pytest.raises(DataError, match="some columns of features are named by texts"): make_dataset(features.set_axis(["a", 1, 2], axis=1), target, fold)
    with pytest.raises(DataError, match="features has no columns"): make_dataset(features[[]], target, fold)


@pytest.mark.parametrize("window", [None, 3])
def test_a_moment_that_is_none_is_named(window):
    features, target, fold = market()
    lost = target.copy()
    lost.iloc[fold.test[3], lost.columns.get_loc("t1")] = pd.NaT
    with pytest.raises(DataError, match=r"t1 is missing in row \(ES"): make_dataset(features, lost, fold, window=window)
    for wrong in ("tomorrow", target["t1"].dt.tz_localize(None), 7):
        with pytest.raises(DataError, match="target column 't1' is of type"): make_dataset(features, target.assign(t1=wrong), fold, window=window)


def test_bools_whole_numbers_and_nullable_numbers_are_numbers():
    features, target, fold = market()
    features = features.assign(up=features["f1"] > 0, count=(features["f2"] * 10).round())
    mixed = features.astype({"count": "int32", "f2": "float32"})
    want = make_dataset(mixed.astype(float), target, fold)
    for other in (mixed, mixed.astype({"up": "boolean", "count": "Int64", "f1": "Float64"})):
        got = make_dataset(other, target, fold)
        np.testing.assert_array_equal(got.X, want.X)
        assert got.digest == want.digest and got.columns == want.columns
        np.testing.assert_array_equal(make_dataset(other, target, fold, window=3).X, make_dataset(mixed.astype(float), target, fold, window=3).X)
    ints = features[["f1", "f2"]].set_axis([0, 1], axis=1)
    assert make_dataset(ints, target, fold).columns == ["0", "1"]


@pytest.mark.parametrize("value, words", [(-0.5, "weight is -0.5 in row .*; a weight is 0 or more"), (np.inf, "'weight' is inf in row"), (1e300, "'weight' is 1e.300 in row .*more than float32 holds")])
def test_a_weight_that_is_none_is_named(value, words):
    features, target, fold = market()
    target.iloc[fold.valid[3], target.columns.get_loc("weight")] = value
    with pytest.raises(DataError, match=words) as told: make_dataset(features, target, fold)
    contract, ts = target.index[fold.valid[3]]
    assert f"row ({contract}, {ts:%Y-%m-%d %H:%M} UTC)" in str(told.value)


def test_a_fold_without_train_rows_names_every_splitter():
    features, target, fold = market()
    for bad in (Fold(fold.valid[:0], fold.valid, fold.test), Fold(fold.train, fold.train[:1], fold.test)):
        with pytest.raises(DataError, match=r"splitter of the book \(WalkForward, PurgedKFold, CombinatorialPurged\)"): make_dataset(features, target, bad)
