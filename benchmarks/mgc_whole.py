"""From files to a continuous series with its developing profile: all of Micro Gold, 2020-12 to 2024-06, on two cores.

    python benchmarks/mgc_whole.py                  # writes benchmarks/results/mgc_whole.json
    FUTURES_NB_DATA=path python benchmarks/mgc_whole.py --mode parquet

Each mode runs in a process of its own: seconds of every step, peak resident memory. The Parquet file has 2,228,211 rows, of which the calendar
spreads are dropped. Of the DBN files the vendor's own are six months; "dbn, encoded" is the whole Parquet file written as one DBN file before the clock
starts: the header by Databento's encoder, every record in the published layout. The process is held to two processors.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
LIMIT_S, LIMIT_GB = 60, 4
MODES, PARQUET = ("parquet", "dbn, encoded", "dbn, six months"), "mgc_1m_2020-12_2024-06.parquet"


def data_folder():
    path = Path(os.environ.get("FUTURES_NB_DATA", HERE.parent.parent / "shared" / "data"))
    if not path.is_dir(): sys.exit(f"mgc_whole: no folder {path}; set FUTURES_NB_DATA")
    return path / "mgc_databento"


def encode_dbn(parquet, path):
    """The rows of the Parquet file as one zstd-compressed DBN file: the header by databento_dbn, the records by numpy in the published layout."""
    import databento_dbn as dbn
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    rows = pd.read_parquet(parquet).reset_index().sort_values("ts_event", kind="stable")
    day = rows["ts_event"].dt.date
    spans = day.groupby([rows["instrument_id"], rows["symbol"].astype("str")]).agg(["min", "max"])
    mappings = [SimpleNamespace(raw_symbol=symbol, intervals=[SimpleNamespace(start_date=first, end_date=last + timedelta(days=1), symbol=str(number))])
                for (number, symbol), (first, last) in zip(spans.index, spans.itertuples(index=False))]
    head = dbn.Metadata("GLBX.MDP3", int(rows["ts_event"].iloc[0].value), dbn.SType.PARENT, dbn.SType.INSTRUMENT_ID, dbn.Schema.OHLCV_1M, symbols=["MGC.FUT"], mappings=mappings, version=3)
    prices = ["open", "high", "low", "close"]
    record = np.zeros(len(rows), [("length", "u1"), ("rtype", "u1"), ("publisher_id", "<u2"), ("instrument_id", "<u4"), ("ts_event", "<u8"), *((c, "<i8") for c in prices), ("volume", "<u8")])
    record["length"] = record.itemsize // 4
    for name in ("rtype", "publisher_id", "instrument_id", "volume"): record[name] = rows[name]
    record["ts_event"] = rows["ts_event"].dt.as_unit("ns").astype("int64")
    for name in prices: record[name] = np.rint(rows[name].to_numpy() * 1e9).astype(np.int64)
    with pa.CompressedOutputStream(str(path), "zstd") as out: out.write(head.encode() + record.tobytes())


def step(name, seconds, f):
    start = time.perf_counter()
    out = f()
    seconds[name] = round(time.perf_counter() - start, 2)
    return out


def whole(mode, path):
    if hasattr(os, "sched_setaffinity"): os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    began, seconds, folder = time.perf_counter(), {}, data_folder()
    fnb = step("import", seconds, lambda: __import__("futures_nb"))
    if mode == "parquet": bars = step("read_bars", seconds, lambda: fnb.read_bars(folder / PARQUET, stamp="start"))
    elif mode == "dbn, encoded": bars = step("read_bars", seconds, lambda: fnb.read_bars(path))
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
    parser.add_argument("--mode", choices=MODES, help="one of them, written to no file")
    parser.add_argument("--dbn", help="the encoded file, where it is there already")
    parser.add_argument("--encode", help="write the encoded file here, and no more")
    given = parser.parse_args()
    if given.encode: return encode_dbn(data_folder() / PARQUET, given.encode)
    if given.mode and (given.dbn or given.mode != MODES[1]):
        print(json.dumps(whole(given.mode, given.dbn)))
        return
    from common import write_results
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mgc.dbn.zst"
        subprocess.run([sys.executable, __file__, "--encode", str(path)], check=True)   # a child inherits the peak memory of its parent
        for mode in [given.mode] if given.mode else MODES:
            out = subprocess.run([sys.executable, __file__, "--mode", mode, "--dbn", str(path)], capture_output=True, text=True)
            if out.returncode: sys.exit(f"mgc_whole: {mode} failed\n{out.stderr}")
            rows.append(json.loads(out.stdout.splitlines()[-1]))
            print(json.dumps(rows[-1], indent=1))
    if given.mode: return
    assert {k: rows[0][k] for k in ("rows", "contracts", "rows_in_front", "rolls", "with_profile")} == {k: rows[1][k] for k in ("rows", "contracts", "rows_in_front", "rolls", "with_profile")}
    write_results("mgc_whole", rows)
    over = [row["mode"] for row in rows if row["seconds_in_all"] > LIMIT_S or row["peak_gb"] > LIMIT_GB]
    if over: sys.exit(f"mgc_whole: {' and '.join(over)} took more than {LIMIT_S} s or {LIMIT_GB} GB")


if __name__ == "__main__":
    main()
