"""Writers of a ledger that are killed, fits and backtests that write themselves down, and the package's own spelling of it."""
import dataclasses
import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb import trials
from futures_nb.schema import DataError, make_index

ROOT = Path(__file__).resolve().parent.parent


def write_on(path, acknowledged, name):
    ledger = fnb.Ledger(path)
    with open(acknowledged, "a") as said:
        for i in range(10**6):
            ledger.record("ES", {"writer": name, "i": i}, daily=pd.Series([1.0, -0.5, i], pd.bdate_range("2024-01-02", periods=3)))
            said.write(f"{name} {i}\n")
            said.flush()


def test_what_a_killed_writer_was_told_is_written(tmp_path):
    """Three writers at once, each killed and started anew several times: every trial that `record` returned from is there, once, and no line is torn."""
    rng, path = random.Random(0), tmp_path / "ledger.jsonl"
    fork = multiprocessing.get_context("fork")
    for round_ in range(4):
        writers = [fork.Process(target=write_on, args=(path, tmp_path / f"said{k}", f"{round_}.{k}")) for k in range(3)]
        for w in writers: w.start()
        for k, w in enumerate(writers):
            while w.is_alive() and f"{round_}.{k} " not in ((tmp_path / f"said{k}").read_text() if (tmp_path / f"said{k}").exists() else ""): time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.1))
            w.kill()
            w.join()
    said = {tuple(line.split()) for k in range(3) for line in (tmp_path / f"said{k}").read_text().splitlines() if line.count(" ") == 1}
    records = fnb.Ledger(path).records()
    there = [(r["config"]["writer"], str(r["config"]["i"])) for r in records]
    assert len(there) == len(set(there)) and said <= set(there) and len(said) > 20
    assert fnb.Ledger(path).record("ES", {"after": 1}) == len(there) + 1
    daily = fnb.Ledger(path).daily("ES")
    assert set(daily.columns) >= {r["trial"] for r in records if r["daily"]}


def test_a_number_of_trials_cannot_be_typed_in(tmp_path):
    ledger = fnb.Ledger(tmp_path / "ledger.jsonl")
    days = np.random.default_rng(0).standard_normal(300)
    for k in range(5): ledger.record("ES", {"k": k})
    assert ledger.deflated("ES", days)["n_trials"] == 5
    with pytest.raises(TypeError): ledger.deflated("ES", days, n_trials=1)


def test_a_read_only_folder_stops_the_trial(tmp_path):
    (tmp_path / "there").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="cannot be written"): fnb.Ledger(tmp_path / "there" / "x.jsonl").record("ES", {})
    assert os.listdir(tmp_path) == ["there"]


def small_set(seed=0, fold=0, n=400):
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2024-01-02 15:00", periods=n, freq="h", tz="UTC")
    at = np.arange(n)
    return SimpleNamespace(X=rng.standard_normal((n, 3)).astype(np.float32), y=rng.standard_normal(n).astype(np.float32), weight=np.ones(n, np.float32), index=make_index("ESH25", ts),
                           t1=ts + pd.Timedelta("1h"), train=at[:n // 2], valid=at[n // 2:3 * n // 4], test=at[3 * n // 4:], columns=["a", "b", "c"], y_scale=1.0, fold=SimpleNamespace(number=fold))


QUIET = dict(epochs=1, progress=False, live=False)


def fits_and_backtests(said, name):
    dataset, bars = small_set(), pd.DataFrame({"open": 1.0, "close": 1.0}, small_set().index)
    with open(said, "a") as told:
        for i in range(10**6):
            trial = trials.record_fit(dataset, {"writer": name, "i": i})
            frame = trials.note_predictions(trial, pd.DataFrame({"y_hat": np.arange(100.0) + i}, dataset.index[:100]))
            for k in range(3): trials.record_backtest(frame, bars, pd.Series([1.0, -1.0], pd.bdate_range("2024-01-02", periods=6)[2 * k:2 * k + 2]), {"delay": 1}, np.mean)
            told.write(f"{name} {i}\n")
            told.flush()


def test_killed_fits_and_backtests_are_one_trial_each(tmp_path):
    """Three processes at once, killed at any moment: each fit that returned is one trial, its three backtests are its six days, and no line is torn."""
    rng, fork = random.Random(1), multiprocessing.get_context("fork")
    with trials.use_ledger(tmp_path / "l.jsonl"):
        for round_ in range(3):
            writers = [fork.Process(target=fits_and_backtests, args=(tmp_path / f"said{k}", f"{round_}.{k}")) for k in range(3)]
            for w in writers: w.start()
            for k, w in enumerate(writers):
                until = time.monotonic() + 60
                while time.monotonic() < until and f"{round_}.{k} " not in ((tmp_path / f"said{k}").read_text() if (tmp_path / f"said{k}").exists() else ""): time.sleep(0.01)
                time.sleep(rng.uniform(0.0, 0.1))
                w.kill()
                w.join()
        ledger = fnb.Ledger()
        table = ledger.trials("ES")
    said = {tuple(line.split()) for k in range(3) for line in (tmp_path / f"said{k}").read_text().splitlines() if line.count(" ") == 1}
    there = {(c["writer"], str(c["i"])): trial for c, trial in zip(table["config"], table["trial"])}
    assert len(there) == len(table) and said <= set(there) and len(said) >= 9
    assert set(table["kind"]) == {"fit"} and (table["again"] == 0).all()
    for key in said: assert trials.read_daily(ledger.path, there[key]).tolist() == [1, -1] * 3


def test_a_fit_is_written_down_before_its_first_step(tmp_path):
    """A process that dies in its first step has tried."""
    program = ("import os, futures_nb as fnb; from tests.test_ledger import small_set, QUIET\n"
               "def loss(y_hat, y, weight=None, *, total=None): os.kill(os.getpid(), 9)\n"
               "fnb.fit(fnb.MLP, small_set(), loss=loss, **QUIET)")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"FUTURES_NB_LEDGER": str(tmp_path / "l.jsonl"), "PYTHONPATH": str(ROOT)})
    assert done.returncode == -9 and fnb.Ledger(tmp_path / "l.jsonl").n_trials("ES") == 1


