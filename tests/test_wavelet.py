"""Wavelets against MATLAB and pywt, the two laws of the kernels on random and on real bars, and what the transform may not know."""
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st

import futures_nb as fnb
from futures_nb.returns import log_returns, rolling_sum
from futures_nb.schema import DataError, make_index
from futures_nb.testing import same_bits
from futures_nb.wavelet import WAVELET_FEATURES, Wavelet, n_boundary, wavelet_features_run, wavelet_features_state, wavelet_filters, wavelet_run, wavelet_state
from futures_nb.windows import rolling_session_sum, session_rows

ORTHOGONAL = [w for w in pywt.wavelist(kind="discrete") if pywt.Wavelet(w).orthogonal and w != "dmey"]


def circular(x, wavelet, level):
    """Slow, and the series is a ring: details of levels 1 to `level`, and the smooth."""
    (lo, hi), v, details = wavelet_filters(wavelet), np.array(x), []
    for j in range(level):
        past = [np.roll(v, k * 2**j) for k in range(len(lo))]
        details.append(sum(h * p for h, p in zip(hi, past)))
        v = sum(g * p for g, p in zip(lo, past))
    return [*details, v]


TOLERANCE = (5e-5, 1e-10)   # of pywt's own test: MATLAB's taps have fewer digits for a few wavelets


def rms(error): return np.sqrt(np.mean(error**2))


def matlab_cases():
    """Wavelet, data and the `dwt` of MATLAB R2012a by mode that PyWavelets ships: with MATLAB's own taps, and with those of pywt."""
    found = np.load(Path(pywt.__file__).parent / "tests" / "data" / "dwt_matlabR2012a_result.npz", allow_pickle=False)
    rng = np.random.RandomState(1234)      # as pywt's test_matlab_compatibility.py draws the data
    for wavelet in (w for family in ("db", "sym", "coif", "bior", "rbio") for w in pywt.wavelist(family)):
        for n in (pywt.Wavelet(wavelet).dec_len, pywt.Wavelet(wavelet).dec_len + 1):
            data = rng.randn(n)
            if wavelet in ORTHOGONAL:
                yield wavelet, data, {mode: [(found[f"{mode}_{wavelet}_{n}_ma{own}"].ravel(), found[f"{mode}_{wavelet}_{n}_md{own}"].ravel()) for own in ("", "_pywtCoeffs")]
                                      for mode in ("per", "sym", "zpd")}


