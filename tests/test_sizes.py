"""How often each test of the book cries wolf, and each interval misses, simulated: at least 4,000 draws a case, a standard error of 0.35 points. `-m slow -s` prints the tables of the chapters."""
import math

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import kurtosis, norm, skew

from futures_nb.backtest import YEAR, sharpe_ratio
from futures_nb.bootstrap import mean_block, stationary_sums
from futures_nb.ratios import sharpe_test
from futures_nb.regimes import sharpe_draws
from futures_nb.scores import apart, edge_interval, pesaran_timmermann, student_interval
from futures_nb.significance import best_of_luck, probabilistic_sharpe, superior_ability

MANY = 4000


def normal(rng, n, k=1): return rng.standard_normal((n, k))


def fat(rng, n, k=1): return rng.standard_t(5, (n, k)) / math.sqrt(5 / 3)


def clusters(rng, n, k=1):
    """GARCH(1,1) with Student's t of 6 degrees of freedom: alpha 0.08, beta 0.9."""
    z, var, out = rng.standard_t(6, (n + 100, k)) / math.sqrt(1.5), np.ones(k), np.empty((n + 100, k))
    for t in range(n + 100):
        out[t] = np.sqrt(var) * z[t]
        var = 0.02 + 0.08 * out[t] ** 2 + 0.9 * var
    return out[100:]


def memory(rng, n, k=1, phi=0.2): return lfilter([1], [1, -phi], fat(rng, n + 50, k), axis=0)[50:] * math.sqrt(1 - phi**2)


LAWS = {"normal": normal, "fat tails": fat, "clusters": clusters, "memory of 0.2": memory}


def share(found): return f"{100 * np.mean(found):.1f} %"


def fast_edge(d, overlap, n_draws, seed):
    """`edge_interval` of one row a day in law, from sums."""
    n, edge = len(d), d.mean()
    block = mean_block(d - edge, overlap)
    return student_interval(edge, stationary_sums(d[:, None], block, n_draws, seed)[:, 0] / n, block, n, overlap=overlap)


def test_the_fast_edge_is_that_of_the_book():
    d = np.random.default_rng(0).integers(-1, 2, 250).astype(float)
    for overlap in (1, 5): np.testing.assert_allclose(fast_edge(d, overlap, 20_000, 0), edge_interval(d, np.arange(250), overlap, 4000)["interval"], atol=0.004)


def overlapping(rng, n, h, drift=0.1, phi=0.95):
    """Signs of the sum of the next h days, up in more than half, and of a slow forecast that knows nothing."""
    run = np.concatenate([[0], np.cumsum(rng.standard_normal(n + h) + drift)])
    return run[h + 1:n + h + 1] - run[1:n + 1], lfilter([1], [1, -phi], rng.standard_normal(n + 200))[200:]


def edge_misses(n, h, phi, many, seed=2):
    """How often the interval lies above, and below, the edge that these calls deserve: calls of "down" where up has a chance of p cost 2p - 1."""
    rng, missed, p = np.random.default_rng(seed), np.zeros(2), norm.cdf(0.1 * math.sqrt(h))
    for k in range(many):
        y, said = overlapping(rng, n, h, phi=phi)
        d = ((said > 0) == (y > 0)).astype(float) - (y > 0)
        if np.ptp(d) == 0: continue       # it always says up: no difference
        low, high = fast_edge(d, h, 300, k)
        truth = (1 - 2 * p) * np.mean(said <= 0)
        missed += low > truth, high < truth
    return missed / many


def test_the_edge_of_labels_that_overlap_is_missed_as_often_as_said():
    assert edge_misses(250, 5, 0.5, 600).sum() < 0.085


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.0, 0.95])
@pytest.mark.parametrize("n,h", [(60, 1), (250, 1), (250, 5), (750, 5), (250, 20), (750, 20)])
def test_misses_of_the_edge(n, h, phi):
    above, below = edge_misses(n, h, phi, MANY)
    print(f"edge, {n} days, labels of {h}, calls with a memory of {phi}: above {100 * above:.1f} %, below {100 * below:.1f} %, {100 * (above + below):.1f} %")
    assert above + below < 0.066


def pt_rejections(n, h, many, seed=3):
    rng, found, ts = np.random.default_rng(seed), [], np.arange(n)
    for _ in range(many):
        y, said = overlapping(rng, n, h)
        kept = apart(ts, ts + h)
        found.append(pesaran_timmermann(y[kept], said[kept])[1] < 0.05)
    return np.mean(found)


def test_pesaran_timmermann_on_labels_that_overlap():
    assert abs(pt_rejections(250, 5, 1500) - 0.05) < 0.018


@pytest.mark.slow
@pytest.mark.parametrize("n,h", [(60, 1), (250, 1), (250, 5), (750, 5), (750, 20)])
def test_size_of_pesaran_timmermann_on_labels_that_overlap(n, h): print(f"PT, {n} days, labels of {h}: {100 * pt_rejections(n, h, MANY):.1f} %")


