"""Session point of control and value area: ours beside what a pandas user writes and beside py-market-profile, in turn in one process.

    python benchmarks/session_profile.py            # writes benchmarks/results/session_profile.json
    pip install MarketProfile                       # the peer, in an environment of its own; left out, and said, where it is absent

Answers are compared before times; times are medians of rounds A B A B; compile time is reported apart.
"""
import argparse
import importlib.util
import os
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results

import futures_nb as fnb


def with_pandas(bars):
    """What one writes first: spread every bar over its ticks, group, take the largest."""
    date = fnb.to_sessions(bars)["trade_date"].to_numpy()
    lo, hi = (np.rint(bars[c].to_numpy() / 0.25).astype(np.int64) for c in ("low", "high"))
    n = hi - lo + 1
    tick = np.repeat(lo, n) + np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    spread = pd.DataFrame({"date": np.repeat(date, n), "tick": tick, "volume": np.repeat(bars["volume"].to_numpy() / n, n)})
    levels = spread.groupby(["date", "tick"])["volume"].sum()
    return levels.groupby("date").idxmax().map(lambda key: key[1] * 0.25)


def with_market_profile(bars):
    """py-market-profile, one session after another, as its README shows: it puts a bar's volume on its close."""
    from market_profile import MarketProfile
    date = fnb.to_sessions(bars)["trade_date"].to_numpy()
    frame = bars.droplevel("contract").rename(columns=str.title)
    out = {}
    for day, rows in frame.groupby(date):
        whole = MarketProfile(rows, tick_size=0.25)
        out[day] = whole[rows.index.min():rows.index.max()].poc_price
    return pd.Series(out)


def ours(bars): return fnb.session_profiles(bars)["poc"].droplevel("contract")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    whole = fnb.demo_bars("2016-01-04", "2018-12-31")
    whole = whole[fnb.front_rows(whole)]
    sizes, rows = {}, []
    for share in (0.11, 0.33, 1.0):
        part = whole.iloc[: int(share * len(whole))]
        sizes[len(part)] = part.set_axis(fnb.make_index("ESZ18", part.index.get_level_values("ts")))   # one series, for the peers' sake
    has_peer = importlib.util.find_spec("market_profile") is not None
    if not has_peer: print("py-market-profile is not installed: left out")
    for n, part in sizes.items():
        mine, theirs = ours(part), with_pandas(part)
        agree = float((mine == theirs.reindex(mine.index)).mean())
        peers = {"ours": partial(ours, part), "pandas": partial(with_pandas, part)}
        if has_peer and n == min(sizes): peers["py-market-profile"] = partial(with_market_profile, part)
        rows.append({"rows": n, "days": len(mine), "poc_equal_to_pandas": agree} | peers_in_turn(peers, rounds))
        print(rows[-1])
    write_results("session_profile", rows)


if __name__ == "__main__":
    main()
