"""Planted leaks are refused by the checks as they are called by default, and honest features raise no alarm."""
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.testing import choose_cuts, clock_cuts, finite_share, other_cuts, replace_future
from leaks import LEAKS, SEEN_BY, TWINS, market, vix_a_bar_early
from nasty import is_valid

RARE = [name for name, check in SEEN_BY.items() if check == "window"]


@pytest.fixture(scope="module")
def bars_vix():
    return market()


def test_there_are_more_than_thirty():
    assert len(LEAKS) - len(RARE) >= 60 and len(TWINS) >= 15
    assert all(f.__doc__ for f in LEAKS.values()), "each says what it sees"


@pytest.mark.parametrize("name", [n for n in LEAKS if n not in RARE])
def test_a_leak_is_refused(name, bars_vix):
    bars, vix = bars_vix
    with pytest.raises(AssertionError, match="assert_causal: column .* (looks ahead|reads)"):
        fnb.assert_causal(LEAKS[name], bars, vix=vix)


@pytest.mark.parametrize("name", RARE)
def test_a_rare_leak_is_refused_where_the_function_forgets(name, bars_vix):
    """It lies at no cut: fifteen of 1,600 rows would. `check_feature` looks between."""
    bars, vix = bars_vix
    fnb.assert_causal(LEAKS[name], bars, vix=vix)
    for seed in range(5):
        with pytest.raises(AssertionError, match="sees outside its window"):
            fnb.assert_window(LEAKS[name], bars, 2, seed=seed, vix=vix)
    with pytest.raises(AssertionError, match="sees outside its window"):
        fnb.check_feature(LEAKS[name], bars, vix, lookback=2)


@pytest.mark.parametrize("name", LEAKS)
def test_the_one_call_for_a_feature_refuses_every_leak(name, bars_vix):
    bars, vix = bars_vix
    with pytest.raises(AssertionError):
        fnb.check_feature(LEAKS[name], bars, vix, lookback=100)


@pytest.mark.parametrize("name", TWINS)
def test_an_honest_feature_raises_no_alarm(name, bars_vix):
    bars, vix = bars_vix
    assert (fnb.assert_causal(TWINS[name], bars, vix=vix) > 1000).all()


def test_the_catalogue_raises_no_alarm():
    """Every feature, on two contracts with a roll and a change of the clocks inside, long enough for the longest warm-up."""
    bars = fnb.synth_bars(n_contracts=2, n_days=34, overlap=4, minutes=15, start="2022-02-14")
    vix = market()[1]
    long = vix.reindex(pd.DatetimeIndex([t for t in pd.date_range("2022-02-01", "2022-05-20", freq="B", tz="UTC") + pd.Timedelta("21:15:00")], name="ts").as_unit("us"), method="nearest")
    other = fnb.synth_bars(n_contracts=1, n_days=66, overlap=0, symbol="NQ", seed=8, minutes=5, start="2022-02-14")[["close"]]
    counts = fnb.assert_causal(lambda b, vix, other: fnb.make_features(b, vix, other=other, progress=False), bars, lookback={n: 10**6 for n in fnb.FEATURES}, vix=long, other=other)
    assert list(counts.index) == list(fnb.FEATURES) and (counts > 1000).all()


@pytest.mark.slow
def test_leaks_are_refused_whatever_the_seed(bars_vix):
    bars, vix = bars_vix
    missed = []
    for name in LEAKS.keys() - set(RARE):
        for seed in range(1, 20):
            try: fnb.assert_causal(LEAKS[name], bars, seed=seed, vix=vix)
            except AssertionError: continue
            missed.append((name, seed))
    assert len(missed) <= 0.005 * 19 * len(LEAKS), missed


# Where the cuts stand.

@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_place_is_cut_at(seed, bars_vix):
    bars, vix = bars_vix
    ts, t = bars.index.get_level_values("ts"), pd.Series(bars.index.get_level_values("ts"), bars.index)
    times = ts.unique().sort_values()
    date = pd.Series(fnb.trade_dates(times), times)
    first, last = (set(date.groupby(date).apply(lambda x, f=f: f(x.index))) for f in (min, max))
    cuts = set(choose_cuts(bars, seed=seed))
    assert cuts & first and cuts & last, "the first and the last bar of a session"
    rolls = {pd.Timestamp(r["decided"]) for r in bars.attrs["truth"]["rolls"]}
    inside = {d for cut, d in zip(sorted(cuts), fnb.trade_dates(sorted(cuts))) if cut not in last}
    assert rolls & inside, "inside the day of a roll"
    begins = t.groupby(level="contract").min()
    assert any(((cut - begins) >= pd.Timedelta(0)).any() and ((cut - begins).abs() < pd.Timedelta("1h")).any() for cut in cuts), "where a contract begins"
    local = pd.DatetimeIndex(clock_cuts(bars, seed)).tz_convert("America/Chicago").strftime("%Y-%m-%d %H:%M")
    assert {"2022-03-11 16:00", "2022-03-13 17:05"} <= set(local), "the last bar before the clocks change, and the first one after"
    assert {x[11:] for x in local} >= {"08:30", "15:00"}, "the cash open and the cash close"
    assert len(other_cuts(bars, vix, seed=seed)) == 2