def test_fit_predict_backtest_are_one_trial(tmp_path):
    bars = fnb.synth_bars(n_contracts=1, n_days=30, minutes=60, seed=1)
    target = fnb.make_target(bars).dropna()
    features = pd.DataFrame({"x": np.random.default_rng(0).standard_normal(len(target))}, target.index)
    folds = fnb.WalkForward(n_folds=2).folds(target)
    with trials.use_ledger(tmp_path / "l.jsonl"):
        ledger = fnb.Ledger()
        sets = [fnb.make_dataset(features, target, fold) for fold in folds]
        fits = [fnb.fit(fnb.MLP, d, out=tmp_path / f"f{k}", **QUIET) for k, d in enumerate(sets)]
        said = [fnb.predict(f, d) for f, d in zip(fits, sets)]
        daily = fnb.run_backtest(pd.concat(said), bars).daily
        table = ledger.trials("ES")
        assert table["kind"].tolist() == ["fit"] and table["folds"].tolist() == [2] and fits[0].trial.trial == fits[1].trial.trial == table["trial"][0]
        pd.testing.assert_series_equal(ledger.daily("ES").iloc[:, 0], daily, check_names=False, check_freq=False, check_index_type=False)
        fnb.run_backtest(pd.concat(said)[["y_hat", "t1"]], bars, cost=0)                       # other costs: the same trial
        assert ledger.n_trials("ES") == 1 and ledger.daily("ES").iloc[:, 0].tolist() == daily.tolist()   # and the days stay as they were
        fnb.fit(fnb.MLP, sets[0], out=tmp_path / "f0", **QUIET)                                 # a finished folder read again
        assert ledger.trials("ES")["again"].tolist() == [1]
        fnb.run_backtest(pd.concat(said), bars, delay=2)                                        # another rule: another trial
        fnb.fit(fnb.Baseline("ridge"), sets[0])
        fnb.fit(fnb.MLP, sets[0], seed=1, **QUIET)
        assert ledger.trials("ES")["kind"].tolist() == ["fit", "backtest", "fit", "fit"]
        with fnb.one_trial({"idea": 1}, market="ES"):                                           # whatever is done inside
            for seed in range(3): fnb.fit(fnb.MLP, sets[0], seed=seed, **QUIET)
            fnb.run_backtest(said[0], bars, delay=3)
        assert ledger.n_trials("ES") == 5
        with trials.use_ledger(None): fnb.fit(fnb.MLP, sets[0], seed=9, **QUIET)
    assert ledger.n_trials("ES") == 5


