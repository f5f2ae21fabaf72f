"""What is seen before training: against libraries, on planted faults, on real data, and never of a test row's label."""
import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.signal import lfilter

import futures_nb as fnb
from futures_nb import autoscale, scaling
from futures_nb.distributions import correlation_time, count_modes, drift_between, end_atoms, fit_student, ks_distance, quantile_of, stability_index
from futures_nb.exploration import NUMBERS, Exploration
from futures_nb.exploring import PLANNED, explore, scaling_plan, thinned
from futures_nb.schema import DataError, make_index
from futures_nb.series_tests import arch_lm, ljung_box, rows_apart, rows_in_time, unit_root_tests
from futures_nb.sessions import session_table
from futures_nb.splits import WalkForward

EVIL = "<script>alert(1)</script>"


def on_days(X, seed=0):
    """The frame on trade dates, and a target that knows nothing."""
    closes = pd.DatetimeIndex(session_table("ES", "2010-01-04", "2025-12-31")["close"])[:len(X) + 1]
    index = make_index("ES", closes[:-1])
    return X.set_index(index), pd.DataFrame({"y": 0.01 * np.random.default_rng(seed).standard_t(3, len(X)), "t1": closes[1:]}, index)


def faulty(seed=0, n=2400):
    """Columns named by what is wrong with them in the first rows already."""
    rng = np.random.default_rng(seed)
    z, u, dust = rng.normal(size=n), rng.random(n), np.spacing(5000.0) * rng.choice([-1, 0, 1], n)
    absurd = rng.normal(size=n)
    absurd[40] = 1e12
    return pd.DataFrame({
        "fine normal": z, "fine slow": lfilter([1], [1, -0.95], rng.normal(size=n)), "fine student": rng.standard_t(6, n), "fine skew": rng.gamma(3, size=n), "fine flag": (u > 0.8) * 1.0,
        "residue": np.where(u < 0.03, 20 * rng.normal(size=n), dust), "absurd": absurd, "constant": np.ones(n), "zeros": np.where(u < 0.7, 0, z), "tails": rng.standard_t(1.2, n),
        "drift": rng.normal(size=n) + np.linspace(0, 7, n), "saturation": np.clip(z + rng.normal(size=n), -2, 2), "duplicate": np.exp(z), "missing": np.where(u < 0.4, np.nan, rng.normal(size=n))})


@pytest.fixture(scope="module")
def ill():
    X, target = on_days(faulty())
    folds = WalkForward(n_folds=3).folds(target)
    return X, target, folds, explore(X, target, folds, progress=False)


def test_every_planted_fault_is_named(ill):
    problems = ill[3].problems
    for name in ill[0]:
        if name.startswith("fine"): assert name not in problems.index, problems.reasons[name]
        else: assert re.search(rf"\b{name}\b", problems.reasons[name]), (name, problems.reasons[name])
    assert set(problems.index[:3]) == {"residue", "absurd", "constant"}
    assert problems.scaler[["residue", "absurd", "constant"]].tolist() == ["refused"] * 3
    assert "duplicate of fine normal" in problems.reasons["duplicate"]
    assert "0.04 %" not in problems.reasons["absurd"] and "1 rows lie more than a million" in problems.reasons["absurd"]


def test_one_absurd_row_is_seen_however_thin_the_sample(ill):
    X, target, folds, _ = ill
    seen = explore(X[["absurd", "fine normal"]], target, rows=np.arange(2400), max_rows=50, progress=False)
    assert seen.info["n_sample"] <= 50 and seen.problems.scaler["absurd"] == "refused" and seen.columns.n_absurd["absurd"] == 1


