"""Rolling point of control and value area: ours beside a numpy loop, a pandas loop and py-market-profile, in turn in one process.

    python benchmarks/developing_profile.py         # writes benchmarks/results/developing_profile.json
    pip install MarketProfile                       # the peer, in an environment of its own; left out, and said, where it is absent

A window of 1,380 bars at every bar. Ours runs over all rows; the peers run over a sample of windows, evenly spread, and are extrapolated to
all of them (`sample` and `step` say how many, and how many rows apart). Answers are compared before times; times are medians of rounds
A B A B; kernels are compiled before the clock starts. Peak memory is that of a process of its own.
"""
import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results

import futures_nb as fnb

TICK, SHARE, UNIT = 0.25, 0.70, 1 << 20       # volumes in fixed point, so that the peers' sums are exact too
SAMPLE = {"numpy loop": 300, "pandas loop": 60, "py-market-profile": 12}
N_ROWS = 1_142_640                            # 12 contracts of 69 sessions of 1,380 minutes


def spread_over_levels(bars):
    """What both loops may prepare once: tick and volume of every (bar, level), and where each bar's levels begin."""
    lo, hi = (np.rint(bars[c].to_numpy() / TICK).astype(np.int64) for c in ("low", "high"))
    n, units = hi - lo + 1, np.rint(bars["volume"].to_numpy() * UNIT).astype(np.int64)
    begin = np.append(0, np.cumsum(n))
    place = np.arange(begin[-1]) - np.repeat(begin[:-1], n)
    each, rest = np.divmod(units, n)
    return np.repeat(lo, n) + place, np.repeat(each, n) + (place < np.repeat(rest, n)), begin


def walk(volume, poc):
    """The classical value area of a list of volumes, as everyone writes it."""
    low = high = poc
    inside, target = volume[poc], SHARE * sum(volume) - 0.5
    while inside < target and (low > 0 or high < len(volume) - 1):
        above = volume[high + 1] if high < len(volume) - 1 else -1
        below = volume[low - 1] if low > 0 else -1
        if above >= below: high, inside = high + 1, inside + above
        else: low, inside = low - 1, inside + below
    return low, high


def with_numpy(levels, window, rows):
    tick, units, begin = levels
    out = []
    for i in rows:
        part = slice(begin[i - window + 1], begin[i + 1])
        first = tick[part].min()
        volume = np.bincount(tick[part] - first, units[part])
        poc = int(volume.argmax())
        low, high = walk(volume.tolist(), poc)
        out.append((first + poc, first + low, first + high))
    return np.array(out) * TICK


def with_pandas(frame, begin, window, rows):
    out = []
    for i in rows:
        profile = frame.iloc[begin[i - window + 1]:begin[i + 1]].groupby("tick")["volume"].sum()
        profile = profile.reindex(range(profile.index[0], profile.index[-1] + 1), fill_value=0)
        poc = profile.idxmax()
        low, high = walk(profile.tolist(), poc - profile.index[0])
        out.append((poc, profile.index[0] + low, profile.index[0] + high))
    return np.array(out) * TICK


def with_market_profile(frame, window, rows):
    """It puts a bar's volume on its close: another definition, compared with ours of `allocation="close"`."""
    from market_profile import MarketProfile
    out = []
    for i in rows:
        part = frame.iloc[i - window + 1:i + 1]
        whole = MarketProfile(part, tick_size=TICK)[part.index[0]:part.index[-1]]
        out.append((whole.poc_price, *whole.value_area))
    return np.array(out)


def sample_of(bars, window, n):
    """`n` rows with full windows, evenly spread over the contracts, and how many such rows there are."""
    place = bars.groupby("contract", sort=False).cumcount().to_numpy()
    full = np.flatnonzero(place >= window - 1)
    return full[np.linspace(0, len(full) - 1, min(n, len(full))).astype(int)], len(full)


def one_size(bars, window, rounds):
    levels = spread_over_levels(bars)
    frame = pd.DataFrame({"tick": levels[0], "volume": levels[1]})
    titled = bars.droplevel("contract").rename(columns=str.title)
    run = {"numpy loop": partial(with_numpy, levels, window), "pandas loop": partial(with_pandas, frame, levels[2], window)}
    if importlib.util.find_spec("market_profile"): run["py-market-profile"] = partial(with_market_profile, titled, window)
    else: print("py-market-profile is not installed: left out")
    mine, agree, peers, times = fnb.developing_profile(bars, window=window).to_numpy(), {}, {}, {}
    on_close = fnb.developing_profile(bars, window=window, allocation="close").to_numpy()
    for name, call in run.items():
        rows, n_windows = sample_of(bars, window, SAMPLE[name])
        if name == "py-market-profile": agree["py-market-profile, POC of closes"] = float((on_close[rows, 0] == call(rows)[:, 0]).mean())
        else: agree[name] = float((mine[rows] == call(rows)).all(axis=1).mean())
        peers[name], times[name] = partial(call, rows), n_windows / len(rows)
    assert agree["numpy loop"] == agree["pandas loop"] == 1.0, agree
    told = peers_in_turn({"ours": partial(fnb.developing_profile, bars, window=window)} | peers, rounds)
    whole = {name: round(told["ratio_to_ours"][name] * times[name], 1) for name in peers}
    seconds = {name: round(told["median_s"][name] * times[name], 2) for name in peers} | {"ours": told["median_s"]["ours"]}
    return {"rows": len(bars), "window": window, "answers_equal": agree, "median_s_extrapolated": seconds, "ratio_to_ours": whole,
            "ours_s_per_million_rows": round(told["median_s"]["ours"] / len(bars) * 1e6, 3), "first_call_s": told["first_call_s"]["ours"],
            "sample": {name: SAMPLE[name] for name in peers}, "step": {name: round(times[name]) for name in peers}}


def peak_memory(bars, window):
    """Peak resident memory of a fresh process that holds the bars and develops them once [MB], and how much of it came after the bars were there."""
    with tempfile.TemporaryDirectory() as folder:
        bars.reset_index().to_parquet(Path(folder, "bars.parquet"))
        out = subprocess.run([sys.executable, __file__, "--child", folder, str(window)], capture_output=True, text=True)
    if out.returncode: raise RuntimeError(out.stderr)
    return json.loads(out.stdout)


def resident(what):
    """`VmRSS` (now) or `VmHWM` (the most so far) of this process [MB]; Linux only."""
    return next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))


def child(folder, window):
    bars = pd.read_parquet(Path(folder, "bars.parquet")).set_index(["contract", "ts"])
    fnb.developing_profile(bars.iloc[:3000], window=10)
    Path("/proc/self/clear_refs").write_text("5")     # forget the peak of reading the file
    before = resident("VmRSS")
    start = time.perf_counter()
    fnb.developing_profile(bars, window=window)
    seconds = time.perf_counter() - start
    peak = resident("VmHWM")
    print(json.dumps({"window": window, "peak_mb": round(peak, 1), "above_bars_mb": round(peak - before, 1), "seconds": round(seconds, 2)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child: return child(given.child[0], int(given.child[1]))
    whole = fnb.synth_bars(n_contracts=12, n_days=70, seed=1).iloc[:N_ROWS]
    whole.attrs = {}
    rows = []
    for n in (10_000, 100_000, N_ROWS):
        rows.append(one_size(whole.iloc[:n], 1380, given.rounds))
        print(rows[-1])
    memory = [peak_memory(whole, window) for window in (1380, 13800)]
    print(memory)
    write_results("developing_profile", [*rows, {"rows": N_ROWS, "peak_memory": memory}])


if __name__ == "__main__":
    main()
