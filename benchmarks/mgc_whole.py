"""From files to a continuous series with its developing profile: all of Micro Gold, 2020-12 to 2024-06, on two cores.

    python benchmarks/mgc_whole.py                  # writes benchmarks/results/mgc_whole.json
    FUTURES_NB_DATA=path python benchmarks/mgc_whole.py --mode parquet

Each mode runs in a process of its own: seconds of every step, peak resident memory. The Parquet file has 2,228,211 rows, of which the calendar
spreads are dropped; the DBN files are as many months as there are. The process is held to two processors.
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
LIMIT_S, LIMIT_GB = 60, 4


def data_folder():
    path = Path(os.environ.get("FUTURES_NB_DATA", HERE.parent.parent / "shared" / "data"))
    if not path.is_dir(): sys.exit(f"mgc_whole: no folder {path}; set FUTURES_NB_DATA")
    return path / "mgc_databento"


def step(name, seconds, f):
    start = time.perf_counter()
    out = f()
    seconds[name] = round(time.perf_counter() - start, 2)
    return out


def whole(mode):
    if hasattr(os, "sched_setaffinity"): os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    began, seconds, folder = time.perf_counter(), {}, data_folder()
    fnb = step("import", seconds, lambda: __import__("futures_nb"))
    if mode == "parquet": bars = step("read_bars", seconds, lambda: fnb.read_bars(folder / "mgc_1m_2020-12_2024-06.parquet", stamp="start"))
    else: bars = step("read_bars", seconds, lambda: fnb.read_bars(sorted(folder.glob("*.dbn.zst"))))
    schedule = step("roll_schedule", seconds, lambda: fnb.roll_schedule(bars))
    joined = step("continuous", seconds, lambda: fnb.continuous(bars, schedule, adjust="difference"))
    so_far = step("developing_profile, session so far", seconds, lambda: fnb.developing_profile(joined))
    rolling = step("developing_profile, window 1380", seconds, lambda: fnb.developing_profile(joined, window=1380))
    step("developing_profile, all contracts, window 1380", seconds, lambda: fnb.developing_profile(bars, window=1380))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20    # kilobytes on Linux
    return {"mode": mode, "rows": len(bars), "contracts": bars.index.get_level_values("contract").nunique(), "rows_in_front": len(joined), "rolls": len(schedule) - 1,
            "with_profile": [int(frame["poc"].notna().sum()) for frame in (so_far, rolling)], "seconds": seconds,
            "seconds_in_all": round(time.perf_counter() - began, 2), "peak_gb": round(peak, 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["parquet", "dbn"], help="one of the two, written to no file")
    mode = parser.parse_args().mode
    if mode:
        print(json.dumps(whole(mode)))
        return
    from common import write_results
    rows = []
    for mode in ("parquet", "dbn"):
        out = subprocess.run([sys.executable, __file__, "--mode", mode], capture_output=True, text=True)
        if out.returncode: sys.exit(f"mgc_whole: {mode} failed\n{out.stderr}")
        rows.append(json.loads(out.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1], indent=1))
    write_results("mgc_whole", rows)
    over = [row["mode"] for row in rows if row["seconds_in_all"] > LIMIT_S or row["peak_gb"] > LIMIT_GB]
    if over: sys.exit(f"mgc_whole: {' and '.join(over)} took more than {LIMIT_S} s or {LIMIT_GB} GB")


if __name__ == "__main__":
    main()
