"""Rolling DFA and R/S: ours beside fathon, antropy, neurokit2 and nolds, in turn in one process.

    python benchmarks/rolling_hurst.py              # writes benchmarks/results/rolling_hurst.json
    pip install fathon antropy neurokit2 nolds      # the peers, in an environment of its own; one that is absent is left out, and that is said

A window of 1,024 returns at every row, boxes of 8 to 256. Ours runs over all rows; a peer, which knows one window at a time, runs over a sample of windows,
evenly spread, and is extrapolated to all of them (`sample` and `step` say how many, and how many rows apart). Answers are compared before times: the plain slope of DFA,
the R/S corrected by Anis and Lloyd. Two things are done to the peers, in their favour or because they would not run at all: antropy has no option for its scales, so its own compiled loop
is compiled again with ours ("antropy, our scales"; as delivered it takes 18 scales from 4 on, another answer, "antropy, its scales"); nolds 0.6.3 asks for its data files in a way that Python 3.11 refuses.
"""
import argparse
import importlib.resources
import importlib.util
import os
import types
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import numpy as np

from common import peers_in_turn, write_results

from futures_nb.memory import rolling_hurst

WINDOW, SCALES, N_ROWS = 1024, 2 ** np.arange(3, 9), 1_142_640
SAMPLE = {"fathon": 100, "antropy, our scales": 1000, "antropy, its scales": 300, "neurokit2": 30, "nolds": 200, "nolds DFA": 10}


def with_fathon():
    import fathon
    from fathon import fathonUtils

    def one(x):
        told = fathon.DFA(fathonUtils.toAggregated(x))
        told.computeFlucVec(SCALES, polOrd=1)
        return told.fitFlucVec()[0]
    return one


def with_antropy(ours):
    from antropy import fractal

    @numba.njit
    def our_scales(first, last, factor): return np.array([8, 16, 32, 64, 128, 256])
    if not ours: return fractal._dfa
    plain = fractal._dfa.py_func
    return numba.njit(types.FunctionType(plain.__code__, plain.__globals__ | {"_log_n": our_scales}))


def with_neurokit(name):
    import neurokit2
    if name == "DFA": return lambda x: neurokit2.fractal_dfa(x, scale=SCALES, overlap=False)[0]
    return lambda x: neurokit2.fractal_hurst(x, scale=SCALES, corrected=True)[0]


def with_nolds(name):
    whole = importlib.resources.files
    importlib.resources.files = lambda package: whole("nolds" if str(package) == "nolds.datasets" else package)
    try: import nolds
    finally: importlib.resources.files = whole
    if name == "DFA": return lambda x: nolds.dfa(x, nvals=SCALES, overlap=False, fit_exp="poly")
    return lambda x: nolds.hurst_rs(x, nvals=SCALES, fit="poly", corrected=True)


PEERS = {
    "dfa": {"fathon": ("fathon", with_fathon), "antropy, our scales": ("antropy", partial(with_antropy, True)), "antropy, its scales": ("antropy", partial(with_antropy, False)),
            "neurokit2": ("neurokit2", partial(with_neurokit, "DFA")), "nolds DFA": ("nolds", partial(with_nolds, "DFA"))},
    "rs": {"nolds": ("nolds", partial(with_nolds, "RS")), "neurokit2": ("neurokit2", partial(with_neurokit, "RS"))},
}


def over(one, x, rows): return np.array([one(x[i - WINDOW + 1:i + 1]) for i in rows])


def one_size(x, method, rounds):
    ours = partial(rolling_hurst, x, WINDOW, method, scales=SCALES, corrected=method == "rs")
    mine, run, times, differ = ours().to_numpy(), {}, {}, {}
    for name, (package, make) in PEERS[method].items():
        if not importlib.util.find_spec(package):
            print(f"{package} is not installed: left out")
            continue
        rows = np.linspace(WINDOW - 1, len(x) - 1, SAMPLE[name]).astype(int)
        run[name] = partial(over, make(), x, rows)
        differ[name] = float(np.abs(run[name]() - mine[rows]).max())
        times[name] = (len(x) - WINDOW + 1) / len(rows)
    same = {name for name in run if differ[name] < 1e-8}
    told = peers_in_turn({"ours": ours} | run, rounds)
    whole = {name: round(told["ratio_to_ours"][name] * times[name], 1) for name in run}
    seconds = {name: round(told["median_s"][name] * times[name], 2) for name in run} | {"ours": told["median_s"]["ours"]}
    return {"rows": len(x), "method": {"dfa": "DFA", "rs": "R/S"}[method], "window": WINDOW, "scales": SCALES.tolist(), "largest_difference": differ, "same_answer": sorted(same), "median_s_extrapolated": seconds,
            "ratio_to_ours": whole, "us_per_window": {name: round(told["median_s"][name] / SAMPLE[name] * 1e6, 1) for name in run},
            "ours_s_per_million_rows": round(told["median_s"]["ours"] / len(x) * 1e6, 3), "first_call_s": told["first_call_s"]["ours"],
            "sample": {name: SAMPLE[name] for name in run}, "step": {name: round(times[name]) for name in run}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="*", default=(10_000, 100_000, N_ROWS))
    given = parser.parse_args()
    x, rows = np.random.default_rng(0).standard_normal(max(given.rows)), []
    for method in PEERS:
        for n in given.rows:
            rows.append(one_size(x[:n], method, given.rounds))
            print(rows[-1])
    write_results("rolling_hurst", rows)


if __name__ == "__main__":
    main()
