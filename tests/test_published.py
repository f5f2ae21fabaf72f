"""Numbers that somebody else published, or that somebody else's program gives for the same days: ratios, their errors and tests, pairs of forecasts, block lengths."""
import math

import numpy as np
import pytest
from arch.bootstrap import SPA, optimal_block_length
from scipy.signal import lfilter
from scipy.stats import norm
from scipy.stats import t as student

from futures_nb.backtest import YEAR, lo_factor, sharpe_error
from futures_nb.bootstrap import mean_block, mean_variances
from futures_nb.comparison import equal_loss
from futures_nb.har import diebold_mariano
from futures_nb.power import detectable_sharpe, labels_needed
from futures_nb.ratios import _deviations, parzen_covariance, ratio_error, sharpe_test, studentised_draws
from futures_nb.scores import detectable_edge, pesaran_timmermann
from futures_nb.significance import best_of_luck, deflated_sharpe, minimum_track_record, probabilistic_sharpe, superior_ability

# Monthly excess returns in percent that Ledoit and Wolf published with their program: two mutual funds, and two hedge funds (120 months each).
MUTUAL = np.array("""3.92670407 2.64759888 -2.33048071 -0.81627938 -4.85832276 -5.72403137 1.95998592 0.04747615 -0.43972737 -4.24156123 -2.70563325 -7.59122784 2.92574256 3.33909569 3.87814751 6.7505071 -2.52489141 -0.84311657
1.74590464 4.2812789 -4.06991179 -4.4141597 0.84012606 2.29524585 -0.56170517 -3.21205831 2.84344303 4.18452874 3.11084836 3.66221478 1.91652781 2.78664632 1.2406743 3.5772847 2.7005608 10.06257052 4.01653946 10.75298768
1.19308713 0.90615474 2.44223324 1.90052051 -1.61503088 -1.6643143 3.6948135 -1.6861009 2.07018962 -5.91624393 2.0208975 0.99665747 0.83481382 5.4183424 1.44586084 -0.40340949 1.20524857 5.81894847 1.51496434 3.37124409
0.06133578 -4.26584128 -4.84827095 -10.75271612 2.44977553 3.69745056 4.55040666 7.75711383 1.21709433 -3.00709376 5.4069905 4.93609027 -2.54873859 -3.787201 3.72536208 6.3226772 0.54105796 -5.64273356 -5.43839809 -7.06975665
5.18967322 1.7490358 4.95603241 8.635159 4.63932427 2.33156526 7.65874884 9.29364687 -5.72423861 -1.61818302 4.80637372 5.63142548 -3.22547442 -8.20496716 3.90518504 0.50002987 1.86219433 1.09178582 0.10582716 -1.07181348
6.23278903 8.75431668 4.7072399 5.11078556 0.34272956 1.2007289 -1.02731916 -4.2240417 4.33753278 9.33901336 0.03111618 0.4632305 -16.62503573 -21.92512391 3.97885471 11.49516863 6.78552349 2.9996214 5.69553948 6.78450801
7.71206682 12.22539193 3.2070641 10.21974187 -2.46220351 -5.9869284 3.89688785 12.78140099 1.76306486 6.38115222 -3.53632421 -4.7807636 5.06137686 8.73816721 -3.53519744 -1.53231983 -1.90283675 5.41216931 -2.54655421 -2.88542841
3.85615188 10.47915002 3.63409054 10.82574708 9.75479521 16.93645248 -4.83117625 -0.69995667 2.90380609 15.91009419 3.82397828 -2.98171268 -6.45137781 -17.06131019 -5.08712293 -12.18635617 5.19073696 16.94839843 -2.53089011 -7.93024496
6.15036353 14.78038896 -5.84708876 -10.25417492 -0.82048211 -12.19078838 -11.71065812 -26.51730222 2.1564888 6.52516368 2.76751644 1.67180416 -10.24214404 -22.61619191 -8.84161009 -23.94040367 12.06687524 19.0282885 0.23469865 -3.57649912
-0.65065573 -11.19311909 -5.39932906 -13.36661023 -5.22087084 -15.10994731 -10.37836022 -23.94610591 2.6288369 15.68607237 5.75676617 10.00690578 2.07200752 0.01861309 -1.60537242 -7.06579239 -2.50126884 -10.80461355 2.24747676 4.75810268
-6.00599452 -10.2733745 -0.49649931 -7.13687313 -6.5602266 -16.37565909 -8.63037497 -7.77480883 -0.04259396 -3.71392416 -10.26085977 -14.69675717 8.24590004 13.96299673 4.83684118 13.48573121 -5.7832214 -9.00858074 -3.33069179 -0.6360189
-0.82456276 -1.54886517 1.73950487 1.80773149 7.23176297 4.97737788 3.48935011 7.06602213 0.94714694 1.26386946 2.3977011 2.70543732 1.60398836 3.73190342 -1.8021481 -1.55509919 5.55897751 5.91609349 0.58601643 2.27753758
5.52014288 1.82369758""".split(), float).reshape(120, 2)
HEDGE = np.array("""0.6812972 0.1943571 0.6590867 0.3118182 1.113184 0.79741 0.5253526 -0.06141619 0.8250787 0.5678554 1.209827 0.2104327 0.9580597 0.2946753 0.7780394 0.5506035 1.692381 0.32118 0.6913268 0.1259476 1.639145 0.3275226
0.2832465 0.4815175 0.5421948 0.1553337 1.11027 0.07108152 1.30982 0.3126823 0.2096562 0.1501736 0.6543112 1.127773 1.133846 0.7885659 1.609258 0.6145729 2.566037 0.1698496 1.247054 -0.05948804 1.541927 -0.01964648
0.994488 -0.02591778 1.817061 0.240129 2.101866 0.2412821 1.331784 0.3441884 1.880532 0.08540721 1.607264 -0.06317093 2.703011 0.4778987 1.566412 0.3831296 1.070305 0.0802441 0.8612195 0.6240868 0.8680123 -0.05434315
1.201234 0.2818077 0.9419864 0.298526 0.8329147 0.2285909 1.590724 0.7542084 1.660986 0.300116 0.9035943 0.2301754 1.344896 0.3675995 1.804685 0.177732 1.451666 0.1374963 2.603538 0.09813306 2.236834 0.200423 0.9381944 0.2452992
1.947973 0.2735195 -0.08834136 0.2401688 1.354882 0.3676544 1.932465 0.2083172 0.877896 0.2242618 1.375012 0.189248 0.7309824 0.394233 1.013313 0.1021266 -1.987464 0.1932088 0.8585362 0.2345265 -2.286329 0.2592063
-2.110502 0.1928255 -0.04409754 0.3043636 1.316254 0.1590346 1.002578 0.2699723 1.626264 0.3435174 1.126939 0.345459 1.008629 0.2461398 2.712589 0.417002 2.62778 0.3009782 1.549161 0.4046134 0.8417694 0.3069134 0.6403194 0.2635905
1.156887 0.236958 0.7974892 0.2524431 -1.04404 0.2953638 1.773266 0.2651712 2.5434 0.2060053 1.491014 0.2573521 3.027254 0.1668359 3.299774 0.1990478 2.097768 0.2384473 1.509243 0.1966746 1.634951 0.1753915 0.8581319 0.2347065
1.524086 0.1921152 0.2827904 0.1238467 -1.000094 0.1489801 1.512823 0.2201506 4.973459 0.2194547 3.659623 0.2110882 1.236722 0.1880539 0.7181669 0.2022153 0.4607545 0.212393 -0.01620412 0.1929784 1.663385 0.1913548 1.685307 0.2233333
1.841467 0.1720814 1.487927 0.2011724 1.383737 0.1950076 3.16509 0.1997783 2.20604 0.2030418 0.6141716 0.1765777 0.9461478 0.1716257 2.842833 0.2371794 -0.1229929 0.1665875 -2.099501 0.1690597 -1.782211 0.1706616
1.404185 0.1656167 2.021849 0.1648148 0.8841528 0.1589215 3.086808 0.1578078 2.964086 0.1710534 3.159487 0.1627099 1.73617 0.1427931 1.099206 0.1660376 2.287825 0.156027 1.350948 0.1709827 -2.127188 0.1833439 -1.677494 0.1650404
0.4995302 0.1808825 3.352566 0.241505 2.090021 0.2132809 0.888179 0.1625625 2.686836 0.1750414""".split(), float).reshape(120, 2)


