"""The continuous series on real gold, on the embedded days and against a charting vendor: money made is money made."""
import io
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.barriers import known_volatility
from futures_nb.roll import front_rows, roll_schedule
from futures_nb.schema import DataError, contract_runs, instrument
from futures_nb.series import check_mapped, continuous
from futures_nb.sessions import to_sessions
from futures_nb.targets import describe_target, make_target
from futures_nb.testing import cut_future

PRICES = ["open", "high", "low", "close"]


@pytest.fixture(scope="module")
def gold(data_dir):
    with redirect_stdout(io.StringIO()):
        return fnb.read_bars(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start")


@pytest.fixture(scope="module")
def schedule(gold):
    return roll_schedule(gold)


def by_lookup(bars, schedule):
    """The slow obvious pair of each roll: join the closes of both legs, cut at the decision, take the last."""
    pairs = []
    for k in range(1, len(schedule)):
        old, new = (bars["close"].loc[schedule["contract"][i]] for i in (k - 1, k))
        both = pd.concat([old, new], axis=1, join="inner").dropna().loc[:schedule["decided"][k]]
        pairs.append((both.index[-1], *both.iloc[-1]))
    return pairs


def money(series, position, inst):
    """P&L [ticks] of the position, in each contract's own prices, rolled at the closing pair."""
    ticks, front = inst.to_ticks(series["raw_close"]), series["front"].to_numpy()
    change = np.diff(ticks)
    for roll, k in zip(series.attrs["continuous"]["rolls"], np.flatnonzero(front[1:] != front[:-1])):
        old, new = inst.to_ticks([roll["old_close"], roll["new_close"]])
        change[k] = (old - ticks[k]) + (ticks[k + 1] - new)
    return int(position[:-1] @ change)


def check_laws(bars, schedule, seed):
    inst, rng = instrument(bars.index[0][0]), np.random.default_rng(seed)
    for anchor in ("last", "first"):
        series = continuous(bars, schedule, "difference", anchor=anchor)
        adjusted = inst.to_ticks(series["close"])
        for position in (np.ones(len(series), np.int64), rng.integers(-5, 6, len(series))):
            assert money(series, position, inst) == int(position[:-1] @ np.diff(adjusted))
        np.testing.assert_array_equal(series["close"], inst.to_price(adjusted))   # the float nearest to the quote, no dust
        step = inst.to_ticks(series["adjustment"])
        for c in PRICES: np.testing.assert_array_equal(inst.to_ticks(series[c]) - inst.to_ticks(series[f"raw_{c}"]), step)
        ratio = continuous(bars, schedule, anchor=anchor)
        same = (ratio["front"] == ratio["front"].shift()).to_numpy()[1:]
        raw, adj = np.diff(np.log(ratio["raw_close"])), np.diff(np.log(ratio["close"]))
        assert np.abs(raw - adj)[same].max() < 1e-12
        rolls = ratio.attrs["continuous"]["rolls"]
        legs = ratio["raw_close"].groupby(ratio["front"], sort=False).agg(["first", "last"])
        bought = np.append(legs["first"].iloc[0], [r["new_close"] for r in rolls])
        sold = np.append([r["old_close"] for r in rolls], legs["last"].iloc[-1])
        assert abs(np.prod(sold / bought) / (ratio["close"].iloc[-1] / ratio["close"].iloc[0]) - 1) < 1e-12
    return series


def test_laws_on_real_gold(gold, schedule):
    series = check_laws(gold, schedule, 0)
    told = series.attrs["continuous"]
    assert told["n_rolls"] == len(schedule) - 1 and told["n_rows"] == front_rows(gold, schedule).sum()
    assert told["n_rows"] + told["n_not_in_front"] == len(gold)
    assert told["n_missing_pairs"] == told["n_earlier_pairs"] == told["n_off_tick"] == 0
    assert max(abs(r["ratio"] - 1) for r in told["rolls"]) == pytest.approx(0.02, abs=1e-3)   # jumps up to 2 per cent


def test_rows_and_pairs_on_real_gold_by_lookup(gold, schedule):
    series = continuous(gold, schedule, None)
    front = gold[front_rows(gold, schedule)]
    ts = series.index.get_level_values("ts")
    assert ts.is_monotonic_increasing and ts.is_unique and set(series.index.get_level_values("contract")) == {"MGC"}
    np.testing.assert_array_equal(ts, front.index.get_level_values("ts"))
    np.testing.assert_array_equal(series["front"], front.index.get_level_values("contract"))
    for c in PRICES:
        np.testing.assert_array_equal(series[c], front[c])
        np.testing.assert_array_equal(series[f"raw_{c}"], front[c])
    assert (series["adjustment"] == 0).all()
    assert not to_sessions(series).duplicated(["trade_date", "minute"]).any()
    told = [(pd.Timestamp(r["pair_ts"]), r["old_close"], r["new_close"]) for r in series.attrs["continuous"]["rolls"]]
    assert told == by_lookup(gold, schedule)


def test_later_rolls_change_no_past_return_of_gold(gold, schedule):
    past = cut_future(gold, schedule["decided"][11] - pd.Timedelta("30D"))
    for adjust, change in (("ratio", np.log), ("difference", instrument("MGC").to_ticks)):
        then, now = continuous(past, adjust=adjust), continuous(gold, schedule, adjust)
        now = now.loc[then.index]
        assert (then["close"] != now["close"]).all()                    # every level of the past moved
        np.testing.assert_allclose(np.diff(change(then["close"])), np.diff(change(now["close"])), atol=1e-12)
        then, now = continuous(past, adjust=adjust, anchor="first"), continuous(gold, schedule, adjust, anchor="first")
        pd.testing.assert_frame_equal(then, now.loc[then.index], check_exact=True)


@pytest.mark.parametrize("rule", ["volume", "calendar"])
def test_laws_on_the_embedded_days(rule):
    bars = fnb.demo_bars("2016-01-04", "2016-12-30")
    series = check_laws(bars, roll_schedule(bars, rule), 1)
    assert series.attrs["continuous"]["n_rolls"] >= 3 and series.attrs["real"]
    assert [r["spread"] for r in series.attrs["continuous"]["rolls"]] == [0.0] * series.attrs["continuous"]["n_rolls"]   # the contracts trade at the index
    for c in PRICES: np.testing.assert_array_equal(series[c], series[f"raw_{c}"])


@pytest.mark.parametrize("symbol,level", [("6E", 1.08), ("ZN", 110.0), ("NQ", 21000.0), ("CL", 70.0), ("RTY", 2100.0)])
def test_laws_on_every_tick_grid(symbol, level):
    bars = fnb.synth_bars(n_contracts=5, n_days=6, overlap=2, minutes=15, symbol=symbol, level=level, missing=0.2, seed=7)
    check_laws(bars, roll_schedule(bars), 2)


def test_a_chart_vendor_adjusts_by_difference(data_dir, es_file):
    """TradingView's ES1 and the ES 03-25 contract, while that was in front: a constant number of points, not a constant ratio."""
    with redirect_stdout(io.StringIO()):
        bars = fnb.read_bars(es_file)
    theirs = pd.read_parquet(data_dir / "tradingview" / "ES1_5m.parquet")["close"]
    theirs.index = theirs.index.tz_convert("UTC")
    ours = bars["close"].droplevel("contract").resample("5min", closed="right", label="left").last().dropna().loc["2024-12-20":"2025-02-26"]
    both = pd.concat([theirs.rename("theirs"), ours.rename("ours")], axis=1, join="inner")
    gap = both["theirs"] - both["ours"]
    assert len(both) > 12_000 and (gap == 160.75).mean() > 0.99
    ratio = both["theirs"] / both["ours"]
    assert (ratio.max() - ratio.min()) * both["ours"].mean() > 30 * 0.25  # a ratio scheme would have kept this within a tick or two

    name, inst = bars.index[0][0], instrument("ES")                         # the same series by ours, from a later contract 160.75 dearer
    later = bars.loc[[name]].rename(index={name: "ESM25"}, level="contract")
    later[PRICES] = inst.to_price(inst.to_ticks(later[PRICES]) + 643)
    end = bars.index.get_level_values("ts").max()
    plan = pd.DataFrame(dict(contract=[name, "ESM25"], decided=[pd.NaT, end - pd.Timedelta("1h")], last=[end - pd.Timedelta("1h"), pd.NaT]))
    plan = plan.assign(**{c: pd.to_datetime(plan[c], utc=True) for c in ("decided", "last")})
    series = continuous(pd.concat([bars, later]), plan, "difference")
    assert set(series["close"] - series["raw_close"]) == {160.75, 0.0}


def test_random_rolls_by_the_obvious_way():
    """Random holes, random decisions: the adjusted series is what a dictionary and a loop make of it."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        bars = fnb.synth_bars(n_contracts=3, n_days=8, overlap=4, minutes=30, seed=seed, missing=0.5, roll_gap=0.01)
        bars["close"] = bars["close"].mask(rng.random(len(bars)) < 0.1)
        names = [name for name, _, _ in contract_runs(bars.index)]
        decided = [bars.loc[new].index[int(rng.integers(20, 60))] + pd.Timedelta("7min") for new in names[1:]]
        stamps = lambda x: pd.to_datetime(pd.Series(x), utc=True)
        plan = pd.DataFrame(dict(contract=names, decided=stamps([pd.NaT, *decided]), last=stamps([*decided, pd.NaT])))
        steps = [new - old for _, old, new in by_lookup(bars, plan)]
        want = {name: sum(steps[k:]) for k, name in enumerate(names)}
        got = continuous(bars, plan, "difference")
        assert got["front"].nunique() == 3
        np.testing.assert_array_equal(got["adjustment"], got["front"].map(want))
        np.testing.assert_allclose(got["close"], got["raw_close"] + got["front"].map(want), atol=1e-9)
        assert got["close"].isna().sum() == bars.loc[front_rows(bars, plan), "close"].isna().sum()


def test_attrs_survive_joining_and_storing(tmp_path):
    series = continuous(fnb.synth_bars(n_contracts=2, n_days=4, overlap=2, minutes=60))
    assert pd.concat([series, series]).attrs["continuous"] == series.attrs["continuous"]
    series.to_parquet(tmp_path / "series.parquet")
    back = pd.read_parquet(tmp_path / "series.parquet")
    assert back.attrs["continuous"]["rolls"] == series.attrs["continuous"]["rolls"]
    pd.testing.assert_frame_equal(back, series)
    assert fnb.front_rows(series).all()                                     # a series under its root is its own front


def test_one_contract_and_a_series_of_a_vendor_are_left_alone():
    bars = fnb.synth_bars(n_contracts=1, n_days=4, overlap=0, minutes=60)
    for made in (bars, bars.rename(index={bars.index[0][0]: "ES"}, level="contract")):
        series = continuous(made)
        assert set(series["front"]) == {made.index[0][0]} and series.attrs["continuous"]["rolls"] == [] and (series["adjustment"] == 1).all()
        pd.testing.assert_frame_equal(series[list(bars.columns)].droplevel("contract"), made.droplevel("contract"))


def test_bad_requests_say_what_to_do(gold):
    part = gold.loc[["MGCM22", "MGCQ22"]].iloc[::50]
    other = fnb.synth_bars(n_contracts=2, n_days=4, overlap=2, minutes=60)
    for call, words in (
        (lambda: continuous(part, roll_schedule(other)), "the bars are MGCM22 MGCQ22; make one with roll_schedule"),
        (lambda: continuous(part.drop(columns="close")), "column 'close' is missing"),
        (lambda: continuous(part, adjust="back"), '"ratio", "difference" or None'),
        (lambda: continuous(part, roll_schedule(part).assign(decided=lambda s: s["decided"].dt.tz_localize(None))), "decided of the schedule has no time zone"),
        (lambda: continuous(part.assign(low=-1.0), roll_schedule(part)), 'use adjust="difference"'),
    ):
        with pytest.raises(DataError) as error: call()
        assert words in str(error.value) and "\n" not in str(error.value)


# ---- windows and labels over rolls

def test_a_roll_is_found_when_the_columns_that_tell_it_are_gone():
    """What the attrs say counts where `front` and `adjustment` were left out."""
    bars = fnb.synth_bars(n_contracts=2, n_days=12, overlap=4, minutes=60, roll_gap=0.02, seed=3)
    raw, shifted = continuous(bars, adjust=None), continuous(bars, adjust="difference")
    ts, decided = raw.index.get_level_values("ts"), pd.Timestamp(raw.attrs["continuous"]["rolls"][0]["decided"])
    for ask in (make_target, known_volatility, lambda b: check_mapped(b, "f")):
        for series in (raw, raw[["close"]], raw[PRICES + ["volume"]]):
            with pytest.raises(DataError, match=f"{raw.front.iloc[0]} and {raw.front.iloc[-1]} follow each other"): ask(series)
        for fine in (bars, shifted, shifted[["close"]], raw[["close"]][ts <= decided], raw[["close"]][ts > decided]): ask(fine)
    assert make_target(shifted[["close"]]).attrs["target"]["adjusted"] == "difference" and "adjusted" not in make_target(bars).attrs["target"]


def test_a_vendors_series_as_traded_is_refused_and_an_unknown_one_says_so(data_dir):
    with redirect_stdout(io.StringIO()):
        read = lambda **options: fnb.read_bars(data_dir / "tradingview" / "NQ1_1h.parquet", contract="NQ", stamp="start", **options)
        bars, unknown, adjusted = read(adjusted=False), read(), read(adjusted=True)
    one_session = bars.loc[to_sessions(bars)["trade_date"].to_numpy() == to_sessions(bars)["trade_date"].iloc[500]]
    for ask in (make_target, known_volatility, lambda b: check_mapped(b, "f")):
        for part in (bars, bars[["close"]]):
            with pytest.raises(DataError, match="NQ was read with adjusted=False"): ask(part)
        for fine in (unknown, adjusted, one_session): ask(fine)
    with pytest.raises(DataError, match="NQ was read with adjusted=False"): make_target(continuous(bars))     # a series of a series
    told = make_target(unknown)
    assert told.attrs["target"]["adjusted"] == "unknown" and describe_target(told).loc["adjusted at rolls", "value"] == "unknown"
    assert make_target(adjusted).attrs["target"]["adjusted"] is True
    named = bars.rename(index={"NQ": "NQH25"}, level="contract")                    # a contract of its own has no roll inside
    assert "adjusted" not in make_target(named).attrs["target"]
    assert len(fnb.make_features(unknown, features=["return_5"], progress=False)) == len(unknown)