def test_matlab_agrees_where_it_wraps_around_and_inside():
    n_wrapped = n_inside = 0
    for wavelet, data, dwt in matlab_cases():
        n_taps = len(wavelet_filters(wavelet)[0])
        if len(data) % 2 == 0:             # mode per, an even length: every second coefficient of the circular version
            detail, smooth = (np.sqrt(2) * part for part in circular(data, wavelet, 1))
            rows = (2 * np.arange(len(data) // 2) + n_taps // 2) % len(data)
            for (low, high), atol in zip(dwt["per"], TOLERANCE):
                assert max(rms(smooth[rows] - low), rms(detail[rows] - high)) < atol
                n_wrapped += 1
        ours = np.sqrt(2) * fnb.modwt(data, wavelet, 1).to_numpy()[n_taps - 1]     # the first row whose filter lies inside
        for mode in ("sym", "zpd"):        # any padding: inside, there is none
            for (low, high), atol in zip(dwt[mode], TOLERANCE):
                assert rms(ours - [high[n_taps // 2 - 1], low[n_taps // 2 - 1]]) < atol
                n_inside += 1
    assert n_wrapped > 120 and n_inside > 480


@pytest.mark.parametrize("wavelet", ["db1", "db2", "db4", "db9", "sym4", "sym9", "coif2", "coif5"])
def test_interior_is_the_swt_of_pywt(wavelet):
    rng, (n_taps, level) = np.random.default_rng(0), (len(wavelet_filters(wavelet)[0]), 5)
    x = rng.standard_normal(2048).cumsum()
    for early in (False, True):
        values = x[::-1] if early else x   # reversed taps see the series as pywt sees the reversed one
        ours = fnb.modwt(x, wavelet, level, early=early)
        theirs = pywt.swt(values, wavelet, level, trim_approx=True, norm=True)
        for j, (name, c) in enumerate(zip(ours, [*theirs[:0:-1], theirs[0]]), 1):
            j = min(j, level)
            complete = np.roll(c, (2**j - 1) * n_taps // 2)[n_boundary(n_taps, j):]
            np.testing.assert_allclose(ours[name].iloc[n_boundary(n_taps, j):], complete[::-1] if early else complete, atol=1e-11)
            assert ours[name].iloc[:n_boundary(n_taps, j)].isna().all()


@pytest.mark.slow
@pytest.mark.parametrize("wavelet", ORTHOGONAL)
def test_circular_version_conserves_energy(wavelet):
    rng = np.random.default_rng(1)
    for n in (1, 2, 63, 500, 4096):
        x = rng.standard_normal(n).cumsum()
        np.testing.assert_allclose(sum(part @ part for part in circular(x, wavelet, 7)), x @ x, rtol=1e-8)
        np.testing.assert_allclose(circular(x, wavelet, 7)[-1].mean(), x.mean(), rtol=1e-8, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["haar", "db2", "db4", "sym5", "coif1"]), st.integers(1, 5), st.booleans(), st.integers(0, 10_000), st.lists(st.integers(1, 799), max_size=12))
def test_laws_of_the_kernel(wavelet, level, early, seed, cuts):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(800) * 10.0 ** rng.integers(-8, 8, 800)
    whole, parts, late = (np.empty((800, level + 1)) for _ in range(3))
    wavelet_run(wavelet_state(wavelet, level, early), x, whole)
    state, cuts = wavelet_state(wavelet, level, early), sorted(set(cuts))
    for a, b in zip([0, *cuts], [*cuts, 800]):
        wavelet_run(state, x[a:b], parts[a:b])
        state = Wavelet(*(part.copy() for part in state))          # saved and resumed
    assert same_bits(parts, whole).all()
    start, n = int(rng.integers(0, 800)), n_boundary(len(state.lo), level)
    wavelet_run(wavelet_state(wavelet, level, early), x[start:], late[start:])
    assert same_bits(late[start + n:], whole[start + n:]).all() and np.isnan(late[start:start + n, level]).all()
    for absurd in (np.nan, 1e30, -np.inf):
        spoiled, out = x.copy(), np.empty((800, level + 1))
        spoiled[start] = absurd
        wavelet_run(wavelet_state(wavelet, level, early), spoiled, out)
        same = same_bits(out, whole).all(axis=1)
        assert same[:start].all() and same[start + n + 1:].all() and not same[max(start, n)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.sampled_from(["haar", "db2", "db4"]), st.integers(1, 4), st.booleans(), st.integers(0, 1000))
def test_energy_is_the_sum_of_squares_of_each_window(window, wavelet, level, smooth, seed):
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2024-12-16 14:31", periods=700, freq="min", tz="UTC")
    x = pd.Series(rng.standard_normal(1130), make_index(np.repeat(["ESZ24", "ESH25", "ESM25"], [700, 30, 400]), ts.append([ts[:30], ts[:400]])))
    shares = fnb.wavelet_energy(x, window, wavelet, level, smooth=smooth)
    squares = fnb.modwt(x, wavelet, level) ** 2
    if not smooth: squares = squares.iloc[:, :-1]
    sums = pd.concat({c: rolling_sum(squares[c], window) for c in squares}, axis=1)
    np.testing.assert_allclose(shares, sums.div(sums.sum(axis=1, skipna=False), axis=0), rtol=1e-9, atol=1e-14)
    n_missing = [min(n, n_boundary(len(wavelet_filters(wavelet)[0]), level) + window - 1) for n in (700, 30, 400)]
    assert shares.iloc[:, -1].isna().groupby("contract", sort=False).sum().tolist() == n_missing


def test_noise_is_not_predicted_by_what_was_known():
    corr = []
    for seed in range(30):
        r = np.random.default_rng([9, seed]).standard_normal(4000)
        w = fnb.modwt(r, early=True).assign(trend=fnb.wavelet_trend(r.cumsum()) - r.cumsum())
        corr.append([np.corrcoef(w[c][500:-1], r[501:])[0, 1] for c in w])
    corr = np.array(corr)
    assert (np.abs(corr.mean(axis=0)) < 4 / np.sqrt(30 * 3499)).all()


def test_price_loses_no_digits():
    """The distance to the trend, of a log price of about 8.6 whose steps are a thousandth of a percent, against 80-bit numbers."""
    x = 8.6 + 1e-5 * np.random.default_rng(2).standard_normal(3000).cumsum()
    taps = np.ones(1, np.longdouble)
    for j in range(6): taps = np.convolve(taps, np.kron(wavelet_filters("db4", early=True)[0], np.eye(1, 2**j)[0])[:7 * 2**j + 1].astype(np.longdouble))
    exact = [x[i].astype(np.longdouble) - x[i - 441:i + 1][::-1].astype(np.longdouble) @ taps for i in range(441, 3000, 7)]
    ours = (x - fnb.wavelet_trend(x))[441::7]
    assert np.abs(ours - np.array(exact, float)).max() < 1e-9 * np.std(ours)


def columns_of(inputs, cuts=()):
    out, state = np.empty((len(inputs[0]), len(WAVELET_FEATURES))), wavelet_features_state()
    for a, b in zip([0, *cuts], [*cuts, len(out)]): wavelet_features_run(state, *(x[a:b] for x in inputs), out[a:b])
    return out


def test_features_of_real_bars_obey_the_laws(es_file):
    bars = fnb.read_bars(es_file, source="ninjatrader").iloc[:25_000]
    (rows, minute, new), = session_rows(bars.index)
    r = log_returns(bars.iloc[rows])
    vol = np.sqrt(rolling_session_sum(r**2, 5) / 5)
    inputs = [np.array(a, dtype=float) for a in (r, np.log(bars.close.iloc[rows]), vol, 0.25 / bars.close.iloc[rows])] + [minute, new]
    whole, first = columns_of(inputs), np.flatnonzero(new)
    for f, column in zip(WAVELET_FEATURES, whole.T):
        known = column[~np.isnan(column)]
        assert len(known) > 10_000 and (known >= f["range"][0]).all() and (known <= f["range"][1]).all(), f["name"]
    known = whole[~np.isnan(whole).any(axis=1)]
    corr = np.corrcoef(known.T)
    assert np.abs(corr - np.eye(len(corr))).max() < 0.95      # no column says what another one says
    rng = np.random.default_rng(3)
    for _ in range(5):
        cuts = np.sort(rng.choice(np.arange(1, len(whole)), 30, replace=False))
        assert same_bits(columns_of(inputs, cuts), whole).all()
        start = int(rng.integers(len(whole) // 2))
        late = [x[start:].copy() for x in inputs]
        late[5][0] = True
        same = first[np.searchsorted(first, start) + 2]
        assert same_bits(columns_of(late)[same - start:], whole[same:]).all()


def test_transform_of_real_bars_is_causal_and_finite(es_file):
    bars = fnb.read_bars(es_file, source="ninjatrader").iloc[:6000]
    fnb.assert_causal(lambda b: fnb.wavelet_energy(log_returns(b), 400), bars, n_cuts=4)
    shares = fnb.wavelet_energy(log_returns(bars), 1380)
    assert shares.iloc[1821:].notna().all(axis=None)
    np.testing.assert_allclose(shares.iloc[1821:].sum(axis=1), 1, rtol=1e-12)


def test_plain_series_arrays_and_lists_are_one_run():
    x = np.random.default_rng(4).standard_normal(600)
    days = pd.Series(x, pd.date_range("2020-01-01", periods=600))
    assert fnb.modwt(days, "haar", 3).index.equals(days.index)
    np.testing.assert_array_equal(fnb.modwt(days, "haar", 3), fnb.modwt(x, "haar", 3))
    np.testing.assert_array_equal(fnb.modwt(x.tolist(), "haar", 3), fnb.modwt(x, "haar", 3))
    np.testing.assert_array_equal(x, days)       # left as it was
    for wrong, message in ((lambda: fnb.modwt(x, level=0), "level is 0"), (lambda: fnb.modwt(x[:0]), "too deep"), (lambda: fnb.modwt(x.reshape(2, 300)), "one column"),
                           (lambda: fnb.modwt(np.where(np.arange(600) == 7, np.nan, x)), "x is nan at 7"), (lambda: fnb.wavelet_variance(x, level=7), "too deep")):
        with pytest.raises(DataError, match=message): wrong()


@pytest.mark.slow
def test_interval_of_the_variance_holds_the_truth():
    """AR(1) returns, whose variance by level is known from their spectrum and the filter: 95 % intervals hold it in at least 92 %."""
    phi, level = -0.3, 6
    f = (np.arange(1 << 14) + 0.5) / (1 << 15)
    spectrum = 1 / np.abs(1 - phi * np.exp(-2j * np.pi * f)) ** 2
    lo, hi = wavelet_filters("db4")
    gain = lambda taps, f: np.abs(np.exp(-2j * np.pi * np.outer(f, np.arange(len(taps)))) @ taps) ** 2
    truth, passed = [], np.ones(len(f))
    for j in range(level):
        truth.append(2 * np.mean(spectrum * passed * gain(hi, f * 2**j)) / 2)
        passed = passed * gain(lo, f * 2**j)
    inside = []
    for seed in range(600):
        e = np.random.default_rng([5, seed]).standard_normal(2200)
        x = np.convolve(e, phi ** np.arange(60))[:2200][200:]
        v = fnb.wavelet_variance(x)
        inside.append((v.low < truth) & (truth < v.high))
    assert (np.mean(inside, axis=0) > 0.92).all(), np.mean(inside, axis=0)