def test_the_errors_of_ledoit_and_wolfs_own_program():
    """Their R program on their hedge funds, as run and printed by P. F. Naibert (2019): ratios, difference, both errors, both p-values."""
    ratios = HEDGE.mean(0) / HEDGE.std(0, ddof=1)
    np.testing.assert_allclose([*ratios, ratios[0] - ratios[1]], [1.014228, 1.460547, -0.4463183], atol=5e-7)
    errors = [ratio_error(HEDGE, prewhiten=False), ratio_error(HEDGE)]
    np.testing.assert_allclose(errors, [0.3176271, 0.3872694], atol=5e-8)
    np.testing.assert_allclose([2 * norm.sf(0.4463183 / e) for e in errors], [0.1599724, 0.2491259], atol=5e-7)


def test_the_error_of_their_mutual_funds():
    """M. Mark's Python version (2022) gives 0.052581574094722326, with the wrong sign in the last entry of the gradient; so do ours when that sign is turned. Means and deviations as in the paper's table."""
    v, gradient = _deviations(MUTUAL)
    np.testing.assert_allclose(ratio_error(MUTUAL, prewhiten=False), math.sqrt(gradient @ parzen_covariance(v) @ gradient / 120), rtol=1e-12)
    gradient[3] *= -1
    np.testing.assert_allclose(math.sqrt(gradient @ parzen_covariance(v) @ gradient / 120), 0.052581574094722326, rtol=1e-9)
    np.testing.assert_allclose([MUTUAL.mean(0), MUTUAL.std(0, ddof=1)], [[0.511, 0.098], [4.760, 9.161]], atol=6e-4)


