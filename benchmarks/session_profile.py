"""Point of control and value area of each session: ours beside pandas, polars (one thread) and py-market-profile, in turn in one process.

    python benchmarks/session_profile.py            # writes benchmarks/results/session_profile.json
    pip install MarketProfile polars                # the peers, in an environment of their own; one that is absent is left out, and said

Simulated ES minutes, 12 contracts, 10k, 100k and 1.14M rows. Every peer gets the same bars in the form it likes best, made before the clock
starts, and does the same work: trade date, volume spread over low..high, point of control, value area of 70 %. polars is timed twice: with one row
per bar and level (what its documentation suggests), and with the differences that our kernel uses, which is the fastest we could write; the value area
by rank there, which polars can express, and for the grown one a loop over the sorted levels of each session in numpy. Its answers must be equal to ours.
py-market-profile puts a bar's volume on its close and grows its value area over traded rows: another definition, and less work. It is timed in
three pairs with the call as typed, which from a million rows on uses two processors; all other rows are of one thread each.
Answers are compared before times; times are medians of rounds A B A B; kernels are compiled before the clock starts.
"""
import argparse
import importlib.util
import os
import statistics
import time
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results

import futures_nb as fnb

TICK, ONE, SHARE = 0.25, 1 << 20, 0.70


def grown(volume, share=SHARE):
    """Place of the point of control and of the ends of the grown value area of one session's levels, lowest first."""
    poc = low = high = int(volume.argmax())
    inside, target, last = volume[poc], share * volume.sum() - 0.5, len(volume) - 1
    while inside < target:
        above = volume[high + 1] if high < last else -1
        below = volume[low - 1] if low > 0 else -1
        if above >= below: high, inside = high + 1, inside + above
        else: low, inside = low - 1, inside + below
    return poc, low, high


def contract_numbers(bars): return pd.factorize(bars.index.codes[0])[0]    # in the order of the rows


