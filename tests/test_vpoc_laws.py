"""Laws of the volume profile on thousands of random sessions, and the compiled loops against the slowest version one can write."""
from fractions import Fraction

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import futures_nb as fnb
from futures_nb.vpoc import ALLOCATIONS, ONE, SHAPE_COLUMNS, count_modes, grow_area, profile_levels, profile_shape_values, rank_area, rank_levels, to_fixed_point

RULES = [dict(method="grow", step=1), dict(method="grow", step=2), dict(method="rank")]
LEVELS = ["poc", "value_area_low", "value_area_high"]


@st.composite
def sessions(draw):
    """Bars of one session in ticks and units: few levels and round volumes, so that ties, empty levels and rests of divisions are common."""
    n, width, base = draw(st.integers(1, 12)), draw(st.integers(1, 60)), draw(st.integers(-500, 20_000))
    volume = st.one_of(st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 40).map(lambda u: u / ONE), st.floats(0, 50))
    bars = []
    for _ in range(n):
        lo = draw(st.integers(0, width))
        hi = draw(st.integers(lo, min(width, lo + draw(st.sampled_from([0, 1, 5, 60])))))
        bars.append((base + lo, base + hi, base + draw(st.integers(lo, hi)), draw(volume)))
    return np.array(bars, dtype=float)


def frame(session, tick=0.25):
    low, high, close, volume = session.T
    ts = pd.date_range("2024-12-16 15:00", periods=len(session), freq="min", tz="UTC")
    return pd.DataFrame(dict(open=close * tick, high=high * tick, low=low * tick, close=close * tick, volume=volume), fnb.make_index("ESH25", ts))


def brute_units(session, allocation):
    """Units by tick in Python integers, one bar and one level after another."""
    units = {}
    for lo, hi, close, volume in session:
        whole, lo, hi = int(np.rint(volume * ONE)), int(lo), int(hi)
        if allocation == "close": lo = hi = int(close)
        if 0 < whole <= hi - lo: hi = lo + whole - 1
        n = hi - lo + 1
        weights = [min(j, n + 1 - j) for j in range(1, n + 1)] if allocation == "triangular" else [1] * n
        each, rest = divmod(whole, sum(weights))
        even, rest = divmod(rest, n)
        for j, weight in enumerate(weights): units[lo + j] = units.get(lo + j, 0) + each * weight + even + (j < rest)
    return units


def brute_area(units, share, method, step=1):
    """Value area of units by tick, by its definition."""
    traded = [t for t in units if units[t] > 0]
    first, last, total = min(traded), max(traded), sum(units.values())
    poc = min(traded, key=lambda t: (-units[t], t))
    target, inside = share * total - 0.5, units[poc]
    if method == "rank":
        taken = []
        for t in sorted(range(first, last + 1), key=lambda t: (-units.get(t, 0), t)):
            taken.append(t)
            if sum(units.get(t, 0) for t in taken) >= target: break
        return poc, min(taken), max(taken)
    low = high = poc
    while inside < target and (low > first or high < last):
        up, down = [t for t in range(high + 1, high + step + 1) if t <= last], [t for t in range(low - step, low) if t >= first]
        above, below = (sum(units.get(t, 0) for t in side) if side else -1 for side in (up, down))
        if above >= below: high, inside = up[-1], inside + above
        else: low, inside = down[0], inside + below
    return poc, low, high


