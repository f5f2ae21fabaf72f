"""Rankings of forecasts: the test against scipy, days and weights against loops, and the sizes of the test and of the set, simulated at length."""
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.fft import dct
from scipy.stats import t as student

from futures_nb.comparison import DM_SIZES, by_day, confidence_p, days_spanned, equal_loss, equal_loss_size, rank_forecasts, row_losses, same_rows, set_critical
from futures_nb.har import diebold_mariano
from futures_nb.schema import DataError, make_index
from futures_nb.sessions import trade_dates
from futures_nb.versus import Versus


def minute_frames(n_days=80, per_day=12, seed=0, names=("a", "b", "c")):
    """Rows at odd minutes of two contracts at once, labels of 1 to 1,800 minutes, weights; one frame per name."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2021-03-01", periods=n_days, tz="UTC")
    ts = days.repeat(per_day) + pd.to_timedelta(np.concatenate([np.sort(rng.choice(np.arange(870, 1200), per_day, replace=False)) for _ in range(n_days)]), unit="min")
    index = make_index(np.where(np.arange(len(ts)) % 2, "ESM21", "ESH21"), ts)
    y = rng.normal(0, 0.01, len(ts))
    base = pd.DataFrame({"y": y, "t1": ts + pd.to_timedelta(rng.integers(1, 1800, len(ts)), unit="min"), "weight": rng.integers(1, 4, len(ts)).astype(float)}, index)
    return {name: base.assign(y_hat=0.3 * k * y + rng.normal(0, 0.005, len(y))).sort_index() for k, name in enumerate(names)}


def test_waves_are_the_cosine_transform_and_p_is_students():
    rng = np.random.default_rng(0)
    for n, h in ((10, 1), (60, 1), (60, 20), (751, 5)):
        a, b = rng.standard_t(4, (2, n))
        got = equal_loss(a, b, h)
        waves = dct(a - b, norm="ortho")[1:got.n_waves + 1]
        stat = (a - b).mean() / math.sqrt(np.mean(waves**2) / n)
        assert math.isclose(got.statistic, stat, rel_tol=1e-9)
        assert math.isclose(got.p_value, 2 * student.sf(abs(stat), got.n_waves), rel_tol=1e-9)
        assert (got.interval[0] <= 0 <= got.interval[1]) == (got.p_value >= 0.05)
        assert got.n_waves == max(2, min(int(0.4 * n ** (2 / 3)), n // (2 * h)))


def test_time_turned_round_and_scale_change_nothing():
    a, b = np.random.default_rng(1).normal(size=(2, 300))
    one = equal_loss(a, b, 5)
    for other in (equal_loss(a[::-1], b[::-1], 5), equal_loss(1e-9 * a, 1e-9 * b, 5), equal_loss(a + 7, b + 7, 5)):
        assert math.isclose(one.statistic, other.statistic, rel_tol=1e-6)


def test_days_spanned_against_a_loop():
    for seed in range(20):
        frame = minute_frames(20, 5, seed)["a"]
        frames, day, ts, t1 = same_rows({"a": frame})
        first = [ts[day == d].min() for d in range(day.max() + 1)]
        loop = max(sum(1 for d in range(own, day.max() + 1) if first[d] < end or d == own) for own, end in zip(day, t1))
        assert days_spanned(ts, t1, day) == loop


def test_a_label_that_ends_where_the_next_day_begins_does_not_reach_into_it():
    ts = np.array([0, 5, 10, 15])
    assert [days_spanned(ts, np.array([5, 10, 15, 20]) + k, np.array([0, 0, 1, 1])) for k in (0, 1)] == [1, 2]


def test_table_against_pandas():
    frames = minute_frames()
    r = rank_forecasts(frames, weight="weight", reps=200)
    for name, f in frames.items():
        squared = (f["y"] - f["y_hat"]) ** 2
        assert math.isclose(r.table.loc[name, "loss"], np.average(squared, weights=f["weight"]), rel_tol=1e-9)
        date = trade_dates(f.index.get_level_values("ts"))
        daily = (f["weight"] * squared).groupby(np.asarray(date)).sum() * r.n_days / f["weight"].sum()
        if name == "a": first = daily
        else:
            want = equal_loss(first.to_numpy(), daily.to_numpy(), r.overlap)
            got = r.table.loc[name, ["difference", "low", "high", "p"]].astype(float)
            np.testing.assert_allclose(got, [want.difference, *want.interval, want.p_value], rtol=1e-9)
    assert r.best == "c" and r.overlap >= 2 and json.loads(json.dumps(r.to_dict(), allow_nan=False))["in_set"] == r.in_set


def test_a_net_beats_only_what_interval_and_test_both_say():
    facts = ("net", "zero", 500, 500, (0.9, 1.0), -0.1)
    assert [Versus(*facts, interval, 3.0, p).verdict for interval, p in (((-0.2, -0.01), 0.01), ((-0.2, -0.01), 0.06), ((-0.2, -0.01), None), ((-0.2, 0.01), 0.01))] == ["beats"] + ["does not beat"] * 3


def test_a_weight_of_two_is_a_row_twice():
    rng = np.random.default_rng(3)
    loss, day, w = rng.random(90), np.sort(rng.integers(0, 30, 90)), rng.integers(1, 4, 90)
    day = np.unique(day, return_inverse=True)[1]
    np.testing.assert_allclose(by_day(loss, day, w), by_day(np.repeat(loss, w), np.repeat(day, w)), rtol=1e-12)
    assert math.isclose(by_day(loss, day, w).mean(), np.average(loss, weights=w), rel_tol=1e-12)


def test_the_order_and_number_of_rivals_do_not_change_a_pair():
    frames = minute_frames()
    one, two = rank_forecasts(frames, reps=200), rank_forecasts({k: frames[k] for k in ("a", "c")}, reps=200)
    assert one.table.loc["c", ["difference", "p"]].tolist() == two.table.loc["c", ["difference", "p"]].tolist()


def test_only_the_same_rows_are_compared():
    frames = minute_frames()
    with pytest.raises(DataError, match="b has other rows"): rank_forecasts(frames | {"b": frames["b"].iloc[:-1]})
    with pytest.raises(DataError, match="b has other rows, answers"): rank_forecasts(frames | {"b": frames["b"].assign(y=0.0)})
    with pytest.raises(DataError, match="b has other rows, answers or weights"): rank_forecasts(frames | {"b": frames["b"].assign(weight=1.0)}, weight="weight")
    with pytest.raises(DataError, match="t1"): rank_forecasts({k: f.drop(columns="t1") for k, f in frames.items()})
    with pytest.raises(DataError, match="the loss of a has shape"): row_losses({"a": frames["a"]}, lambda f: np.ones(3))


def panel(law, m, n, h, rng, k=2):
    """Squared losses (k, m, n) of k equally good forecasts of sums of the next h draws of Student's t; forecasts are noise, or slow noise."""
    total = np.cumsum(np.c_[np.zeros(m), rng.standard_t(5, (m, n + h))], 1)
    y = total[:, h + 1:n + h + 1] - total[:, 1:n + 1]
    f = rng.standard_normal((k, m, n))
    if law == "slow":
        for t in range(1, n): f[..., t] = 0.95 * f[..., t - 1] + math.sqrt(1 - 0.95**2) * f[..., t]
    return (y[None, :, :n] - 0.3 * math.sqrt(h) * f) ** 2