def test_healthy_columns_are_left_in_peace():
    """Twenty seeds of five columns: one alarm, of the column with autocorrelation 0.95, whose drift is its path."""
    alarms = {}
    for seed in range(20):
        X, target = on_days(faulty(seed).filter(like="fine"), seed)
        seen = explore(X, target, WalkForward(n_folds=3).folds(target), progress=False)
        alarms |= {(seed, name): words for name, words in seen.problems.reasons.items()}
    assert len(alarms) <= 1 and all(name == "fine slow" for _, name in alarms), alarms


def test_no_label_of_a_later_row_is_looked_at(ill):
    X, target, folds, seen = ill
    later = np.setdiff1d(np.arange(len(target)), folds[0].train)
    other = target.copy()
    other.iloc[later, 0] = 1e6
    assert explore(X, other, folds, progress=False).to_html() == seen.to_html()


def test_features_of_later_rows_are_seen_by_the_table_of_drift_alone(ill):
    """Not by a score, a reason, a rank or a fact: whoever chooses by those has not looked at a test row."""
    X, target, folds, seen = ill
    later = np.setdiff1d(np.arange(len(target)), folds[0].train)
    moved = X.copy()
    moved.iloc[later] += 100
    after = explore(moved, target, folds, progress=False)
    for name in set(NUMBERS) - {"drift"}: pd.testing.assert_frame_equal(getattr(after, name), getattr(seen, name), check_exact=True)
    assert after.pictures == seen.pictures and after.info == seen.info and str(after) == str(seen)
    assert after.drift.ks["fine normal"]["0"] == 1.0 and "fine normal" not in after.problems.index
    assert "choose no column by it" in after.to_html()


def test_drift_in_the_score_compares_the_halves_of_the_explored_rows(ill):
    X, target, folds, seen = ill
    alone = explore(X, target, rows=folds[0].train, progress=False)
    assert alone.problems.score.equals(seen.problems.score) and alone.problems.reasons.equals(seen.problems.reasons)
    half = len(folds[0].train) // 2
    by_hand = stats.ks_2samp(X["drift"].iloc[folds[0].train[:half]], X["drift"].iloc[folds[0].train[half:]]).statistic
    assert abs(seen.columns.drift["drift"] - by_hand) < 1e-12 and f"drift: distance {by_hand:.2f} between the halves" in seen.problems.reasons["drift"]
    page = alone.to_html()
    assert "first and the second half" in page and "choose no column by it" not in page


def test_rows_are_positions_a_mask_or_an_index(ill):
    X, target, folds, _ = ill
    X, train = X[["fine normal"]], np.arange(100, 400)
    mask = np.zeros(len(X), bool)
    mask[train] = True
    pages = {explore(X, target, rows=rows, progress=False).to_html() for rows in (train, train.tolist(), range(100, 400), train.astype("uint16"), mask, pd.Series(mask, target.index), target.index[train])}
    assert len(pages) == 1
    for rows, words in ((mask[:-1], "2399 bools for 2400 rows"), (train + 0.5, "float64"), (mask.astype(object), "object"), (["a"], "<U1"), (5, "one row of numbers"), (mask[None], "one row of numbers"), ([-1], "row -1"),
                        ([2400], "row 2400"), ([3, 3], "asked for twice"), (target.index[[3, 3]], "asked for twice"), (make_index("NQ", target.index.get_level_values("ts")[:5]), "5 rows of rows are not in the frame"),
                        (pd.Series(mask, target.index[::-1]), "another index"), ([], "no row to look at"), (target.index[:0], "no row to look at"), (mask & False, "no row to look at")):
        with pytest.raises(DataError, match=re.escape(words)): explore(X, target, rows=rows, progress=False)
    with pytest.raises(DataError, match="fold 0 holds row 1439"): explore(X.iloc[:1000], target.iloc[:1000], folds, progress=False)