def with_pandas(bars):
    """What one writes first: a row per bar and level, group, and a loop over the sessions."""
    date = trade_dates(bars)
    lo, hi = (np.rint(bars[c].to_numpy() / TICK).astype(np.int64) for c in ("low", "high"))
    n, units = hi - lo + 1, np.rint(bars["volume"].to_numpy() * ONE).astype(np.int64)
    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    spread = pd.DataFrame({"contract": np.repeat(contract_numbers(bars), n), "date": np.repeat(date.to_numpy(), n), "tick": np.repeat(lo, n) + place,
                           "units": np.repeat(units // n, n) + (place < np.repeat(units % n, n))})
    out = []
    for key, part in spread.groupby(["contract", "date", "tick"])["units"].sum().groupby(level=[0, 1]):
        tick = part.index.get_level_values(2).to_numpy()
        levels = np.zeros(tick[-1] - tick[0] + 1, np.int64)
        levels[tick - tick[0]] = part.to_numpy()
        out.append([tick[0] + place for place in grown(levels)])
    return np.array(out) * TICK


def to_polars(bars):
    import polars as pl
    contract = pl.Series(contract_numbers(bars).astype(np.int16))
    ts = pl.Series(bars.index.get_level_values("ts").asi8).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"contract": contract, "ts": ts} | {c: bars[c].to_numpy() for c in ("low", "high", "volume")})


def _polars_bars(frame):
    """Session, levels and volume of each bar, lazily."""
    import polars as pl
    clock = pl.col("ts").dt.convert_time_zone("America/Chicago").dt.replace_time_zone(None)
    lo, hi = ((pl.col(c) / TICK).round().cast(pl.Int32) for c in ("low", "high"))
    bars = frame.lazy().select(session=pl.col("contract").cast(pl.Int32) * 100_000 + (clock.dt.offset_by("7h") - pl.duration(microseconds=1)).dt.date().cast(pl.Int32),
                               lo=lo, hi=hi, n=(hi - lo + 1).cast(pl.Int64), units=(pl.col("volume") * ONE).round().cast(pl.Int64))
    return bars.with_columns(each=pl.col("units") // pl.col("n"), rest=(pl.col("units") % pl.col("n")).cast(pl.Int32))


def polars_rows(frame):
    """Levels of each session: one row per bar and level, summed."""
    import polars as pl
    rows = _polars_bars(frame).select("session", "each", "rest", "lo", tick=pl.int_ranges("lo", pl.col("hi") + 1, dtype=pl.Int32)).explode("tick")
    rows = rows.with_columns(units=pl.col("each") + (pl.col("tick") - pl.col("lo") < pl.col("rest")))
    return rows.group_by("session", "tick").agg(pl.col("units").sum()).sort("session", "tick")


def polars_differences(frame):
    """The same from three differences per bar; levels where nothing changes are filled in by a join."""
    import polars as pl
    bars = _polars_bars(frame)
    parts = [bars.select("session", tick=pl.col("lo"), units=pl.col("each") + 1), bars.select("session", tick=pl.col("lo") + pl.col("rest"), units=pl.lit(-1, pl.Int64)),
             bars.select("session", tick=pl.col("hi") + 1, units=-pl.col("each"))]
    steps = pl.concat(parts).group_by("session", "tick").agg(pl.col("units").sum())
    every = steps.group_by("session").agg(first=pl.col("tick").min(), last=pl.col("tick").max())
    every = every.select("session", tick=pl.int_ranges("first", "last", dtype=pl.Int32)).explode("tick")
    levels = every.join(steps, on=["session", "tick"], how="left").sort("session", "tick")
    return levels.with_columns(units=pl.col("units").fill_null(0).cum_sum().over("session"))


def polars_rank(levels, frame):
    """Point of control and ranked value area, in polars alone."""
    import polars as pl
    ranked = levels(frame).sort(["session", "units", "tick"], descending=[False, True, False])
    ranked = ranked.with_columns(before=pl.col("units").cum_sum().over("session") - pl.col("units"), total=pl.col("units").sum().over("session"))
    taken = ranked.filter(pl.col("before") < SHARE * pl.col("total") - 0.5).group_by("session", maintain_order=True)
    return taken.agg(poc=pl.col("tick").first(), low=pl.col("tick").min(), high=pl.col("tick").max()).sort("session").select("poc", "low", "high").collect().to_numpy() * TICK


def polars_grow(levels, frame):
    """Point of control and grown value area: levels by polars, the walk by numpy."""
    table = levels(frame).collect()
    session, tick, units = (table[c].to_numpy() for c in ("session", "tick", "units"))
    edge = np.append(np.flatnonzero(np.append(True, session[1:] != session[:-1])), len(session))
    out = []
    for a, b in zip(edge[:-1], edge[1:]):
        volume = np.zeros(tick[b - 1] - tick[a] + 1, np.int64)
        volume[tick[a:b] - tick[a]] = units[a:b]
        out.append([tick[a] + place for place in grown(volume)])
    return np.array(out) * TICK


def with_market_profile(bars):
    """py-market-profile: the trade date of each bar, then one session after another, as its README shows."""
    from market_profile import MarketProfile
    out, named = [], bars.rename(columns=str.title)
    for _, part in named.groupby([contract_numbers(bars), trade_dates(bars).to_numpy()]):
        frame = part.droplevel("contract")
        whole = MarketProfile(frame, tick_size=TICK)[frame.index.min():frame.index.max()]
        out.append((whole.poc_price, *whole.value_area))
    return np.array(out)


def trade_dates(bars): return (bars.index.get_level_values("ts").tz_convert("America/Chicago").tz_localize(None) + pd.Timedelta("7h") - pd.Timedelta("1us")).normalize()


def ours(bars, method="grow", n_jobs=1): return fnb.session_profiles(bars, method=method, n_jobs=n_jobs)[["poc", "value_area_low", "value_area_high"]].to_numpy()


def once(call, *args):
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def measure(bars, rounds, has_polars, has_peer):
    """One size: answers compared, then times."""
    grow, rank = ours(bars), ours(bars, "rank")
    assert np.array_equal(grow, with_pandas(bars)), "pandas gives another answer"
    row, peers = {"rows": len(bars), "sessions": len(grow)}, {"ours, grow": partial(ours, bars), "ours, rank": partial(ours, bars, "rank"), "ours, grow, as typed": partial(ours, bars, n_jobs=None), "pandas, grow": partial(with_pandas, bars)}
    if has_polars:
        frame = to_polars(bars)
        for levels in (polars_rows, polars_differences):
            assert np.array_equal(rank, polars_rank(levels, frame)) and np.array_equal(grow, polars_grow(levels, frame)), f"{levels.__name__} gives another answer"
            peers |= {f"{levels.__name__}, {rule.__name__[7:]}": partial(rule, levels, frame) for rule in (polars_rank, polars_grow)}
        peers["polars: trade date and whole numbers alone"] = lambda: _polars_bars(frame).collect()
    row |= peers_in_turn(peers, rounds)
    if has_peer:
        with_market_profile(bars.iloc[:1380])
        pairs = [(once(with_market_profile, bars), once(ours, bars, "grow", None)) for _ in range(3)]     # A B A B, but few: it takes seconds
        row["median_s"]["py-market-profile, 3 rounds"] = round(statistics.median(theirs for theirs, _ in pairs), 3)
        row["ratio_to_ours"]["py-market-profile, 3 rounds"] = round(statistics.median(theirs / mine for theirs, mine in pairs))
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    has = {name: importlib.util.find_spec(name) is not None for name in ("polars", "market_profile")}
    for name, found in has.items():
        if not found: print(f"{name} is not installed: left out")
    whole, rows = fnb.synth_bars(n_contracts=12, n_days=69), []
    for n in (10_000, 100_000, len(whole)):
        rows.append(measure(whole.iloc[:n], rounds, *has.values()))
        print(rows[-1])
    write_results("session_profile", rows)


if __name__ == "__main__":
    main()
