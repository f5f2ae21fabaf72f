"""Hurst exponent: published numbers of brown72, real minutes of ES, the laws of the streaming kernel on market data."""
import math

import numpy as np
import pandas as pd
import pytest

from futures_nb.hurst import (METHODS, NULLS, WINDOW, expected_range, fractional_noise, hurst_curve, hurst_exponent, hurst_null, plot_hurst)
from futures_nb.memory import HURST_FEATURES, HurstState, hurst_run, hurst_state, rolling_hurst
from futures_nb.bars import read_bars
from futures_nb.returns import log_returns
from futures_nb.sessions import off_session
from futures_nb.synth import synth_bars
from futures_nb.testing import same_bits


@pytest.fixture(scope="module")
def brown(data_dir):
    return np.load(data_dir / "reference" / "brown72.npy")


@pytest.fixture(scope="module")
def es_returns(es_file):
    bars = read_bars(es_file, source="ninjatrader", contract="ESH25")
    return log_returns(bars[~off_session(bars.index)])


def published_expectation(n):
    """E(R/S) as R's pracma and nolds have it: with the approximation of the gammas above 340."""
    i = np.arange(1, n)
    gammas = math.exp(math.lgamma((n - 1) / 2) - math.lgamma(n / 2)) / math.sqrt(math.pi) if n <= 340 else 1 / math.sqrt(math.pi * n / 2)
    return (n - 0.5) / n * gammas * np.sqrt((n - i) / i).sum()


def slope(scales, values):
    return np.polyfit(np.log(scales), np.log(values), 1)[0]


def test_brown72_by_pracma(brown):
    """`hurstexp(brown72, d=128)`: boxes of 128, 256 and 512 of the whole series, S by n - 1."""
    scales = [128, 256, 512]
    simple = hurst_curve(brown, scales=[128, 1024]).value.iloc[-1]
    assert math.log(simple) / math.log(1024) == pytest.approx(0.6590931, abs=5e-8)                       # "simple R/S": one box
    assert hurst_exponent(brown, scales=2 ** np.arange(3, 11), corrected=False) == pytest.approx(0.7384611, abs=5e-8)  # "corrected R/S": is not
    assert hurst_exponent(brown, scales=scales, corrected=False) == pytest.approx(0.7068613, abs=5e-8)   # "empirical"
    noise = np.array([published_expectation(n) for n in scales])
    assert slope(scales, noise) == pytest.approx(0.5294909, abs=5e-8)                                    # "theoretical"
    assert slope(scales, [expected_range(n) for n in scales]) == pytest.approx(0.5294909, abs=2e-3)      # ours has no step at 340
    added = hurst_curve(brown, scales=scales).value - noise + np.sqrt(np.pi * np.array(scales) / 2)
    assert slope(scales, added) == pytest.approx(0.6838251, abs=5e-8)                                    # "corrected empirical": by a difference


def test_brown72_by_nolds(brown):
    """R/S on windows 8 to 1,024, uncorrected: 0.72, with an S that divides by n."""
    scales = 2 ** np.arange(3, 11)
    assert hurst_exponent(brown, scales=scales, corrected=False, unbiased=False) == pytest.approx(0.72, abs=0.01)


def test_brown72_by_every_estimator(brown):
    """The table in the chapter's prose."""
    found = {method: round(hurst_exponent(brown, method), 3) for method in METHODS}
    assert found == {"rs": 0.641, "dfa": 0.716, "dfa2": 0.738, "ghe": 0.999}
    assert hurst_exponent(brown - brown.mean(), "ghe") == pytest.approx(0.7094, abs=1e-4)      # its mean of 40 is a drift to the structure function


def test_expectation_differs_from_the_published_one_above_340_only():
    for n in (8, 64, 340): assert expected_range(n) == pytest.approx(published_expectation(n), rel=1e-12)
    for n in (341, 1024): assert 1e-4 < expected_range(n) / published_expectation(n) - 1 < 3e-3


def run(x, cuts=(), **options):
    state, out = hurst_state(**options), None
    out = np.empty((len(x), len(state.methods)))
    for a, b in zip([0, *cuts], [*cuts, len(x)]): hurst_run(state, x[a:b], out[a:b])
    return out, state


def test_laws_on_real_minutes(es_returns):
    x = np.array(es_returns)[:8000]
    whole, state = run(x)
    rng = np.random.default_rng(0)
    for _ in range(3):
        cuts = np.sort(rng.integers(0, len(x), 40))
        parts, other = run(x, cuts)
        assert same_bits(parts, whole).all()
        assert other.n_flat.tolist() == state.n_flat.tolist()
    for start in rng.integers(1, 6000, 4):
        assert same_bits(run(x[start:])[0][WINDOW - 1:], whole[start + WINDOW - 1:]).all()
    for absurd in (np.nan, 1e30, -1e15, np.inf):
        spoilt = x.copy()
        spoilt[3000] = absurd
        other = run(spoilt)[0]
        assert same_bits(other[:3000], whole[:3000]).all() and same_bits(other[3000 + WINDOW:], whole[3000 + WINDOW:]).all()
        assert not same_bits(other[3000:3000 + WINDOW], whole[3000:3000 + WINDOW]).any()


