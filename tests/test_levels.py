"""The streaming profile features: against the frames they must equal, in any chunks, from any start, and after absurd bars."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.levels import (KEEP, LEVEL_FEATURES, MAX_LEVELS, SLOT, LevelsState, add_bar, bar_levels, begin_session, count_humps, levels_run, levels_state,
                               profile_skew)
from futures_nb.testing import same_bits
from futures_nb.vpoc import count_modes, to_fixed_point

NAMES, BACK = [said["name"] for said in LEVEL_FEATURES], np.array([said["lookback"] for said in LEVEL_FEATURES])
AREAS = ["poc", "value_area_low", "value_area_high"]


def session_vol(close, new, tick):
    """A causal volatility: of the five sessions before, at least one tick."""
    squared, of = np.append(0.0, np.diff(np.log(close))) ** 2, np.cumsum(new) - 1
    total = np.bincount(of, np.nan_to_num(squared))
    past = np.array([np.sqrt(total[k - 5:k].mean()) if k >= 5 else np.nan for k in range(len(total))])
    return np.maximum(past[of], tick / np.abs(close))


def arrays(bars, tick=0.25):
    """What `levels_run` takes, of the bars of one contract inside sessions."""
    date = fnb.to_sessions(bars)["trade_date"].to_numpy()
    new = np.append(True, date[1:] != date[:-1])
    columns = [np.array(bars[c], dtype=float) for c in ("open", "high", "low", "close", "volume")]
    return *columns, new, session_vol(columns[3], new, tick)


def run_chunks(given, edges, state=None, tick=0.25):
    state = levels_state(tick) if state is None else state
    out = np.full((len(given[0]), len(NAMES)), np.nan)
    for a, b in zip(edges, edges[1:]): levels_run(state, *[x[a:b] for x in given], out[a:b])
    return out


def run_all(given, tick=0.25): return pd.DataFrame(run_chunks(given, [0, len(given[0])], tick=tick), columns=NAMES)


def nasty_bars(seed=0, n_days=30, minutes=30):
    """Few prices, so that there are ties; minutes without volume or of less than a contract, wide bars, a session without a trade."""
    bars, rng = fnb.synth_bars(n_contracts=1, n_days=n_days, minutes=minutes, seed=seed, missing=0.05), np.random.default_rng(seed)
    n = len(bars)
    step = np.cumsum(rng.integers(-3, 4, n)) + 16_000
    low = 0.25 * (step - rng.integers(0, 3, n) * rng.integers(0, 25, n))
    high = 0.25 * (step + rng.integers(0, 3, n) * rng.integers(0, 25, n))
    day = fnb.to_sessions(bars)["trade_date"].factorize()[0]
    volume = np.where(day == 9, 0.0, rng.choice([0, 0, 0.5, 1, 1, 2, 30, 3e-6], n))
    return bars.assign(open=0.25 * step, high=high, low=low, close=0.25 * step, volume=volume)


@pytest.fixture(scope="module")
def synth():
    return fnb.synth_bars(n_contracts=1, n_days=46, seed=3, missing=0.01)


@pytest.fixture(scope="module")
def given(synth): return arrays(synth)


@pytest.fixture(scope="module")
def whole(given): return run_chunks(given, [0, len(given[0])])


def ago(frame, bars, tick, k=1):
    """Levels [ticks] of the session `k` before each bar's."""
    return np.rint(frame[AREAS].shift(k).droplevel("contract").loc[fnb.to_sessions(bars)["trade_date"]].to_numpy().T / tick)


