"""Developing, rolling, composite profiles and untouched points of control against slow versions, on random and on real bars."""
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import futures_nb as fnb
from futures_nb.composite import naked_levels
from futures_nb.developing import developing_levels, put_bar, regrow_area
from futures_nb.series import continuous
from futures_nb.testing import same_bits
from futures_nb.vpoc import ALLOCATIONS, MAX_VOLUME, ONE, SHAPE_COLUMNS, grow_area, profile_shape_values, to_fixed_point

PRICES = ["poc", "value_area_low", "value_area_high"]
TICK = 0.25


def brute(bars, share=0.70, allocation="uniform"):
    """Point of control and value area [ticks] and the shape of some bars, in plain Python; None where there is no profile."""
    volume = {}
    for low, high, close, contracts in bars:
        if not (np.isfinite([low, high]).all() and 0 <= contracts < 2**31 and low <= high and abs(low) < 2**50 * TICK and abs(high) < 2**50 * TICK): return None
        lo, hi, units = round(low / TICK), round(high / TICK), round(contracts * ONE)
        if hi - lo >= 2**20: return None
        if allocation == "close": lo = hi = round(close / TICK)
        if not units: continue
        hi = min(hi, lo + units - 1)
        n = hi - lo + 1
        weights = [min(t + 1, n - t) for t in range(n)] if allocation == "triangular" else [0] * n
        slope = units // sum(weights) if sum(weights) else 0
        each, rest = divmod(units - slope * sum(weights), n)
        for t in range(n): volume[lo + t] = volume.get(lo + t, 0) + slope * weights[t] + each + (t < rest)
    if not volume: return None
    first, last = min(volume), max(volume)
    if last - first >= 2**20 or sum(volume.values()) >= ONE << 42: return None
    levels = [volume.get(t, 0) for t in range(first, last + 1)]
    poc = low = high = levels.index(max(levels))
    while sum(levels[low:high + 1]) < share * sum(levels) - 0.5:
        above, below = (levels[high + 1] if high + 1 < len(levels) else -1), (levels[low - 1] if low > 0 else -1)
        low, high = (low, high + 1) if above >= below else (low - 1, high)
    shape = np.empty(4)
    profile_shape_values(np.array(levels), -1, 0, len(levels) - 1, poc, sum(levels), shape)
    return [*((first + t) * TICK for t in (poc, low, high)), shape[0] / ONE, shape[0] / sum(levels), *shape[1:]]


def as_row(found): return np.full(3 + len(SHAPE_COLUMNS), np.nan) if found is None else np.array(found)


def tuples(bars): return list(bars[["low", "high", "close", "volume"]].itertuples(index=False, name=None))


def random_bars(rng, ts, contract="ESH25", n_prices=12):
    """Few prices, so that there are ties and gaps; minutes without volume and volumes of less than a contract."""
    n = len(ts)
    low, width = rng.integers(0, n_prices, n), rng.integers(0, 2, n) * rng.integers(0, 8, n)
    close, open_ = (low + rng.integers(0, width + 1) for _ in "co")
    ticks = dict(open=open_, high=low + width, low=low, close=close)
    return pd.DataFrame({c: 100 + TICK * x for c, x in ticks.items()} | {"volume": rng.choice([0, 0, 0.5, 1, 1, 2, 3, 3e-6, 700], n)}, fnb.make_index(contract, ts))


def minutes(n, start="2024-12-16 15:00"): return pd.date_range(start, periods=n, freq="min", tz="UTC")


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_thousands_of_random_sessions(allocation):
    """Every row of 1,500 sessions of 1 to 9 bars: the session so far, rebuilt in plain Python."""
    rng = np.random.default_rng(ALLOCATIONS.index(allocation))
    days = fnb.session_table("ES", "2018-01-01", "2024-12-31")["open"].iloc[:1500]
    bars = random_bars(rng, pd.DatetimeIndex(np.concatenate([(day + pd.to_timedelta(np.arange(1, 1 + rng.integers(1, 10)), "min")).to_numpy() for day in days]), tz="UTC"))
    got = fnb.developing_profile(bars, allocation=allocation, shape=True).to_numpy()
    date, rows = fnb.to_sessions(bars)["trade_date"].to_numpy(), tuples(bars)
    start = np.searchsorted(date, date)
    want = np.array([as_row(brute(rows[start[i]:i + 1], allocation=allocation)) for i in range(len(bars))])
    assert len(np.unique(date)) == 1500 and np.isnan(want[:, 0]).sum() > 100
    np.testing.assert_array_equal(got, want)