@settings(max_examples=1000, deadline=None)
@given(sessions(), st.sampled_from(ALLOCATIONS), st.sampled_from(RULES), st.sampled_from([0.3, 0.7, 0.95, 1.0]))
def test_brute_force_agrees_on_all_columns(session, allocation, rule, share):
    units = brute_units(session, allocation)
    bars, total = frame(session), sum(units.values())
    profile = fnb.volume_profile(bars, allocation=allocation)
    assert {round(p * 4): int(v * ONE) for p, v in profile.items() if v} == {t: u for t, u in units.items() if u}
    assert int(profile.sum() * ONE) == total == int(np.rint(session[:, 3] * ONE).sum())      # conserved, to the last unit
    fast = fnb.session_profiles(bars, allocation=allocation, share=share, shape=True, **rule).iloc[0]
    if not total:
        assert fast[LEVELS + SHAPE_COLUMNS].isna().all() and fast["volume"] == 0
        return
    assert tuple(fast[LEVELS] * 4) == brute_area(units, share, **rule)
    assert tuple(x * 4 for x in fnb.value_area(profile, share, **rule)) == brute_area(units, share, **rule)[1:]
    assert fast["volume"] == total / ONE and fnb.point_of_control(profile) == fast["poc"]
    inside = sum(u for t, u in units.items() if fast["value_area_low"] * 4 <= t <= fast["value_area_high"] * 4)
    assert fast["value_area_low"] <= fast["poc"] <= fast["value_area_high"] and inside >= share * total - 0.5
    assert fast[SHAPE_COLUMNS].tolist() == fnb.profile_shape(profile).tolist()
    ticks = np.array(sorted(t for t in units if units[t]))
    p = np.array([units[t] for t in ticks]) / total
    mean = Fraction(sum(t * units[t] for t in ticks.tolist()), total)                      # exactly: a single unit far away has a large skew, and dust has none
    second, third = (sum(units[t] * (t - mean) ** k for t in ticks.tolist()) / total for k in (2, 3))
    np.testing.assert_allclose(fast["skew"], float(third) / float(second) ** 1.5 if second else 0, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fast["entropy"], -(p * np.log(p)).sum() / np.log(np.ptp(ticks) + 1) if len(ticks) > 1 else 0, rtol=1e-9, atol=1e-12)


def test_areas_of_thousands_of_small_profiles():
    """Few levels of few contracts: ties, empty levels, and pairs of which one level is left, in nearly every one."""
    rng = np.random.default_rng(4)
    for _ in range(3000):
        levels = rng.integers(0, rng.choice([2, 4, 9]), rng.integers(1, 12)) * ONE
        levels[0] += ONE * (levels.sum() == 0)
        units, share, traded = dict(enumerate(levels.tolist())), rng.choice([0.3, 0.7, 0.9, 1.0]), np.flatnonzero(levels)
        profile = pd.Series(levels / ONE, np.arange(len(levels)) * 0.25)
        for rule in RULES:
            poc, low, high = brute_area(units, share, **rule)
            assert fnb.value_area(profile, share, **rule) == (low / 4, high / 4)
            if rule["method"] == "grow": assert grow_area(levels, -1, traded[0], traded[-1], poc, share * levels.sum() - 0.5, rule["step"]) == (low, high)


@settings(max_examples=300, deadline=None)
@given(sessions(), st.sampled_from(ALLOCATIONS), st.sampled_from([1, 2, 7]), st.randoms(use_true_random=False))
def test_order_of_bars_and_number_of_chunks_change_nothing(session, allocation, n_chunks, random):
    bars = frame(session)
    whole = fnb.volume_profile(bars, allocation=allocation)
    mixed = list(range(len(bars)))
    random.shuffle(mixed)
    assert fnb.volume_profile(bars.iloc[mixed], allocation=allocation).equals(whole)
    added = pd.Series(0.0, whole.index)
    for part in np.array_split(np.array(mixed), min(n_chunks, len(bars))):
        added = added.add(fnb.volume_profile(bars.iloc[part], allocation=allocation), fill_value=0)
    assert added.equals(whole)


@settings(max_examples=300, deadline=None)
@given(sessions())
def test_trades_are_bars_of_one_price(session):
    low = session[:, 0] * 0.25
    trades = pd.DataFrame(dict(price=low, size=session[:, 3]))
    bars = pd.DataFrame(dict(low=low, high=low, close=low, volume=session[:, 3]))
    for allocation in ALLOCATIONS:
        assert fnb.volume_profile(trades).equals(fnb.volume_profile(bars, allocation=allocation))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(0, 5) | st.integers(0, 2**40), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_ranking_without_sorting(levels, share):
    levels = np.array([*levels, 1], np.int64)
    target = share * levels.sum() - 0.5
    assert rank_levels(levels, target) == rank_area(levels, target)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=50), st.integers(0, 10**6), st.integers(1, 5))