def test_columns_go_by_their_text(ill):
    X, target, folds, seen = ill
    numbers = explore(X.set_axis(range(X.shape[1]), axis=1), target, folds, progress=False)
    assert sorted(numbers.problems.score) == sorted(seen.problems.score) and set(numbers.problems.index) == {str(list(X).index(name)) for name in seen.problems.index}
    page = numbers.to_html()
    assert page.count('class="bad"') == seen.to_html().count('class="bad"') > 0
    assert Exploration.from_dict(json.loads(json.dumps(numbers.to_dict(), allow_nan=False))).to_html() == page
    with pytest.raises(DataError, match="'1' is twice"): explore(X.iloc[:, :2].set_axis([1, "1"], axis=1), target, folds, progress=False)


def test_nothing_to_look_at_is_said(ill):
    X, target, folds, _ = ill
    with pytest.raises(DataError, match="features has no columns"): explore(X[[]], target, folds, progress=False)
    for wrong in (0, -1, 2.5, "a", None, True):
        with pytest.raises(DataError, match="max_rows is"): explore(X, target, folds, max_rows=wrong, progress=False)
    assert explore(X, target, folds, max_rows=1, progress=False).info["n_sample"] == 1


@pytest.mark.parametrize("scaler", ["auto", "robust", "standard", "rolling", "quantile", "power", "winsor", "log1p", "declared"])
def test_infinite_values_are_counted_and_refused(ill, scaler):
    X, target, folds, _ = ill
    x = X[["fine normal", "fine slow"]].copy()
    x.iloc[folds[0].train[[7, 8, 300]], 0] = [np.inf, -np.inf, np.inf]
    seen = explore(x, target, folds, scaler=scaler, max_rows=50, progress=False)
    assert seen.problems.index.tolist() == ["fine normal"] and seen.problems.score.tolist() == [10] and seen.problems.scaler.tolist() == ["refused"]
    assert seen.problems.reasons["fine normal"] == "infinite: 3 infinite values" and seen.columns.n_infinite.tolist() == [3, 0] and seen.columns.n_absurd.tolist() == [0, 0]
    assert "3 infinite values" in explore(x.assign(all=np.where(np.arange(len(x)) % 500, np.nan, np.inf)), target, rows=range(1200), scaler=scaler, progress=False).problems.reasons["all"]


def test_the_contract_that_expires_first_across_a_new_year():
    """By the letters March 2025 comes before December 2024."""
    ts = pd.date_range("2024-12-09", periods=5, freq="h", tz="UTC")
    index = make_index(["ESZ24"] * 5 + ["ESH25"] * 5, ts.append(ts))
    assert rows_in_time(index)[0].tolist() == [0, 1, 2, 3, 4] and rows_in_time(index, np.arange(9, 2, -1))[0].tolist() == [5, 6, 7, 3, 4]


def test_a_contract_that_is_not_there_is_not_asked_for():
    X, target = on_days(faulty()[["fine normal"]].iloc[:100])
    both = pd.concat([X, X.iloc[:1].set_axis(make_index("XX1!", X.index.get_level_values("ts")[:1]))])
    left = both[both.index.get_level_values("contract") == "ES"]
    assert "XX1!" in left.index.levels[0]
    assert explore(left, target.set_axis(left.index), progress=False).to_html() == explore(X, target, progress=False).to_html()


def test_ljung_box_and_arch_lm_against_statsmodels():
    from statsmodels.stats.diagnostic import acorr_ljungbox, het_arch
    from statsmodels.tsa.ar_model import AutoReg
    for seed in range(4):
        x = lfilter([1], [1, -0.3], np.random.default_rng(seed).standard_t(5, 700)) * 1e-3 + 5
        for lags in (3, 10, 25):
            ours, theirs = ljung_box(x, lags), acorr_ljungbox(x, lags=[lags]).iloc[0]
            np.testing.assert_allclose([ours["stat"], ours["p"]], theirs, rtol=1e-8, atol=1e-12)
        for lags, ar in ((5, 5), (2, 1), (10, 3)):
            residuals = AutoReg(x, lags=ar).fit().resid
            stat, p = het_arch(residuals, nlags=lags, result_object=False)[:2]
            ours = arch_lm(x, lags, ar)
            np.testing.assert_allclose([ours["stat"], ours["p"]], [stat, p], rtol=1e-6, atol=1e-10)


