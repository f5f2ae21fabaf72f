"""The whole catalogue: causal and local on the real contract with the real VIX, the same bits for any number of workers, planted leaks refused."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb


@pytest.fixture(scope="module")
def market(es_file, data_dir):
    vix = fnb.read_vix(data_dir / "vix" / "vix-daily.csv")
    return fnb.read_bars(es_file), vix[vix.index > "2024-11-01"]


def features(bars, vix):
    return fnb.make_features(bars, vix, progress=False)


def test_causal_on_the_real_contract(market):
    bars, vix = market
    counts = fnb.assert_causal(features, bars, n_cuts=8, seed=5, vix=vix)
    assert list(counts.index) == list(fnb.FEATURES) and (counts > 0).all()


def test_local_on_the_real_contract(market):
    bars, vix = market
    bars = bars[~fnb.off_session(bars)]
    fnb.assert_local(features, bars, {name: f.lookback for name, f in fnb.FEATURES.items()}, n_rows=6, vix=vix)


def test_causal_on_demo_bars():
    bars = fnb.demo_bars("2016-01-04", "2016-03-31")   # two contracts that overlap
    counts = fnb.assert_causal(features, bars, n_cuts=6, vix=fnb.read_vix())
    assert (counts > 0).all()


def test_finite_after_the_warm_up(market):
    bars, vix = market
    x = features(bars, vix)
    sessions = fnb.to_sessions(bars)["trade_date"].rank(method="dense").to_numpy()
    assert np.isfinite(x.to_numpy()[sessions > 24]).all()
    spread = x.quantile(0.75) - x.quantile(0.25)
    far = (x - x.median()).abs().max() / spread
    assert far[spread > 0].max() < 40, far.idxmax()


def test_any_number_of_workers_gives_the_same_bits():
    bars = fnb.synth_bars(n_contracts=4, seed=3)
    one, two = fnb.make_features(bars, n_jobs=1, progress=False), fnb.make_features(bars, n_jobs=2, progress=False)
    np.testing.assert_array_equal(one.to_numpy().view(np.int64), two.to_numpy().view(np.int64))


def test_scale_free(market):
    """The market at another level and with other volumes in proportion has (almost) the same features: ticks and contracts stay."""
    bars, vix = market
    scaled = bars[bars.columns] * np.array([4.0] * 4 + [8.0])
    a, b = features(bars, vix), features(scaled, vix)
    smooth = [name for name, f in fnb.FEATURES.items() if f.unit != "0/1"]
    assert ((a - b).abs().quantile(0.95) / (a.quantile(0.9) - a.quantile(0.1)))[smooth].max() < 0.3


def centred_mean(bars, vix): return np.log(bars["close"] / bars["close"].rolling(61, center=True).mean())


def full_sample_score(bars, vix): return (bars["volume"] - bars["volume"].mean()) / bars["volume"].std()


def same_day_vix(bars, vix):
    date = lambda ts: pd.DatetimeIndex(ts).tz_convert("America/Chicago").tz_localize(None).normalize()
    close = pd.Series(vix["vix_close"].to_numpy(), date(vix.index))
    return pd.Series(close.reindex(date(bars.index.get_level_values("ts"))).to_numpy(), bars.index)


@pytest.mark.parametrize("leak", [centred_mean, full_sample_score, same_day_vix])
def test_planted_leaks_are_refused(leak, market):
    bars, vix = market
    with pytest.raises(AssertionError, match="looks ahead"):
        fnb.assert_causal(leak, bars, vix=vix)