def test_a_fit_does_not_fail_for_the_ledger_and_is_counted_as_lost(tmp_path, monkeypatch):
    (tmp_path / "there").write_text("a file where a folder should be")
    with trials.use_ledger(tmp_path / "there" / "l.jsonl"):
        with pytest.warns(UserWarning, match="counted as lost") as said:
            for seed in range(3): assert len(fnb.fit(fnb.MLP, small_set(), seed=seed, **QUIET).epochs) == 1
        assert len(said) == 1
        ledger = fnb.Ledger()
        (tmp_path / "there").unlink()
        fnb.fit(fnb.MLP, small_set(), seed=3, **QUIET)
        assert (ledger.n_lost("ES"), ledger.n_trials("ES"), len(ledger.trials("ES"))) == (3, 4, 1) and "3 that could not be written" in repr(ledger)
        assert ledger.judge("ES", np.random.default_rng(0).standard_normal(100))["n_lost"] == 3
        monkeypatch.setenv("RANK", "1")                                    # not the process that writes
        assert trials.record_fit(small_set(), {"seed": 4}) is None
        assert ledger.n_trials("ES") == 4


def test_threads_of_one_process_write_one_file(tmp_path):
    path = tmp_path / "l.jsonl"
    threads = [threading.Thread(target=lambda k=k: [trials.write_trial(path, "ES", {"k": k, "i": i}) for i in range(15)]) for k in range(6)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert fnb.Ledger(path).n_trials("ES") == len(path.read_text().splitlines()) == 90


def test_a_held_ledger_is_not_waited_for_without_end(tmp_path, monkeypatch):
    import fcntl
    monkeypatch.setattr(trials, "WAIT", 0.05)
    path = tmp_path / "l.jsonl"
    with open(path, "a") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process has held"): trials.write_trial(path, "ES", {})


def test_what_makes_a_run_another_trial():
    config = fnb.RunConfig()
    same = [dataclasses.replace(config, out="elsewhere"), dataclasses.replace(config, features=dataclasses.replace(config.features, n_jobs=4)), dataclasses.replace(config, train=dataclasses.replace(config.train, keep=5))]
    assert all(trials.trial_config(c) == trials.trial_config(config) for c in same)
    assert trials.trial_config(dataclasses.replace(config, train=dataclasses.replace(config.train, seed=5))) != trials.trial_config(config)


def test_a_run_says_what_it_is_and_lies_beside_its_folder(tmp_path, monkeypatch):
    """Under "off" a run is counted all the same; a file that was named goes before."""
    bars, config = pd.DataFrame({"close": 1.0}, small_set().index), fnb.RunConfig(out=str(tmp_path / "runs" / "a"))
    monkeypatch.setenv(trials.VARIABLE, trials.OFF)
    with trials.run_trial(config, bars, "d1") as trial: fnb.fit(fnb.MLP, small_set(), **QUIET)
    assert (trial.path, trial.market, trial.n_fits) == (tmp_path / "runs" / "ledger.jsonl", "ES", 1)
    assert fnb.Ledger(trial.path).record("ES", trials.trial_config(config), data="d1") == 1           # the same trial, by hand
    monkeypatch.setenv(trials.VARIABLE, str(tmp_path / "all.jsonl"))
    with trials.run_trial(config, bars, "d1") as trial: pass
    assert trial.path == tmp_path / "all.jsonl"


def test_a_fit_costs_less_than_twenty_milliseconds_in_a_ledger_of_a_thousand(tmp_path):
    """In time of the processor, since the rest of the machine may be busy. A sample of 65,536 whole rows cost 30 ms; so the inputs of 4,096 rows are looked at."""
    columns = [f"feature_{k}" for k in range(54)]
    dataset, seconds = small_set(n=200_000), []
    dataset.X = np.zeros((200_000, 54), np.float32)
    with trials.use_ledger(tmp_path / "l.jsonl"):
        with open(trials.ledger_file(), "w") as f:
            for k in range(1000): f.write(json.dumps({"trial": f"{k:012d}", "base": f"{k:012d}", "market": "ES", "kind": "fit", "fold": 0, "rows": "a", "config": {"columns": columns, "net": "x" * 1500, "k": k}, "sharpe": None, "when": ""}) + "\n")
        for k in range(20):
            began = time.process_time()
            trials.record_fit(dataset, {"columns": columns, "net": "x" * 1500, "lr": k})
            seconds.append(time.process_time() - began)
    assert fnb.Ledger(tmp_path / "l.jsonl").n_trials("ES") == 1020
    print(f"processor: first {1e3 * seconds[0]:.1f} ms, best {1e3 * min(seconds):.1f} ms, median {1e3 * sorted(seconds)[10]:.1f} ms")
    assert min(seconds) < 0.02
