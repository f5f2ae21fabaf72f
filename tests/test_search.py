"""A search that is killed, that is helped, whose test rows are another market's, and whose journal is torn."""
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb import searching, trials
from futures_nb.config import CostConfig, DataConfig, FeaturesConfig, NetConfig, PositionConfig, RunConfig, SplitConfig, TargetConfig, TrainConfig
from futures_nb.runner import problem
from futures_nb.schema import DataError

pytest.importorskip("optuna")
ROOT = Path(__file__).resolve().parent.parent
RUNS = {   # what a run can be, beside the default
    "window": dict(net=NetConfig(name="ConvNet", hidden=4, window=5)),
    "three classes": dict(net=NetConfig(hidden=4, n_members=2, n_classes=3), train=TrainConfig(epochs=2, patience=2, loss="cross_entropy")),
    "volatility": dict(target=TargetConfig(kind="realised_vol"), train=TrainConfig(epochs=2, patience=2, loss="student")),
    "rank": dict(target=TargetConfig(kind="rank"), net=NetConfig(name="AttentionNet", hidden=8, n_heads=2)),
    "sized": dict(target=TargetConfig(kind="vol_scaled"), cost=CostConfig(capital=1e6, delay=2, days_before=3), position=PositionConfig(target_vol=0.2, limit=9)),
}
SPACE = {"train.learning_rate": (1e-4, 1e-1, "log"), "net.hidden": [4, 16], "net.dropout": (0.0, 0.5), "features.names": [["return_1", "return_5"], ["return_5"]]}
PROGRAM = """import sys, tests.test_search as t
t.fnb.search(t.fnb.RunConfig.from_toml(sys.argv[1]), t.SPACE, study=sys.argv[2], n_trials=int(sys.argv[3]), n_workers=int(sys.argv[4]), progress=False)"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market")
    bars = fnb.synth_bars(n_contracts=5, n_days=50, minutes=60, seed=2)
    fnb.Store(folder / "bars").write(bars)
    made = RunConfig(out=str(folder / "runs" / "one"), rows="daily", leaks=False, data=DataConfig(path=str(folder / "bars")), features=FeaturesConfig(names=("return_1", "return_5")),
                     split=SplitConfig(n_folds=2, min_train=0.6), net=NetConfig(hidden=4), train=TrainConfig(epochs=3, patience=2))
    (folder / "run.toml").write_text(made.to_toml())
    return made, folder / "run.toml"


def start(config, study, ledger, n_trials, n_workers=1):
    env = os.environ | {"FUTURES_NB_LEDGER": str(ledger), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(config[1]), str(study), str(n_trials), str(n_workers)], cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(process):
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error.decode()[-2000:]


def columns(found): return found.trials.drop(columns="seconds").reset_index(drop=True)


@pytest.mark.slow
def test_killed_and_called_again_it_is_the_search_it_would_have_been(config, tmp_path):
    """Killed twice, once in a trial and once in a write; the same trials in the same order, and each in the ledger once."""
    with trials.use_ledger(tmp_path / "whole.jsonl"): whole = fnb.search(config[0], SPACE, study=tmp_path / "whole", n_trials=12, progress=False)
    journal = tmp_path / "killed" / "journal.jsonl"
    for least in (15, 90):
        process = start(config, tmp_path / "killed", tmp_path / "killed.jsonl", 12)
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until and not (journal.exists() and journal.read_bytes().count(b"\n") > least): time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with open(journal, "ab") as f: f.write(b'{"op_code": 6, "torn')
    n_before = len(searching.read_search(tmp_path / "killed").trials)
    with trials.use_ledger(tmp_path / "killed.jsonl"): killed = fnb.search(config[0], SPACE, study=tmp_path / "killed", n_trials=12, progress=False)
    assert 0 < n_before < 12
    pd.testing.assert_frame_equal(columns(killed), columns(whole), check_exact=True)
    a, b = (fnb.Ledger(tmp_path / name).trials("ES") for name in ("whole.jsonl", "killed.jsonl"))
    assert a["trial"].tolist() == b["trial"].tolist() and len(a) == whole.trials["same_as"].isna().sum()
    more = fnb.search(config[0], SPACE, study=tmp_path / "killed", n_trials=14, progress=False)      # more of the same
    pd.testing.assert_frame_equal(columns(more).iloc[:12], columns(whole), check_exact=True, check_dtype=False)
    assert len(more.trials) == 14


@pytest.mark.parametrize("space", [SPACE, {"net.name": ["ConvNet", "ResidualMLP"], "net.window": [0, 5], "net.n_members": (1, 2)}], ids=["features", "windows"])
def test_test_rows_change_nothing(config, tmp_path, monkeypatch, space):
    """From the first test row on the market is another one, in prices and volumes: each trial has the loss that it had."""
    made = searching.make_problem(config[0], searching.read_space(space, config[0]))
    ts = made.target.index.get_level_values("ts")
    first = ts[fnb.WalkForward(config[0].split.n_folds, min_train=config[0].split.min_train).folds(made.target)[0].test].min()      # of the run
    as_it_was, load = made.bars, searching.load_market
    rng = np.random.default_rng(0)
    def another(config):
        bars, vix, facts = load(config)
        late = bars.index.get_level_values("ts") >= first
        factor = np.exp(np.where(late, np.cumsum(rng.normal(0, 0.02, len(bars))), 0.0))
        moved = bars.copy()
        moved[["open", "high", "low", "close"]] = np.round(bars[["open", "high", "low", "close"]].mul(factor, axis=0) * 4) / 4
        moved["high"], moved["low"] = moved[["open", "high", "low", "close"]].max(axis=1), moved[["open", "high", "low", "close"]].min(axis=1)
        return moved, vix, facts
    plain = fnb.search(config[0], space, study=tmp_path / "a", n_trials=4, progress=False)
    monkeypatch.setattr(searching, "load_market", another)
    moved = searching.make_problem(config[0], searching.read_space(space, config[0]))
    assert not moved.bars.equals(as_it_was) and not np.array_equal(moved.target["y"].iloc[moved.outer.test], made.target["y"].iloc[made.outer.test])
    pd.testing.assert_frame_equal(columns(fnb.search(config[0], space, study=tmp_path / "b", n_trials=4, progress=False)), columns(plain), check_exact=True)


@pytest.mark.parametrize("kind", RUNS)
def test_a_trial_is_fitted_and_traded_as_a_run(config, tmp_path, kind):
    """The same fold gives the search and the run the same forecasts, bit by bit, and the same account."""
    here = dataclasses.replace(config[0], out=str(tmp_path / "run"), **RUNS[kind])
    with trials.use_ledger(None):
        out = fnb.run(here, progress=False)
        made = searching.make_problem(here, {})
        folds = problem(here, made.bars, made.everything, made.target.reindex(made.bars.index))[3]
        inputs = searching.inputs_of(made, here)
        with searching.one_thread(): parts = [searching.fit_fold(made, here, inputs, fold, k)[2].assign(fold=k) for k, fold in enumerate(folds)]
        daily = searching.account_of(made, here, pd.concat(parts))
    theirs = pd.read_parquet(out / "predictions.parquet")
    pd.testing.assert_frame_equal(pd.concat(parts), theirs[pd.concat(parts).columns], check_exact=True)
    if kind == "volatility": assert daily is None and not (out / "daily.parquet").exists()
    else: pd.testing.assert_series_equal(daily, pd.read_parquet(out / "daily.parquet")["pnl"], check_exact=True, check_names=False)


@pytest.mark.slow
def test_helpers_make_the_same_number_of_trials(config, tmp_path):
    """Two processes: eight trials, no more, each of them in the ledger, and both have worked."""
    process = start(config, tmp_path / "study", tmp_path / "l.jsonl", 8, n_workers=2)
    finished(process)
    found = searching.read_search(tmp_path / "study")
    workers = {t.user_attrs["worker"] for t in searching.open_study(tmp_path / "study").get_trials()}
    assert len(found.trials) == 8 and len(workers) == 2
    assert fnb.Ledger(tmp_path / "l.jsonl").n_trials("ES") == found.trials["same_as"].isna().sum()


def test_a_trial_whose_process_died_is_made_again(config, tmp_path):
    space, study = searching.read_space(SPACE, config[0]), searching.open_study(tmp_path)
    (tmp_path / "workers").mkdir()
    with searching._held(tmp_path / "workers" / "one") as is_held:
        assert is_held
        ours, _ = searching._ask(study, tmp_path, space, 2, 0, "one")
        other, n_running = searching._ask(study, tmp_path, space, 2, 0, "two")       # whose lock nobody holds
        assert n_running == 1 and searching._ask(study, tmp_path, space, 2, 0, "one")[0].params == other.params
        assert searching._ask(study, tmp_path, space, 2, 0, "one") == (None, 2)
    assert searching._ask(study, tmp_path, space, 1, 0, "three")[0].params == ours.params       # all have died


def test_all_windows_are_judged_on_the_same_rows(config):
    """Nets of one row and of five: the same rows, those that have five behind them in their contract."""
    space = searching.read_space({"net.window": [2, 5]}, dataclasses.replace(config[0], net=NetConfig(name="ConvNet", hidden=4, window=2)))
    long, short = searching.make_problem(config[0], space), searching.make_problem(config[0], {})
    judged = {}
    for window in (0, 2, 5):
        here = dataclasses.replace(config[0], net=NetConfig(name="ConvNet" if window else "ResidualMLP", hidden=4, window=window))
        judged[window] = searching.fit_fold(long, here, searching.inputs_of(long, here), long.folds[0], 0)[2].index
    assert judged[0].equals(judged[2]) and judged[2].equals(judged[5]) and len(judged[5])
    assert 0 < sum(map(len, (f.train for f in long.folds))) < sum(map(len, (f.train for f in short.folds)))


def test_without_optuna_it_says_what_to_install(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DataError, match=r"pip install 'futures_nb\[search\]'"): fnb.search(config[0], SPACE, study=tmp_path)


@pytest.mark.parametrize("pruner", ["hyperband", None])
def test_other_pruners(config, tmp_path, pruner):
    found = fnb.search(config[0], {"net.hidden": [2, 4, 8]}, study=tmp_path / "s", n_trials=3, pruner=pruner, progress=False, inner=fnb.PurgedKFold(3, valid=0.2))
    assert len(found.trials) == 3 and set(found.trials["state"]) <= {"complete", "pruned"} and found.trials["n_folds"].iloc[0] == 3
    assert found.best.net.hidden in (2, 4, 8) and dataclasses.replace(found.best, out="x", net=config[0].net) == dataclasses.replace(config[0], out="x")