def ratio_misses(law, n, many, sharpe=0.0, method="stationary", seed=4):
    """How often a 95 % interval of the Sharpe ratio lies above, and below, the truth."""
    rng, missed = np.random.default_rng(seed), np.zeros(2)
    for k in range(many):
        x = LAWS[law](rng, n)[:, 0] + sharpe / math.sqrt(YEAR)
        if method == "stationary":
            draws, block = sharpe_draws(x, 300, k)
            low, high = student_interval(sharpe_ratio(x), draws, block, n)
        else: low, high = sharpe_test(x, n_draws=500, seed=k).interval
        missed += low > sharpe, high < sharpe
    return missed / many


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [125, 250, 750])
def test_misses_of_one_ratio(law, n):
    told = {method: ratio_misses(law, n, MANY, method=method) for method in ("stationary", "studentised")}
    print(f"ratio, {law}, {n} days: " + "; ".join(f"{m} above {100 * a:.1f} %, below {100 * b:.1f} %, {100 * (a + b):.1f} %" for m, (a, b) in told.items()))


def pair_rejections(law, n, many, corr=0.5, sharpe=1.0, seed=5):
    """Share of p-values below 5 % of two records with the same ratio: studentised, and normal."""
    rng, found = np.random.default_rng(seed), np.zeros(2)
    for k in range(many):
        z = LAWS[law](rng, n, 2)
        x = np.column_stack([z[:, 0], corr * z[:, 0] + math.sqrt(1 - corr**2) * z[:, 1]]) + sharpe / math.sqrt(YEAR)
        t = sharpe_test(*x.T, n_draws=500, seed=k)
        found += t.p_value < 0.05, t.p_normal < 0.05
    return found / many


def test_equal_ratios_are_called_different_as_often_as_said():
    for law in ("fat tails", "memory of 0.2"):
        studentised, _ = pair_rejections(law, 125, 1000)
        assert 0.03 < studentised < 0.075, (law, studentised)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [60, 125, 250, 750])
def test_size_of_equal_ratios(law, n):
    studentised, normal_p = pair_rejections(law, n, MANY)
    print(f"two ratios, {law}, {n} days: studentised {100 * studentised:.1f} %, normal {100 * normal_p:.1f} %")


def superior_rejections(law, n, k, many, seed=6):
    """Trials of luck of different sizes, correlated by a common part: share of p-values below 5 %."""
    rng, found = np.random.default_rng(seed), []
    for i in range(many):
        x = (LAWS[law](rng, n, k) + 0.5 * LAWS[law](rng, n)) * np.linspace(0.5, 3, k)
        found.append(superior_ability(x, n_draws=500, seed=i) < 0.05)
    return np.mean(found)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n,k", [(60, 10), (125, 10), (250, 10), (750, 10), (250, 50)])
def test_size_of_superior_ability(law, n, k): print(f"superior ability, {law}, {n} days, {k} trials: {100 * superior_rejections(law, n, k, MANY):.1f} %")


def psr_rejections(law, n, many, seed=7):
    x = LAWS[law](np.random.default_rng(seed), n, many)
    ratio = x.mean(0) / x.std(0, ddof=1)
    return np.mean([probabilistic_sharpe(*row) > 0.95 for row in zip(ratio, np.full(many, n), np.zeros(many), skew(x), kurtosis(x, fisher=False))])


def dsr_rejections(law, n, k, many, seed=8):
    """The best of k skill-less trials is called more than luck."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(many):
        x = LAWS[law](rng, n, k)
        ratio = x.mean(0) / x.std(0, ddof=1)
        best = x[:, ratio.argmax()]
        found.append(probabilistic_sharpe(ratio.max(), n, best_of_luck(k, 1 / math.sqrt(n - 1)), skew(best), kurtosis(best, fisher=False)) > 0.95)
    return np.mean(found)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [125, 250, 750])
def test_size_of_probabilistic_and_deflated_ratio(law, n):
    print(f"PSR above 95 %, {law}, {n} days: {100 * psr_rejections(law, n, MANY):.1f} %; DSR of the best of 10: {100 * dsr_rejections(law, n, 10, MANY):.1f} %, of 100: {100 * dsr_rejections(law, n, 100, MANY):.1f} %")


def versus_misses(n, h, many, seed=9):
    """Two equally good forecasts of sums of h days, slow ones: how often the interval of the difference leaves out zero."""
    rng, missed = np.random.default_rng(seed), np.zeros(2)
    for k in range(many):
        y = overlapping(rng, n, h, 0.0)[0]
        f = lfilter([1], [1, -0.9], rng.standard_normal((2, n + 100)))[:, 100:] * 0.3 * math.sqrt(h * (1 - 0.81))
        d = (y - f[0]) ** 2 - (y - f[1]) ** 2
        low, high = fast_edge(d, h, 300, k)
        missed += low > 0, high < 0
    return missed / many


@pytest.mark.slow
@pytest.mark.parametrize("n,h", [(125, 1), (250, 1), (750, 1), (250, 5), (750, 5), (750, 20)])
def test_misses_of_the_difference_of_two_forecasts(n, h):
    above, below = versus_misses(n, h, MANY)
    print(f"versus, {n} days, labels of {h}: {100 * (above + below):.1f} %")
