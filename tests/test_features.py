"""The whole catalogue: causal and local on the real contract with the real VIX, the same bits wherever it runs, failures told and contained."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.features import FAMILIES, FeatureError, count_odd


@pytest.fixture(scope="module")
def market(es_file, data_dir):
    vix = fnb.read_vix(data_dir / "vix" / "vix-daily.csv")
    nq = fnb.read_bars(data_dir / "tradingview" / "NQ1_5m.parquet", source="tradingview", contract="NQ")
    return fnb.read_bars(es_file), vix[vix.index > "2023-06-01"], nq[nq.index.get_level_values("ts") < "2025-03-01"][["close"]]


def features(bars, vix, other):
    return fnb.make_features(bars, vix, other=other, progress=False)


def test_causal_on_the_real_contract(market):
    bars, vix, other = market
    counts = fnb.assert_causal(features, bars, n_cuts=5, seed=5, vix=vix, other=other)
    assert list(counts.index) == list(fnb.FEATURES) and (counts > 0).all()


def test_local_on_the_real_contract(market):
    bars, vix, other = market
    bars = bars[~fnb.off_session(bars)]
    fnb.assert_local(features, bars, {name: f.lookback for name, f in fnb.FEATURES.items()}, n_rows=6, vix=vix, other=other)


def test_causal_on_demo_bars():
    bars = fnb.demo_bars("2016-02-08", "2016-03-24")   # two contracts that overlap
    counts = fnb.assert_causal(lambda bars, vix: fnb.make_features(bars, vix, progress=False), bars, n_cuts=2, vix=fnb.read_vix())
    assert (counts > 0).all()


def test_in_range_and_finite_after_the_warm_up(market):
    bars, vix, other = market
    x = features(bars, vix, other)
    sessions = fnb.to_sessions(bars)["trade_date"].rank(method="dense").to_numpy()
    finite = np.isfinite(x[sessions > 24]).mean()
    assert (finite > 0.9).all(), finite[finite <= 0.9]
    assert {row["name"]: row["n_out_of_range"] for row in x.attrs["features"] if row["n_out_of_range"]} == {}
    spread = x.quantile(0.75) - x.quantile(0.25)
    far = (x - x.median()).abs().max() / spread
    assert far[spread > 0].max() < 60, far.idxmax()


def bits(frame): return frame.to_numpy().copy().view(np.int64)


def test_any_number_of_workers_gives_the_same_bits():
    bars = fnb.synth_bars(n_contracts=4, seed=3)
    one, two = fnb.make_features(bars, n_jobs=1, progress=False), fnb.make_features(bars, n_jobs=2, progress=False)
    np.testing.assert_array_equal(bits(one), bits(two))


def test_a_dask_cluster_gives_the_same_bits():
    """`joblib.parallel_config` sends the contracts to the workers of a cluster: two processes of their own."""
    import joblib
    from distributed import Client, LocalCluster
    bars = fnb.synth_bars(n_contracts=4, seed=3, minutes=5)
    one = fnb.make_features(bars, progress=False)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster, Client(cluster) as client:
        with joblib.parallel_config(backend="dask"): two = fnb.make_features(bars, n_jobs=-1, progress=False)
        tasks = client.run(lambda dask_worker: dask_worker.state.generation_counter if hasattr(dask_worker.state, "generation_counter") else len(dask_worker.state.log))
        assert len(tasks) == 2 and min(tasks.values()) > 0   # both have worked
    np.testing.assert_array_equal(bits(one), bits(two))


def test_pieces_of_a_contract_give_the_same_bits(monkeypatch):
    """Kernels are fed piece by piece; a function of one's own sees the whole contract."""
    import futures_nb.features as module
    bars = fnb.synth_bars(n_contracts=2, n_days=20, overlap=2, minutes=5, seed=4)
    mine = fnb.Feature("mine", "you", "return over the bar volatility", 61, lambda v: v.returns / v.bar_vol + v.session_vol)
    asked = ["return_5", mine, "poc_distance", "wavelet_share_1", "garch_vol"]
    got = {}
    for rows in (1_000_000, 4096, 777):
        monkeypatch.setattr(module, "FED", rows)
        got[rows] = fnb.make_features(bars, features=asked, progress=False)
        np.testing.assert_array_equal(bits(got[rows]), bits(got[1_000_000]))
    assert got[777]["mine"].notna().sum() > 4000