def test_unit_roots_against_statsmodels():
    from statsmodels.tsa.stattools import adfuller, kpss
    for seed, make in enumerate((lambda r: r.normal(size=600), lambda r: r.normal(size=600).cumsum(), lambda r: lfilter([1], [1, -0.7], r.normal(size=600)))):
        x = make(np.random.default_rng(seed))
        ours, lags = unit_root_tests(x), int(12 * 6**0.25)
        with pytest.warns(FutureWarning): adf = adfuller(x, maxlag=lags, regression="c", autolag="BIC")   # about what it will return one day
        np.testing.assert_allclose([ours["adf"], ours["adf_p"]], adf[:2], rtol=1e-6, atol=1e-9)
        with pytest.warns() if ours["kpss_p"] < 0.011 or ours["kpss_p"] > 0.099 else _nothing():   # its table ends there
            theirs = kpss(x, regression="c", nlags=lags)
        np.testing.assert_allclose(ours["kpss"], theirs[0], rtol=1e-8)


class _nothing:
    def __enter__(self): return self
    def __exit__(self, *_): return False


def test_student_against_scipy():
    for seed, nu in enumerate((2.5, 4.0, 9.0)):
        y = stats.t.rvs(nu, loc=1e-4, scale=0.008, size=900, random_state=seed)
        ours = fit_student(y)
        assert ours["loglik"] >= stats.t.logpdf(y, *stats.t.fit(y)).sum() - 1e-3
        assert ours["nu_low"] < ours["nu"] < ours["nu_high"] and abs(np.log(ours["nu"] / nu)) < 0.5
        # the ends of the interval are where the best log-likelihood is 1.92 lower
        for end in ("nu_low", "nu_high"):
            loc, scale = stats.t.fit(y, fdf=ours[end])[1:]
            assert abs(stats.t.logpdf(y, ours[end], loc, scale).sum() - (ours["loglik"] - 1.92)) < 0.02


def test_distances_against_slow_versions():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = np.sort(np.round(rng.normal(size=rng.integers(20, 400)), 1)), np.sort(np.round(rng.normal(0.3, 1, rng.integers(20, 400)), 1))   # ties
        assert abs(ks_distance(a, b) - stats.ks_2samp(a, b).statistic) < 1e-12
        edges = np.r_[-np.inf, np.unique(np.quantile(a, np.arange(1, 10) / 10)), np.inf]
        p, q = (np.array([((x > lo) & (x <= hi)).sum() + 0.5 for lo, hi in zip(edges[:-1], edges[1:])]) for x in (a, b))
        p, q = p / p.sum(), q / q.sum()
        np.testing.assert_allclose(stability_index(a, b)[0], ((p - q) * np.log(p / q)).sum(), rtol=1e-9)
        np.testing.assert_allclose(quantile_of(a, [0.1, 0.5, 0.99]), np.quantile(a, [0.1, 0.5, 0.99]), rtol=1e-12)


def test_the_level_of_the_stability_index_is_its_quantile():
    rng, over = np.random.default_rng(0), []
    for _ in range(300):
        d = drift_between(rng.normal(size=600), rng.normal(size=300))
        over.append(d["psi"] / (d["psi_level"] / stats.chi2.ppf(0.999, 9) * stats.chi2.ppf(0.9, 9)))
    assert 0.04 < np.mean(np.array(over) > 1) < 0.2    # a tenth, when the level is set to one


def test_correlation_time_against_theory():
    x = lfilter([1], [1, -0.9], np.random.default_rng(0).normal(size=200_000))
    assert 16 < correlation_time(x) < 22 and 1 <= correlation_time(np.random.default_rng(1).normal(size=5000)) < 1.2
    assert 1.6 < correlation_time(x[::20]) < 1.6 * 1.2 or 1 <= correlation_time(x[::20]) < 1.6    # thinned rows are nearly independent