def test_shape_of_a_ring_at_any_place_and_of_reversed_and_scaled_levels(levels, place, scale):
    levels = np.array([1, *levels, 2], np.int64)
    ring, out = np.zeros(64, np.int64), np.zeros((3, 4))
    first, last, peak = place, place + len(levels) - 1, place + int(levels.argmax())
    ring[np.arange(first, last + 1) & 63] = levels
    profile_shape_values(levels, -1, 0, len(levels) - 1, levels.argmax(), levels.sum(), out[0])
    profile_shape_values(ring, 63, first, last, peak, levels.sum(), out[1])
    assert (out[0] == out[1]).all() and 0 <= out[0, 2] <= 1 and out[0, 3] >= 1
    back = levels[::-1].copy() * scale
    profile_shape_values(back, -1, 0, len(back) - 1, back.argmax(), back.sum(), out[2])
    np.testing.assert_allclose(out[2, 1:], out[0, 1:] * [-1, 1, 1], atol=1e-9)
    assert count_modes(ring, 63, first, last) == out[0, 3]


@pytest.fixture(scope="module")
def market():
    bars = fnb.synth_bars(n_contracts=7, seed=2)
    keep = np.random.default_rng(2).random(len(bars)) < 0.7
    bars = bars[keep].copy()
    bars.iloc[[100, 9000], bars.columns.get_loc("high")] = 1e15, np.nan     # no market made these
    bars.iloc[::50, bars.columns.get_loc("volume")] = 0.3
    return bars


@pytest.mark.parametrize("options", [dict(), dict(method="rank", allocation="triangular", shape=True), dict(step=2, session="rth"),
                                     dict(tz="America/New_York", start="09:30", end="15:59", allocation="close")])
def test_contracts_in_1_2_and_7_workers(market, options):
    whole = fnb.session_profiles(market, **options)
    names = list(market.index.unique("contract"))
    for n_jobs in (1, 2, 7):
        chunks = [market.loc[list(part)] for part in np.array_split(names, n_jobs)]
        with joblib.parallel_config(backend="threading"):
            parts = joblib.Parallel(n_jobs=min(n_jobs, 2))(joblib.delayed(fnb.session_profiles)(chunk, **options) for chunk in chunks)
        assert pd.concat(parts).equals(whole)
        counted = pd.DataFrame([part.attrs["profiles"] for part in parts]).sum().to_dict()
        assert counted == whole.attrs["profiles"] and (counted["n_without_profile"] == 2 or "tz" in options or "session" in options)


@pytest.mark.parametrize("options", [dict(), dict(session="rth", method="rank"), dict(tz="UTC", start="09:30", end="15:59")])
def test_sessions_that_are_over_stay_as_they_are(market, options):
    whole = fnb.session_profiles(market, shape=True, **options)
    times = market.index.get_level_values("ts")
    for cut in np.random.default_rng(0).choice(times.unique(), 12):
        past = fnb.session_profiles(market[times <= cut], shape=True, **options)
        assert past[past["ts"] <= cut].equals(whole[whole["ts"] <= cut])


def test_rows_found_by_searching_are_those_of_the_calendar(market):
    """Times of 14 years, every 53 minutes and some: halts, half days, days without cash hours and closed markets included."""
    steps = np.random.default_rng(1).integers(1, 106, 130_000).cumsum()
    ts = (pd.Timestamp("2011-12-30", tz="UTC") + pd.to_timedelta(steps, "min")).as_unit("us")
    ts = ts[ts < pd.Timestamp("2025-11-01", tz="UTC")]
    for contract in ("ES", "GC", "6E", "ZN", "CL"):
        bars = pd.DataFrame(dict(low=1.0, high=1.0, close=1.0, volume=1.0), fnb.make_index(contract, ts))
        days, closed = fnb.to_sessions(bars), fnb.off_session(bars)
        for session, inside in ((None, ~closed), ("rth", ~closed & days["is_rth"].to_numpy())):
            found = fnb.session_profiles(bars, session=session)
            expected = days[inside].groupby("trade_date").size()
            assert found["volume"].droplevel(0).astype(int).to_dict() == expected.to_dict()
            assert found.attrs["profiles"] == dict(n_bars=int(inside.sum()), n_outside=int((~inside & ~closed).sum()), n_off_session=int(closed.sum()), n_without_profile=0)


def test_an_index_stored_in_another_way_gives_the_same(market):
    whole = fnb.session_profiles(market)
    level, code = market.index.levels[1], market.index.codes[1]
    backward = pd.MultiIndex([market.index.levels[0], level[::-1]], [market.index.codes[0], len(level) - 1 - code], names=market.index.names)
    nano = pd.MultiIndex.from_arrays([market.index.get_level_values(0), market.index.get_level_values(1).as_unit("ns")], names=market.index.names)
    for index in (backward, nano): assert fnb.session_profiles(market.set_axis(index)).equals(whole)
    assert fnb.session_profiles(market.assign(volume=market["volume"].to_numpy().copy())[["volume", "high", "low"]]).equals(whole)


