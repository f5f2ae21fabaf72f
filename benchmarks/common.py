"""Fair timing: peers in turn in one process, medians, a warm-up first, ratios beside seconds."""
import json
import os
import platform
import statistics
import subprocess
import time
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ("numpy", "pandas", "numba", "pyarrow", "databento", "polars", "MarketProfile", "arch", "statsmodels", "PyWavelets", "fathon", "nolds", "antropy", "scikit-learn", "torch", "timeseriescv", "mlfinpy", "skfolio")   # ours and the peers; one that is absent is left out


def peers_in_turn(peers: dict, rounds: int) -> dict:
    """Median seconds of each, run A B A B after one warm-up each, and each one's median ratio to the first."""
    first_calls, seconds = {}, {name: [] for name in peers}
    for name, call in peers.items():
        start = time.perf_counter()
        call()
        first_calls[name] = round(time.perf_counter() - start, 4)
    for _ in range(rounds):
        for name, call in peers.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    base = next(iter(peers))
    ratios = {name: round(statistics.median(b / a for a, b in zip(seconds[base], seconds[name])), 2) for name in peers if name != base}
    return {"median_s": {k: round(statistics.median(v), 5) for k, v in seconds.items()}, "ratio_to_ours": ratios, "first_call_s": first_calls}


def write_results(name: str, rows: list) -> None:
    """`results/<name>.json`: the rows with machine, date, commit and versions."""
    def git(*command): return subprocess.run(["git", *command], cwd=HERE.parent, capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")   # results of the benchmark before this one change no code
    told = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, python {platform.python_version()}", "threads": os.environ.get("OMP_NUM_THREADS"),
        "load_before": round(os.getloadavg()[0], 2), "date": date.today().isoformat(), "commit": git("describe", "--always") + ("-dirty" if changed else ""),
        "versions": {p: version(p) for p in PACKAGES if find_spec({"MarketProfile": "market_profile", "PyWavelets": "pywt", "scikit-learn": "sklearn"}.get(p, p))}, "rows": rows,
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(f"written: {path.relative_to(HERE.parent)}")
