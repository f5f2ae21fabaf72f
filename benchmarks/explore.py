"""Seconds of `explore` and of its parts at three sizes: rows x 96 columns of noise, heavy tails, zeros and slow columns.

    python benchmarks/explore.py [rows ...]        # default 71400 285600 1142640
"""
import sys
import time

import numpy as np
import pandas as pd
from scipy.signal import lfilter

import futures_nb as fnb
from futures_nb.exploring import explore
from futures_nb.splits import WalkForward

N_COLUMNS = 96


def made(n_rows):
    """Features of that many minutes in contracts laid end to end, and the next-day target of their bars."""
    n_days = 69
    n_contracts = max(round(n_rows / 1380 / n_days), 1)
    bars = fnb.synth_bars(n_contracts=n_contracts, n_days=n_days, overlap=0, seed=0)
    rng, columns = np.random.default_rng(0), np.empty((N_COLUMNS, len(bars)))
    for j in range(N_COLUMNS):
        e = rng.standard_normal(len(bars))
        columns[j] = (e, np.where(e > 0.3, e, 0), e / np.sqrt(rng.random(len(bars)) + 1e-9), lfilter([1], [1, -0.99], e))[j % 4]
    return pd.DataFrame(columns.T, bars.index, [f"x{j}" for j in range(N_COLUMNS)], copy=False), fnb.make_target(bars)


def main(sizes):
    for n_rows in sizes:
        features, target = made(n_rows)
        folds = WalkForward(n_folds=5).folds(target)
        for rows, name in ((None, "first fold"), (np.flatnonzero(target["y"].notna()), "all rows")):
            start = time.perf_counter()
            seen = explore(features, target, folds, rows=rows, progress=False)
            seconds = time.perf_counter() - start
            start = time.perf_counter()
            page = seen.to_html()
            print(f"{len(features):>9,} rows, {name:<10}: {seen.info['n_rows']:>9,} explored in {seconds:5.1f} s; page of {len(page) / 1e6:.2f} MB in {time.perf_counter() - start:.2f} s", flush=True)


if __name__ == "__main__":
    main([int(x) for x in sys.argv[1:]] or [71_400, 285_600, 1_142_640])
