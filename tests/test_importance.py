"""Importance, ablation and response: against scikit-learn, on windows, minutes and folds that overlap, and on real markets."""
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import futures_nb as fnb
from futures_nb.ablation import BETTER, MISSED, Ablation, ablate, count_fits, losses_by_day
from futures_nb.baselines import Baseline, fit_baseline
from futures_nb.dataset import make_dataset
from futures_nb.importance import ABOVE, BELOW, UNTOLD, Importance, fit_each, permutation_importance
from futures_nb.kfold import CombinatorialPurged, PurgedKFold
from futures_nb.losses import HEAD_OF_LOSS, make_loss
from futures_nb.moves import ask, joint_intervals, loss_by_row, moved_rows, noise_columns, time_blocks
from futures_nb.nets import MLP
from futures_nb.response import gradient_importance, partial_dependence
from futures_nb.schema import DataError, make_index
from futures_nb.sequence import ConvNet
from futures_nb.splits import WalkForward
from futures_nb.train import fit

RIDGE = Baseline("ridge", alpha=0.01)
QUICK = dict(progress=False, live=False, epochs=3, batch_size=64)


def days(n, p, weights=(), seed=0, memory=0.0):
    """Features of `n` days, the first of which make the answer."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n + 100, p))
    for i in range(1, len(X)): X[i] += memory * X[i - 1]
    X = X[100:] * np.sqrt(1 - memory**2)
    y = X[:, :len(weights)] @ np.array(weights, float) + rng.standard_normal(n)
    ts = pd.bdate_range("2015-01-05 21:00", periods=n + 1, tz="UTC")
    index = make_index("ESZ24", ts[:-1])
    return pd.DataFrame(X, index, [f"c{k}" for k in range(p)]), pd.DataFrame({"y": 0.01 * y, "t1": ts[1:], "weight": 1.0}, index)


def folds_of(target, n=2): return WalkForward(n_folds=n).folds(target)


@pytest.fixture(scope="module")
def planted():
    features, target = days(600, 5, (0.5, 0.3))
    fits, datasets = fit_each(RIDGE, features, target, folds_of(target), n_noise=4)
    return SimpleNamespace(features=features, target=target, fits=fits, datasets=datasets, told=permutation_importance(fits, datasets))


@pytest.mark.parametrize("loss", sorted(HEAD_OF_LOSS))
def test_loss_by_row_is_the_loss_of_each_row_alone(loss):
    net = MLP(4, hidden=8, head=HEAD_OF_LOSS[loss]).eval()
    with torch.no_grad(): torch.nn.init.normal_(net.readout.weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0.5, -0.5, 0.0, 2.0, -2.0, 1.0, 0.1, -0.1, 3.0])
    score, out = make_loss(loss, net), net(x).detach()
    alone = [float(score(out[i:i + 1], y[i:i + 1], torch.ones(1), total=1.0)) for i in range(9)]
    np.testing.assert_allclose(loss_by_row(score, out, y), alone, rtol=1e-5, atol=1e-7)


def test_nothing_is_changed_by_asking(planted):
    dataset = SimpleNamespace(**vars(planted.datasets[0]) | {"X": planted.datasets[0].X.copy()})
    dataset.X[dataset.test[0], 0] = 50.0                       # which the net cuts, and would count
    net = fit(MLP, planted.datasets[0], net_options={"hidden": 8}, **QUICK)
    before = {k: v.clone() for k, v in net.net.state_dict().items()}
    X, asked = dataset.X.copy(), ask(net, dataset, dataset.test)
    permutation_importance(net, dataset, repeats=2); gradient_importance(net, dataset); partial_dependence(net, dataset, "c0")
    np.testing.assert_array_equal(dataset.X, X)
    assert all(torch.equal(v, before[k]) for k, v in net.net.state_dict().items()) and not any(p.grad is not None for p in net.net.parameters())
    np.testing.assert_array_equal(asked.x, dataset.X[dataset.test])
    from futures_nb.nets import input_counts
    assert set(input_counts(net.net).values()) == {0}


def test_trees_have_the_importance_scikit_learn_gives_them(planted):
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.inspection import permutation_importance as theirs
    d = planted.datasets[1]
    trees = HistGradientBoostingRegressor(max_iter=40, random_state=0).fit(d.X[d.train], d.y[d.train])
    ours = permutation_importance(trees, d, repeats=60, noise=[]).columns
    wanted = theirs(trees, d.X[d.test], d.y[d.test], scoring="neg_mean_squared_error", n_repeats=60, random_state=0)
    close = pd.Series(wanted.importances_mean / d.y_scale**2, list(d.columns))
    error = pd.Series(wanted.importances_std / d.y_scale**2, list(d.columns)) / np.sqrt(30)
    assert ((ours["importance"] - close[ours.index]).abs() < 4 * error[ours.index] + 1e-6).all()


def test_ranks_fall_as_scikit_learn_says(planted):
    from sklearn.inspection import permutation_importance as theirs
    d = planted.datasets[1]
    model = type("Model", (), {"fit": lambda self, X, y: self, "predict": lambda self, X: planted.fits[1].net.predict_rows(X)})()
    spearman = lambda est, X, y: pd.Series(est.predict(X)).corr(pd.Series(y), method="spearman")
    wanted = theirs(model, d.X[d.test], d.y[d.test], scoring=spearman, n_repeats=60, random_state=0).importances_mean
    ours = permutation_importance(planted.fits[1], d, repeats=60).columns.loc[list(d.columns), "rank_drop"]
    np.testing.assert_allclose(ours, wanted, atol=0.02)


def test_the_first_columns_are_found_and_json_is_strict(planted):
    told = planted.told
    assert told.above == ["c0", "c1"] and set(told.columns["verdict"][told.columns["family"] == "own"]) == {ABOVE, UNTOLD}
    assert told.info["n_rows"] == sum(len(d.test) for d in planted.datasets) and told.info["n_left_out"] == 0
    state = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert Importance.from_dict(state).to_dict() == told.to_dict()
    assert fnb.permutation_importance is not None and "c0" in repr(told)


def test_pages_escape_the_names():
    features, target = days(400, 3, (0.5,))
    features.columns = ["<b>bold</b>", "c1", "c2"]
    folds = folds_of(target)
    told = permutation_importance(*fit_each(RIDGE, features, target, folds))
    done = ablate(RIDGE, features, target, folds, families={"<i>one": ["<b>bold</b>"], "two": ["c1", "c2"]}, n_noise=2)
    for page in (told._repr_html_(), done._repr_html_()): assert "<b>bold" not in page and "<i>" not in page and "&lt;b&gt;bold" in page


def test_rows_of_a_session_move_together_and_a_clock_is_judged():
    rng = np.random.default_rng(0)
    day = pd.bdate_range("2024-02-20", periods=60, tz="UTC")
    ts = pd.DatetimeIndex([d + pd.Timedelta(hours=14, minutes=30 * k) for d in day for k in range(1, 13)])
    clock, known = np.tile(np.linspace(-1, 1, 12), 60), np.repeat(rng.standard_normal(60), 12)
    y = clock + known + 0.5 * rng.standard_normal(720)
    data = SimpleNamespace(X=np.column_stack([clock, known, rng.standard_normal(720)]), y=y, weight=np.ones(720), index=make_index("ESM24", ts), t1=ts.normalize() + pd.Timedelta("1D 21h"),
                           columns=["clock", "known", "idle"], test=np.arange(720), train=np.arange(720), y_scale=1.0, fold=None)
    blocks = time_blocks(data.index, data.t1)
    assert blocks.span == 2
    giver = moved_rows(blocks, np.random.default_rng(1))
    assert (np.bincount(blocks.of, minlength=len(blocks.start) - 1) == np.diff(blocks.start)).all()
    for b in range(len(blocks.start) - 1): assert len(np.unique(blocks.of[giver[blocks.of == b]])) == 1
    starts, ends = data.index.get_level_values("ts").asi8, data.t1.as_unit("us").asi8
    assert not ((starts[giver] < ends) & (starts < ends[giver])).any()
    told = permutation_importance(lambda X: X[:, 0] + X[:, 1], data)
    assert told.columns.loc["clock", "importance"] > 0.5 and told.info["span"] == 2 and told.columns.loc["idle", "importance"] == 0
    assert "blocks of 2 trade dates" in told._repr_html_()


def test_windows_of_a_sequence_net_move_whole():
    features, target = days(260, 3, (0.8,))
    dataset = make_dataset(features, target, folds_of(target, 1)[0], window=4)
    net = fit(ConvNet, dataset, net_options={"window": 4, "width": 8}, **QUICK) if _takes(ConvNet, "width") else fit(ConvNet, dataset, net_options={"window": 4}, **QUICK)
    asked = ask(net, dataset, dataset.test)
    assert asked.x.shape == (len(dataset.test), 4, 3)
    told = permutation_importance(net, dataset, repeats=3, noise=[])
    assert len(told.columns) == 3 and gradient_importance(net, dataset, steps=64).info["gap"] < 0.2
    assert len(partial_dependence(net, dataset, "c0", n_grid=5).values[0]) == 5
    few = permutation_importance(net, dataset, repeats=1, noise=[], max_rows=80)
    assert few.info["n_rows"] <= 20 and few.info["n_left_out"] == len(dataset.test) - few.info["n_rows"] and "left out" in few._repr_html_()


def _takes(net, name):
    import inspect
    return name in inspect.signature(net).parameters


@pytest.mark.parametrize("cv", [PurgedKFold(n_folds=3, valid=0.15), CombinatorialPurged(n_blocks=4, n_test=2, valid=0.15)], ids=["kfold", "combinatorial"])
def test_folds_that_share_days_are_averaged_by_day(cv):
    features, target = days(400, 3, (0.6,))
    fits, datasets = fit_each(RIDGE, features, target, cv.folds(target), n_noise=2)
    told = permutation_importance(fits, datasets, repeats=3)
    assert told.above == ["c0"] and told.info["n_folds"] == cv.get_n_splits()
    each = [permutation_importance(f, d, repeats=3) for f, d in zip(fits, datasets)]
    weights = [len(d.test) for d in datasets]
    for name in ("c0", "c1"): np.testing.assert_allclose(told.columns.loc[name, "importance"], np.average([e.columns.loc[name, "importance"] for e in each], weights=weights), rtol=1e-9)


def test_joint_intervals_of_one_column_are_those_of_versus():
    from futures_nb.versus import compare_forecasts
    features, target = days(300, 1)
    y = target["y"].to_numpy()
    frame = lambda y_hat: pd.DataFrame({"y": y, "y_hat": y_hat, "t1": target["t1"]}, target.index)
    a, b = 0.3 * y, 0.0 * y
    theirs = compare_forecasts(frame(a), frame(b), n_draws=4000)
    date = np.unique(fnb.trade_dates(target.index.get_level_values("ts")), return_inverse=True)[1]
    gain = ((a - y) ** 2 - (b - y) ** 2) / np.mean(y**2)
    n_days = int(date.max()) + 1
    told, block = joint_intervals(np.bincount(date, gain, n_days)[:, None], np.bincount(date).astype(float), n_draws=20_000)
    assert abs(block - theirs.block) < 1e-9
    np.testing.assert_allclose(told.loc[0, ["value", "low", "high"]].astype(float), [theirs.difference, *theirs.interval], atol=0.01)


def test_a_refit_without_a_family_is_the_fit_of_the_others():
    features, target = days(900, 4, (0.5, 0.4))
    folds = folds_of(target)
    done = ablate(RIDGE, features, target, folds, families={"a": ["c0"], "b": ["c1"], "idle": ["c2", "c3"]}, n_noise=2)
    noisy = noise_columns(features, 2)
    _, lost, weight, _ = losses_by_day(*fit_each(RIDGE, noisy.drop(columns="c0"), target, folds, n_noise=0))
    np.testing.assert_allclose(done.without.loc["a", "loss"], lost.sum() / weight.sum(), rtol=1e-12)
    assert (done.without.loc[["a", "b"], "verdict"] == MISSED).all() and done.without.loc["idle", "verdict"] != MISSED
    assert done.info["n_fits"] == count_fits(range(3), 2) == 2 * (1 + 2 * 4) and BETTER not in done.sentence
    assert Ablation.from_dict(json.loads(json.dumps(done.to_dict(), allow_nan=False))).to_dict() == done.to_dict()


def test_what_cannot_be_moved_is_refused():
    features, target = days(200, 2)
    d = make_dataset(features, target, folds_of(target, 1)[0])
    done = fit_baseline(RIDGE, d)
    long = SimpleNamespace(**vars(d) | {"t1": d.t1 + pd.Timedelta("900D")})
    with pytest.raises(DataError, match="blocks cannot be given each other's values"): permutation_importance(done, long)
    with pytest.raises(DataError, match="looked up by time"): permutation_importance(fit_baseline(Baseline("last"), d), d)
    with pytest.raises(DataError, match="no test row"): permutation_importance(done, SimpleNamespace(**vars(d) | {"test": d.test[:0]}))
    zero = permutation_importance(fit_baseline(Baseline("zero"), d), d, noise=[])
    assert zero.sentence.startswith("Cannot tell") and (zero.columns["importance"] == 0).all()


def test_a_verdict_wants_the_interval_and_more_than_the_best_noise():
    from futures_nb.importance import UNKNOWN, _verdicts
    told = pd.DataFrame({"low": [0.1, 0.1, -0.1, -0.3, np.nan], "high": [0.3, 0.3, 0.3, -0.1, np.nan]})
    assert _verdicts(np.array([0.2, 0.05, 0.2, -0.2, 0.2]), told, 0.1).tolist() == [ABOVE, UNTOLD, UNTOLD, BELOW, UNKNOWN]


def count_wrong(memory, n_tables, first=0):
    """Tables of nothing with a verdict: above noise, and any."""
    wrong = []
    for seed in range(first, first + n_tables):
        features, target = days(500, 10, seed=seed, memory=memory)
        told = permutation_importance(*fit_each(RIDGE, features, target, folds_of(target, 3), n_noise=4, noise_seed=seed), repeats=5, n_draws=500)
        wrong.append([(told.columns["verdict"] == v).any() for v in (ABOVE, BELOW)])
    return np.mean(wrong, axis=0), np.mean(np.any(wrong, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_noise_is_called_something_about_one_time_in_twenty(memory):
    (above, below), either = count_wrong(memory, 100)
    print(f"memory {memory}: above {above:.2f}, below {below:.2f}, either {either:.2f}")
    assert above <= 0.06 and either <= 0.12


def daily_es(data_dir):
    """Daily ES 1997 to 2025 in units of its own known volatility: features, next day's move, and next day's range."""
    raw = pd.read_parquet(data_dir / "tradingview" / "ES1_1D.parquet").reset_index().rename(columns=str.lower)
    time = next(c for c in raw if pd.api.types.is_datetime64_any_dtype(raw[c]))
    date = pd.DatetimeIndex(fnb.trade_dates(pd.DatetimeIndex(raw[time]).tz_convert("UTC") + pd.Timedelta("6h"))).tz_localize(None)
    table = fnb.session_table("ES", date.min(), date.max()).reindex(date)
    keep = table["close"].notna().to_numpy() & ~date.duplicated()
    bars, date, ts = raw[keep].reset_index(drop=True), date[keep], pd.DatetimeIndex(table["close"][keep])
    d = bars["close"].diff()                                   # points: the series is back-adjusted by addition
    size = d.abs()
    vol = np.sqrt((d**2).ewm(span=60, min_periods=60).mean())
    spread = bars["high"] - bars["low"]
    over = lambda a, b: np.log(size.rolling(a).mean().clip(lower=0.25) / size.rolling(b).mean().clip(lower=0.25))
    f = {"return_1": d / vol} | {f"return_{k}": d.rolling(k).sum() / vol / np.sqrt(k) for k in (5, 20, 60, 250)}
    f |= {"gap": (bars["open"] - bars["close"].shift()) / vol, "range": spread / vol, "place": (bars["close"] - bars["low"]) / spread.clip(lower=0.25),
          "vol_1_20": over(1, 20), "vol_5_60": over(5, 60), "vol_20_250": over(20, 250), "range_5": spread.rolling(5).mean() / vol, "below_top": (bars["close"] - bars["close"].rolling(250).max()) / vol / 16,
          "down_share": (d.clip(upper=0) ** 2).rolling(20).sum() / (d**2).rolling(20).sum(), "volume": np.log(bars["volume"].clip(lower=1)) - np.log(bars["volume"].clip(lower=1)).rolling(20).mean(),
          "monday": (date.day_of_week == 0).astype(float), "friday": (date.day_of_week == 4).astype(float), "month_end": (date.day > 25).astype(float)}
    vix = pd.read_csv(data_dir / "vix" / "vix-daily.csv")
    close = pd.Series(vix["CLOSE"].to_numpy(), pd.to_datetime(vix["DATE"])).reindex(date).ffill()   # known at 15:15 Chicago, before the session's end
    f |= {"vix": np.log(close.to_numpy()), "vix_change": np.log(close).diff().to_numpy(), "vix_5": np.log(close).diff(5).to_numpy()}
    index = make_index("ES", ts)
    features = pd.DataFrame({k: np.asarray(v, float) for k, v in f.items()}, index)
    goals = {"move": d.shift(-1) / vol, "range": spread.shift(-1) / vol}
    has = (features.notna().all(axis=1) & np.isfinite(goals["move"]).to_numpy()).to_numpy()
    frame = lambda y: pd.DataFrame({"y": y.to_numpy(), "t1": ts.to_series().shift(-1).array, "weight": 1.0}, index)[has]
    return features[has], {k: frame(v) for k, v in goals.items()}


def test_daily_es_its_range_is_foretold_and_its_direction_is_not(data_dir):
    features, goals = daily_es(data_dir)
    told = {k: permutation_importance(*fit_each(Baseline("ridge"), features, goal, folds_of(goal, 5))) for k, goal in goals.items()}
    for k, v in told.items(): print(k, v, v.clusters.drop(columns="members").round(4).to_string(), sep="\n")
    assert told["range"].info["n_days"] > 3500 and told["range"].above[0] in ("range_5", "vol_5_60") and len(told["range"].above) >= 4
    assert len(told["move"].above) <= 1 and told["range"].columns["share"].max() > 10 * told["move"].columns["share"].max()


def test_a_loss_of_zero_or_below_has_no_share():
    import warnings
    features, target = days(300, 2, (0.5,))
    d = make_dataset(features, target, folds_of(target, 1)[0])
    perfect = SimpleNamespace(**vars(d) | {"y": d.X[:, 0] * d.y_scale})
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        told = permutation_importance(lambda X: X[:, 0].astype(float) * d.y_scale, perfect, noise=[])
        assert told.columns["share"].isna().all() or told.info["mean_loss"] > 0
        net = fit(MLP, d, loss="student", net_options={"hidden": 8, "head": "student"}, **QUICK)
        below = permutation_importance(net, d, noise=[], loss=lambda out, y, weight, *, total: make_loss("student")(out, y, weight, total=total) - 10 * weight.sum() / total)
    assert below.info["mean_loss"] < 0 and below.columns["share"].isna().all() and "%" not in below.plot().get_xlabel() and below._repr_html_()


def test_long_blocks_widen_the_interval_as_on_one_column():
    from futures_nb.scores import block_bootstrap, student_interval
    rng, x = np.random.default_rng(0), np.zeros(80)
    for i in range(1, 80): x[i] = 0.8 * x[i - 1] + rng.standard_normal()
    draws, block = block_bootstrap(x[:, None], lambda r: r[:, 0].mean(), x - x.mean(), n_draws=4000)
    assert block > 4
    told, same = joint_intervals(x[:, None], np.ones(80), n_draws=20_000)
    low, high = student_interval(x.mean(), draws, block, 80)
    assert same == block and abs((told.loc[0, "high"] - told.loc[0, "low"]) / (high - low) - 1) < 0.06
