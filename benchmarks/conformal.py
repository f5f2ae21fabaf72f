"""Rolling conformal thresholds: ours beside numpy row by row, pandas' rolling quantile, and our own state bar by bar, in turn in one process.

    python benchmarks/conformal.py                          # writes benchmarks/results/conformal.json
    python benchmarks/conformal.py --sizes 2000 --rounds 1  # smaller

One row a minute whose answer is known a minute later, the last 500 errors, level 90 %: the case that the others can do too. Ours goes through the whole of `conformal_intervals`, frame in, frame out, and also knows late answers. Answers are equal before times are
compared; times are medians of rounds A B A B; the kernel is compiled before the clock starts. The state is timed up to 20,000 rows.
"""
import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results

from futures_nb.conformal import Conformal, conformal_intervals
from futures_nb.schema import make_index

WINDOW, LEVEL = 500, 0.9
RANK = 451                     # ceil(0.9 * 501)


def with_numpy(errors):
    out = np.full(len(errors), np.nan)
    for i in range(WINDOW, len(errors)): out[i] = np.partition(errors[i - WINDOW:i], RANK - 1)[RANK - 1]
    return out


def with_pandas(errors):
    return pd.Series(errors).rolling(WINDOW).quantile((RANK - 1) / (WINDOW - 1), interpolation="nearest").shift(1).to_numpy()


def bar_by_bar(y, ts):
    state, out = Conformal(LEVEL, "rolling", WINDOW), np.empty(len(y))
    for i, at in enumerate(ts):
        if i: state.update(y[i - 1], 0.0, at)
        out[i] = state.interval(at, 0.0)[1]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 20_000, 200_000])
    parser.add_argument("--rounds", type=int, default=5)
    given, rows = parser.parse_args(), []
    for n in given.sizes:
        y = np.random.default_rng(0).standard_t(4, n)
        ts = pd.date_range("2020-01-01", periods=n + 1, freq="min", tz="UTC")
        frame = pd.DataFrame({"y": y, "y_hat": 0.0, "t1": ts[1:]}, make_index("ES", ts[:-1]))
        peers = {"ours": lambda frame=frame: conformal_intervals(frame, method="rolling", window=WINDOW)["high"].to_numpy(), "numpy": lambda y=y: with_numpy(np.abs(y)), "pandas": lambda y=y: with_pandas(np.abs(y))}
        if n <= 20_000: peers["state"] = lambda y=y, ts=ts: bar_by_bar(y, ts[:-1])
        told = {name: call()[WINDOW:] for name, call in peers.items()}
        for name, found in told.items(): np.testing.assert_allclose(found, told["ours"], rtol=1e-12, err_msg=name)
        rows.append({"what": f"{n:,} rows, the last {WINDOW} errors", **peers_in_turn(peers, given.rounds)})
        print(rows[-1])
    if given.sizes == parser.get_default("sizes"): write_results("conformal", rows)


if __name__ == "__main__":
    main()
