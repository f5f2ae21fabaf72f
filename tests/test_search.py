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
from futures_nb.config import DataConfig, FeaturesConfig, NetConfig, RunConfig, SplitConfig, TrainConfig
from futures_nb.schema import DataError

pytest.importorskip("optuna")
ROOT = Path(__file__).resolve().parent.parent
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


def test_test_rows_change_nothing(config, tmp_path, monkeypatch):
    """From the first test row on the market is another one, in prices and volumes: each trial has the loss that it had."""
    made = searching.make_problem(config[0], searching.read_space(SPACE, config[0]))
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
    plain = fnb.search(config[0], SPACE, study=tmp_path / "a", n_trials=4, progress=False)
    monkeypatch.setattr(searching, "load_market", another)
    moved = searching.make_problem(config[0], searching.read_space(SPACE, config[0]))
    assert not moved.bars.equals(as_it_was) and not np.array_equal(moved.target["y"].iloc[moved.outer.test], made.target["y"].iloc[made.outer.test])
    pd.testing.assert_frame_equal(columns(fnb.search(config[0], SPACE, study=tmp_path / "b", n_trials=4, progress=False)), columns(plain), check_exact=True)


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


def test_without_optuna_it_says_what_to_install(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DataError, match=r"pip install 'futures_nb\[search\]'"): fnb.search(config[0], SPACE, study=tmp_path)


@pytest.mark.parametrize("pruner", ["hyperband", None])
def test_other_pruners(config, tmp_path, pruner):
    found = fnb.search(config[0], {"net.hidden": [2, 4, 8]}, study=tmp_path / "s", n_trials=3, pruner=pruner, progress=False, inner=fnb.PurgedKFold(3, valid=0.2))
    assert len(found.trials) == 3 and set(found.trials["state"]) <= {"complete", "pruned"} and found.trials["n_folds"].iloc[0] == 3
    assert found.best.net.hidden in (2, 4, 8) and dataclasses.replace(found.best, out="x", net=config[0].net) == dataclasses.replace(config[0], out="x")