SPOILT = st.sampled_from([("low", np.nan), ("high", np.inf), ("volume", np.nan), ("volume", -1.0), ("volume", 1e15), ("low", -1e15), ("high", 1e300),
                          ("price", 1e9), ("price", 1e12), ("high", 0.0)])


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 40), window=st.integers(1, 15), allocation=st.sampled_from(ALLOCATIONS), share=st.sampled_from([0.7, 0.01, 1.0, 1 / 3]),
       spoilt=st.lists(st.tuples(st.integers(0, 39), SPOILT), max_size=4))
def test_a_window_is_its_rebuilt_profile_whatever_is_in_the_bars(seed, n, window, allocation, share, spoilt):
    bars = random_bars(np.random.default_rng(seed), minutes(n))
    for row, (column, value) in spoilt:
        if row < n: bars.iloc[row, [bars.columns.get_loc(c) for c in (("open", "high", "low", "close") if column == "price" else (column,))]] = value
    if allocation == "close": bars["close"] = bars["close"].clip(bars["low"], bars["high"])
    got, rows = fnb.developing_profile(bars, window=window, share=share, allocation=allocation, shape=True).to_numpy(), tuples(bars)
    for i in range(n):
        want = None if i < window - 1 else brute(rows[i - window + 1:i + 1], share, allocation)
        np.testing.assert_array_equal(got[i], as_row(want), err_msg=f"row {i}")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 60), cut=st.integers(1, 59), window=st.none() | st.integers(1, 20))
def test_cutting_the_future_changes_no_bit(seed, n, cut, window):
    bars = random_bars(np.random.default_rng(seed), minutes(n, "2024-12-16 21:40"))   # the session ends at 22:00, the next begins at 23:00
    for f in (partial(fnb.developing_profile, window=window, shape=True), lambda b: fnb.poc_migration(fnb.developing_profile(b, window=window)),
              lambda b: fnb.naked_poc(b, fnb.session_profiles(b))):
        assert same_bits(f(bars)[:cut], f(bars[:cut])).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), row=st.integers(0, 59), window=st.integers(1, 20), spoilt=SPOILT)
def test_an_absurd_bar_leaves_no_trace(seed, row, window, spoilt):
    bars = random_bars(np.random.default_rng(seed), minutes(80))
    absurd, (column, value) = bars.copy(), spoilt
    absurd.iloc[row, [bars.columns.get_loc(c) for c in (("high", "low") if column == "price" else (column,))]] = value
    before, after = (fnb.developing_profile(b, window=window, shape=True) for b in (bars, absurd))
    keep = np.r_[:row, row + window:80]
    assert same_bits(before.iloc[keep], after.iloc[keep]).all()


def test_a_window_of_more_contracts_than_integers_hold_has_no_profile():
    n, most = 2100, 2**31 - 1                                     # 2,049 such bars are more than MAX_VOLUME contracts
    bars = random_bars(np.random.default_rng(0), minutes(n)).assign(volume=float(most))
    bars.iloc[:10, bars.columns.get_loc("volume")] = 1.0
    got = fnb.developing_profile(bars, window=2055)
    n_large = np.minimum(np.arange(n) + 1, 2055) - np.maximum(10 - np.maximum(np.arange(n) - 2054, 0), 0)
    assert ((n_large * most >= MAX_VOLUME) == got.poc.isna()).iloc[2054:].all() and got.poc.notna().any()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), triangular=st.booleans())
