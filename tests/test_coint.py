"""Cointegration against statsmodels and arch, on simulated truth and on real markets."""
import numpy as np
import pandas as pd
import pytest
from arch.unitroot.cointegration import engle_granger
from statsmodels.tsa.stattools import coint
from statsmodels.tsa.vector_ar.vecm import coint_johansen

import futures_nb as fnb
from futures_nb.coint import (COINT_FEATURES, EIG_1, EIG_2, HEDGE, N_FIT, PHI, STAT, STAT_1, VOL, coint_run, coint_state, count_tests, fit_pair, half_life_of,
                              mackinnon_p, trace_p)
from futures_nb.schema import make_index
from futures_nb.testing import assert_causal, same_bits

ORDERS = {"n": -1, "c": 0, "ct": 1, "ctt": 2}


def walk_and_spread(n, seed, hedge=1.5, phi=0.9):
    """A walk, and `hedge` times it plus an AR(1); `phi` 1 makes two walks."""
    rng = np.random.default_rng(seed)
    x, e = 100 + rng.standard_normal(n).cumsum(), rng.standard_normal(n)
    for t in range(1, n): e[t] += phi * e[t - 1]
    return 20 + hedge * x + e, x


def market(data_dir, root, length, minutes):
    """Close of a continuous series, `ts` at the bar's end, and whether the row has a volume."""
    raw = pd.read_parquet(data_dir / "tradingview" / f"{root}1_{length}.parquet")
    ts = pd.DatetimeIndex(raw.index).tz_convert("UTC").as_unit("us") + pd.Timedelta(minutes=minutes)
    return pd.DataFrame({"close": raw["close"].to_numpy(), "has_volume": raw["volume"].notna().to_numpy()}, ts.rename("ts"))


def es_and_nq(data_dir, length, minutes, only_with_volume=False):
    es, nq = (market(data_dir, root, length, minutes) for root in ("ES", "NQ"))
    if only_with_volume: es = es[es["has_volume"]]
    es = es[["close"]].set_axis(make_index("ES", es.index), axis=0)
    return fnb.join_asof(es, nq[["close"]], prefix="other_", max_age="1h" if minutes < 60 else "5h")


@pytest.fixture(scope="module")
def five_minutes(data_dir): return es_and_nq(data_dir, "5m", 5)


@pytest.fixture(scope="module")
def gold(data_dir):
    """Three contract months of micro gold, one-minute bars."""
    months = {"MGCG4": "MGCG24", "MGCJ4": "MGCJ24", "MGCM4": "MGCM24"}
    path = data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet"
    raw = pd.read_parquet(path, filters=[("symbol", "in", list(months))]).loc["2023-11":"2024-04"]
    bars = pd.concat([raw[raw["symbol"] == s].assign(contract=c) for s, c in months.items()])
    ts = pd.DatetimeIndex(bars.index).tz_convert("UTC").as_unit("us") + pd.Timedelta(minutes=1)
    return bars[["open", "high", "low", "close", "volume"]].astype(float).set_axis(make_index(bars["contract"].to_numpy(), ts), axis=0)


def check_engle_granger(y, x, trend, lags):
    fit = np.empty(N_FIT)
    fit_pair(y, x, ORDERS[trend], lags, False, fit)
    theirs = engle_granger(y, x, trend=trend, lags=lags)
    np.testing.assert_allclose(fit[STAT], [coint(y, x, trend=trend, maxlag=lags, autolag=None)[0], theirs.stat], rtol=1e-8)
    np.testing.assert_allclose(fit[HEDGE], -theirs.cointegrating_vector.iloc[1], rtol=1e-8)
    rest = np.asarray(theirs.resid)
    np.testing.assert_allclose(fit[VOL], np.sqrt(rest @ rest / (len(rest) - 2 - ORDERS[trend])), rtol=1e-8)
    np.testing.assert_allclose(fit[PHI], rest[1:] @ rest[:-1] / (rest[:-1] @ rest[:-1]), rtol=1e-8)
    np.testing.assert_allclose(mackinnon_p(fit[STAT], trend), coint(y, x, trend=trend, maxlag=lags, autolag=None)[1], rtol=1e-6, atol=1e-12)