def test_the_bootstrap_of_ledoit_and_wolf():
    """Their program gave p = 0.250, a rewritten one 0.298, both with blocks of five months and 499 draws: standard error 0.02. In units of their deviations the prewhitened error is smaller."""
    draws = studentised_draws(HEDGE, 5, 20_000)
    p = np.mean(draws >= 0.4463183 / ratio_error(HEDGE))
    assert abs(p - 0.274) < 0.04, p
    found = sharpe_test(*HEDGE.T, block=5, n_draws=20_000)
    assert math.isclose(found.error / math.sqrt(YEAR), ratio_error(HEDGE / HEDGE.std(0)), rel_tol=1e-12) and found.p_value < p
    print(f"p = {p:.3f} in percent, {found.p_value:.3f} in deviations")


LO_TABLE_1 = {0.5: (0.306, 0.217, 0.177, 0.153, 0.137, 0.095, 0.067, 0.047), 1.0: (0.354, 0.250, 0.204, 0.177, 0.158, 0.110, 0.077, 0.055),
              1.5: (0.421, 0.298, 0.243, 0.210, 0.188, 0.130, 0.092, 0.065), 2.0: (0.500, 0.354, 0.289, 0.250, 0.224, 0.155, 0.110, 0.077),
              2.5: (0.586, 0.415, 0.339, 0.293, 0.262, 0.182, 0.128, 0.091), 3.0: (0.677, 0.479, 0.391, 0.339, 0.303, 0.210, 0.148, 0.105)}

def test_standard_errors_of_lo():
    """Lo (2002), table 1: standard errors of a ratio per observation, by ratio and number of observations."""
    for ratio, row in LO_TABLE_1.items():
        got = [sharpe_error(ratio * math.sqrt(YEAR), n) / math.sqrt(YEAR) for n in (12, 24, 36, 48, 60, 125, 250, 500)]
        np.testing.assert_allclose(got, row, atol=0.00051)