def test_modes_do_not_depend_on_units():
    rng = np.random.default_rng(3)
    for x, n in ((rng.normal(size=4000), 1), (np.r_[rng.normal(-2.5, 1, 2000), rng.normal(2.5, 1, 2000)], 2)):
        for scale, level in ((1, 0), (1e-9, 0), (1e6, 5), (1, 1e4)): assert count_modes(np.sort(x * scale + level)) == n


def test_a_grid_has_no_limit_and_noise_no_second_mode():
    rng = np.random.default_rng(0)
    steps = np.sort(rng.integers(-30, 31, 4000) / 4)                      # sixty values, each as often as the next
    assert end_atoms(steps) == (0.0, 0.0)
    low, high = end_atoms(np.sort(np.clip(rng.normal(size=4000), -2, 5)))
    assert abs(low - stats.norm.cdf(-2)) < 0.01 and high == 0
    assert np.mean([count_modes(np.sort(rng.normal(size=150))) != 1 for _ in range(300)]) < 0.05


def test_rows_apart_against_a_loop():
    rng = np.random.default_rng(0)
    ts = pd.Timestamp("2024-01-02", tz="UTC") + pd.to_timedelta(np.cumsum(rng.integers(1, 5, 300)), unit="min")
    t1 = (ts + pd.to_timedelta(rng.integers(1, 40, 300), unit="min")).where(rng.random(300) > 0.1)
    slow, last = [], ts[0] - pd.Timedelta("1D")
    for k in range(300):
        if not pd.isna(t1[k]) and ts[k] >= last: slow, last = slow + [k], t1[k]
    assert rows_apart(ts, t1).tolist() == slow


def test_overlapping_contracts_are_one_row_a_moment():
    bars = fnb.synth_bars(n_contracts=2, n_days=6, overlap=3, seed=1, minutes=30)
    X = pd.DataFrame({"x": np.random.default_rng(0).normal(size=len(bars))}, bars.index)
    seen = explore(X, fnb.make_target(bars), progress=False)
    n_twice = len(bars) - bars.index.get_level_values("ts").nunique()
    assert n_twice > 100 and f"{n_twice:,} of these rows" in " ".join(seen.info["told"])
    assert seen.columns.n["x"] == len(bars)                                             # all are counted
    assert seen.series.n["x"]["rows"] == len(bars) - n_twice
    assert seen.series.n["x"]["sessions"] == 9
    assert seen.series.n.get(("target", "labels"), 0) <= 9                              # one label a day, not one a bar


def test_thinning_does_not_see_the_same_minutes():
    for n in (5000, 1_140_000):
        rows = thinned(np.arange(n), 2000)
        assert len(rows) <= 2000 and len(np.unique(rows % 1380)) > 0.7 * min(1380, len(rows))


class Stub(scaling.RobustScaler):
    """Stands for the scaler that chooses per column: names its choice and refuses like the others."""
    kind = "auto"

    def report(self): return super().report().assign(scaler="log", why=f"because <b>{EVIL}</b>")


def test_the_plan_is_the_scalers_own(ill, monkeypatch):
    monkeypatch.setitem(autoscale.SCALERS, "stub", Stub)
    X, target, folds, _ = ill
    seen = explore(X, target, folds, scaler="stub", progress=False)
    assert seen.columns.scaler["fine normal"] == "log" and seen.problems.scaler["residue"] == "refused" and seen.info["plan"] == {"log": 11, "refused": 3}
    assert "Scaling by stub" in str(seen) and "<script" not in seen.to_html()


def test_the_plan_is_that_of_auto():
    assert PLANNED == "auto"
    report = scaling_plan(faulty()[["fine normal"]])
    assert list(report) == ["scaler", "why"] and report.scaler.iloc[0] != "refused"