def test_both_changes_of_a_year_are_cut_at():
    bars = fnb.synth_bars(n_contracts=1, n_days=210, overlap=0, minutes=60, start="2022-03-01")
    local = pd.DatetimeIndex(clock_cuts(bars)).tz_convert("America/Chicago").strftime("%Y-%m-%d %H:%M")
    assert {"2022-03-11 16:00", "2022-03-13 18:00"} <= set(local)
    bars = fnb.synth_bars(n_contracts=1, n_days=190, overlap=0, minutes=60, start="2022-03-01", symbol="GC")
    assert len(clock_cuts(bars)) >= 4


def test_bars_of_one_contract_have_no_roll_and_that_is_no_trouble():
    bars = fnb.synth_bars(n_contracts=1, n_days=3, overlap=0, minutes=60)
    assert len(choose_cuts(bars, 10)) == 10
    assert len(choose_cuts(bars.iloc[:5], 10)) == 4
    assert len(choose_cuts(bars.iloc[:2], 10)) == 1


@pytest.mark.parametrize("symbol", ["ES", "6E", "ZN", "CL"])
@pytest.mark.parametrize("kind", ["noise", "extreme"])
@pytest.mark.parametrize("up", [True, False])
def test_an_invented_future_is_a_market(symbol, kind, up):
    level = {"ES": 4000.0, "6E": 1.08, "ZN": 110.0, "CL": 70.0}[symbol]
    bars = fnb.synth_bars(n_contracts=2, n_days=3, overlap=1, minutes=30, symbol=symbol, level=level)
    cut = bars.index[40][1]
    new = replace_future(bars, cut, seed=3, up=up, kind=kind)
    late = new[new.index.get_level_values("ts") > cut]
    assert is_valid(late) and (late["low"] > 0).all()


# A stamp one bar early.

def early(bars, by):
    return bars.set_axis(fnb.make_index(bars.index.get_level_values("contract"), bars.index.get_level_values("ts") - pd.Timedelta(by)))


def test_a_feed_stamped_one_bar_early_is_an_error_of_check_bars(bars_vix):
    """Features of such a feed are causal by its own stamps: the stamps lie, and only the exchange's hours can tell."""
    bars, _ = bars_vix
    assert "bar_stamp" not in fnb.check_bars(bars).counts
    report = fnb.check_bars(early(bars, "5min"))
    assert report.counts["bar_stamp"] == 3
    fnb.assert_causal(TWINS["trailing_mean"], early(bars, "5min"), vix=bars_vix[1])
    minute = fnb.synth_bars(n_contracts=1, n_days=6, overlap=0)
    assert "bar_stamp" not in fnb.check_bars(minute).counts and fnb.check_bars(early(minute, "1min")).counts["bar_stamp"] == 1


def test_a_second_frame_stamped_a_bar_early_is_refused_whatever_the_seed(bars_vix):
    bars, vix = bars_vix
    for seed in range(5):
        with pytest.raises(AssertionError, match="looks ahead"):
            fnb.assert_causal(vix_a_bar_early, bars, seed=seed, vix=vix)


# An empty feature.

def test_an_empty_feature_is_refused(bars_vix):
    bars, vix = bars_vix
    def half(bars, vix): return bars["close"].where(bars["close"].mul(4) % 2 == 0)
    fnb.assert_causal(half, bars, vix=vix)
    with pytest.raises(AssertionError, match=r"is empty: 4\d\.\d % .* 90 % must be"):
        fnb.assert_causal(half, bars, lookback=1, vix=vix)
    assert finite_share(TWINS["trailing_mean"](bars, vix).to_frame(), 21)["close"] == 1.0
    assert finite_share(TWINS["trailing_mean"](bars, vix).to_frame(), 1)["close"] < 1.0, "a warm-up that is declared too short shows"