def test_annual_ratios_of_lo():
    """Lo (2002), table 2: factors from a monthly ratio to that of q months, of first autoregressions; the text quotes 4.17 and 2.88 for a year."""
    got = {rho: [round(lo_factor(rho ** np.arange(1, q), q), 2) for q in (2, 3, 4, 6, 12, 24)] for rho in (0.9, 0.0, 0.2, -0.2)}
    assert got[0.0] == [1.41, 1.73, 2.0, 2.45, 3.46, 4.9] and got[0.9][:5] == [1.03, 1.05, 1.07, 1.1, 1.21]
    assert (got[-0.2][4], got[0.2][4]) == (4.17, 2.88)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.3, 0.9])
@pytest.mark.parametrize("q", [2, 12, 252])
def test_lo_factor_in_closed_form(rho, q):
    """Lo (2002), equation 22, of a first autoregression."""
    closed = math.sqrt(q) / math.sqrt(1 + 2 * rho / (1 - rho) * (1 - (1 - rho**q) / (q * (1 - rho))))
    assert math.isclose(lo_factor(rho ** np.arange(1, q), q), closed, rel_tol=1e-12)


def test_probabilistic_ratio_of_bailey_and_lopez_de_prado():
    """Bailey and López de Prado (2012): 24 months with a ratio of 0.458, skewness -2.448, kurtosis 10.164: 0.913; as if normal 0.982; of 36 months 0.953."""
    said = [probabilistic_sharpe(0.458, 24, 0.0, -2.448, 10.164), probabilistic_sharpe(0.458, 24), probabilistic_sharpe(0.458, 36, 0.0, -2.448, 10.164)]
    np.testing.assert_allclose(said, [0.913, 0.982, 0.953], atol=0.0006)


def test_minimum_track_record_of_bailey_and_lopez_de_prado():
    """Their tables for a ratio of 2 against 1 at 95 %: 2.73 years of days, 2.83 of weeks, 3.24 of months if normal, and 4.99 of months with skewness -0.72 and kurtosis 5.78."""
    def years(per_year, **moments):     # our years have 252 periods
        scale = math.sqrt(YEAR / per_year)
        return minimum_track_record(2.0 * scale, 1.0 * scale, **moments) * YEAR / per_year
    np.testing.assert_allclose([years(252), years(52), years(12), years(12, skew=-0.72, kurtosis=5.78)], [2.73, 2.83, 3.24, 4.99], atol=0.006)


def test_deflated_ratio_of_bailey_and_lopez_de_prado():
    """Bailey and López de Prado (2014): 100 trials give a benchmark of 0.1132 and 0.9004; with 46 it would be 0.9505."""
    told = {n: deflated_sharpe(None, n, sharpe=2.5, n_days=1250, skew=-3.0, kurtosis=10.0, trials_var=0.5, year=250) for n in (100, 46)}
    assert (round(told[100]["benchmark"], 4), round(told[100]["dsr"], 4), round(told[46]["dsr"], 4)) == (0.1132, 0.9004, 0.9505)


def test_largest_of_ten_trials():
    """López de Prado, Lipton and Zoonekynd (2025), page 13: ten trials with a variance of 0.1 have an expected maximum of 0.498."""
    assert round(best_of_luck(10, math.sqrt(0.1)), 3) == 0.498


def harvey(d, h=1):
    """Diebold and Mariano with the correction of Harvey, Leybourne and Newbold (1997): statistic and two-sided p."""
    n, e = len(d), d - d.mean()
    var = (e @ e + 2 * sum(e[k:] @ e[:-k] for k in range(1, h))) / n
    stat = d.mean() / math.sqrt(var / n) * math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n) if var > 0 else math.nan
    return stat, 2 * student.sf(abs(stat), n - 1)


def test_diebold_mariano_with_the_correction_of_harvey():
    """The examples that the package dieboldmariano 1.1.0 publishes; ours with no lags is its statistic before the correction."""
    zero, f, g = np.zeros(6), np.array([0, 1, 2, 3, 4, 5.0]), np.array([0, 2, 3, 3, 5, 6.0])
    np.testing.assert_allclose(harvey(f**2 - g**2), (-2.4905, 0.05513), atol=5e-5)
    t, f, g = np.array([10, 20, 30, 40, 50.0]), np.array([11, 21, 29, 42, 53.0]), np.array([13, 26, 24, 40, 59.0])
    stat, p = harvey((f - t) ** 2 - (g - t) ** 2)
    np.testing.assert_allclose((stat, p / 2), (-2.2229922805746782, 0.04515565862099125), rtol=1e-9)
    a, b = np.random.default_rng(0).standard_t(4, (2, 80)) ** 2
    np.testing.assert_allclose(diebold_mariano(a, b, lags=0).statistic * math.sqrt(79 / 80), harvey(a - b)[0], rtol=1e-12)
    assert abs(equal_loss(a, b).statistic / harvey(a - b)[0] - 1) < 0.5 and zero.sum() == 0