def many_p(d, h):
    """p-values of `equal_loss` for many series (m, n) at once."""
    n = d.shape[1]
    waves = dct(d, norm="ortho")[:, 1:max(2, min(int(0.4 * n ** (2 / 3)), n // (2 * h))) + 1]
    return 2 * student.sf(np.abs(d.mean(1)) / np.sqrt(np.mean(waves**2, 1) / n), waves.shape[1])


def test_many_p_is_equal_loss():
    a, b = panel("slow", 5, 80, 5, np.random.default_rng(4))
    np.testing.assert_allclose(many_p(a - b, 5), [equal_loss(*x, 5).p_value for x in zip(a, b)], rtol=1e-9)


@pytest.mark.parametrize("h,n", [(1, 60), (5, 125), (20, 250)])
def test_size_of_equal_loss_for_some(h, n):
    a, b = panel("slow", 3000, n, h, np.random.default_rng(5))
    assert 0.028 < np.mean(many_p(a - b, h) < 0.05) < 0.065


@pytest.mark.slow
def test_size_of_equal_loss():
    """10,000 pairs of equal forecasts per case; `-s` prints the table of the chapter."""
    for (h, n), known in DM_SIZES.items():
        found, newey_west = [], []
        for law in ("noise", "slow"):
            rng = np.random.default_rng(n * 100 + h)
            d = np.concatenate([np.subtract(*panel(law, 2000, n, h, rng)) for _ in range(5)])
            found.append(np.mean(many_p(d, h) < 0.05))
            newey_west.append(np.mean([diebold_mariano(x, np.zeros(n), horizon=h).p_value < 0.05 for x in d[:4000]]))
        print(f"{n:4d} days, labels of {h:2d}: " + ", ".join(f"{x:.1%}" for x in found) + "; Newey and West " + ", ".join(f"{x:.1%}" for x in newey_west))
        worst = max(found, key=lambda x: abs(x - 0.05))
        assert abs(worst - known) < 0.004 and worst < 0.06 and equal_loss_size(n, h) == known


@pytest.mark.slow
@pytest.mark.parametrize("n,m,h", [(30, 4, 1), (60, 4, 1), (125, 4, 1), (250, 4, 1), (250, 4, 5), (250, 8, 1)])
def test_size_of_the_set(n, m, h):
    """4,000 panels of equally good forecasts; minutes per case. `-s` prints the row of the chapter."""
    rng, p = np.random.default_rng(5), np.empty(4000)
    for k in range(len(p)): p[k] = confidence_p(pd.DataFrame(panel("noise", 1, n, h, rng, m)[:, 0].T), h, 500, k).min()
    print(f"{n} days, {m} forecasts, labels of {h}: {np.mean(p < 0.05):.1%}, {np.mean(p < 0.1):.1%}; cuts {np.quantile(p, 0.05):.3f}, {np.quantile(p, 0.1):.3f}")
    assert abs(np.mean(p <= set_critical(n, 0.9, h)) - 0.1) < 0.015 and abs(np.mean(p <= set_critical(n, 0.95, h)) - 0.05) < 0.01