def test_bars_while_the_market_is_closed():
    """They repeat the row before them, and before the first one there is none; they enter nothing, are counted, and a contract may have no other."""
    bars = fnb.synth_bars(n_contracts=2, n_days=12, overlap=2, minutes=15, seed=5)
    clean = fnb.make_features(bars, features=["return_5", "minute_sin"], progress=False)
    ts = bars.index.get_level_values("ts")
    saturday = (ts[0].normalize() + pd.Timedelta("6D")).tz_convert("UTC")
    while saturday.day_of_week != 5: saturday += pd.Timedelta("1D")
    stray = lambda contract, t: pd.DataFrame([[9e9] * 4 + [7.0]], fnb.make_index([contract], pd.DatetimeIndex([t])), bars.columns)
    early = saturday - pd.Timedelta("70D")
    names = bars.index.unique("contract")
    found = pd.concat([bars, *(stray(c, t) for c in names for t in (early, saturday)), stray("ESU22", saturday)])
    found = fnb.sort_by_expiry(found)
    assert fnb.off_session(found).sum() == 5
    for n_jobs in (1, 2):
        x = fnb.make_features(found, features=["return_5", "minute_sin"], n_jobs=n_jobs, progress=False)
        np.testing.assert_array_equal(bits(x.loc[clean.index]), bits(clean))
        closed = x[fnb.off_session(found)]
        assert closed.loc[(slice(None), early), :].isna().all(axis=None) and closed.loc["ESU22"].isna().all(axis=None)
        before = x.loc[names[0]].loc[:saturday].iloc[-2:]
        assert before.index[-1] == saturday and before.notna().all(axis=None) and (before.iloc[0] == before.iloc[1]).all()
        assert x.attrs["n_off_session"] == 5 and x.attrs["features"][0]["n_missing"] == x["return_5"].isna().sum()


def test_what_is_missing_and_what_is_out_of_range_is_counted():
    x = np.array([np.nan, -1.5, -1.0, 0.0, 1.0, 1.5, np.inf, np.nan])
    assert count_odd(x, -1.0, 1.0) == (2, 3) and count_odd(x, -np.inf, np.inf) == (2, 0)


def test_what_one_asks_for_changes_no_bit(market):
    """A feature alone is what it is among all: shared columns are computed once, not differently."""
    bars, vix, other = market
    bars = bars.iloc[:20_000]
    whole = features(bars, vix, other)
    rng = np.random.default_rng(0)
    for names in [[f"{name}"] for name in rng.choice(list(fnb.FEATURES), 12, replace=False)] + [list(rng.permutation(list(fnb.FEATURES))[:9])]:
        part = fnb.make_features(bars, vix, names, other=other, progress=False)
        np.testing.assert_array_equal(bits(part), bits(whole[names]))


def test_shared_columns_are_computed_once(monkeypatch):
    import dataclasses
    calls = []
    for name, family in FAMILIES.items():
        def counted(*args, run=family.run, name=name):
            calls.append(name)
            return run(*args)
        monkeypatch.setitem(FAMILIES, name, dataclasses.replace(family, run=counted))
    fnb.make_features(fnb.synth_bars(n_contracts=1, n_days=3, overlap=1, minutes=5), features=["return_5", "vwap_distance", "poc_distance"], progress=False)
    assert len(calls) == len(set(calls)) and "shared" in calls and "garch" not in calls


