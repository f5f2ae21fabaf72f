"""Every kind of target over a million rows of one-minute bars: seconds and peak memory.

    python benchmarks/targets.py                # writes benchmarks/results/targets.json
    python benchmarks/targets.py --contracts 2  # smaller

Each kind runs in a process of its own, so that its peak memory is its own; the peak before make_target (bars, imports, compiled kernels) stands beside it.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import write_results

import futures_nb as fnb
from futures_nb.targets import KINDS

HORIZONS = {kind: ("1D", 30) for kind in KINDS}


def options(kind, bars):
    ts = bars.index.get_level_values("ts")
    first = np.flatnonzero(ts < ts[len(ts) // 2])
    if kind in ("rank", "triple_barrier"): return {"fit_on": first}
    if kind == "direction": return {"fit_on": first, "band": (1 / 3, "quantile")}
    if kind == "meta": return {"fit_on": first, "side": pd.Series(np.sign(bars["close"].diff(30)), bars.index)}
    return {}


def peak_mb(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(kind, horizon, n_contracts, rounds):
    """Median seconds of one kind over one market, and what it told."""
    bars, small = fnb.synth_bars(n_contracts=n_contracts, n_days=70, overlap=4, seed=0), fnb.synth_bars(n_contracts=1, n_days=12, overlap=0, seed=1)
    fnb.make_target(small, kind=kind, horizon=horizon, **options(kind, small))       # compiles
    asked, seconds, before = options(kind, bars), [], peak_mb()
    for _ in range(rounds):
        start = time.perf_counter()
        target = fnb.make_target(bars, kind=kind, horizon=horizon, **asked)
        seconds.append(time.perf_counter() - start)
    told = target.attrs["target"]
    return {"kind": kind, "horizon": horizon, "rows": len(bars), "labels": told["n"], "independent": round(told["n_independent"], 1),
            "time_s": round(float(np.median(seconds)), 3), "peak_mb": round(peak_mb()), "peak_before_mb": round(before)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contracts", type=int, default=12, help="of 70 sessions each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs=2, metavar=("KIND", "HORIZON"), help="one of them, printed as JSON")
    asked = parser.parse_args()
    if asked.only:
        horizon = asked.only[1]
        print(json.dumps(timed(asked.only[0], int(horizon) if horizon.isdigit() else horizon, asked.contracts, asked.rounds)))
    else:
        rows = []
        for kind, horizons in HORIZONS.items():
            for horizon in horizons:
                command = [sys.executable, __file__, "--contracts", str(asked.contracts), "--rounds", str(asked.rounds), "--only", kind, str(horizon)]
                rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
                print(rows[-1])
        write_results("targets", rows)