def test_volume_is_conserved_through_adding_and_taking_away(seed, triangular):
    rng = np.random.default_rng(seed)
    lo, hi, units = to_fixed_point(random_bars(rng, minutes(50)).assign(volume=rng.integers(0, 2**31, 50)), TICK)
    profile, inside = np.zeros(hi.max() - lo.min() + 1, np.int64), set()
    for i in rng.permutation(np.repeat(np.arange(50), 2)):       # each bar twice, in any order: in, and out again
        put_bar(profile, lo[i] - lo.min(), hi[i] - lo.min(), units[i], -1 if i in inside else 1, triangular)
        inside ^= {i}
        assert profile.sum() == units[list(inside)].sum() and profile.min() >= 0
    assert not profile.any()
    levels = np.empty((50, 4), np.int64)
    developing_levels(lo, hi, units, np.maximum(np.arange(50) - 6, 0), 0.7, levels, triangular=triangular)
    total = np.array([units[max(i - 6, 0):i + 1].sum() for i in range(50)])
    assert (levels[:, 3] == total).all()


@settings(max_examples=200, deadline=None)
@given(volumes=st.lists(st.integers(0, 9), min_size=1, max_size=40), share=st.floats(0.01, 1), data=st.data())
def test_the_area_does_not_depend_on_where_the_search_begins(volumes, share, data):
    profile = np.array([7, 1, *volumes, 1, 7])               # first and last level traded, and something beyond them
    first, last = 1, len(profile) - 2
    poc = first + int(profile[first:last + 1].argmax())
    low, high = data.draw(st.integers(first, poc)), data.draw(st.integers(poc, last))
    target = share * profile[first:last + 1].sum() - 0.5
    assert regrow_area(profile, first, last, poc, low, high, target) == grow_area(profile, -1, first, last, poc, target)


@settings(max_examples=200, deadline=None)
@given(heaps=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=6), share=st.floats(0.01, 1), data=st.data())
def test_the_area_across_levels_alike(heaps, share, data):
    """Heaps with long stretches of one volume between them, none or some."""
    profile = np.array([7, *(v for heap, n, between in heaps for v in [heap] + [between] * n), 5, 7])
    first, last = 1, len(profile) - 2
    poc = first + int(profile[first:last + 1].argmax())
    low, high = data.draw(st.integers(first, poc)), data.draw(st.integers(poc, last))
    target = share * profile[first:last + 1].sum() - 0.5
    assert regrow_area(profile, first, last, poc, low, high, target) == grow_area(profile, -1, first, last, poc, target)


@pytest.mark.parametrize("window", [None, 2, 5, 20])
def test_two_prices_a_hundredfold_apart_do_not_take_minutes(window):
    """300 bars at two prices with 792,000 empty levels between them: a row is a few walks over the levels, not a walk for each of them."""
    bars = fnb.synth_bars(n_contracts=1, n_days=1, overlap=0).iloc[:300]
    price = np.where(np.arange(300) % 2 == 0, 2_000.0, 200_000.0)
    bars = bars.assign(**dict.fromkeys(["open", "high", "low", "close"], price), volume=np.random.default_rng(0).integers(1, 100, 300) + 0.0)
    fnb.developing_profile(bars.iloc[:30], window=window)                 # compiled
    start = time.perf_counter()
    got = fnb.developing_profile(bars, window=window)
    assert time.perf_counter() - start < 20
    for i in range((window or 1) - 1, 300):
        part = bars.iloc[0 if window is None else i - window + 1:i + 1]
        total = part.groupby("close")["volume"].sum()
        poc, share = total.idxmax(), total.max() / total.sum()            # of equal ones the lower
        ends = [poc, poc] if share >= 0.70 else [2_000.0, 200_000.0]
        assert got[PRICES].iloc[i].tolist() == [poc, *ends]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n_levels=st.integers(0, 12), keep=st.none() | st.integers(1, 4))
