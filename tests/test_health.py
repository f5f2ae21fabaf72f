"""Every feature of the catalogue stays finite and inside its range on nasty markets and on every real file; what is ill is named."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.health import VERDICTS, health_table
from futures_nb.schema import INSTRUMENTS
from nasty import NASTY, REAL, is_valid, reasons, synth, vix_of

SLOW = {"gold_all"}


def other_of(bars, seed=1):
    """Another market: the closes of these bars and a spread that comes back in a while; now and then silent."""
    rng = np.random.default_rng(seed)
    close = bars["close"] * np.exp(0.02 * pd.Series(rng.standard_normal(len(bars))).ewm(span=200).mean().to_numpy())
    return close[rng.random(len(bars)) > 0.02].to_frame()


def features(bars): return fnb.make_features(bars, vix_of(bars), other=other_of(bars), progress=False)


def judge(market, bars):
    why = {name: "no fit without two prices that move in half of the quarters of an hour" for name, f in fnb.FEATURES.items() if f.family == "cointegration"}
    return fnb.assert_healthy(features(bars), fnb.FEATURES, reasons=why | reasons(market, fnb.FEATURES), allow=market.allow)


@pytest.mark.parametrize("name", NASTY)
def test_the_catalogue_on_a_nasty_market(name):
    bars = NASTY[name].make()
    table = judge(NASTY[name], bars)
    assert (table["verdict"] == "ok").sum() >= 1


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in REAL])
def test_the_catalogue_on_a_real_file(name, data_dir):
    table = judge(REAL[name], REAL[name].make(data_dir))
    assert (table["verdict"] == "ok").sum() >= (0 if name == "fifty_minutes_of_trades" else 8)     # shorter than any warm-up


@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_market_is_made_of_valid_bars(name):
    """On the grid and inside their range: what is nasty is the market, not the file."""
    bars = NASTY[name].make()
    assert is_valid(bars)
    fnb.check_bars(bars)
    off = fnb.off_session(bars)
    assert off.any() == (name == "strays")
    assert bars.index.is_unique and fnb.to_sessions(bars)["minute"].max() <= 1440


def nasdaq(bars):
    """Another market, one series that is known by time alone."""
    days = fnb.to_sessions(bars)["trade_date"]
    return fnb.synth_bars(n_contracts=1, n_days=days.nunique() + 2, overlap=0, symbol="NQ", seed=8, minutes=5, start=str(days.min().date()))[["close"]]


def whole(bars, vix, other): return fnb.make_features(bars, vix, other=other, progress=False)


def test_the_catalogue_has_no_level():
    bars = synth(n_days=30)
    gap = fnb.assert_scale_free(whole, bars, vix=vix_of(bars), other=nasdaq(bars))
    assert list(gap.index) == list(fnb.FEATURES) and not [s for s in INSTRUMENTS if "SCALED" in s]


def test_the_catalogue_sees_nothing_outside_its_windows():
    bars = synth(n_days=10, n_contracts=1, overlap=0)
    seen = fnb.assert_window(whole, bars, {n: f.lookback for n, f in fnb.FEATURES.items()}, n_runs=4, vix=vix_of(bars), other=nasdaq(bars))
    assert seen["minute_sin"] == 1.0 and seen["return_5"] > 0.05 and np.isnan(seen["har_month"])


# What is ill is named: planted into columns of the catalogue.

@pytest.fixture(scope="module")
def healthy():
    bars = synth(n_days=30)
    return features(bars)[["return_5", "poc_distance", "inside_value_area"]]


def spoil(x, column, change):
    x = x.copy()
    change(x, x.columns.get_loc(column))
    return x


def put(rows, value):
    def change(x, j): x.iloc[rows, j] = value
    return change


@pytest.mark.parametrize("column, change, words", [
    ("return_5", put(3000, np.inf), ["return_5", "infinite", "inf"]),
    ("return_5", put(3000, -np.inf), ["return_5", "infinite", "-inf"]),
    ("poc_distance", put(3000, 1e28), ["poc_distance", "out of range", "1e+28", "[-15, 15]"]),
    ("inside_value_area", put(3000, 1.0000001), ["inside_value_area", "out of range", "1.0000001"]),
    ("return_5", put(slice(0, None, 3), np.nan), ["return_5", "is empty", "66.7 %"]),
    ("return_5", put(slice(2500, None), np.nan), ["return_5", "is empty"]),
    ("return_5", put(slice(None), 0.5), ["return_5", "constant", "0.5"]),
    ("return_5", put(slice(100, None), 0.5), ["return_5", "stuck", "0.5"]),
    ("return_5", lambda x, j: x.__setitem__("return_5", np.where(x["return_5"].abs() > 1.5, x["return_5"], 1e-12 * x["return_5"])), ["return_5", "residue", "interquartile"]),
    ("return_5", lambda x, j: x.__setitem__("return_5", 1e-12 * x["return_5"]), ["return_5", "residue", "not a quantity"]),
    ("return_5", lambda x, j: x.__setitem__("return_5", np.where(np.arange(len(x)) % 50 == 0, 1e-16, x["return_5"])), ["return_5", "residue", "not zero"]),
])
def test_what_is_ill_is_named(healthy, column, change, words):
    assert fnb.assert_healthy(healthy, fnb.FEATURES)["verdict"].eq("ok").all()
    with pytest.raises(AssertionError) as error:
        fnb.assert_healthy(spoil(healthy, column, change), fnb.FEATURES)
    message = str(error.value)
    assert all(w in message for w in words), message
    assert " ESH22 " in message or " ESM22 " in message, "the row"
    assert "\n" not in message


def test_an_indicator_may_stand_still_and_a_count_too(healthy):
    x = pd.DataFrame({"a": np.zeros(len(healthy)), "b": np.zeros(len(healthy))}, healthy.index)
    x.iloc[5] = 3.0
    table = fnb.assert_healthy(x, {"a": dict(lookback=1, unit="count"), "b": dict(lookback=1, unit="0/1")})
    assert table["verdict"].eq("ok").all()
    assert set(health_table(x, {c: dict(lookback=1) for c in x})["verdict"]) == {"stuck"} <= set(VERDICTS)


def test_the_table_agrees_with_numpy(healthy):
    table = health_table(healthy, fnb.FEATURES)
    for name, x in healthy.items():
        x = x.dropna()
        np.testing.assert_allclose(table.loc[name, ["min", "max", "iqr", "p99"]].astype(float),
                                   [x.min(), x.max(), x.quantile(0.75) - x.quantile(0.25), x.abs().quantile(0.99)], rtol=1e-12)
        assert table.loc[name, "n"] == len(x)


def test_a_feature_of_ones_own_passes_or_is_refused_in_one_call():
    bars = fnb.synth_bars(n_contracts=2, n_days=4, overlap=2, minutes=15)
    other = fnb.synth_bars(n_contracts=2, n_days=4, overlap=2, minutes=15, symbol="NQ", level=15000.0, seed=1)
    def ret(b): return np.log(b["close"]).groupby(level="contract").diff()
    def gap(b, other):
        r = ret(other).rename("r").reset_index("contract", drop=True)
        return ret(b) - r[~r.index.duplicated()].reindex(b.index.get_level_values("ts")).to_numpy()
    def late(b, other): return gap(b, other.groupby(level="contract").shift(-1).dropna())
    table = fnb.check_feature(gap, bars, other=other, lookback=2, range=(-1, 1))
    assert table["verdict"].tolist() == ["ok"] and table["looked_at"].iloc[0] == 1.0 and table["compared"].iloc[0] > 1000
    with pytest.raises(AssertionError, match="looks ahead"):
        fnb.check_feature(late, bars, other=other, lookback=2)
    with pytest.raises(AssertionError, match="remembers|outside its window"):
        fnb.check_feature(gap, bars, other=other, lookback=1)
