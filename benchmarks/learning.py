"""The learning problem whole: target with weights, folds, scaler and data set of 1.14M x 60, at three sizes; seconds and peak memory of one process each."""
import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd
from common import write_results

import futures_nb as fnb

COLUMNS = 60


def steps_of(n_contracts):
    """Seconds of each step over `n_contracts` contracts of 70 sessions of minute bars, and the process's peak memory."""
    bars = fnb.synth_bars(n_contracts=n_contracts, n_days=70, overlap=4, seed=0)
    X = np.random.default_rng(0).standard_t(4, (len(bars), COLUMNS))
    features = pd.DataFrame(X, bars.index, [f"c{k:02d}" for k in range(COLUMNS)])
    small = fnb.synth_bars(n_contracts=1, n_days=12, overlap=0, seed=1)
    fnb.make_target(small)                                   # compiles
    before, took, start = peak_mb(), {}, time.perf_counter()

    def lap(name):
        nonlocal start
        took[name], start = round(time.perf_counter() - start, 3), time.perf_counter()
    target = fnb.make_target(bars)
    lap("target and weights")
    folds = fnb.WalkForward(n_folds=5).folds(target)
    lap("folds")
    train, scaler = features.iloc[folds[-1].train], fnb.make_scaler("robust")
    scaler.fit(train)
    lap("scaler fitted")
    for a in range(0, len(features), 1 << 16): scaler.transform(features.iloc[a:a + (1 << 16)])
    lap("scaler applied")
    together = round(sum(took.values()), 2)
    del train
    dataset = fnb.make_dataset(features, target, folds[-1])
    lap("data set")
    return {"rows": len(bars), "columns": COLUMNS, "samples": len(dataset), **{f"{name}_s": t for name, t in took.items()}, "together_without_data_set_s": together, "peak_mb": round(peak_mb()), "peak_before_mb": round(before)}


def peak_mb(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contracts", type=int, nargs="+", default=[3, 6, 12], help="of 70 sessions each")
    parser.add_argument("--only", type=int, help="one size, printed as JSON")
    asked = parser.parse_args()
    if asked.only: print(json.dumps(steps_of(asked.only)))
    else:
        rows = []
        for n in asked.contracts:
            done = subprocess.run([sys.executable, __file__, "--only", str(n)], capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout))
            print(rows[-1])
        write_results("learning", rows)
