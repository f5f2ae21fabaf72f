"""Scores of signs, probabilities and quantiles against scikit-learn and scipy, and the sizes of the test and the intervals, simulated at length."""
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, spearmanr
from scipy.stats import t as student
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, d2_pinball_score, log_loss, matthews_corrcoef, mean_pinball_loss, r2_score

from futures_nb.backtest import sharpe_interval
from futures_nb.probability import CLASSES, bins_of, brier_parts, calibration_table, judge_probabilities, judge_quantiles, matthews_interval, student_quantiles
from futures_nb.schema import make_index
from futures_nb.sessions import trade_dates
from futures_nb.scores import PT_SIZES, Skill, edge_interval, label_times, pesaran_timmermann, pt_size, rows_in_time, skill


def predictions(y, y_hat):
    """One row a day; each label ends where the next row begins."""
    ts = pd.date_range("2015-01-05 21:00", periods=len(y) + 1, freq="B", tz="UTC")
    return pd.DataFrame({"y": y, "y_hat": y_hat, "t1": ts[1:]}, make_index("ES", ts[:-1]))


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    for n in (40, 700):
        y = rng.normal(0.1, 1, n)
        y[::11] = 0.0
        y_hat = 0.3 * y + rng.normal(0.2, 1, n)
        s = skill(predictions(y, y_hat), n_draws=50)
        assert math.isclose(s.mcc, matthews_corrcoef(y > 0, y_hat > 0), rel_tol=1e-12)
        assert math.isclose(s.accuracy, accuracy_score(y > 0, y_hat > 0), rel_tol=1e-12)
        assert math.isclose(s.rank_corr, spearmanr(y, y_hat).statistic, rel_tol=1e-12)
        assert math.isclose(s.r2_oos, r2_score(np.append(y, -y), np.append(y_hat, -y_hat)), rel_tol=1e-12)   # mirrored, the mean is zero


def test_better_needs_all_three():
    """Every pattern of witnesses, made from one sure skill: better only if none objects."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=400)
    facts = {k: v for k, v in vars(skill(predictions(y, np.where(rng.random(400) < 0.8, y, -y)), n_draws=100)).items()}
    for base in (True, False):
        for test in (True, False):
            for bootstrap in (True, False):
                s = Skill(**facts | {"edge": 0.1 if base else -0.001, "pt_p": 0.01 if test else 0.06, "interval": (0.01, 0.2) if bootstrap else (-0.01, 0.2), "interval_both": (-0.02, 0.3)})
                assert s.witnesses == {"base_rate": base, "test": test, "bootstrap": bootstrap}
                assert s.verdict == ("better than the base rate" if base and test and bootstrap else "cannot tell")
                assert s.to_dict()["witnesses"] == s.witnesses


def test_weights_of_the_interval_are_repeated_rows():
    rng = np.random.default_rng(2)
    d, day, w = rng.integers(-1, 2, 900), np.sort(rng.integers(0, 90, 900)), rng.integers(0, 4, 900)
    day = np.unique(day, return_inverse=True)[1]
    got, want = edge_interval(d, day, weight=w), edge_interval(np.repeat(d, w), np.unique(np.repeat(day, w), return_inverse=True)[1])
    np.testing.assert_allclose(got["interval"], want["interval"], rtol=1e-12)
    assert got["interval"] != edge_interval(d, day)["interval"]


def test_errors_name_who_asked():
    p = predictions(np.ones(3), np.ones(3))
    with pytest.raises(Exception, match="other: y is not finite in 1 rows"): rows_in_time(p.assign(y=[1, np.nan, 1]), ["y"], "other")
    with pytest.raises(Exception, match="other: t1 is missing"): label_times(p.assign(t1=pd.NaT), np.arange(3), "other")


def test_size_of_pesaran_timmermann():
    """400,000 two-by-two tables of independent signs per case; `-s` prints the table of the chapter. The statistic is the correlation of the signs, as the chapter shows."""
    for n, known in PT_SIZES.items():
        found = []
        for up, said in ((0.5, 0.5), (0.54, 0.54), (0.54, 0.8), (0.54, 0.95)):
            a, b, c, d = np.random.default_rng(1).multinomial(n, [up * said, up * (1 - said), (1 - up) * said, (1 - up) * (1 - said)], 400_000).T.astype(float)
            var = (a + b) * (c + d) * (a + c) * (b + d)
            stat = np.where(var > 0, (a * d - b * c) / np.sqrt(np.maximum(var, 1)) * n / math.sqrt(n - 1), 0.0)
            found.append(np.mean(2 * norm.sf(np.abs(stat)) < 0.05))
        y, y_hat = (np.repeat(x, [int(k[0]) for k in (a, b, c, d)]) for x in ([1, 1, -1, -1], [1, -1, 1, -1]))
        assert math.isclose(pesaran_timmermann(y, y_hat)[0], stat[0], rel_tol=1e-9)
        print(f"PT {n:4d} labels: " + ", ".join(f"{x:.1%}" for x in found))
        assert round(max(found), 3) == known == pt_size(n) and known < 0.06


def with_classes(n, k, seed):
    """Rows with answers of both signs and zero, and probabilities of `k` classes that know a little."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < 0.15, 0.0, rng.normal(0.2, 1, n))
    logits = rng.normal(size=(n, k)) + 0.6 * np.eye(k)[(y > 0).astype(int) if k == 2 else np.sign(y).astype(int) + 1]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return predictions(y, 0.0).assign(**dict(zip(CLASSES if k == 3 else ("p_down", "p_up"), p.T)), weight=rng.integers(1, 5, n)), p


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("weight", [None, "weight"])
def test_probabilities_against_scikit_learn(k, weight):
    frame, p = with_classes(600, k, k)
    y, w = frame["y"].to_numpy(), None if weight is None else frame["weight"].to_numpy()
    happened = (y > 0).astype(int) if k == 2 else np.sign(y).astype(int) + 1
    s = judge_probabilities(frame, weight=weight, n_draws=50)
    only = dict(sample_weight=w, labels=range(k))
    assert math.isclose(s.brier, brier_score_loss(happened, p if k == 3 else p[:, 1], scale_by_half=True, **only), rel_tol=1e-12)
    assert math.isclose(s.log_loss, log_loss(happened, p, **only), rel_tol=1e-12)
    assert math.isclose(s.mcc, matthews_corrcoef(happened, p.argmax(1), sample_weight=w), rel_tol=1e-9)
    base = np.average(np.eye(k)[happened], axis=0, weights=w)
    assert math.isclose(s.differences["log_loss"]["value"], s.log_loss - log_loss(happened, np.tile(base, (600, 1)), **only), rel_tol=1e-9)
    parts, up = s.parts, happened == k - 1
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["rest"]
    assert math.isclose(total, brier_score_loss(up, p[:, -1], sample_weight=w), rel_tol=1e-12)