@pytest.mark.parametrize("broken, message", [
    (lambda b: b.iloc[[1, 0, *range(2, len(b))]], "repeated or earlier"), (lambda b: b.iloc[[0, 0, *range(1, len(b))]], "repeated or earlier"),
    (lambda b: b.iloc[::-1], "not by expiry|repeated or earlier"), (lambda b: b.iloc[[*range(10, len(b)), *range(10)]], "not together"),
    (lambda b: b.reset_index(), "the index is"), (lambda b: b.drop(columns="low"), "'low' is missing"),
    (lambda b: b.set_axis(b.index.set_levels(b.index.levels[1].tz_localize(None), level=1)), "not UTC"),
])
def test_disorder_is_refused(market, broken, message):
    with pytest.raises(fnb.DataError, match=message): fnb.session_profiles(broken(market))


def test_bars_at_the_limits_of_the_numbers():
    """The compiled division and the slow one: ranges up to a million ticks, volumes up to two billion contracts, many ticks, and prices between two
    levels, where multiplying by 1/tick would round some to the other one."""
    rng = np.random.default_rng(5)
    for tick in (0.25, 0.1, 0.01, 1 / 64, 0.00005):
        name = {0.25: "ESH25", 0.1: "GCG25", 0.01: "CLG25", 1 / 64: "ZNH25", 0.00005: "6EH25"}[tick]
        for _ in range(20):
            n = rng.integers(1, 40)
            lo = rng.integers(-1000, 10**6, n)
            hi = lo + np.minimum(rng.integers(0, 2**20, n), rng.choice([3, 300, 2**20 - 1])) if rng.random() < 0.5 else lo + rng.integers(0, 4, n)
            hi = np.minimum(hi, lo.min() + 2**20 - 1)
            hi, lo = np.maximum(hi, np.minimum(lo, hi)), np.minimum(lo, hi)
            volume = rng.choice([1.0, 0.3, 7e-6, 2.0**31 - 1, 12345.678], n)
            off = tick * rng.choice([0, 0.3, 0.5])
            bars = pd.DataFrame(dict(low=lo * tick + off, high=hi * tick + off, volume=volume), fnb.make_index(name, pd.date_range("2024-12-16 15:00", periods=n, freq="min", tz="UTC")))
            fixed, levels = to_fixed_point(bars, tick), np.zeros((1, 6), np.int64)
            profile_levels(*fixed, np.array([0]), np.array([n]), 0.70, levels)
            fast = fnb.session_profiles(bars)
            expected = levels[0, :3] * tick if levels[0, 3] > 0 else np.full(3, np.nan)
            np.testing.assert_allclose(fast[LEVELS].to_numpy()[0], expected, rtol=1e-12, atol=1e-9)
            assert fast["volume"].iloc[0] * ONE == levels[0, 3] or levels[0, 3] < 0
            if levels[0, 3] > 0: assert fnb.point_of_control(fnb.volume_profile(bars, tick)) == fast["poc"].iloc[0]


@pytest.mark.parametrize("options", [{}, {"allocation": "triangular", "shape": True}, {"method": "rank", "session": "rth"}, {"tz": "America/New_York", "start": "09:30", "end": "15:59"}])
def test_any_number_of_threads_gives_the_same_bits(options):
    """Sessions are shared out; more threads than sessions are no harm."""
    bars = fnb.synth_bars(n_contracts=3, n_days=5, overlap=1, minutes=30, seed=4)
    one = fnb.session_profiles(bars, n_jobs=1, **options)
    for n_jobs in (2, 3, 7, 100, None):
        other = fnb.session_profiles(bars, n_jobs=n_jobs, **options)
        pd.testing.assert_frame_equal(other, one, check_exact=True)
        assert other.attrs == one.attrs
    with pytest.raises(fnb.DataError, match="n_jobs is 0"): fnb.session_profiles(bars, n_jobs=0)
    assert len(fnb.session_profiles(bars.iloc[:0], n_jobs=2)) == 0
