"""Energy by wavelet scale over a rolling window: ours beside `pywt` window by window and `numpy` over the whole series, in turn in one process.

    python benchmarks/wavelet_energy.py         # writes benchmarks/results/wavelet_energy.json

db4, six levels, the details' and the smooth's share of the energy of the last 1,380 returns, at every row. `pywt` has no transform that stops at a row; what gives
the same number is its `swt` of the window and of the 441 rows before it, which take the wrapping around (1,856 rows, for `swt` wants a multiple of 64), undone its shift,
the last 1,380 coefficients squared and added up. It runs over a sample of windows, evenly spread, and is extrapolated to all of them (`sample` and `step` say how
many, and how many rows apart). The `numpy` peer filters the whole series level by level and takes differences of a running sum. Answers are compared before times; times
are medians of rounds A B A B; kernels are compiled before the clock starts.
"""
import argparse
import os
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pywt

from common import peers_in_turn, write_results

import futures_nb as fnb
from futures_nb.returns import log_returns

WAVELET, LEVEL, WINDOW, N_TAPS = "db4", 6, 1380, 8
BOUNDARY = (2**LEVEL - 1) * (N_TAPS - 1)
PART = -(-(WINDOW + BOUNDARY) // 2**LEVEL) * 2**LEVEL    # rows that swt gets
SAMPLE = 300
N_ROWS = 1_142_640                                       # 12 contracts of 69 sessions of 1,380 minutes
LEVELS = [*range(1, LEVEL + 1), LEVEL]


def shares_of(energy): return energy / energy.sum(axis=-1, keepdims=True)


def with_pywt(values, rows):
    out = np.empty((len(rows), LEVEL + 1))
    for k, i in enumerate(rows):
        coefs = pywt.swt(values[i - PART + 1:i + 1], WAVELET, LEVEL, trim_approx=True, norm=True)
        for c, j in zip([*coefs[:0:-1], coefs[0]], LEVELS):
            complete = np.roll(c, (2**j - 1) * N_TAPS // 2)[-WINDOW:]
            out[k, j - 1 + (c is coefs[0])] = complete @ complete
    return shares_of(out)


def with_numpy(runs):
    """The whole series at once, contract by contract; a running sum of squares, as everyone writes it."""
    taps = [np.array(t) / np.sqrt(2) for t in (pywt.Wavelet(WAVELET).dec_lo, pywt.Wavelet(WAVELET).dec_hi)]
    out = []
    for x in runs:
        v, squares = x, []
        for j in range(LEVEL):
            n = len(v) - (N_TAPS - 1) * 2**j
            low, high = (sum(t * v[(N_TAPS - 1 - k) * 2**j:][:n] for k, t in enumerate(taps_j)) for taps_j in taps)
            squares.append(high**2)
            v = low
        squares.append(v**2)
        total = [np.concatenate([np.zeros(1), np.cumsum(s[-len(v):])]) for s in squares]
        part = np.full((len(x), LEVEL + 1), np.nan)
        part[len(x) - len(v) + WINDOW - 1:] = shares_of(np.column_stack([s[WINDOW:] - s[:-WINDOW] for s in total]))
        out.append(part)
    return np.concatenate(out)


def one_size(bars, rounds):
    returns = log_returns(bars).fillna(0.0)              # a contract's first return, so that no peer has to cut
    place = bars.groupby("contract", sort=False).cumcount().to_numpy()
    full = np.flatnonzero(place >= PART - 1)
    rows = full[np.linspace(0, len(full) - 1, min(SAMPLE, len(full))).astype(int)]
    values, ours = np.array(returns), fnb.wavelet_energy(returns, WINDOW, WAVELET, LEVEL).to_numpy()
    n_windows = int(np.isfinite(ours[:, 0]).sum())
    runs = [np.array(part) for _, part in returns.groupby("contract", sort=False)]
    off = {"pywt": float(np.abs(ours[rows] / with_pywt(values, rows) - 1).max()), "numpy": float(np.nanmax(np.abs(ours / with_numpy(runs) - 1)))}
    assert off["pywt"] < 1e-9 and off["numpy"] < 1e-6, off
    told = peers_in_turn({"ours": partial(fnb.wavelet_energy, returns, WINDOW, WAVELET, LEVEL), "pywt": partial(with_pywt, values, rows),
                          "numpy": partial(with_numpy, runs)}, rounds)
    times = n_windows / len(rows)
    return {"rows": len(bars), "windows": n_windows, "window": WINDOW, "largest_relative_difference": off,
            "median_s_extrapolated": {"ours": told["median_s"]["ours"], "numpy": told["median_s"]["numpy"], "pywt": round(told["median_s"]["pywt"] * times, 2)},
            "ratio_to_ours": {"numpy": told["ratio_to_ours"]["numpy"], "pywt": round(told["ratio_to_ours"]["pywt"] * times, 1)},
            "ours_s_per_million_rows": round(told["median_s"]["ours"] / len(bars) * 1e6, 4), "first_call_s": told["first_call_s"]["ours"],
            "sample": {"pywt": len(rows)}, "step": {"pywt": round(len(full) / len(rows))}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, N_ROWS])
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    whole = fnb.synth_bars(n_contracts=12, n_days=70, seed=1).iloc[:N_ROWS]
    whole.attrs = {}
    rows = []
    for n in given.rows:
        rows.append(one_size(whole.iloc[:n], given.rounds))
        print(rows[-1])
    if not given.dry: write_results("wavelet_energy", rows)


if __name__ == "__main__":
    main()