def check_against_frames(bars, tick=0.25):
    given = arrays(bars, tick)
    found, vol, close = run_all(given, tick), given[-1], given[3]
    x, one = np.rint(close / tick), tick / np.maximum(np.abs(close), tick)
    today, profiles = fnb.developing_profile(bars, shape=True), fnb.session_profiles(bars)
    poc, low, high = np.rint(today[AREAS].to_numpy().T / tick)
    before, earlier = ago(profiles, bars, tick), ago(profiles, bars, tick, 2)
    week, month = (ago(fnb.composite_profile(bars, n), bars, tick) for n in (5, 20))
    ticks = dict(poc_distance=x - poc, value_area_high_distance=x - high, value_area_low_distance=x - low, previous_poc_distance=x - before[0],
                 previous_high_distance=x - before[2], previous_low_distance=x - before[1], poc_migration=before[0] - earlier[0],
                 poc_migration_today=poc - before[0], composite_5_poc_distance=x - week[0], composite_5_high_distance=x - week[2],
                 composite_5_low_distance=x - week[1], composite_20_poc_distance=x - month[0], composite_20_high_distance=x - month[2], composite_20_low_distance=x - month[1])
    for name, value in ticks.items(): np.testing.assert_allclose(found[name], np.arcsinh(value * one / vol), rtol=1e-14, atol=1e-16, err_msg=name)
    inside = dict(inside_developing_area=(poc, low, high), inside_value_area=before, inside_composite_5=week, inside_composite_20=month)
    for name, (_, a, b) in inside.items(): assert same_bits(found[name], np.where(np.isnan(a), np.nan, (a <= x) & (x <= b))).all(), name
    widths = dict(value_area_width=(poc, low, high), previous_width=before, composite_5_width=week, composite_20_width=month)
    for name, (_, a, b) in widths.items(): np.testing.assert_allclose(found[name], np.log(np.maximum(b - a, 1) * one / vol), rtol=0, atol=1e-14, err_msg=name)
    first = np.maximum.accumulate(np.where(given[5], np.arange(len(x)), 0))
    opened = np.rint(given[0][first] / tick)
    np.testing.assert_allclose(found.open_distance, np.arcsinh((opened - before[0]) * one / vol), rtol=1e-14, atol=1e-16)
    both = np.maximum(np.minimum(high, before[2]) - np.maximum(low, before[1]) + 1, 0)
    assert same_bits(found.value_area_overlap, both / (np.maximum(high, before[2]) - np.minimum(low, before[1]) + 1)).all()
    check_untouched(bars, found, profiles, x, one, vol, tick)
    check_shape(found, today)
    if bars["volume"].min() < 1: return found, given      # a bar of fewer units than levels does not reach its high
    day = fnb.to_sessions(bars)["trade_date"].to_numpy()
    top, bottom = bars["high"].groupby(day).cummax().to_numpy(), bars["low"].groupby(day).cummin().to_numpy()
    np.testing.assert_allclose(np.exp(found.poc_share), today["share_at_poc"] * (np.rint((top - bottom) / tick) + 1), rtol=6e-6)
    return found, given