def fails_on_the_second(view):
    if view.contract == "ESM22": raise ZeroDivisionError("no volume at night")
    return view.close / view.open - 1


def test_a_failure_is_told_and_the_rest_is_kept():
    bars = fnb.synth_bars(n_contracts=3, n_days=4, overlap=2, minutes=15)
    mine = fnb.Feature("mine", "you", "close over open", 1, fails_on_the_second)
    infinite = fnb.Feature("infinite", "you", "one over the change", 2, lambda v: 1.0 / np.append(1.0, np.diff(v.close) * 0.0 + (np.arange(len(v.close) - 1) != 7)))
    for n_jobs in (1, 2):
        with np.errstate(divide="ignore"), pytest.raises(FeatureError) as told:
            fnb.make_features(bars, features=["return_5", mine, infinite], n_jobs=n_jobs, progress=False)
        text, error = str(told.value), told.value
        seen = {(f["feature"], f["contract"]): f for f in error.failures}
        assert list(seen) == [("infinite", "ESH22"), ("mine", "ESM22"), ("infinite", "ESM22"), ("infinite", "ESU22")]
        assert "'infinite' failed on ESH22" in text and str(bars.index[8][1]) in text and "(and 3 more)" in text     # the bar at which it is infinite
        assert "no volume at night" in str(seen["mine", "ESM22"]["error"]) and seen["mine", "ESM22"]["first"] == bars.loc["ESM22"].index[0]
        part = error.partial
        assert list(part) == ["return_5", "mine", "infinite"] and part["return_5"].notna().sum() > 100
        assert part["mine"].isna().groupby(level="contract").all().to_dict() == {"ESH22": False, "ESM22": True, "ESU22": False}


def test_scale_free(market):
    """The market at another level and with other volumes in proportion has (almost) the same features: ticks and contracts stay."""
    bars, vix, other = market
    scaled = bars[bars.columns] * np.array([4.0] * 4 + [8.0])
    a, b = features(bars, vix, other), features(scaled, vix, other)
    smooth = [name for name, f in fnb.FEATURES.items() if f.unit not in ("0/1", "count")]
    comb = ["poc_share", "profile_balance", "profile_entropy"]      # the moved prices lie on every fourth tick, and these see it
    moved = ((a - b).abs().quantile(0.95) / (a.quantile(0.9) - a.quantile(0.1)))[smooth].drop(comb)
    assert moved.max() < 0.3, moved.nlargest(8)


def test_the_catalogue_is_whole():
    table = fnb.FEATURES.to_frame()
    assert len(table) >= 54 and table.index.is_unique
    assert (table["formula"].str.len() > 10).all() and (table["source"].str.len() > 2).all() and (table["unit"].str.len() > 0).all()
    assert table["range"].map(lambda r: None not in r).all()      # every range is closed
    assert set(table["family"]) >= {"returns", "volatility", "volume", "vpoc", "garch", "memory", "scales", "cointegration", "vix", "clock"}
    page = fnb.FEATURES._repr_html_()
    assert all(name in page for name in fnb.FEATURES) and 'type="search"' in page


def test_a_session_without_cash_hours_has_its_last_close():
    """Three sessions of two bars; the second, a holiday's, has no cash hours: the third's overnight return begins at its last close."""
    from futures_nb.plain import returns_run, returns_state
    price = np.array([100.0, 101, 102, 104, 103, 105])
    cash, new = np.array([0.0, 1, 0, 0, 0, 1]), np.array([True, False] * 3)
    out, one = np.empty((6, 10)), np.ones(6)
    returns_run(returns_state(None), price, price, price, cash, new, 0.25, np.log(price), price / 0.25, one, one, out)
    want = np.arcsinh(np.log([102 / 101, 104 / 101, 103 / 104, 105 / 104]))
    np.testing.assert_allclose(out[2:, 5], want, rtol=1e-12)