def test_a_page_in_the_report_puts_no_markup(ill, tmp_path):
    from test_report import Page, run_folder
    from futures_nb.report import make_report
    run_folder(tmp_path)
    assert "nobody looked before training" in make_report(tmp_path).read_text()
    state = ill[3].to_dict()
    keep = {"normal", "student"}
    def poison(v):
        if isinstance(v, dict): return {k: poison(x) for k, x in v.items()}
        return [poison(x) for x in v] if isinstance(v, list) else v + EVIL if isinstance(v, str) and v not in keep else v
    bad = poison(state)
    bad["pictures"]["histograms"] = {k + EVIL: h for k, h in bad["pictures"]["histograms"].items()}
    bad["info"]["plan"] = {EVIL: EVIL}
    (tmp_path / "explore.json").write_text(json.dumps(bad))
    parsed = Page(make_report(tmp_path).read_text())
    assert not {"script", "img", "link", "iframe"} & set(parsed.tags) and any(EVIL in words for words in parsed.text)
    inside = {"#" + a[2] for a in parsed.attributes if a[1] == "id"}          # the page's own list of sections
    assert not [a for a in parsed.attributes if (a[1] in ("src", "href", "xlink:href") and a[2] not in inside) or a[1].startswith("on")]
    (tmp_path / "explore.json").write_text(json.dumps(state))
    page = make_report(tmp_path).read_text()
    assert "Before training" in page and "Problems, worst first" in page and not re.search(r"https?://|url\(|@import", page)
    (tmp_path / "explore.json").write_text('{"columns": ')
    with pytest.raises(DataError, match="explore.json is not JSON"): make_report(tmp_path)
    (tmp_path / "explore.json").write_text(json.dumps(state | {"tails": {"k": [1]}}))
    with pytest.raises(DataError, match="tails must have the columns"): make_report(tmp_path)


def test_a_page_needs_nothing_heavy(ill, tmp_path):
    path = tmp_path / "explore.json"
    path.write_text(json.dumps(ill[3].to_dict(), allow_nan=False))
    code = ("import sys, json; from futures_nb.exploration import Exploration; page = Exploration.from_dict(json.load(open(sys.argv[1]))).to_html(); "
            "bad = {'torch', 'arch', 'matplotlib', 'statsmodels', 'sklearn', 'scipy'} & set(sys.modules); assert not bad, bad; assert len(page) > 10_000")
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=dict(os.environ))


def test_a_real_contract_by_the_minute(es_file):
    bars = fnb.read_bars(es_file, off_session="drop")
    names = ["return_1", "return_60", "har_day", "volume_minute", "signed_volume_60", "vwap_distance", "minute_sin", "cash_hours"]
    features, target = fnb.make_features(bars, features=names, progress=False), fnb.make_target(bars)
    target.loc[features.isna().any(axis=1), "y"] = np.nan
    folds = WalkForward(n_folds=3).folds(target)
    seen = explore(features, target, folds, progress=False)
    first = target.iloc[folds[0].train]
    dates = fnb.to_sessions(first[[]]).trade_date.nunique()
    assert seen.columns.n.eq(len(first)).all() and seen.columns.missing.eq(0).all()
    assert seen.series.n["return_1"]["sessions"] == dates and seen.series.n["return_1"]["rows"] == min(len(first), 20_000)
    assert len(seen.target) == 0 or seen.target.n["student"] <= dates                    # one label a day
    assert seen.series.arch_p["return_1"]["rows"] < 1e-10                                # minutes cluster
    assert seen.series.lb_p["har_day"]["rows"] < 1e-10 and seen.series.acf1["har_day"]["rows"] > 0.9
    assert seen.columns.modes["cash_hours"] == 2 and "cash_hours" not in seen.problems.index
    assert Exploration.from_dict(json.loads(json.dumps(seen.to_dict(), allow_nan=False))).to_html() == seen.to_html()