def check_untouched(bars, found, profiles, x, one, vol, tick):
    naked = fnb.naked_poc(bars, profiles.assign(ts=profiles.ts + pd.Timedelta("1us")), n_sessions=20).reset_index(drop=True)
    known = (np.cumsum(arrays(bars, tick)[5]) > KEEP)
    assert same_bits(found.n_untouched, np.where(known, naked.n_naked, np.nan)).all()
    over, under = (np.where(np.isnan(way), np.inf, np.maximum(np.rint(way), 0.0)) * one / vol for way in (naked.naked_above / tick - x, x - naked.naked_below / tick))
    nearest = np.where(np.isinf(over) & np.isinf(under), 0.0, np.where(over <= under, over, -under))
    np.testing.assert_allclose(found.untouched_nearest, np.where(known, np.arcsinh(nearest), np.nan), rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(found.untouched_pull, np.where(known, 1 / (1 + over) - 1 / (1 + under), np.nan), rtol=1e-12, atol=1e-15)


def check_shape(found, today):
    want = today["skew"].to_numpy()
    np.testing.assert_allclose(found.profile_skew, np.sign(want) * np.log1p(np.abs(want)), rtol=0, atol=5.1e-6)
    np.testing.assert_allclose(found.profile_entropy, today["entropy"], rtol=0, atol=5.1e-6)
    np.testing.assert_array_equal(found.profile_modes, today["n_modes"])


def test_the_real_contract_has_the_values_of_the_frames(es_file):
    bars = fnb.read_bars(es_file)
    bars = bars[~fnb.off_session(bars.index)]
    found, given = check_against_frames(bars)
    check_ranges(found, np.cumsum(given[5]) - 1)


def test_simulated_bars_have_the_values_of_the_frames(synth):
    found, given = check_against_frames(synth)
    check_ranges(found, np.cumsum(given[5]) - 1)


@pytest.mark.parametrize("seed", range(4))
def test_nasty_bars_have_the_values_of_the_frames(seed): check_against_frames(nasty_bars(seed))


def test_a_market_of_another_tick():
    gold = fnb.synth_bars(n_contracts=1, n_days=24, minutes=5, seed=5, symbol="GC", level=1800.0)
    check_against_frames(gold, 0.1)


def check_ranges(found, of):
    """After 21 sessions at least 90 % of the values are finite; all are in their range; none is a constant or the residue of a rounding."""
    late = found[of >= 21]
    assert len(late) > 20_000
    for said in LEVEL_FEATURES:
        values, (least, most) = late[said["name"]].dropna(), said["range"]
        assert len(values) >= 0.9 * len(late), said["name"]
        assert values.min() >= least and values.max() <= most, said["name"]
        if said["unit"] == "0/1": assert set(values) <= {0.0, 1.0}
        assert values.std() > 0.02, said["name"]


def by_level(part):
    """Units by tick of some bars, in Python integers."""
    units = {}
    for lo, hi, whole in zip(*to_fixed_point(part, 0.25)):
        if whole <= 0: continue
        each, rest = divmod(int(whole), int(hi - lo + 1))
        for t in range(lo, hi + 1): units[t] = units.get(t, 0) + each + (t - lo < rest)
    return units


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_volume_by_counting_them(seed):
    bars = nasty_bars(seed, n_days=8)
    found, date, rng = run_all(arrays(bars)), fnb.to_sessions(bars)["trade_date"].to_numpy(), np.random.default_rng(seed)
    for i in rng.integers(0, len(bars), 60):
        units = by_level(bars[:i + 1][date[:i + 1] == date[i]])
        if not units:
            assert np.isnan(found.volume_at_close[i]) and np.isnan(found.profile_balance[i])
            continue
        x, total, poc = round(bars.close.iloc[i] / 0.25), sum(units.values()), min(units, key=lambda t: (-units[t], t))
        below = sum(v for t, v in units.items() if t < x) + units.get(x, 0) / 2
        balance = sum(v for t, v in units.items() if t > poc) - sum(v for t, v in units.items() if t < poc)
        np.testing.assert_allclose(found.loc[i, ["volume_below_close", "volume_at_close", "profile_balance"]], [below / total, units.get(x, 0) / units[poc], balance / total], rtol=1e-12, atol=5.1e-6)


def test_one_bar_has_the_integers_of_a_frame():
    rng = np.random.default_rng(0)
    low = np.where(rng.random(3000) < 0.5, rng.normal(0, 4000, 3000), 0.25 * rng.integers(-40, 20_000, 3000))
    odd = pd.DataFrame(dict(low=low, high=low + rng.choice([0, 0.25, 0.5, 0.125, 7, -1, np.inf, 262143.75, 262144], 3000), volume=rng.choice([0, 1, 4e-7, 2e-6, 9e-6, 3.3, 2e9, 2.0**31], 3000)))
    for tick in (0.25, 0.01, 1 / 64, 0.0000005):
        lo, hi, units = to_fixed_point(odd, tick)
        ours = np.array([bar_levels(*bar, tick) for bar in odd.to_numpy()])
        ok = units >= 0
        assert (ours[:, 2] == units).all() and 0.01 < ok.mean() < 1
        assert (ours[ok, 0] == lo[ok]).all() and (ours[ok, 1] == hi[ok]).all()
        assert (ours[ok, 3] == np.rint(odd["high"].to_numpy()[ok] / tick)).all()


@pytest.mark.parametrize("seed", range(3))
def test_any_chunks_give_the_same_bits(given, whole, seed):
    n, rng = len(given[0]), np.random.default_rng(seed)
    edges = np.arange(n + 1) if seed == 0 else np.unique(np.append(rng.integers(0, n, [0, 30, 3000][seed]), [0, n]))
    assert same_bits(run_chunks(given, edges), whole).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("is_known", [True, False])
def test_a_stream_that_begins_later_agrees(given, whole, seed, is_known):
    """Whether the caller says that its first bar begins a session, as the catalogue does, or that it does not."""
    n, rng = len(given[0]), np.random.default_rng(seed)
    a = int(np.flatnonzero(given[5])[rng.integers(1, 8)]) if seed == 0 else int(rng.integers(1, n - 29_000))
    later = [x[a:].copy() for x in given]
    if not is_known: later[5][0] = True
    out = run_chunks(later, [0, n - a])
    for k in range(len(NAMES)): assert same_bits(out[BACK[k] - 1:, k], whole[a + BACK[k] - 1:, k]).all(), NAMES[k]


@pytest.mark.parametrize("seed", range(3))
def test_nasty_streams_forget_sessions(seed):
    """By sessions, of bars with ties, without volume, and with a session without a trade; in chunks."""
    given, rng = arrays(nasty_bars(seed, n_days=48)), np.random.default_rng(seed)
    n, of, whole = len(given[0]), np.cumsum(given[5]) - 1, run_chunks(given, [0, len(given[0])])
    for a in rng.integers(1, n // 2, 12):
        out = run_chunks([x[a:] for x in given], np.unique(np.append(rng.integers(0, n - a, 20), [0, n - a])))
        late = of[a:] > of[a] + KEEP
        assert late.sum() > 20 and same_bits(out[late], whole[a:][late]).all()


ABSURD = [("low", np.nan), ("high", np.nan), ("volume", np.nan), ("low", -1e30), ("high", 1e30), ("high", 1.0), ("volume", 1e30), ("volume", -1.0), ("close", np.nan), ("close", 1e30),
          ("open", 1e30), ("open", np.nan), ("high", 13_000.0), ("high", 9_000.0), ("volume", 2e9)]


@pytest.mark.parametrize("column, value", ABSURD)
def test_an_absurd_bar_is_forgotten(given, whole, column, value):
    order, of = ["open", "high", "low", "close", "volume"], np.cumsum(given[5]) - 1
    for at in (6 * 1370, int(np.flatnonzero(given[5])[7])):
        changed = [x.copy() for x in given]
        changed[order.index(column)][at] = value
        out, k = run_chunks(changed, [0, len(of)]), of[at]
        assert same_bits(out[:at], whole[:at]).all()
        for j in range(len(NAMES)):
            bars_after = np.arange(len(of)) >= at + BACK[j]
            assert same_bits(out[bars_after, j], whole[bars_after, j]).all(), NAMES[j]
        assert same_bits(out[of > k + KEEP], whole[of > k + KEEP]).all()
        if column == "open" or column == "close": assert same_bits(out[of > k], whole[of > k]).all()


def test_what_a_bar_no_market_made_leaves_missing(given, whole):
    of, changed = np.cumsum(given[5]) - 1, [x.copy() for x in given]
    changed[1][6 * 1370], k = np.nan, of[6 * 1370]
    out = pd.DataFrame(run_chunks(changed, [0, len(of)]), columns=NAMES)
    today = ["poc_distance", "value_area_width", "inside_developing_area", "value_area_overlap", "poc_migration_today", *NAMES[27:]]
    row = np.arange(len(of))
    assert out.loc[(of == k) & (row >= 6 * 1370), today].isna().all(axis=None)
    assert out.loc[(of == k) & (row < 6 * 1370), today].notna().all(axis=None)
    assert out.loc[of == k + 1, ["previous_poc_distance", "previous_width", "inside_value_area", "open_distance", "poc_migration"]].isna().all(axis=None)
    assert out.loc[of == k + 2, "poc_migration"].isna().all() and out.loc[of == k + 2, "previous_width"].notna().all()
    assert out.loc[(of > k) & (of <= k + 5), "composite_5_width"].isna().all() and out.loc[of == k + 6, "composite_5_width"].notna().all()
    assert out.loc[(of >= KEEP) & (of <= k + KEEP), "inside_composite_20"].isna().all() and out.loc[of == k + KEEP + 1, "inside_composite_20"].notna().all()
    assert out.loc[of >= KEEP, ["untouched_nearest", "untouched_pull", "n_untouched"]].notna().all(axis=None)


def test_too_many_levels_contracts_and_bars_are_no_profile(given):
    """Each has no profile for its session; more bars than minutes of a day have one, but no composite."""
    of = np.cumsum(given[5]) - 1
    at = np.flatnonzero(of == 8)
    wide, much = [x.copy() for x in given], [np.concatenate([x[:at[0]], np.repeat(x[at[0]], 2100), x[at[1]:]]) for x in given]
    wide[1][at[10]] += 0.25 * MAX_LEVELS
    much[5][at[0] + 1:at[0] + 2100], much[4][at[0]:at[0] + 2100] = False, 2.0**31 - 1      # more than MAX_VOLUME, and no integer overflows
    for changed in (wide, much):
        found, day = run_all(changed), np.cumsum(changed[5]) - 1
        assert found.poc_share[day == 8].notna().any() and found.poc_share[day == 8].isna().any()
        assert found.previous_width[day == 9].isna().all() and found.previous_width[day == 10].notna().all() and found.n_untouched[day == KEEP].notna().all()
    many = [np.concatenate([x[:at[0]], np.repeat(x[at], 2), x[at[-1] + 1:]]) for x in given]
    many[5][at[0] + 1:at[0] + 2 * len(at)] = False
    found, day = run_all(many), np.cumsum(many[5]) - 1
    assert (day == 8).sum() > SLOT and found.previous_width[day == 9].notna().all() and found.poc_share[day == 8].notna().all()
    assert found.composite_5_width[(day >= 9) & (day <= 13)].isna().all() and found.composite_5_width[day == 14].notna().all()


def test_a_state_goes_on_from_its_saved_arrays(given, whole, tmp_path):
    n, out = len(given[0]), np.empty_like(whole)
    state = levels_state(0.25)
    levels_run(state, *[x[:30_000] for x in given], out[:30_000])
    np.savez(tmp_path / "state.npz", **state._asdict())
    with np.load(tmp_path / "state.npz") as saved: again = LevelsState(**saved)
    levels_run(again, *[x[30_000:] for x in given], out[30_000:])
    assert same_bits(out, whole).all()
    assert sum(x.nbytes for x in state) < 3e6 and {x.dtype for x in state} == {np.dtype(float), np.dtype(np.int64)}
    assert n == len(out)


@pytest.mark.parametrize("seed", range(3))
def test_humps_of_a_smoothed_profile(seed):
    """The walk over a smoothed profile finds the modes that are counted from the plain one."""
    rng = np.random.default_rng(seed)
    for _ in range(200):
        profile = rng.integers(0, 5, rng.integers(1, 90)) * rng.integers(0, 2)
        profile[0] = profile[-1] = 1
        half = len(profile) // 20
        smooth = np.convolve(profile, np.ones(2 * half + 1, np.int64))[half:len(profile) + half]
        assert count_humps(smooth, (smooth.max() + 3) // 4) == count_modes(profile, -1, 0, len(profile) - 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_smoothed_profile_is_exact(seed):
    """To the unit, as the session grows wider by one bar after another; and its highest value."""
    rng, state = np.random.default_rng(seed), levels_state(0.25)
    begin_session(state, 4000.0)
    for _ in range(300):
        lo = int(16_000 + 40 * rng.standard_normal())
        add_bar(state, lo, lo + int(rng.integers(0, 12)), int(rng.integers(20, 10**6)))
        profile, smooth = (x[np.flatnonzero(state.profile[0])[0]:np.flatnonzero(state.profile[0])[-1] + 1] for x in state.profile)
        half = len(profile) // 20
        want = np.convolve(profile, np.ones(2 * half + 1, np.int64))[half:len(profile) + half]
        assert (smooth == want).all() and want.max() in state.counts


@pytest.mark.parametrize("way", [1, -1])
def test_a_session_as_wide_as_may_be(way):
    """To either side of where it began; one level more is no profile."""
    state = levels_state(0.25)
    begin_session(state, 4000.0)
    for far in (0, 5000, MAX_LEVELS - 10, MAX_LEVELS - 1): add_bar(state, 16_000 + way * far, 16_000 + way * far, 1000)
    at = np.flatnonzero(state.profile[0])
    assert at[-1] - at[0] == MAX_LEVELS - 1
    half = MAX_LEVELS // 20
    want = np.convolve(state.profile[0, at[0]:at[-1] + 1], np.ones(2 * half + 1, np.int64))
    assert (state.profile[1, at[0] - half:at[-1] + half + 1] == want).all() and state.profile[1].sum() == want.sum()
    before = state.counts.copy()
    add_bar(state, 16_000 + way * MAX_LEVELS, 16_000 + way * MAX_LEVELS, 1000)
    assert (state.counts != before).sum() == 1 and len(np.flatnonzero(state.profile[0])) == 4    # it is marked, and nothing was added
    begin_session(state, 4000.0)
    assert not state.profile.any() and not state.logs.any() and state.sessions[0, 3] == -1


def test_skew_of_one_level_is_zero():
    """However many bars trade at one price; and of two equal heaps."""
    state = levels_state(0.1)
    begin_session(state, 1234.7)
    for _ in range(1000): add_bar(state, 12347, 12347, 7_654_321_987)
    assert profile_skew(state.numbers, float(state.counts[5])) == 0.0
    for _ in range(1000): add_bar(state, 12390, 12390, 7_654_321_987)
    assert abs(profile_skew(state.numbers, float(state.counts[5]))) < 1e-12


def test_a_session_of_one_bar_has_a_flat_profile():
    """What is left over when its volume is spread, a unit at some levels, is no shape."""
    n, rng = 40, np.random.default_rng(0)
    low = 0.25 * rng.integers(16_000, 16_100, n)
    width = rng.integers(1, 300, n)
    out, new = np.empty((n, len(NAMES))), np.ones(n, bool)
    levels_run(levels_state(0.25), low, low + 0.25 * width, low, low, rng.integers(1000, 10**6, n) + 0.0, new, np.full(n, 0.01), out)
    found = pd.DataFrame(out, columns=NAMES)
    assert (found[["profile_skew", "poc_share"]] == 0).all(axis=None)
    assert (found[["profile_entropy", "profile_modes", "volume_at_close"]] == 1).all(axis=None)
    np.testing.assert_allclose(found.profile_balance, width / (width + 1), rtol=0, atol=5.1e-6)    # of levels alike the lowest is the point of control


def test_far_shapes_are_in_their_range():
    """One contract far below 2,000 million; and a hump at every other level."""
    state, said, row = levels_state(0.25), {x["name"]: x["range"] for x in LEVEL_FEATURES}, np.empty((2, len(NAMES)))
    low, volume = np.array([4000.0, 5000.0]), np.array([1.0, 2.0**31 - 1])
    levels_run(state, low, low, low, low, volume, np.array([True, False]), np.full(2, 0.01), row)
    skew = row[1, NAMES.index("profile_skew")]
    np.testing.assert_allclose(skew, -np.log(np.sqrt(2.0**31)), rtol=1e-3)
    assert said["profile_skew"][0] <= skew
    n = 40
    low = 4000 + 0.5 * np.arange(n)                          # every other level
    row = np.empty((n, len(NAMES)))
    levels_run(levels_state(0.25), low, low, low, low, np.full(n, 100.0), np.arange(n) == 0, np.full(n, 0.01), row)
    assert row[-1, NAMES.index("profile_modes")] == 37 <= said["profile_modes"][1]      # those at the ends are one with their neighbours


def test_humps_have_no_more_room():
    """Climbing towards as many humps as possible, at widths that begin or end a window."""
    rng, worst = np.random.default_rng(0), 0
    for width in (19, 39, 59, 79, 80, 99, 119, 139, 199):
        half, best, profile = width // 20, 0, rng.integers(0, 3, width)
        for _ in range(4000):
            tried = profile.copy()
            tried[rng.integers(0, width, rng.integers(1, 4))] = rng.integers(0, 5)
            tried[0], tried[-1] = max(tried[0], 1), max(tried[-1], 1)
            smooth = np.convolve(tried, np.ones(2 * half + 1, np.int64))[half:width + half]
            n = count_humps(smooth, (smooth.max() + 3) // 4)
            if n >= best: best, profile = n, tried
        worst = max(worst, best)
    assert 10 <= worst <= {x["name"]: x["range"] for x in LEVEL_FEATURES}["profile_modes"][1]


def test_untouched_needs_a_close_and_a_volatility(given, whole):
    """NaN without one of them; finite at every other bar from twenty sessions on, and 0 where there is nothing to be touched."""
    names = ["untouched_nearest", "untouched_pull", "n_untouched"]
    at, of = 25 * 1370, np.cumsum(given[5]) - 1
    for column in (3, 6):
        changed = [x.copy() for x in given]
        changed[column][at] = np.nan
        out = pd.DataFrame(run_chunks(changed, [0, len(of)]), columns=NAMES)
        assert out.loc[at, names].isna().all() and out.loc[(of >= KEEP) & (np.arange(len(of)) != at), names].notna().all(axis=None)
    price = 4000 + np.zeros(30 * 4)
    still = [price, price, price, price, np.ones(120), np.arange(120) % 4 == 0, np.full(120, 0.01)]
    found = run_all(still)
    assert (found.loc[4 * KEEP:, names] == 0).all(axis=None) and found.loc[:4 * KEEP - 1, names].isna().all(axis=None)


def test_a_tick_of_zero_is_refused():
    for tick in (0.0, -0.25, np.nan, np.inf):
        with pytest.raises(fnb.DataError, match="tick is"): levels_state(tick)
