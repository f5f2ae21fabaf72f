"""All features, and one bar of a stream: the whole catalogue with VIX and another market, at three sizes.

    python benchmarks/features.py          # writes benchmarks/results/features.json
    python benchmarks/features.py --days 69 --jobs 2

Each size and number of workers runs in a process of its own, held to two processors: seconds of the first call (kernels loaded from the cache or
compiled) and of a second one, seconds of each family on one contract, and peak resident memory of the process and its workers. The stream is fed
the last 3,000 bars one by one: microseconds of a call of `update`. The market is `synth_bars`: twelve contracts; at 69 days a contract the reference size of 1.14
million rows. No peer computes these columns: the families' own benchmarks have theirs.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_S, LIMIT_GB, LIMIT_US = 45, 4, 300


def market(days):
    import numpy as np
    import pandas as pd
    import futures_nb as fnb
    bars = fnb.synth_bars(n_contracts=12, n_days=days, overlap=4, seed=0)
    other = fnb.synth_bars(n_contracts=12, n_days=days, overlap=4, seed=1)[["close"]]
    first, last = bars.index.levels[1][[0, -1]]
    days = pd.date_range(first - pd.Timedelta("400D"), last, freq="1D", name="ts")
    return bars, pd.DataFrame({"vix_close": 20 * np.exp(0.05 * np.random.default_rng(0).standard_normal(len(days)).cumsum()).clip(0.5, 4)}, days), other


def timed(f):
    start = time.perf_counter()
    out = f()
    return time.perf_counter() - start, out


def by_family(bars, vix, other):
    """Seconds of each family on the last contract, in microseconds a row."""
    import numpy as np
    from futures_nb.features import FAMILIES, join_known, make_memories, make_tape
    from futures_nb.schema import instrument
    from futures_nb.sessions import to_sessions
    name = bars.index.get_level_values("contract")[-1]
    part = join_known(to_sessions(bars.loc[[name]]), vix, other)
    tape, memories, spent = make_tape(part, name), make_memories(FAMILIES, instrument(name)), {}
    for family in FAMILIES.values():
        out = np.empty((len(part), len(family.columns)))
        args = [*([memories[family.name]] if family.state else []), *(tape[c] for c in family.inputs), out]
        start = time.perf_counter()
        family.run(*args)
        spent[family.name] = round(1e6 * (time.perf_counter() - start) / len(part), 2)
        for j, column in enumerate(family.columns): tape.setdefault(column, np.ascontiguousarray(out[:, j]))
    return spent


def stream_us(bars, vix, other):
    """Median and 99th percentile of `update` over the last 3,000 bars [microseconds]."""
    import numpy as np
    import futures_nb as fnb
    one = bars.loc[[bars.index.get_level_values("contract")[-1]]]
    stream, took = fnb.Stream().warm(one.iloc[:-3000], vix, other=other), []
    for (contract, ts), row in zip(one.index[-3000:], one.iloc[-3000:].to_dict("records")):
        bar = dict(contract=contract, ts=ts, **row)
        start = time.perf_counter()
        stream.update(bar)
        took.append(1e6 * (time.perf_counter() - start))
    return [round(float(x), 1) for x in np.percentile(took, [50, 99, 100])]


def whole(days, jobs):
    if hasattr(os, "sched_setaffinity"): os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    import futures_nb as fnb
    bars, vix, other = market(days)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    first, _ = timed(lambda: fnb.make_features(bars.iloc[:40_000], vix, other=other, progress=False, n_jobs=jobs))
    seconds, x = timed(lambda: fnb.make_features(bars, vix, other=other, progress=False, n_jobs=jobs))
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    row = {"rows": len(bars), "workers": jobs, "features": x.shape[1], "values": int(x.notna().sum().sum()),
           "seconds": {"first call, 40,000 rows": round(first, 2), "all rows": round(seconds, 2)},
           "us_a_row": round(1e6 * seconds / len(bars), 2), "gb_before": round(before, 2), "peak_gb": round(peak, 2)}
    if jobs == 1:
        row["us_a_row_by_family"] = by_family(bars, vix, other)
        row["us_of_update"] = dict(zip(("median", "99th percentile", "slowest"), stream_us(bars, vix, other)))
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    if args.days: return print(json.dumps(whole(args.days, args.jobs)))
    rows = []
    for days, jobs in ((27, 1), (69, 1), (180, 1), (69, 2)):
        done = subprocess.run([sys.executable, __file__, "--days", str(days), "--jobs", str(jobs)], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]))
    for row in rows:
        if row["rows"] < 1_200_000 and (row["seconds"]["all rows"] > LIMIT_S or row["peak_gb"] > LIMIT_GB): print(f"above the limits: {row}")
        if row.get("us_of_update", {}).get("median", 0) > LIMIT_US: print(f"above {LIMIT_US} microseconds: {row['us_of_update']}")
    sys.path.insert(0, str(HERE))
    from common import write_results
    write_results("features", rows)


if __name__ == "__main__":
    main()