def check_johansen(y, x, trend, lags):
    fit = np.empty(N_FIT)
    fit_pair(y, x, ORDERS[trend], lags, True, fit)
    theirs = coint_johansen(np.column_stack([y, x]), ORDERS[trend], lags)
    np.testing.assert_allclose(fit[[STAT, STAT_1, EIG_1, EIG_2]], [*theirs.lr1, *theirs.eig], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(fit[HEDGE], -theirs.evec[1, 0] / theirs.evec[0, 0], rtol=1e-6)


@pytest.mark.parametrize("trend", ["n", "c", "ct", "ctt"])
@pytest.mark.parametrize("phi", [0.5, 0.95, 1.0])
def test_random_windows_equal_the_libraries(trend, phi):
    for seed, lags in enumerate((0, 1, 2, 7)):
        y, x = walk_and_spread(150 + 100 * seed, seed, phi=phi)
        check_engle_granger(y, x, trend, lags)
        if lags and trend != "ctt": check_johansen(y, x, trend, lags)


def test_real_windows_equal_the_libraries(five_minutes):
    """Each window shifted to begin at zero: at the level of log prices and with a parabola the libraries themselves lose digits (2e-8; ours stays at 1e-14)."""
    two = np.log(five_minutes.dropna().to_numpy())
    for seed, start in enumerate(np.random.default_rng(0).integers(0, len(two) - 1000, 12)):
        y, x = np.ascontiguousarray(two[start:start + 1000].T - two[start][:, None])
        trend, lags = ("c", "ct", "ctt")[seed % 3], (1, 2, 5)[seed // 3 % 3] 
        check_engle_granger(y, x, trend, lags)
        if trend != "ctt": check_johansen(y, x, trend, lags)


@pytest.mark.parametrize("method", ["engle-granger", "johansen"])
def test_every_row_is_its_window_done_slowly(method):
    y, x = (pd.Series(v) for v in walk_and_spread(260, 5))
    for trend in ("n", "c", "ct"):
        mine = fnb.cointegration(y, x, 90, method=method, trend=trend, lags=2, step=4)
        for i in range(90, 260, 13):
            at = 90 + (i - 90) // 4 * 4
            past, t = slice(at - 90, at), np.arange(260)
            basis = np.column_stack([t**k for k in range(ORDERS[trend] + 1)]) if trend != "n" else np.empty((260, 0))
            if method == "johansen":
                v = coint_johansen(np.column_stack([y, x])[past], ORDERS[trend], 2)
                hedge, stat = -v.evec[1, 0] / v.evec[0, 0], v.lr1[0]
            else:
                hedge = np.linalg.lstsq(np.column_stack([x, basis])[past], y.to_numpy()[past])[0][0]
                stat = coint(y[past], x[past], trend=trend, maxlag=2, autolag=None)[0]
            rest = (y - hedge * x).to_numpy()
            if trend != "n": rest = rest - basis @ np.linalg.lstsq(basis[past], rest[past])[0]
            vol = np.sqrt((rest[past] ** 2).sum() / (90 - 2 - ORDERS[trend]))
            np.testing.assert_allclose(mine.iloc[i][["hedge_ratio", "spread", "z", "stat"]].tolist(), [hedge, rest[i], rest[i] / vol, stat], rtol=1e-6, atol=1e-8)


def test_row_itself_is_not_in_its_window():
    y, x = (pd.Series(v) for v in walk_and_spread(300, 6))
    before, jump = fnb.cointegration(y, x, 100), fnb.cointegration(y.where(y.index != 200, y + 50), x, 100)
    assert jump.loc[200, "hedge_ratio"] == before.loc[200, "hedge_ratio"] and jump.loc[200, "p_value"] == before.loc[200, "p_value"]
    assert jump.loc[200, "spread"] == pytest.approx(before.loc[200, "spread"] + 50)
    assert jump.loc[201, "hedge_ratio"] != before.loc[201, "hedge_ratio"]
    assert same_bits(jump[:200].to_numpy(), before[:200].to_numpy()).all()


def test_contracts_are_apart_and_a_plain_index_will_do():
    y, x = walk_and_spread(400, 7)
    ts = pd.date_range("2024-12-16 14:31", periods=200, freq="min", tz="UTC")
    index = make_index(np.repeat(["ESZ24", "ESH25"], 200), ts.append(ts))
    both = fnb.cointegration(pd.Series(y, index), pd.Series(x, index), 100)
    second = fnb.cointegration(pd.Series(y[200:]), pd.Series(x[200:]), 100)
    assert same_bits(both.to_numpy()[200:], second.to_numpy()).all()
    assert both.attrs["cointegration"]["n_windows"] == 200 and both.attrs["cointegration"]["n_effective"] == pytest.approx(2 * (99 / 100 + 1))


def test_log_is_the_log():
    y, x = (pd.Series(v) for v in walk_and_spread(300, 8))
    y[100] = -1.0
    logs = fnb.cointegration(y, x, 60, log=True)
    plain = fnb.cointegration(np.log(y.where(y > 0)), np.log(x), 60)
    assert same_bits(logs.to_numpy(), plain.to_numpy()).all() and np.isnan(logs.loc[100:160, "z"]).all() and np.isfinite(logs.loc[161, "z"])


def null_stats(n_pairs, n, trend, is_johansen, drift=0.0):
    rng, fit, stats = np.random.default_rng(1), np.empty(N_FIT), np.empty(n_pairs)
    for k in range(n_pairs):
        y, x = (drift + rng.standard_normal((2, n))).cumsum(axis=1)
        fit_pair(y, x, ORDERS[trend], 1, is_johansen, fit)
        stats[k] = fit[STAT]
    return stats


@pytest.mark.parametrize("trend", ["n", "c", "ct", "ctt"])
def test_size_of_both_tests(trend):
    assert 0.04 < (mackinnon_p(null_stats(4000, 500, trend, False), trend) < 0.05).mean() < 0.06
    if trend == "ctt": return
    p = trace_p(null_stats(4000, 500, trend, True), trend)
    assert 0.04 < (p < 0.05).mean() < 0.065 and 0.085 < (p < 0.1).mean() < 0.12 and 0.006 < (p < 0.01).mean() < 0.017
    assert 0.45 < (p < 0.5).mean() < 0.55


def test_tables_of_the_trace_statistic_are_for_prices_with_a_drift():
    critical = coint_johansen(np.column_stack(walk_and_spread(100, 0)), 0, 1).cvt[0, 1]
    assert (null_stats(4000, 500, "c", True) > critical).mean() > 0.09
    assert 0.035 < (null_stats(4000, 500, "c", True, drift=0.5) > critical).mean() < 0.07


@pytest.mark.parametrize("method", ["engle-granger", "johansen"])
def test_power_and_truth(method):
    y, x = (pd.Series(v) for v in walk_and_spread(30_000, 9, hedge=0.7, phi=0.95))
    found = fnb.cointegration(y, x, 3000, method=method, step=300)
    assert found.attrs["cointegration"]["n_rejected"] == found.attrs["cointegration"]["n_windows"] == 90
    assert "more than chance" in found.attrs["cointegration"]["verdict"] and "no more" not in found.attrs["cointegration"]["verdict"]
    assert abs(found["hedge_ratio"].mean() - 0.7) < 0.01
    assert 0.8 < found["half_life"].median() / (np.log(0.5) / np.log(0.95)) < 1.1
    assert 0.9 < found["z"].std() < 1.15


@pytest.mark.slow
def test_verdict_on_overlapping_windows_of_nothing_is_rarely_more_than_chance():
    """Counting the overlapping windows as independent would cry wolf in one sample of four."""
    verdicts, naive = [], []
    for seed in range(300):
        y, x = (pd.Series(v) for v in walk_and_spread(4000, 1000 + seed, phi=1.0))
        p = fnb.cointegration(y, x, 200, step=10)
        counts = p.attrs["cointegration"]
        verdicts.append(counts["p_chance"] < 0.05)
        naive.append(count_tests(p["p_value"].to_numpy()[200::10], counts["n_windows"])["p_chance"] < 0.05)
    assert np.mean(verdicts) < 0.08 and np.mean(naive) > 0.15


def test_counts_of_tests():
    none, all_of = count_tests([], 0), count_tests([0.001] * 10, 1.9)
    assert none["n_windows"] == 0 and "no window" in none["verdict"]
    assert all_of["n_rejected"] == 10 and all_of["n_rejected_corrected"] == 10 and all_of["p_chance"] == pytest.approx(0.0025)
    assert count_tests([0.001] * 10, 1.0)["p_chance"] == pytest.approx(0.05)          # one window proves nothing
    assert count_tests([0.5] * 10, 5)["verdict"].startswith("0 of 10") and count_tests([0.5] * 10, 5)["p_chance"] == 1


def test_causal_with_the_real_other_market(five_minutes):
    part = five_minutes.iloc[:3000]
    bars = pd.DataFrame({c: part["close"] for c in ("open", "high", "low", "close")}).assign(volume=1.0)
    nq = pd.DataFrame({"close": part["other_close"].to_numpy()}, pd.DatetimeIndex(part.index.get_level_values("ts"), name="ts"))

    def f(bars, other):
        joined = fnb.join_asof(bars, other, prefix="other_")
        return fnb.cointegration(joined["close"], joined["other_close"], 300, step=20, log=True)
    assert (assert_causal(f, bars, n_cuts=4, other=nq) > 0).all()


def test_es_and_nq_are_hardly_cointegrated(five_minutes):
    """Windows of twenty sessions: about as many rejections as chance would give. Both markets' rolls are adjusted away."""
    share = {}
    for method in ("engle-granger", "johansen"):
        day = fnb.cointegration(five_minutes["close"], five_minutes["other_close"], 276 * 20, method=method, step=276, log=True)
        share[method] = day.attrs["cointegration"]["n_rejected"] / day.attrs["cointegration"]["n_windows"]
        assert "no more than chance" in day.attrs["cointegration"]["verdict"]
    assert max(share.values()) < 0.25
    assert day["z"].std() > 1.2                       # outside its window the spread is wider than inside


def test_hourly_es_is_stationary_against_nq_because_the_file_is_broken(data_dir):
    """The hourly ES file mixes two price levels, so that hours jump there and back: a test that rejects may have found a defect."""
    whole = es_and_nq(data_dir, "1h", 60)
    broken = fnb.cointegration(whole["close"], whole["other_close"], 460, step=46, log=True)
    assert "more than chance" in broken.attrs["cointegration"]["verdict"] and broken["half_life"].median() < 1
    assert np.log(whole["close"]).diff().autocorr() < -0.3
    good = es_and_nq(data_dir, "1h", 60, only_with_volume=True)      # the other rows are those without a volume
    assert abs(np.log(good["close"]).diff().autocorr()) < 0.05
    clean = fnb.cointegration(good["close"], good["other_close"], 460, step=46, log=True).attrs["cointegration"]
    assert clean["n_windows"] > 250 and "no more than chance" in clean["verdict"] and clean["n_rejected"] < 0.1 * clean["n_windows"]


def test_contract_months_of_gold_are_cointegrated(gold):
    after = fnb.next_contract(gold)
    assert list(after.columns) == ["next_close", "next_age"] and after["next_age"].max() <= 60
    assert after.loc["MGCM24"].isna().all(axis=None)
    after = fnb.next_contract(gold, max_age="1D")          # a window with a gap is not tested
    found = fnb.cointegration(gold["close"], after["next_close"], 1380, step=138, log=True)
    counts = found.attrs["cointegration"]
    assert counts["n_windows"] > 100 and counts["n_rejected"] > 0.95 * counts["n_windows"]
    assert abs(found["hedge_ratio"].median() - 1) < 0.02 and found["half_life"].median() < 10


def slow_next(bars, max_age):
    """The nearest later contract that has traded, row by row."""
    names = list(dict.fromkeys(bars.index.get_level_values("contract")))
    out = []
    for contract, ts in bars.index:
        known = [bars.loc[n, "close"].loc[:ts] for n in names[names.index(contract) + 1:]]
        known = next((k for k in known if len(k)), None)
        out.append(np.nan if known is None or ts - known.index[-1] > pd.Timedelta(max_age) else known.iloc[-1])
    return np.array(out)


def test_next_contract_is_the_slow_one():
    bars = fnb.synth_bars(n_contracts=4, n_days=2, overlap=1, minutes=30, missing=0.5, seed=3)
    for max_age in ("30min", "3h", "10D"):
        assert same_bits(fnb.next_contract(bars, max_age=max_age)["next_close"].to_numpy(), slow_next(bars, max_age)).all()


def kernel_inputs(bars, other_close, tick):
    full = fnb.to_sessions(bars)
    inside, date = (full["minute"] > 0).to_numpy(), full["trade_date"].to_numpy()
    new = np.append(True, date[inside][1:] != date[inside][:-1])
    close = full["close"].to_numpy()[inside]
    return (np.log(close), np.log(np.asarray(other_close)[inside]), full["minute"].to_numpy()[inside].astype(np.int64), new, np.full(len(close), 0.01), tick / close)


def run_in(cuts, inputs, state=None):
    state, n = state or coint_state(), len(inputs[0])
    out = np.empty((n, len(COINT_FEATURES)))
    for a, b in zip([0, *cuts], [*cuts, n]): coint_run(state, *(v[a:b] for v in inputs), out[a:b])
    return out


def test_kernel_laws_on_real_gold(gold):
    """Chunks and forgetting, bit for bit, where minutes are missing and the next month is sometimes silent."""
    bars, after = gold.loc[["MGCG24"]], fnb.next_contract(gold).loc[["MGCG24"], "next_close"]
    inputs, rng, lookback = kernel_inputs(bars, after, 0.1), np.random.default_rng(2), {f["name"]: f["lookback"] for f in COINT_FEATURES}
    state = coint_state()
    whole = run_in([], inputs, state)
    assert np.isfinite(whole[-1000:, :4]).mean() > 0.5 and 0 < np.isnan(whole[9000:, 0]).mean() < 0.5
    for _ in range(3): assert same_bits(run_in(np.sort(rng.integers(0, len(whole), 200)).tolist(), inputs), whole).all()
    for start in rng.integers(1, len(whole) - 9000, 6):
        part = run_in([], [v[start:] for v in inputs])
        for k, need in enumerate(lookback.values()): assert same_bits(part[need - 1:, k], whole[start + need - 1:, k]).all()
    for absurd in (np.nan, 1e30):
        spoilt = [v.copy() for v in inputs]
        spoilt[0][4000] = absurd
        changed = run_in([], spoilt)
        for k, need in enumerate(lookback.values()): assert same_bits(changed[4000 + need:, k], whole[4000 + need:, k]).all()
    fitted = whole[np.isfinite(whole[:, 1])]
    assert abs(np.sinh(np.median(fitted[:, 1])) - 1) < 0.02 and np.sinh(np.median(fitted[:, 3])) < -3.34
    low, high = next(f["range"] for f in COINT_FEATURES if f["name"] == "half_life")
    assert (np.nanmin(whole[:, 2]) >= low) and (np.nanmax(whole[:, 2]) <= high)
    assert state.counts[0] == inputs[3].sum() and state.counts[1] >= 5


def test_kernel_is_the_slow_one_where_quarters_are_missing():
    """Sessions with holes, a short one, and an other price that is silent: five whole sessions, what is there, oldest first."""
    rng, minute, session = np.random.default_rng(4), np.tile(np.arange(1, 1381), 12), np.repeat(np.arange(12), 1380)
    y, x = walk_and_spread(12 * 1380, 4, hedge=0.9, phi=0.98)
    keep = rng.random(len(y)) < np.where((session * 7 + minute // 97) % 5 == 0, 0.02, 0.6)
    keep[(session == 3) & (minute > 500)] = False
    y, x, minute, session = 1e-3 * y[keep], 1e-3 * x[keep], minute[keep], session[keep]
    x[rng.random(len(x)) < 0.2] = np.nan
    new = np.append(True, session[1:] != session[:-1])
    inputs = (y, x, minute, new, np.full(len(y), 0.02), np.full(len(y), 1e-5))
    mine, fit, state = run_in([], inputs), np.empty(N_FIT), coint_state()
    frame = pd.DataFrame(dict(y=y, x=x, session=session, slot=(minute - 1) // 15))
    assert np.isnan(mine[session < 5, :4]).all()
    for s in range(5, 12):
        past = frame[(frame["session"] < s) & (frame["session"] >= s - 5)].groupby(["session", "slot"]).tail(1).dropna()   # the last bar, not the last price
        fit_pair(past["y"].to_numpy(copy=True), past["x"].to_numpy(copy=True), 0, 1, False, fit)
        rows = (session == s) & np.isfinite(x)
        assert rows.any() and np.allclose(np.sinh(mine[rows][:, [1, 3]]), fit[[HEDGE, STAT]], rtol=1e-12)
        hedge, level = np.polyfit(past["x"], past["y"], 1)
        rest = past["y"] - hedge * past["x"] - level
        np.testing.assert_allclose(np.sinh(mine[rows, 0]), (y - hedge * x - level)[rows] / np.sqrt((rest**2).sum() / (len(rest) - 2)), rtol=1e-6, atol=1e-8)
        before = (y - x)[(session == s - 1) & np.isfinite(x)][-1]
        np.testing.assert_allclose(np.sinh(mine[rows, 4]), ((y - x)[rows] - before) / 0.02, rtol=1e-9, atol=1e-12)
    assert np.isnan(mine[np.isnan(x)]).all()
    assert same_bits(run_in(np.sort(rng.integers(0, len(y), 300)).tolist(), inputs, state), mine).all() and state.counts.tolist() == [12, 5, 0, 0, 0]
    with pytest.raises(ValueError, match="outside 1..1440"): run_in([], (y[:1], x[:1], minute[:1] + 2000, *(v[:1] for v in inputs[3:])))


def test_half_lives_are_cut_and_counted():
    n = 8 * 1380
    minute, new = np.arange(n) % 1380 + 1, np.arange(n) % 1380 == 0
    x = 1e-3 * np.random.default_rng(5).standard_normal(n).cumsum()
    for e, at, which in ((1e-3 * (-1.0) ** (np.arange(n) // 15), np.log(1 / 1380), 4), (np.exp(np.arange(n) / 300), np.log(5), 3)):
        state = coint_state()
        out = run_in([], (x + e, x, minute, new, np.full(n, 0.02), np.full(n, 1e-5)), state)
        assert out[-1, 2] == pytest.approx(at) and state.counts[which] == 3


def test_change_of_the_spread_is_since_the_session_before_and_none_earlier():
    x = np.arange(30) * 1e-3
    x[10:20] = np.nan                              # the second of three sessions has no other price
    inputs = (np.ones(30), x, np.tile(np.arange(1, 11), 3), np.arange(30) % 10 == 0, np.full(30, 0.02), np.full(30, 1e-5))
    assert np.isnan(run_in([], inputs)[:, 4]).all()
    x[10:20] = 0.05
    np.testing.assert_allclose(np.sinh(run_in([], inputs)[:, 4]), [np.nan] * 10 + [(0.009 - 0.05) / 0.02] * 10 + ((0.05 - x[20:]) / 0.02).tolist())
    inputs[4][25:] = [np.nan, 1e-6, 1e-6, 1e-6, 1e-6]      # an unknown volatility, and one below a tick
    np.testing.assert_allclose(np.sinh(run_in([], inputs)[25:, 4]), [np.nan, *((0.05 - x[26:]) / 1e-5)])


def test_state_is_arrays_that_can_be_stored_and_taken_up(tmp_path, gold):
    bars, after = gold.loc[["MGCG24"]], fnb.next_contract(gold).loc[["MGCG24"], "next_close"]
    inputs, state = kernel_inputs(bars, after, 0.1), coint_state()
    whole = run_in([], inputs)
    first = np.empty((12_345, 5))
    coint_run(state, *(v[:12_345] for v in inputs), first)
    np.savez(tmp_path / "state.npz", **state._asdict())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as stored: again = type(state)(**{k: stored[k] for k in state._fields})
    rest = run_in([], [v[12_345:] for v in inputs], again)
    assert same_bits(np.vstack([first, rest]), whole).all()


def test_half_life_by_its_rule():
    assert half_life_of(1.2) == np.inf and half_life_of(0.0) == 0 and np.isnan(half_life_of(np.nan)) and half_life_of(0.25) == pytest.approx(0.5)
