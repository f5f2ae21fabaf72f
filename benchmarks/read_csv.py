"""Twelve CSV files of minute bars, read and checked: `read_bars` beside readers that check nothing, in turn in one process.

    python benchmarks/read_csv.py            # writes benchmarks/results/read_csv.json

`read_bars` does more than its peers: clock, contract, impossible and off-tick rows, sessions, gaps and the index. Peers may use all processors, and so
does it. Answers are compared before times; times are medians of rounds A B A B; kernels are compiled before the clock starts. polars is left out, and said, where it is absent.
"""
import argparse
import contextlib
import importlib.util
import io
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results

from futures_nb.bars import read_bars
from futures_nb.schema import BAR_COLUMNS, contract_month
from futures_nb.sessions import session_table

NAMES = [f"ES{letter}{year}" for year in (22, 23, 24) for letter in "HMUZ"]


def write_files(folder, n_files, n_rows):
    """Contracts of whole sessions that end in their month, as a vendor writes them."""
    rng = np.random.default_rng(0)
    for name in NAMES[:n_files]:
        end = contract_month(name) + pd.Timedelta("14D")
        table = session_table("ES", end - pd.Timedelta("150D"), end)
        ts = np.concatenate([pd.date_range(o + pd.Timedelta("1min"), c, freq="1min").tz_localize(None).to_numpy() for o, c in zip(table["open"], table["close"])])[-n_rows:]
        close = 16000 + rng.integers(-3, 4, n_rows).cumsum()
        open_ = np.r_[close[0], close[:-1]]
        high, low = np.maximum(open_, close) + rng.integers(0, 5, n_rows), np.minimum(open_, close) - rng.integers(0, 5, n_rows)
        frame = pd.DataFrame(dict(time=ts, open=open_ / 4, high=high / 4, low=low / 4, close=close / 4, volume=rng.integers(1, 3000, n_rows)))
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.2f", date_format="%Y-%m-%d %H:%M:%S")
    return [folder / f"{name}.csv" for name in NAMES[:n_files]]


def ours(files, n_jobs=None):
    with contextlib.redirect_stdout(io.StringIO()): return read_bars(files, tz="UTC", stamp="end", n_jobs=n_jobs, progress=False)


def with_pandas(files, engine): return [pd.read_csv(file, engine=engine) for file in files]


def with_polars(files):
    import polars as pl
    return [pl.read_csv(file, try_parse_dates=True) for file in files]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds, rows = parser.parse_args().rounds, []
    has_polars = importlib.util.find_spec("polars") is not None
    if not has_polars: print("polars is not installed: left out")
    with tempfile.TemporaryDirectory() as folder:
        for n_files, n_rows in ((1, 10_000), (2, 50_000), (12, 95_220)):
            files = write_files(Path(folder), n_files, n_rows)
            bars, theirs = ours(files), pd.concat(with_pandas(files, "pyarrow"), ignore_index=True)
            assert bars[BAR_COLUMNS].to_numpy().tobytes() == theirs[BAR_COLUMNS].to_numpy(float).tobytes()
            assert np.array_equal(bars.index.get_level_values("ts").asi8, pd.DatetimeIndex(theirs["time"]).as_unit("us").asi8)
            peers = {"ours": partial(ours, files), "ours, one thread": partial(ours, files, 1), "pandas, engine=pyarrow": partial(with_pandas, files, "pyarrow"),
                     "pandas, engine=c": partial(with_pandas, files, "c")}
            if has_polars: peers["polars"] = partial(with_polars, files)
            megabytes = round(sum(file.stat().st_size for file in files) / 1e6, 1)
            rows.append({"files": n_files, "rows": n_files * n_rows, "megabytes": megabytes, "answers": "equal to the bit"} | peers_in_turn(peers, rounds))
            print(rows[-1])
    write_results("read_csv", rows)


if __name__ == "__main__":
    main()
