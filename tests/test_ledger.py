"""Writers of a ledger that are killed, and the package's own spelling of it."""
import multiprocessing
import os
import random
import time

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.schema import DataError


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
