"""Conformal intervals against libraries, the obvious loop, and the promises of the theory."""
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from futures_nb.conformal import METHODS, TAILS, Conformal, conformal_intervals, conformal_quantile, conformal_quantiles, nonconformity
from futures_nb.coverage import CoverageTable, coverage_table
from futures_nb.schema import DataError, make_index
from futures_nb.sessions import session_table


def random_rows(seed, n=160, contracts=("ESH24", "ESM24"), with_holes=True):
    """Rows of contracts that overlap in time, labels of random length (an earlier row may be known later), some without scale or answer."""
    rng, parts = np.random.default_rng(seed), []
    for k, name in enumerate(contracts):
        minutes = np.sort(rng.choice(np.arange(40 * k, 40 * k + 3 * n), n // len(contracts), replace=False))
        ts = pd.Timestamp("2024-02-01 15:00", tz="UTC") + pd.to_timedelta(minutes, unit="min")
        t1 = ts + pd.to_timedelta(rng.integers(1, 30, len(ts)), unit="min")
        scale = np.exp(0.5 * rng.standard_normal(len(ts)))
        frame = pd.DataFrame({"y": scale * rng.standard_t(3, len(ts)), "y_hat": 0.3 * rng.standard_normal(len(ts)), "t1": t1, "vol": scale,
                              "q_0.1": -scale * rng.uniform(0.5, 2, len(ts)), "q_0.9": scale * rng.uniform(0.5, 2, len(ts)), "fold": 0}, make_index(name, ts))
        if with_holes:
            frame.loc[frame.index[rng.random(len(ts)) < 0.05], "vol"] = np.nan
            frame.loc[frame.index[rng.random(len(ts)) < 0.05], "y"] = np.nan
        parts.append(frame)
    return pd.concat(parts)


def obvious(frame, n_calibration, method, level, window, step, around, scale, side):
    """Thresholds by the book, everything anew for each row: the rows that are known, the last ones of them, their sorted errors. The first rows in time calibrate."""
    order = sorted(range(len(frame)), key=lambda i: (frame.index[i][1], i))
    low, high = (frame[c].to_numpy() for c in (("y_hat", "y_hat") if around == "y_hat" else ("q_0.1", "q_0.9")))
    s = frame[scale].to_numpy() if scale else np.ones(len(frame))
    y, ts, t1 = frame["y"].to_numpy(), list(frame.index.get_level_values("ts")), list(frame["t1"])
    outside = {"both": np.maximum(low - y, y - high), "low": low - y, "high": y - high}[side] / s
    share, said = {}, {}
    for place, i in enumerate(order):
        before = order[:place]
        share[i] = 1 / (1 + sum(t1[j] > ts[i] for j in before))
        known = sorted((j for j in before if t1[j] <= ts[i] and not math.isnan(outside[j])), key=lambda j: (t1[j], order.index(j)))
        lift = sum(step * share[j] * ((outside[j] > said[j]) - (1 - level)) for j in known if not math.isnan(said[j]))
        kept = [j for j in known if method != "split" or order.index(j) < n_calibration]
        while kept and sum(share[j] for j in kept[1:]) >= window - 1e-12: kept = kept[1:]
        errors, worth = sorted(outside[j] for j in kept), sum(share[j] for j in kept)
        plus_one = len(errors) + len(errors) / worth if errors else math.inf
        def at(c, total=plus_one): return 10**9 if math.isinf(total) else math.ceil(c * total - 1e-9)
        said[i] = math.nan
        if place < n_calibration or at(level) > len(errors): continue
        k = at(level + lift) if method == "adaptive" else at(level)
        q = errors[k - 1] if 1 <= k <= len(errors) else math.inf if k > len(errors) else -math.inf
        said[i] = q + lift * (q - errors[(len(errors) + 1) // 2 - 1]) if method == "tracked" else q
    return np.array([said[i] for i in range(len(frame))]), low, high, s


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("around, scale, tails", [("y_hat", None, "together"), ("y_hat", "vol", "together"), ("y_hat", "vol", "apart"), ("quantiles", None, "together"), ("quantiles", "vol", "apart")])
def test_agrees_with_the_obvious_loop(method, around, scale, tails):
    level, window, step = 0.8, 12.0, 0.0 if method in ("split", "rolling") else 0.3
    for seed in range(2):
        frame = random_rows(seed)
        order = np.argsort(frame.index.get_level_values("ts"), kind="stable")
        first = np.zeros(len(frame), bool)
        first[order[:70]] = True
        found = conformal_intervals(frame[~first], frame[first], method=method, level=level, around=around, scale=scale, window=window, step=step, tails=tails)
        sides = TAILS[tails]
        told = [obvious(frame, 70, method, level if side == "both" else 0.9, math.inf if method == "split" else window, step, around, scale, side) for side in sides]
        below, above, (_, a, b, s) = told[0][0], told[-1][0], told[0]
        low, high = a - below * s, b + above * s
        low, high = (np.where(low > high, (a + b) / 2, x) for x in (low, high))
        unknown = np.isnan(low) | np.isnan(high)
        low, high = (np.where(unknown, np.nan, x)[~first] for x in (low, high))
        np.testing.assert_allclose(found["low"], low, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found["high"], high, rtol=1e-9, atol=1e-12)
        assert found["low"].notna().sum() > 40


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("tails", TAILS)
def test_bar_by_bar_is_the_batch(method, tails):
    frame = random_rows(5, 240)
    options = dict(method=method, level=0.8, window=15, step=0.4, tails=tails)
    batch = conformal_intervals(frame, around="quantiles", scale="vol", **options)
    order = np.argsort(frame.index.get_level_values("ts"), kind="stable")
    known = order[np.argsort(frame["t1"].to_numpy()[order], kind="stable")].tolist()
    state, low, high = Conformal(**{k: options[k] for k in ("level", "method", "window", "step", "tails")}), np.empty(len(frame)), np.empty(len(frame))
    for n, i in enumerate(order):
        row = frame.iloc[i]
        while known and frame["t1"].iloc[known[0]] <= row.name[1]:
            done = frame.iloc[known.pop(0)]
            state.update(done["y"], done["y_hat"], done["t1"], row=done.name)
        low[i], high[i] = state.interval(row.name[1], row["y_hat"], low=row["q_0.1"], high=row["q_0.9"], scale=row["vol"], row=row.name)
        if n % 31 == 0: state = Conformal.from_dict(json.loads(json.dumps(state.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(low, batch["low"])
    np.testing.assert_array_equal(high, batch["high"])
    assert [side.lift for side in state.sides] != [0.0] * len(state.sides) or method == "rolling" or not options["step"]


def test_a_warm_state_goes_on_as_the_batch():
    frame = random_rows(6, 200, ("ESH24",), with_holes=False)
    at = frame.index.get_level_values("ts").searchsorted(frame["t1"].iloc[:100].max())
    state = Conformal(0.8, "tracked", 20, 0.3).warm(frame.iloc[:100], scale="vol")
    batch = conformal_intervals(frame.iloc[at:], frame.iloc[:100], method="tracked", level=0.8, window=20, step=0.3, scale="vol")
    row = frame.iloc[at]
    assert state.interval(row.name[1], row["y_hat"], scale=row["vol"], row=row.name) == tuple(batch[["low", "high"]].iloc[0])


def test_numbers_of_crepes_and_mapie():
    """crepes 0.9.1 ConformalRegressor (plain, with sigmas), MAPIE 1.6.0 SplitConformalRegressor and ConformalizedQuantileRegressor (symmetric correction), of 2026-11-25."""
    rng = np.random.default_rng(11)
    residual, sigma = rng.standard_t(4, 100), rng.uniform(0.5, 2, 100)
    crepes = {0.8: (1.568589427906, 1.562702714047), 0.9: (2.361019558086, 2.122571455552), 0.95: (3.171296598793, 5.014586866771)}
    for level, (plain, scaled) in crepes.items():
        assert conformal_quantile(np.abs(residual), level) == pytest.approx(plain, abs=1e-11)
        assert conformal_quantile(np.abs(residual) / sigma, level) == pytest.approx(scaled, abs=1e-11)
    y = residual * sigma
    ts = pd.date_range("2024-01-01 15:00", periods=103, freq="min", tz="UTC")
    start = pd.DataFrame({"y": y, "y_hat": 0.0, "a": -1.2 * sigma, "b": 1.1 * sigma, "t1": ts[1:101]}, make_index("ES", ts[:100]))
    coming = pd.DataFrame({"y": np.nan, "y_hat": [0.0, 0.1], "a": [-1.0, -3.0], "b": [0.8, 2.0], "t1": pd.NaT}, make_index("ES", ts[101:]))
    mapie = {0.8: ([[-2.014356897247, 2.014356897247], [-1.914356897247, 2.114356897247]], [[-1.515801483128, 1.315801483128], [-3.515801483128, 2.515801483128]]),
             0.9: ([[-2.533607066403, 2.533607066403], [-2.433607066403, 2.633607066403]], [[-2.171623051089, 1.971623051089], [-4.171623051089, 3.171623051089]])}
    for level, (split, quantiles) in mapie.items():
        for around, want in (("y_hat", split), (("a", "b"), quantiles)):
            found = conformal_intervals(coming, start, method="split", level=level, around=around)
            np.testing.assert_allclose(found[["low", "high"]], want, atol=1e-11)


def minutes(y, delay=1, **columns):
    ts = pd.date_range("2024-01-01 15:00", periods=len(y) + delay, freq="min", tz="UTC")
    return pd.DataFrame({"y": y, "y_hat": 0.0, "t1": ts[delay:]} | columns, make_index("ES", ts[:len(y)]))


@pytest.mark.parametrize("around", ["y_hat", "tails apart"])
def test_holds_what_it_promises_of_exchangeable_errors(around):
    """The next answer after n, over many draws: the exact share of the rank, within binomial bounds."""
    n, n_draws, tails = 59, 2000, "apart" if around == "tails apart" else "together"
    frame = minutes(np.random.default_rng(7).standard_t(2, (n + 1) * n_draws), fold=np.repeat(np.arange(n_draws), n + 1))
    is_last = np.arange(len(frame)) % (n + 1) == n
    said = conformal_intervals(frame[is_last], frame[~is_last], method="split", level=0.9, tails=tails)
    held = int(((said["low"] <= said["y"]) & (said["y"] <= said["high"])).sum())
    share = 54 / 60 if tails == "together" else 1 - 2 * (1 - 57 / 60)
    assert binom.cdf(held, n_draws, share) > 0.001 and binom.sf(held - 1, n_draws, share) > 0.001


@pytest.mark.parametrize("delay", [1, 7])
def test_rolling_holds_with_late_labels(delay):
    """Independent errors, answers that come late: 90 % of many rows, and not much more."""
    y = np.random.default_rng(8).standard_t(3, 20_000)
    said = conformal_intervals(minutes(y, delay), method="rolling", window=200)
    known = said["low"].notna().to_numpy()
    share = (np.abs(y) <= said["high"])[known].mean()
    assert 0.893 < share < 0.912 and known.sum() > 19_000


@pytest.mark.parametrize("method", ["adaptive", "tracked"])
def test_learning_keeps_its_word_against_an_adversary(method):
    """Errors that grow, shrink and jump: the share of misses differs from 10 % by no more than what lambda has moved, over step times rows (Gibbs and Candès 2021, proposition 4.1)."""
    rng = np.random.default_rng(9)
    scale = np.exp(np.r_[np.linspace(0, 6, 1000), np.linspace(6, -3, 1000), np.zeros(500), np.full(500, 4.0)])
    frame = minutes(scale * rng.standard_normal(3000))
    said = conformal_intervals(frame, method=method, window=100)
    known, options = said["low"].notna().to_numpy(), said.attrs["conformal"]
    missed = ((frame["y"] < said["low"]) | (frame["y"] > said["high"])).to_numpy()[known][:-1]      # the last answer is not known yet
    assert abs(missed.sum() - 0.1 * len(missed) - options["lift"][0] / options["step"]) < 1e-6
    assert abs(missed[:990].mean() - 0.1) < 0.035 and abs(missed.mean() - 0.1) < 0.02
    rolling = conformal_intervals(frame, method="rolling", window=100).iloc[:1000]
    assert ((rolling["y"] < rolling["low"]) | (rolling["y"] > rolling["high"])).mean() > 0.18


@pytest.mark.parametrize("method", METHODS[1:])
def test_no_interval_knows_a_later_answer(method):
    frame = random_rows(12, 200, with_holes=False)
    options = dict(method=method, level=0.8, window=15, scale="vol", step=0.3)
    said = conformal_intervals(frame, **options)
    ts = frame.index.get_level_values("ts")
    for cut in np.sort(ts)[[30, 90, 150, 199]]:
        cut, rng = pd.Timestamp(cut, tz="UTC") if pd.Timestamp(cut).tz is None else pd.Timestamp(cut), np.random.default_rng(0)
        noise = frame["y"].where((frame["t1"] <= cut).to_numpy(), 100 * rng.standard_normal(len(frame)))
        past = (ts <= cut)
        for other in (frame.assign(y=noise), frame[past], frame[past].assign(y=noise[past], t1=frame["t1"][past].where(frame["t1"][past] <= cut))):
            found = conformal_intervals(other, **options)
            pd.testing.assert_frame_equal(found[found.index.get_level_values("ts") <= cut][["low", "high"]], said[past][["low", "high"]])


def test_split_takes_each_fold_by_its_own_rows():
    frame = random_rows(13, 200, ("ESH24",), with_holes=False)
    frame["fold"] = np.repeat([0, 1], 100)
    valid, test = frame.iloc[np.r_[0:60, 100:150]], frame.iloc[np.r_[90:100, 180:200]]
    found = conformal_intervals(test, valid, method="split", level=0.8)
    for fold, rows in ((0, slice(0, 60)), (1, slice(100, 150))):
        alone = conformal_intervals(test[test["fold"] == fold], frame.iloc[rows], method="split", level=0.8)
        pd.testing.assert_frame_equal(found[found["fold"] == fold][["low", "high"]], alone[["low", "high"]])
    later = conformal_intervals(test.iloc[:5], frame.iloc[100:150].assign(fold=0), method="split", level=0.8)       # validation rows after the test
    assert later["low"].isna().all()


def test_a_million_rows_take_seconds():
    import time
    y = np.random.default_rng(14).standard_t(4, 200_000)
    frame = minutes(y, 60)
    conformal_intervals(frame.iloc[:100])
    start = time.perf_counter()
    said = conformal_intervals(frame, method="tracked", window=500)      # 30,000 rows in the window
    assert time.perf_counter() - start < 20
    assert abs((np.abs(y) <= said["high"])[said["low"].notna()].mean() - 0.9) < 0.005


def test_quantiles_of_a_net_are_corrected():
    """A net with a head of quantiles, trained on days without its tails, says too narrow ones; conformalized they hold."""
    from futures_nb.dataset import make_dataset
    from futures_nb.fitted import predict
    from futures_nb.nets import MLP
    from futures_nb.splits import Fold
    from futures_nb.train import fit
    rng, n = np.random.default_rng(15), 1500
    vol = np.exp(0.5 * rng.standard_normal(n))
    ts = pd.date_range("2024-01-01 15:00", periods=n + 1, freq="min", tz="UTC")
    index = make_index("ES", ts[:n])
    features = pd.DataFrame({"vol": np.log(vol), "other": rng.standard_normal(n)}, index)
    y = 0.01 * vol * rng.standard_t(3, n)
    y[:600] *= 0.6                                                       # what it learned from was calmer
    target = pd.DataFrame({"y": y, "t1": ts[1:], "weight": 1.0}, index)
    fold = Fold(np.arange(600), np.arange(600, 900), np.arange(900, n))
    dataset = make_dataset(features, target, fold, scaler="standard")
    done = fit(MLP, dataset, net_options=dict(hidden=8, depth=1, head="quantile"), loss="pinball", epochs=6, batch_size=64, lr=0.02, seed=0, progress=False)
    valid, test = predict(done, dataset, "valid"), predict(done, dataset, "test")
    raw = (test["y"].between(test["q_0.05"], test["q_0.95"])).mean()
    said = conformal_intervals(test, valid, method="split", around="quantiles")
    table = coverage_table(said)
    assert raw < 0.85 and abs(table.table["cover"][0] - 0.9) < 0.03, (raw, table)
    several = conformal_quantiles(test, valid, levels=(0.5, 0.9), around="quantiles", method="split")
    assert (np.diff(several[["q_0.05", "q_0.25", "q_0.75", "q_0.95"]], axis=1) >= 0).all()
    again = CoverageTable.from_dict(json.loads(json.dumps(table.to_dict(), allow_nan=False)))
    assert again.sentence == table.sentence and again._repr_html_() == table._repr_html_()


def test_answers_are_refused_that_cannot_be():
    frame = minutes(np.r_[np.zeros(5), np.inf])
    with pytest.raises(DataError, match="y is inf"): conformal_intervals(frame)
    with pytest.raises(DataError, match="no time zone"): Conformal().interval("2024-01-01 15:00", 0.0)
    assert float(nonconformity(1.0, 0.0, 0.5)) == 0.5


def test_coverage_table_counts_by_hand():
    """Shares, tails, width and Winkler score of each cell by a plain loop; the cells' intervals are simultaneous."""
    from futures_nb.coverage import share_interval
    rng = np.random.default_rng(16)
    table = session_table("ES", "2023-01-03", "2024-12-31").iloc[:181]
    ts = pd.DatetimeIndex(table["close"])
    frame = pd.DataFrame({"y": rng.standard_normal(180), "low": -1.5, "high": 1.2, "t1": ts[1:]}, make_index("ES", ts[:-1]))
    regimes = pd.DataFrame({"side": rng.choice(["a", "b", "c"], 180)}, table.index[:-1])
    found = coverage_table(frame, regimes, level=0.8).table
    with pytest.raises(DataError, match="repeats"): coverage_table(frame, pd.concat([regimes, regimes]), level=0.8)
    for row in found.to_dict("records"):
        mine = frame if row["cell"] == "all" else frame[(regimes["side"] == row["cell"]).to_numpy()]
        y = mine["y"].to_numpy()
        assert row["n"] == len(mine) and row["below"] == pytest.approx(np.mean(y < -1.5)) and row["above"] == pytest.approx(np.mean(y > 1.2))
        assert row["cover"] == pytest.approx(np.mean([-1.5 <= v <= 1.2 for v in y])) and row["width"] == pytest.approx(2.7)
        assert row["winkler"] == pytest.approx(np.mean([2.7 + 10 * max(-1.5 - v, v - 1.2, 0) for v in y]))
        apart = share_interval(row["cover"], len(mine), 0.95 if row["cell"] == "all" else 1 - 0.05 / 3)       # independent days: about this
        assert 0.85 < (row["high"] - row["low"]) / (apart[1] - apart[0]) < 1.35, row


@pytest.mark.slow
def test_cells_are_off_by_chance_in_one_table_of_twenty():
    """Honest intervals in 200 tables of five cells; the numbers stand in the chapter (printed with -s)."""
    table = session_table("ES", "2016-01-04", "2020-12-31").iloc[:1001]
    ts, dates, off, whole = pd.DatetimeIndex(table["close"]), table.index[:-1], 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame({"y": rng.random(1000), "low": 0.05, "high": 0.95, "t1": ts[1:]}, make_index("ES", ts[:-1]))
        found = coverage_table(frame, pd.DataFrame({"cell": rng.integers(0, 5, 1000)}, dates), level=0.9, n_draws=500, seed=seed)
        off, whole = off + bool(len(found.off)), whole + (not found.table["low"][0] <= 0.9 <= found.table["high"][0])
    print(f"tables with a cell off {off / 200:.1%}, with the whole off {whole / 200:.1%}")
    assert off <= 20 and whole <= 20


def test_a_narrowed_guess_never_crosses():
    """After sixty guesses that were far too wide comes a narrow one: both ends are its middle, and that is counted."""
    frame = minutes(np.zeros(61), a=np.r_[np.full(60, -100.0), 1.0], b=np.r_[np.full(60, 100.0), 3.0])
    found = conformal_intervals(frame, method="rolling", around=("a", "b"))
    assert found[["low", "high"]].iloc[-1].tolist() == [2.0, 2.0] and found.attrs["conformal"]["n_collapsed"] == 1
    assert (found["low"].dropna() <= found["high"].dropna()).all()