def test_untouched_levels(seed, n_levels, keep):
    rng = np.random.default_rng(seed)
    bars = random_bars(rng, minutes(40), n_prices=30)
    lo, hi, units = to_fixed_point(bars, TICK)
    ts, known, level = np.arange(40), np.sort(rng.integers(-3, 45, n_levels)), 400 + rng.integers(0, 40, n_levels)
    out = np.empty((40, 3), np.int64)
    naked_levels(lo, hi, units > 0, ts, level, known, keep or n_levels + 1, out)
    none = np.iinfo(np.int64).min // 2
    for i in range(40):
        traded = [k for k in range(i + 1) if units[k] > 0]
        if not traded:
            assert (out[i] == none).all()
            continue
        here = [k for k in range(n_levels) if known[k] <= ts[i]]
        left = [level[k] for k in here[-keep if keep else 0:] if not any(ts[j] > known[k] and lo[j] <= level[k] <= hi[j] for j in traded)]
        at = traded[-1]
        assert out[i].tolist() == [min((x for x in left if x > hi[at]), default=none), max((x for x in left if x < lo[at]), default=none), len(left)]


def test_untouched_at_each_bar_and_by_session(es_file):
    """A session's point of control that is touched late is among the untouched ones of every bar until then."""
    bars = fnb.read_bars(es_file)
    by_session, per_bar = fnb.untouched_pocs(bars, fnb.session_profiles(bars)), fnb.naked_poc(bars, fnb.session_profiles(bars))
    ts = bars.index.get_level_values("ts")
    after = by_session["touched_at"].isna().to_numpy()
    for i in np.random.default_rng(0).choice(np.flatnonzero(per_bar["n_naked"].notna()), 60, replace=False):
        left = by_session[np.asarray(by_session["ts"] <= ts[i]) & (after | np.asarray(by_session["touched_at"] > ts[i]))]["poc"]
        assert per_bar["n_naked"].iloc[i] == len(left)
        assert per_bar["naked_above"].iloc[i] == left[left > bars["high"].iloc[i]].min() or left[left > bars["high"].iloc[i]].empty
        assert per_bar["naked_below"].iloc[i] == left[left < bars["low"].iloc[i]].max() or left[left < bars["low"].iloc[i]].empty


def test_composites_pass_over_nothing():
    """A session without volume counts as one; one with a bar no market made spoils the composites it is in and no other."""
    days = fnb.session_table("ES", "2024-03-01", "2024-06-01")["open"].iloc[:30]
    ts = pd.DatetimeIndex(np.concatenate([(day + pd.to_timedelta(np.arange(1, 8), "min")).to_numpy() for day in days]), tz="UTC")
    bars = random_bars(np.random.default_rng(1), ts, "ESM24")
    date = fnb.to_sessions(bars)["trade_date"].to_numpy()
    all_days = np.unique(date)
    bars.loc[date == all_days[5], "volume"] = 0.0
    bars.iloc[np.flatnonzero(date == all_days[12])[3], bars.columns.get_loc("high")] = np.nan
    for n in (1, 3, 5):
        got, rows = fnb.composite_profile(bars, n, shape=True), tuples(bars)
        assert list(got.index.get_level_values("trade_date")) == list(all_days)
        for k, day in enumerate(all_days):
            inside = np.flatnonzero(np.isin(date, all_days[max(k - n + 1, 0):k + 1]))
            want = as_row(None if k < n - 1 else brute([rows[i] for i in inside]))
            np.testing.assert_array_equal(got.loc[("ESM24", day)].drop(["volume", "ts"]).to_numpy(dtype=float), want)
            if not np.isnan(want[0]): assert got.loc[("ESM24", day), "volume"] == pytest.approx(bars["volume"].iloc[inside].sum(), abs=1e-5)
        assert got.poc.isna().sum() == n - 1 + n + (n == 1)


@pytest.fixture(scope="module")
def synth(): return fnb.synth_bars(n_contracts=7, n_days=4, overlap=2, seed=3)


def of_contracts(names, bars, window): return fnb.developing_profile(bars.loc[names], window=window, shape=True)


@pytest.mark.parametrize("n_workers", [1, 2, 7])
@pytest.mark.parametrize("window", [None, 700])
def test_splitting_by_contract_changes_no_bit(synth, n_workers, window):
    shares = [[str(name) for name in part] for part in np.array_split(synth.index.get_level_values("contract").unique(), n_workers)]
    with ThreadPoolExecutor(n_workers) as pool:
        parts = list(pool.map(partial(of_contracts, bars=synth, window=window), shares))
    split = pd.concat(parts).reindex(synth.index)
    assert same_bits(split, fnb.developing_profile(synth, window=window, shape=True)).all()


