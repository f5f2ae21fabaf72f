"""The profile features of the catalogue: all rows in one call, and one row a call, beside a numpy loop that rebuilds the profile.

    python benchmarks/levels.py                     # writes benchmarks/results/levels.json
    python benchmarks/levels.py --sessions 5 23     # smaller

Ours writes all columns; the loop finds only point of control, value area and entropy of the session so far, at a sample of bars, and is extrapolated.
Answers are compared before times. Times are medians of rounds A B A B; kernels are compiled before the clock starts.
"""
import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from common import peers_in_turn, write_results

import futures_nb as fnb
from futures_nb.levels import LEVEL_FEATURES, levels_run, levels_state
from futures_nb.vpoc import grow_area, to_fixed_point

TICK, NAMES = 0.25, [said["name"] for said in LEVEL_FEATURES]


def arrays(n_sessions, n_contracts=1):
    """Inputs of the kernel: `n_contracts` times the bars of one contract; a volatility of 1 %."""
    bars = fnb.synth_bars(n_contracts=1, n_days=max(n_sessions, 8), seed=0)
    date = fnb.to_sessions(bars)["trade_date"].to_numpy()
    columns = [np.array(bars[c], dtype=float) for c in ("open", "high", "low", "close", "volume")]
    given = *columns, np.append(True, date[1:] != date[:-1]), np.full(len(bars), 0.01)
    return bars, [np.tile(x, n_contracts) for x in given]


def rebuilt(fixed, first, rows):
    """Point of control, value area low and high [ticks] and entropy of the session so far, from nothing at each row."""
    lo, hi, units = fixed
    out = np.empty((len(rows), 4))
    for k, i in enumerate(rows):
        part = slice(first[i], i + 1)
        base, n = lo[part].min(), hi[part] - lo[part] + 1
        place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        each, rest = np.divmod(units[part], n)
        profile = np.zeros(hi[part].max() - base + 1, np.int64)
        np.add.at(profile, np.repeat(lo[part] - base, n) + place, np.repeat(each, n) + (place < np.repeat(rest, n)))
        poc, share = int(profile.argmax()), profile[profile > 0] / profile.sum()
        low, high = grow_area(profile, -1, 0, len(profile) - 1, poc, 0.70 * profile.sum() - 0.5)
        out[k] = base + poc, base + low, base + high, -(share * np.log(share)).sum() / np.log(max(len(profile), 2))
    return out


def one_row_a_call(given):
    """Seconds of each call with one row, [s]; and which of them begin a session."""
    state, out, seconds = levels_state(TICK), np.empty((1, len(NAMES))), np.empty(len(given[0]))
    for i in range(len(seconds)):
        row = [x[i:i + 1] for x in given]
        start = time.perf_counter()
        levels_run(state, *row, out)
        seconds[i] = time.perf_counter() - start
    return seconds, given[5]


def timed(n_sessions, n_contracts, rounds, sample=200):
    bars, given = arrays(n_sessions, n_contracts)
    n, out = len(given[0]), np.empty((len(given[0]), len(NAMES)))
    fixed, first = to_fixed_point(bars, TICK), np.maximum.accumulate(np.where(given[5][:len(bars)], np.arange(len(bars)), 0))
    rows = np.linspace(60, len(bars) - 1, sample).astype(np.int64)
    def ours(): levels_run(levels_state(TICK), *given, out)
    ours()
    want, x = rebuilt(fixed, first, rows), np.rint(given[3][rows] / TICK)
    one = TICK / given[3][rows]
    for column, k in (("poc_distance", 0), ("value_area_low_distance", 1), ("value_area_high_distance", 2)):
        np.testing.assert_allclose(np.sinh(out[rows, NAMES.index(column)]), (x - want[:, k]) * one / 0.01, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(out[rows, NAMES.index("profile_entropy")], want[:, 3], rtol=0, atol=5.1e-6)
    told = peers_in_turn({"ours, all columns": ours, "numpy, four values, sample": lambda: rebuilt(fixed, first, rows)}, rounds)
    seconds, new = one_row_a_call([x[:len(bars)] for x in given])
    microseconds = {name: round(1e6 * float(value), 2) for name, value in (("median", np.median(seconds)), ("p99", np.percentile(seconds, 99)), ("session begins, last", seconds[new][-1]))}
    per_row = {"ours": told["median_s"]["ours, all columns"] / n * 1e6, "numpy": told["median_s"]["numpy, four values, sample"] / sample * 1e6}
    row = {"rows": n, "columns": len(NAMES), "median_s_extrapolated": {"ours": told["median_s"]["ours, all columns"], "numpy": round(per_row["numpy"] * n / 1e6, 3)},
           "ratio_to_ours": {"numpy": round(per_row["numpy"] / per_row["ours"], 1)}, "sample": {"numpy": sample}, "step": {"numpy": round(n / sample)},
           "us_a_row": round(per_row["ours"], 3), "us_of_one_row_a_call": microseconds}
    print(row)
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[8, 69], help="sessions of a contract")
    parser.add_argument("--contracts", type=int, default=12, help="as many times the longest, at last; 1 leaves it out")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    sizes = [(k, 1) for k in asked.sessions] + [(asked.sessions[-1], asked.contracts)] * (asked.contracts > 1)
    write_results("levels", [timed(*size, asked.rounds) for size in sizes])
