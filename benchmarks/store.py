"""Bars from the store, whole, with their index: ours beside polars, pandas and pyarrow reading the same Parquet files, in turn in one process.

    python benchmarks/store.py            # writes benchmarks/results/store.json

Once with one thread for everybody (POLARS_MAX_THREADS=1, use_threads=False) and once with each reader's default threads, each in a process
of its own. Answers are compared before times. A table of its own tells what other packings of the same values cost to keep and read.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from common import peers_in_turn, write_results

import futures_nb as fnb
from futures_nb.schema import contract_runs

SIZES = (9_996, 99_996, 1_142_640)   # 12 contracts of 833, 8,333 and 95,220 minutes


def market():
    """Twelve contracts of 95,220 one-minute bars."""
    bars = fnb.synth_bars(n_contracts=12, n_days=72, overlap=8, seed=0)
    return pd.concat([bars.iloc[a:a + 95_220] for _, a, b in contract_runs(bars.index)])


def head(bars, n): return pd.concat([bars.iloc[a:a + n // 12] for _, a, b in contract_runs(bars.index)])


def readers(path, one_thread):
    import polars as pl
    pattern, files = f"{path}/**/*.parquet", sorted(Path(path).glob("**/*.parquet"))
    store, threads = fnb.Store(path), not one_thread
    return {
        "ours, with the index": partial(store.read, threads=threads),
        "polars": partial(pl.read_parquet, pattern, hive_partitioning=True),
        "pandas": partial(pd.read_parquet, f"{path}/bars", use_threads=threads),
        "pandas, with the index": lambda: pd.read_parquet(f"{path}/bars", use_threads=threads).set_index(["contract", "ts"]),
        "pyarrow": lambda: [pq.read_table(f, partitioning=None, use_threads=threads) for f in files],
    }


def compare(bars, calls):
    """Every reader has the same sums before it is timed, and ours the same bits."""
    pd.testing.assert_frame_equal(calls["ours, with the index"](), bars, check_exact=True)
    sums = bars.groupby("contract")["close"].sum()
    theirs = calls["polars"]().to_pandas().groupby("contract")["close"].sum()
    np.testing.assert_allclose(theirs.reindex(sums.index), sums, rtol=1e-12)
    np.testing.assert_allclose(calls["pandas"]().groupby("contract", observed=True)["close"].sum().reindex(sums.index), sums, rtol=1e-12)
    np.testing.assert_allclose(sum(t.column("close").to_numpy().sum() for t in calls["pyarrow"]()), sums.sum(), rtol=1e-12)


PRICES, DELTA = ["open", "high", "low", "close", "volume"], {"ts": "DELTA_BINARY_PACKED"}
PACKINGS = {
    "byte streams, zstd 3 (ours)": dict(compression="zstd", compression_level=3, use_dictionary=False, column_encoding=DELTA | dict.fromkeys(PRICES, "BYTE_STREAM_SPLIT")),
    "dictionaries, zstd 3": dict(compression="zstd", compression_level=3, use_dictionary=PRICES, column_encoding=DELTA),
    "plain, zstd 3": dict(compression="zstd", compression_level=3, use_dictionary=False),
    "pyarrow's default (snappy)": {},
}


def packings(path, folder, rounds):
    """Size and reading time of the same tables packed in other ways."""
    import polars as pl
    rows, files = [], sorted(Path(path).glob("**/*.parquet"))
    for name, how in PACKINGS.items():
        there = Path(folder) / "packed"
        shutil.rmtree(there, ignore_errors=True)
        there.mkdir()
        copies = [there / f"{k}.parquet" for k in range(len(files))]
        for file, copy in zip(files, copies): pq.write_table(pq.read_table(file, partitioning=None), copy, row_group_size=16_384, **how)
        calls = {"pyarrow": lambda copies=copies: [pq.read_table(f, partitioning=None, use_threads=False) for f in copies], "polars": partial(pl.read_parquet, f"{there}/*.parquet")}
        rows.append({"packing": name, "MB": round(sum(f.stat().st_size for f in copies) / 1e6, 2)} | {"median_s": peers_in_turn(calls, rounds)["median_s"]})
    return rows


def measure(rounds, one_thread):
    rows, whole = [], market()
    with tempfile.TemporaryDirectory() as folder:
        for n in SIZES:
            bars, path = head(whole, n), f"{folder}/{n}"
            begin = time.perf_counter()
            fnb.Store(path).write(bars)
            write_s = round(time.perf_counter() - begin, 4)
            calls = readers(path, one_thread)
            compare(bars, calls)
            begin = time.perf_counter()
            done = fnb.Store(path).write(bars)
            assert done.contracts == ()
            size = sum(f.stat().st_size for f in Path(path).glob("**/*.parquet"))
            rows.append({"rows": len(bars), "threads": "1" if one_thread else "default", "MB": round(size / 1e6, 2), "write_s": write_s,
                         "write_again_s": round(time.perf_counter() - begin, 4)} | peers_in_turn(calls, rounds))
        if one_thread: rows += packings(path, folder, rounds)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--part", choices=["one", "default"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measure(options.rounds, options.part == "one")))
        return
    rows = []
    for part in ("one", "default"):
        env = dict(os.environ) | ({"POLARS_MAX_THREADS": "1"} if part == "one" else {})
        told = subprocess.run([sys.executable, __file__, "--rounds", str(options.rounds), "--part", part], env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        for row in json.loads(told.splitlines()[-1]):
            rows.append(row)
            print(row)
    write_results("store", rows)


if __name__ == "__main__":
    main()
