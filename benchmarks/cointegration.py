"""Rolling Engle-Granger and Johansen: ours beside a loop of statsmodels and of arch per window, in turn in one process.

    python benchmarks/cointegration.py              # writes benchmarks/results/cointegration.json

A window of 1,380 bars, one lag, a constant. Ours estimates at every row; the peers run over a sample of windows, evenly spread, and are extrapolated
to all of them (`sample` and `step` say how many, and how many rows apart). Answers are compared before times: statistics to 1e-8. Times are medians of
rounds A B A B; kernels are compiled before the clock starts. The streaming kernel of the catalogue is timed on its own.
"""
import argparse
import os
import time
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results

import futures_nb as fnb
from futures_nb.coint import coint_run, coint_state

WINDOW, LAGS = 1380, 1
N_ROWS = 1_142_640                                 # 12 contracts of 69 sessions of 1,380 minutes


def two_series(n):
    """A walk and a series cointegrated with it, log prices."""
    rng = np.random.default_rng(1)
    x, e = 9 + 4e-4 * rng.standard_normal(n).cumsum(), 1e-4 * rng.standard_normal(n)
    for t in range(1, n): e[t] += 0.99 * e[t - 1]
    return pd.Series(0.8 * x + e), pd.Series(x)


def with_statsmodels(y, x, rows):
    from statsmodels.tsa.stattools import coint
    return np.array([coint(y[i - WINDOW:i], x[i - WINDOW:i], trend="c", maxlag=LAGS, autolag=None)[0] for i in rows])


def with_arch(y, x, rows):
    from arch.unitroot.cointegration import engle_granger
    return np.array([engle_granger(y[i - WINDOW:i], x[i - WINDOW:i], trend="c", lags=LAGS).stat for i in rows])


def with_statsmodels_johansen(y, x, rows):
    from statsmodels.tsa.vector_ar.vecm import coint_johansen
    both = np.column_stack([y, x])
    return np.array([coint_johansen(both[i - WINDOW:i], 0, LAGS).lr1[0] for i in rows])


def one_size(n, sample, rounds):
    """Times and equality of answers at `n` rows, for both methods."""
    y, x = two_series(n)
    rows = np.linspace(WINDOW, n - 1, sample).astype(int)
    told = []
    for method, peers in (("engle-granger", {"statsmodels coint": with_statsmodels, "arch engle_granger": with_arch}),
                          ("johansen", {"statsmodels coint_johansen": with_statsmodels_johansen})):
        ours = partial(fnb.cointegration, y, x, WINDOW, method=method, lags=LAGS)
        mine, calls = ours()["stat"].to_numpy()[rows], {name: partial(peer, y.to_numpy(), x.to_numpy(), rows) for name, peer in peers.items()}
        worst = {name: float(np.max(np.abs(call() / mine - 1))) for name, call in calls.items()}
        assert max(worst.values()) < 1e-8, worst
        times, more = peers_in_turn({"ours": ours} | calls, rounds), (n - WINDOW) / sample
        seconds = {"ours": times["median_s"]["ours"]} | {name: times["median_s"][name] * more for name in calls}
        told.append({"rows": n, "method": method, "window": WINDOW, "lags": LAGS, "largest_relative_difference": worst,
                     "median_s_extrapolated": {name: round(s, 4) for name, s in seconds.items()}, "ratio_to_ours": {name: round(seconds[name] / seconds["ours"], 1) for name in calls},
                     "sample": dict.fromkeys(calls, sample), "step": dict.fromkeys(calls, round(more))})
    return told


def streaming(n, rounds):
    """Seconds of the catalogue's kernel over `n` one-minute bars, in one call."""
    y, x = two_series(n)
    row = np.arange(n)
    inputs = (y.to_numpy(copy=True), x.to_numpy(copy=True), row % 1380 + 1, row % 1380 == 0, np.full(n, 0.015), np.full(n, 5e-5))
    out, seconds = np.empty((n, 5)), []
    coint_run(coint_state(), *(v[:10_000] for v in inputs), out[:10_000])
    for _ in range(rounds):
        state, start = coint_state(), time.perf_counter()
        coint_run(state, *inputs, out)
        seconds.append(time.perf_counter() - start)
    return {"rows": n, "kernel": "coint_run", "seconds": {"the kernel of the catalogue, one call": round(float(np.median(seconds)), 4)}, "fits": int(state.counts[0])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=60, help="windows that a peer computes")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, N_ROWS])
    parser.add_argument("--dry", action="store_true", help="print only")
    given = parser.parse_args()
    rows = []
    for n in given.rows:
        rows += one_size(n, given.sample, given.rounds)
        print(*rows[-2:], sep="\n")
    rows.sort(key=lambda row: row["method"])      # one table for each
    rows.append(streaming(N_ROWS, given.rounds))
    print(rows[-1])
    if not given.dry: write_results("cointegration", rows)


if __name__ == "__main__":
    main()