def test_another_process_gives_the_same_bits(synth):
    names = ["ESH22", "ESM22"]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool: there = pool.submit(of_contracts, names, synth.loc[names], 700).result()
    assert same_bits(there, of_contracts(names, synth, 700)).all()


def agrees_with_the_slow_version(bars, rng, n, window):
    """`n` random rows: the session so far and a window, rebuilt."""
    so_far, rolling = fnb.developing_profile(bars, shape=True), fnb.developing_profile(bars, window=window, shape=True)
    date, closed = fnb.to_sessions(bars)["trade_date"].to_numpy(), fnb.off_session(bars)
    tick = fnb.instrument(bars.index[0][0]).tick
    names = bars.index.codes[0]
    for i in rng.choice(np.flatnonzero(~closed & (bars.groupby("contract", sort=False).cumcount().to_numpy() >= window)), n, replace=False):
        today = bars[max(0, i - 1500):i + 1][((date == date[i]) & ~closed & (names == names[i]))[max(0, i - 1500):i + 1]]
        for got, part in ((so_far, today), (rolling, bars[i - window + 1:i + 1])):
            profile = fnb.volume_profile(part, tick)
            want = [fnb.point_of_control(profile), *fnb.value_area(profile)]
            np.testing.assert_array_equal(got[PRICES].iloc[i], want, err_msg=str(bars.index[i]))
            assert got["volume_at_poc"].iloc[i] == profile.max()


def test_real_contract_against_the_slow_version(es_file):
    agrees_with_the_slow_version(fnb.read_bars(es_file), np.random.default_rng(0), 40, 1380)


@pytest.fixture(scope="module")
def gold(data_dir):
    bars = fnb.read_bars(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start")
    ts = bars.index.get_level_values("ts")
    return bars[(ts > "2021-09-01") & (ts < "2022-06-01") & (bars.groupby("contract")["volume"].transform("size") > 5000)]


def test_real_gold_contracts_against_the_slow_version(gold):
    assert gold.index.get_level_values("contract").nunique() >= 5
    agrees_with_the_slow_version(gold, np.random.default_rng(1), 40, 1380)


def test_last_developing_values_of_gold_are_its_sessions(gold):
    profiles = fnb.session_profiles(gold, shape=True)
    developing = fnb.developing_profile(gold, shape=True)
    inside = ~fnb.off_session(gold)
    last = developing[inside].assign(trade_date=fnb.to_sessions(gold).trade_date[inside]).groupby(["contract", "trade_date"], sort=False).tail(1)
    last = last.set_index("trade_date", append=True).droplevel("ts")
    assert same_bits(last, profiles[last.columns.drop("trade_date", errors="ignore")].reindex(last.index)).all() and len(last) == len(profiles)
    one = fnb.composite_profile(gold, 1, shape=True)
    assert same_bits(one[last.columns], profiles[last.columns]).all()


def test_real_rolls_of_gold(gold):
    """Rolling values across real rolls are those of the mapped bars, rebuilt, and those of the joined series less its adjustment."""
    schedule = fnb.roll_schedule(gold)
    front = gold[fnb.front_rows(gold, schedule)]
    got = fnb.developing_profile(gold, window=5000, schedule=schedule).loc[front.index]
    joined = continuous(gold, schedule, adjust="difference")
    developed = fnb.developing_profile(joined, window=5000)
    np.testing.assert_allclose(developed.sub(joined["adjustment"], axis=0), got, rtol=0, atol=1e-9)
    names, shift = front.index.get_level_values("contract"), joined["adjustment"].to_numpy()
    assert len(schedule) >= 4
    for new in schedule["contract"].iloc[1:]:
        i = int(np.flatnonzero(names == new)[0]) + 1000
        if i < 5000: continue
        part, away = front[i - 4999:i + 1].reset_index(drop=True), np.round(shift[i - 4999:i + 1] - shift[i], 1)
        profile = fnb.volume_profile(part.assign(low=part.low + away, high=part.high + away), 0.1)
        np.testing.assert_array_equal(got.iloc[i], [fnb.point_of_control(profile), *fnb.value_area(profile)])
