"""Scores of signs against scikit-learn, and the sizes of the test and the interval, simulated at length."""
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import accuracy_score, matthews_corrcoef, r2_score

from futures_nb.schema import make_index
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