def test_one_by_one_from_a_saved_state(es_returns, tmp_path):
    x = np.array(es_returns)[:1500]
    whole, _ = run(x)
    half, state = run(x[:1200])
    np.savez(tmp_path / "state.npz", **state._asdict())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as saved: state = HurstState(**saved)
    rows = np.empty((300, 3))
    for i in range(300): hurst_run(state, x[1200 + i:1201 + i], rows[i:i + 1])
    assert same_bits(np.vstack([half, rows]), whole).all()


def test_real_minutes_are_finite_and_in_range(es_returns):
    out, state = run(np.array(es_returns), methods=("rs", "dfa", "ghe", "dfa2"))
    full = out[WINDOW:]                     # the contract's first return is not there
    assert np.isfinite(full).mean() > 0.999 and state.n_refused.sum() == 0
    for j, told in enumerate(HURST_FEATURES): assert told["range"][0] < full[:, j].min() and full[:, j].max() < told["range"][1]
    assert state.n_flat[0] == 7 and state.n_flat.max() < 100
    assert -11.15 < full[:, :3].min() and full[:, :3].max() < 9.8
    inside = (np.abs(full) < 1.96).mean(axis=0)
    np.testing.assert_allclose(inside, [0.95, 0.83, 0.79, 0.80], atol=0.03)       # of the chapter's prose; DFA-2 is not in it
    np.testing.assert_allclose(full.mean(axis=0)[:3], [0.0, -0.2, -0.3], atol=0.06)


def test_rolling_is_the_kernel_and_the_exponent(es_returns):
    x = es_returns.iloc[:3000]
    out, _ = run(np.array(x))
    for j, method in enumerate(("rs", "dfa", "ghe")):
        h, (mean, sd) = rolling_hurst(x, WINDOW, method), NULLS[method]
        np.testing.assert_allclose((h - mean) / sd, out[:, j], rtol=1e-12)
        assert h.iloc[-1] == pytest.approx(hurst_exponent(x.iloc[-WINDOW:], method), rel=1e-10)


def test_other_windows_get_their_own_null():
    state = hurst_state(300, methods=("rs", "ghe"))
    for i, method in enumerate(("rs", "ghe")):
        np.testing.assert_allclose(state.line[i, 1:], hurst_null(300, method)[["mean", "sd"]])
    x = np.random.default_rng(0).standard_normal(60_000)
    out = np.empty((len(x), 2))
    hurst_run(state, x, out)
    np.testing.assert_allclose(out[299:].mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(out[299:].std(axis=0), 1, atol=0.1)


def test_contracts_and_plain_series():
    bars = synth_bars(n_contracts=2, n_days=8, seed=1)
    r = log_returns(bars)
    h = rolling_hurst(r, 200, "dfa")
    second = r.index.get_level_values("contract") == r.index.get_level_values("contract")[-1]
    assert h[second].isna().sum() == 200 and same_bits(h[second], rolling_hurst(r[second].to_numpy(), 200, "dfa")).all()
    plain = pd.Series(r.to_numpy()[1:500], pd.date_range("2024-01-01", periods=499))
    assert rolling_hurst(plain, 200).index.equals(plain.index)
    assert rolling_hurst(pd.Series(dtype=float), 200).empty


def test_too_many_flat_boxes_are_no_estimate():
    x = np.random.default_rng(0).standard_normal(1024)
    x.reshape(-1, 8)[:60] = 0               # 60 of 128 boxes of 8 are flat
    assert rolling_hurst(x).notna().iloc[-1]
    x.reshape(-1, 8)[:65] = 0
    assert rolling_hurst(x).isna().iloc[-1] and rolling_hurst(x, method="dfa").notna().iloc[-1]
    with pytest.raises(ValueError, match="in which nothing moves"): hurst_exponent(x)


def test_a_level_far_from_zero_does_no_harm():
    x = np.random.default_rng(0).standard_normal(1024)
    for method in METHODS:
        if method != "ghe":
            assert hurst_exponent(x + 1e4, method) == pytest.approx(hurst_exponent(x, method), abs=1e-7)
            assert rolling_hurst(x + 1e4, 1024, method).iloc[-1] == pytest.approx(hurst_exponent(x, method), abs=1e-7)


@pytest.mark.slow
def test_known_memory_is_found_by_the_rolling_kernel():
    for h in (0.3, 0.5, 0.7):
        x = fractional_noise(200_000, h, seed=7)[0]
        for method, tolerance in (("rs", 0.07), ("dfa", 0.02), ("dfa2", 0.02), ("ghe", 0.02)):
            assert rolling_hurst(x, 1024, method).mean() == pytest.approx(h, abs=tolerance if h != 0.5 else 0.012)


def test_plot_takes_and_returns_axes():
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    assert plot_hurst({"noise": hurst_curve(np.random.default_rng(0).standard_normal(500))}, ax) is ax
    plt.close(fig)