def test_parts_of_brier_against_pandas():
    """A base rate far from one half, bins of several probabilities, ties at the edges of bins."""
    rng = np.random.default_rng(8)
    p = np.round(rng.beta(2, 5, 800), 2)
    up, w = rng.random(800) < 0.7 * p + 0.1, rng.integers(1, 4, 800)
    bins = bins_of(p, 6)
    edges = np.quantile(p, np.arange(1, 6) / 6)
    assert bins.tolist() == [int(sum(x > edge for edge in edges)) for x in p]
    rows = pd.DataFrame({"p": np.repeat(p, w), "up": np.repeat(up, w).astype(float), "bin": np.repeat(bins, w)})
    mean, base = rows.groupby("bin").transform("mean"), rows["up"].mean()
    got = brier_parts(p, up, bins, w)
    want = {"reliability": ((mean["p"] - mean["up"]) ** 2).mean(), "resolution": ((mean["up"] - base) ** 2).mean(), "uncertainty": base * (1 - base)}
    assert all(math.isclose(got[k], v, rel_tol=1e-9) for k, v in want.items()) and base < 0.4


def test_intervals_are_of_days():
    """What is resampled are trade dates: the interval of the difference is that of its sums by date."""
    frame, p = with_classes(120, 2, 9)
    ts = frame.index.get_level_values("ts")[np.arange(120) // 4] + pd.to_timedelta(np.arange(120) % 4, unit="min")
    frame = frame.set_axis(make_index("ES", ts)).assign(t1=ts + pd.Timedelta("30min"))
    day, up = np.unique(trade_dates(frame.index.get_level_values("ts")), return_inverse=True)[1], frame["y"].to_numpy() > 0
    d = (p[:, 1] - up) ** 2 - (up.mean() - up) ** 2
    assert np.allclose(judge_probabilities(frame, n_draws=200).differences["brier"]["interval"], edge_interval(d, day, 1, 200)["interval"], rtol=1e-9) and 20 < day.max() < 30


def test_calibration_curve_against_scikit_learn():
    frame, p = with_classes(730, 2, 5)
    table = judge_probabilities(frame, n_bins=8, n_draws=50).calibration
    share, mean = calibration_curve(frame["y"] > 0, p[:, 1], n_bins=8, strategy="quantile")
    np.testing.assert_allclose(table[["p", "share"]].to_numpy(), np.column_stack([mean, share]), rtol=1e-12)
    assert ((table["low"] <= table["share"]) & (table["share"] <= table["high"])).all() and table["n"].sum() == 730


def test_quantiles_against_scikit_learn():
    rng = np.random.default_rng(6)
    frame = student_quantiles(predictions(0.01 * rng.standard_t(5, 500), 0.001 * rng.normal(size=500)).assign(scale=0.01 * np.exp(0.2 * rng.normal(size=500)), df=5.0))
    s = judge_quantiles(frame, n_draws=50)
    for level, row in s.levels.iterrows():
        q = frame[f"q_{level:g}"]
        assert math.isclose(row["pinball"], mean_pinball_loss(frame["y"], q, alpha=level), rel_tol=1e-12)
        assert math.isclose(1 - row["pinball"] / row["base"], d2_pinball_score(frame["y"], q, alpha=level), rel_tol=2e-2, abs_tol=2e-3)   # its constant interpolates
        assert math.isclose(row["below"], np.mean(frame["y"] < q), rel_tol=1e-12)
    np.testing.assert_allclose(frame["p_up"], student.sf(0, frame["df"], frame["y_hat"], frame["scale"]), rtol=1e-9)
    np.testing.assert_allclose(student.cdf(frame["q_0.25"], frame["df"], frame["y_hat"], frame["scale"]), 0.25, rtol=1e-9)


def test_copies_of_a_row_buy_nothing():
    """Sixty equal rows a day: the same scores, intervals and verdict as one."""
    frame, _ = with_classes(120, 2, 7)
    frame = frame.assign(**{"q_0.1": -0.5, "q_0.9": 1.0 + 0.1 * frame["p_up"]})
    many = frame.loc[frame.index.repeat(60)]
    ts = many.index.get_level_values("ts") - pd.to_timedelta(np.tile(np.arange(60)[::-1], 120), unit="min")
    many = many.set_axis(make_index("ES", ts))
    first, copies = judge_probabilities(frame), judge_probabilities(many)
    assert copies.n == 60 * first.n and copies.n_independent < 250
    np.testing.assert_allclose(copies.calibration[["p", "share"]], first.calibration[["p", "share"]], rtol=1e-9)
    for name in ("brier", "log_loss"):
        assert math.isclose(first.differences[name]["value"], copies.differences[name]["value"], rel_tol=1e-9)
        ratio = np.ptp(copies.differences[name]["interval"]) / np.ptp(first.differences[name]["interval"])
        assert 0.8 < ratio < 1.25
    ratio = np.ptp(judge_quantiles(many).difference["interval"]) / np.ptp(judge_quantiles(frame).difference["interval"])
    assert 0.8 < ratio < 1.25


def test_noise_is_rarely_called_better():
    """Calibrated probabilities of nothing, and the constant that is right: neither is better than the base rate."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p = np.clip(0.54 + 0.03 * rng.normal(size=250), 0.05, 0.95)
        frame = predictions(np.where(rng.random(250) < 0.54, 1.0, -1.0), 0.0).assign(p_up=p, p_down=1 - p)
        found.append(judge_probabilities(frame, n_draws=100).verdict)
    assert found.count("better than the base rate") <= 2


@pytest.mark.slow
def test_cover_of_calibration_and_coefficient():
    """1,000 years of honest probabilities: how often an interval misses the truth; `-s` prints it."""
    missed = np.zeros(3)
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        p = rng.uniform(0.3, 0.7, 250)
        up = rng.random(250) < p
        table = calibration_table(p, up, np.arange(250), bins_of(p, 5), n_draws=200, seed=seed)
        value, (low, high) = matthews_interval((p > 0.5).astype(int), up.astype(int), np.arange(250), 2, n_draws=200, seed=seed)
        missed += np.mean((table["p"] < table["low"]) | (table["p"] > table["high"])), low > 0.2, high < 0.2    # E|2p - 1| is 0.2
        assert 0 <= brier_parts(p, up, bins_of(p, 5))["reliability"]
    print(f"a bin of 50 days misses in {missed[0] / 1000:.1%}; Matthews in {missed[1] / 1000:.1%} above and {missed[2] / 1000:.1%} below")
    assert 0.03 < missed[0] / 1000 < 0.09 and 0.03 < missed[1:].sum() / 1000 < 0.08


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 125, 250])
def test_cover_of_the_edge(n):
    """4,000 coins against the constant "up" in a market that rises in 54 %: the interval misses the true edge, -4 points, about one time in twenty."""
    rng, missed = np.random.default_rng(2), np.zeros(2)
    for k in range(4000):
        up = rng.random(n) < 0.54
        low, high = edge_interval(((rng.random(n) < 0.5) == up).astype(int) - up, np.arange(n), 1, 300, k)["interval"]
        missed += low > -0.04, high < -0.04
    print(f"{n} days: above {missed[0] / 4000:.1%}, below {missed[1] / 4000:.1%}")
    assert 0.03 < missed.sum() / 4000 < 0.075


@pytest.mark.slow
@pytest.mark.parametrize("n", [125, 250, 750])
def test_cover_of_the_sharpe_ratio(n):
    """4,000 records of fat-tailed luck: the interval misses zero about one time in twenty."""
    rng, missed = np.random.default_rng(4), np.zeros(2)
    for k in range(4000):
        low, high = sharpe_interval(rng.standard_t(5, n), 300, k)
        missed += low > 0, high < 0
    print(f"{n} days: above {missed[0] / 4000:.1%}, below {missed[1] / 4000:.1%}")
    assert 0.03 < missed.sum() / 4000 < 0.075