def test_power_of_the_issue():
    """51 % needs 19,620 independent days, 53 % 2,178, 55 % 783; a year of 252; three years of days show 5.1 points, 150 days 11.4."""
    z = norm.ppf(0.975) * 0.5
    assert [math.ceil(((z + norm.ppf(0.8) * math.sqrt(0.25 - e**2)) / e) ** 2) for e in (0.01, 0.03, 0.05)] == [19_620, 2_178, 783]
    assert [round(100 * detectable_edge(n), 1) for n in (756, 150)] == [5.1, 11.4]
    assert [round(labels_needed(e) / YEAR, 1) for e in (0.01, 0.03, 0.05)] == [77.9, 8.7, 3.1]
    assert [round(minimum_track_record(s), 2) for s in (0.5, 1.0, 2.0)] == [10.83, 2.71, 0.69]
    assert round(sharpe_error(1.0, 756), 2) == 0.58 and 1.6 < detectable_sharpe(756) < 1.65
    assert [round(best_of_luck(n, sharpe_error(0.0, 756)), 2) for n in (10, 50, 200, 1000)] == [0.91, 1.31, 1.60, 1.88]


@pytest.mark.parametrize("n", [12, 40, 250, 1500])
def test_block_length_of_arch(n):
    """Politis and White (2004) with the correction of 2009, as arch writes it, for noise, memory of both signs, and a constant stretch."""
    rng = np.random.default_rng(n)
    for phi in (-0.7, 0.0, 0.2, 0.8, 0.98):
        for _ in range(5):
            x = lfilter([1], [1, -phi], rng.standard_t(4, n))
            assert math.isclose(mean_block(x), min(max(optimal_block_length(x)["stationary"].iloc[0], 1), n / 3), rel_tol=1e-9)
    x[: n // 2] = 0.0
    assert math.isclose(mean_block(x), min(max(optimal_block_length(x)["stationary"].iloc[0], 1), n / 3), rel_tol=1e-9)


def test_superior_ability_of_arch():
    """arch compares means as they are; of gains divided by their errors beforehand it says what ours says."""
    rng, apart = np.random.default_rng(1), []
    for k in range(6):
        x = rng.standard_normal((400, 8)) + 0.02 * k
        even = x / np.sqrt(mean_variances(x, 2.0))
        theirs = SPA(np.zeros(400), -even, block_size=2, reps=1000, seed=k)
        theirs.compute()
        apart.append(superior_ability(x * np.geomspace(0.1, 10, 8), n_draws=4000) - theirs.pvalues["consistent"])
    assert np.max(np.abs(apart)) < 0.06, apart


def test_pesaran_timmermann_written_out():
    """The formula of Pesaran and Timmermann (1992), equation 6, as programs write it out, on signs with zeros."""
    rng = np.random.default_rng(3)
    for n in (20, 333):
        y, said = rng.standard_normal(n), rng.standard_normal(n) + 0.3
        x, z = y > 0, said > 0
        hit, px, pz = np.mean(x == z), x.mean(), z.mean()
        star = px * pz + (1 - px) * (1 - pz)
        var = star * (1 - star) / n - ((2 * pz - 1) ** 2 * px * (1 - px) + (2 * px - 1) ** 2 * pz * (1 - pz)) / n - 4 * px * pz * (1 - px) * (1 - pz) / n**2
        np.testing.assert_allclose(pesaran_timmermann(y, said), ((hit - star) / math.sqrt(var), 2 * norm.sf(abs(hit - star) / math.sqrt(var))), rtol=1e-9)
