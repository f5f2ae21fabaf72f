"""A saved pipeline: the run's own numbers from another process and folder, bar by bar on a real file, and every way to damage it."""
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.artifact import MANIFEST, NEEDED, OPTIONAL, read_sealed, seal_folder
from futures_nb.config import DataConfig, FeaturesConfig, NetConfig, RunConfig, SplitConfig, TargetConfig, TrainConfig
from futures_nb.exporting import FORMATS, export_net
from futures_nb.roll import front_rows
from futures_nb.scaling import column_hash
from futures_nb.schema import DataError

NAMES = ("return_1", "return_60", "return_session", "vol_60", "volume_minute", "poc_distance", "vix_level")


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A simulated market of two contracts in bars of five minutes, and a VIX; the files, of which runs are made, end twelve sessions before the bars."""
    folder = tmp_path_factory.mktemp("artifact")
    bars = fnb.synth_bars(n_contracts=2, n_days=60, overlap=6, seed=0, minutes=5)
    fnb.Store(folder / "market").write(bars[bars.index.get_level_values("ts") <= bars.index[-12 * 276][1]])
    days = pd.bdate_range(bars.index[0][1].tz_convert(None).normalize() - pd.Timedelta("400D"), bars.index[-1][1].tz_convert(None).normalize())
    level = 15 + 10 * np.random.default_rng(0).random(len(days))
    pd.DataFrame({"DATE": days.strftime("%Y-%m-%d"), "OPEN": level, "HIGH": level, "LOW": level, "CLOSE": level}).to_csv(folder / "vix.csv", index=False)
    return folder, bars, fnb.read_vix(folder / "vix.csv")


def run_of(folder, name, kind="return", scaler="robust", rows="all", net=None, horizon="1D", **train):
    config = RunConfig(out=str(folder / name), leaks=False, rows=rows, data=DataConfig(path=str(folder / "market"), vix=str(folder / "vix.csv")), features=FeaturesConfig(names=NAMES),
                       target=TargetConfig(kind=kind, horizon=horizon), split=SplitConfig(n_folds=2), net=net or NetConfig(hidden=8, depth=1), train=TrainConfig(epochs=2, batch_size=1024, scaler=scaler, **train))
    return fnb.run(config, progress=False)


@pytest.fixture(scope="module")
def saved(market):
    folder, bars, vix = market
    run_dir = run_of(folder, "run")
    return run_dir, fnb.save_pipeline(run_dir, folder / "pipeline", progress=False), bars, vix


def assert_as_the_run(said, wrote, pipeline):
    """Equal to the last bit, in every column that both have."""
    both = [c for c in wrote if c in said]
    np.testing.assert_array_equal(said.loc[wrote.index, both], wrote[both])
    assert "y_hat" in both and pipeline.about["checked"]["n_different"] == 0


def last_fold(run_dir):
    wrote = pd.read_parquet(run_dir / "predictions.parquet")
    return wrote[wrote["fold"] == wrote["fold"].max()]


def bars_of(frame):
    for (contract, ts), row in zip(frame.index, frame[["open", "high", "low", "close", "volume"]].to_dict("records")): yield row | {"contract": contract, "ts": ts}


@pytest.fixture
def damaged(saved, tmp_path):
    """A copy of the folder, to be damaged."""
    shutil.copytree(saved[1], tmp_path / "copy")
    return tmp_path / "copy"


def resealed(folder):
    (folder / MANIFEST).unlink()
    seal_folder(folder)
    return folder


def test_another_process_in_another_folder_gives_the_runs_numbers(saved, tmp_path):
    run_dir, path, bars, vix = saved
    shutil.copytree(path, tmp_path / "moved")
    bars.to_parquet(tmp_path / "bars.parquet")
    vix.to_parquet(tmp_path / "vix.parquet")
    program = ("import sys, pandas as pd, futures_nb as fnb; d = sys.argv[1]; bars, vix = (pd.read_parquet(f'{d}/{n}.parquet') for n in ('bars', 'vix'));"
               "fnb.load_pipeline(f'{d}/moved').predict(bars, vix).to_parquet(f'{d}/said.parquet')")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    said, wrote = pd.read_parquet(tmp_path / "said.parquet"), last_fold(run_dir)
    assert len(wrote) > 5000
    assert_as_the_run(said, wrote, fnb.load_pipeline(path))
    assert not said.loc[wrote.index, "in_sample"].any()


def test_an_answer_does_not_depend_on_the_future_or_on_other_rows(saved):
    _, path, bars, vix = saved
    pipeline = fnb.load_pipeline(path)
    whole = pipeline.predict(bars, vix)
    ts = bars.index.get_level_values("ts")
    cut = pipeline.predict(bars[ts <= ts.max() - pd.Timedelta("11D")], vix)
    np.testing.assert_array_equal(cut["y_hat"], whole.loc[cut.index, "y_hat"])
    few = bars.loc[["ESM22"]].iloc[-6000:]                # `lookback` is shorter
    late = pipeline.predict(few, vix)
    tail = late.index[-1000:]
    np.testing.assert_array_equal(late.loc[tail, "y_hat"], whole.loc[tail, "y_hat"])


def test_in_sample_marks_what_the_net_has_learned_from(saved):
    run_dir, path, bars, vix = saved
    pipeline = fnb.load_pipeline(path)
    said = pipeline.predict(bars, vix)
    facts = json.loads((run_dir / "run.json").read_text())["folds"][-1]
    ts = said.index.get_level_values("ts")
    assert said["in_sample"][ts <= pd.Timestamp(facts["train_to"])].all() and not said["in_sample"][ts >= pd.Timestamp(facts["test_from"])].any()
    assert pd.Timestamp(facts["train_to"]) < pipeline.known_to < pd.Timestamp(facts["test_from"])
    assert said.attrs["pipeline"]["n_in_sample"] == said["in_sample"].sum()


def heard_of(pipeline, bars, vix, part):
    """Forecasts bar by bar of `part`, after all bars before it."""
    front = pd.Series(front_rows(bars), bars.index)
    live = pipeline.stream(bars[bars.index.get_level_values("ts") < part.index[0][1]], vix)
    return pd.DataFrame([live.update(bar, is_front=front[bar["contract"], bar["ts"]]) for bar in bars_of(part)]).set_index(["contract", "ts"])


@pytest.mark.parametrize("kind, scaler, rows, horizon, loss", [("vol_scaled", "rolling", "daily", "1D", "huber"), ("return", "robust", "all", "12", "student"),
                                                                *(pytest.param(*given, marks=pytest.mark.slow) for given in (("rank", "rolling", "all", "1D", "huber"), ("realised_vol", "auto", "all", "1D", "pinball"), ("realised_vol", "robust", "all", "12", "student"),
                                                                                                                             ("vol_scaled", "auto", "all", "1D", "cross_entropy")))])
def test_other_targets_scalers_and_rows_in_batch_and_bar_by_bar(market, kind, scaler, rows, horizon, loss):
    folder, bars, vix = market
    run_dir = run_of(folder, f"{kind}_{scaler}_{rows}", kind, scaler, rows, horizon=horizon, loss=loss)
    pipeline = fnb.load_pipeline(fnb.save_pipeline(run_dir, folder / f"{kind}_{scaler}_{rows}_pipeline", progress=False))
    wrote = last_fold(run_dir)
    said = pipeline.predict(bars, vix)
    assert_as_the_run(said, wrote, pipeline)
    if rows == "daily": assert said.index.get_level_values("ts").normalize().is_unique
    part = bars.loc[["ESM22"]].iloc[-2000:-1300]          # three sessions that the run had not, the first in its middle
    heard = heard_of(pipeline, bars, vix, part)
    batch = pipeline.predict(bars, vix, rows="all")
    columns = [c for c in batch if c != "in_sample"]
    np.testing.assert_array_equal(heard[columns], batch.loc[heard.index, columns])
    assert heard["low"].notna().all() and (heard["low"] < heard["high"]).all()
    width = (heard["high"] - heard["low"]).groupby(heard.index.get_level_values("ts").date).first()
    assert width.nunique() == len(width)
    trained = said.index.intersection(heard.index)
    assert heard.loc[trained, "is_trained"].all() and (rows == "all" or heard["is_trained"].sum() == len(trained) >= 2)


def test_intervals_go_on_where_those_of_the_run_end(saved):
    run_dir, path, bars, vix = saved
    pipeline, wrote = fnb.load_pipeline(path), pd.read_parquet(run_dir / "predictions.parquet")
    said = pipeline.predict(bars, vix)
    is_new = said.index.get_level_values("ts") > wrote.index.get_level_values("ts").max()
    new, target = said[is_new], fnb.make_target(bars)
    assert len(new) > 2500 and said.loc[~is_new, ["low", "high"]].isna().all(axis=None) and new[["low", "high"]].notna().all(axis=None)
    both = pd.concat([wrote, new.assign(y=target["y"], t1=target["t1"])])[["y", "t1", "y_hat"]]
    found = fnb.conformal_intervals(both.assign(unit=fnb.known_volatility(bars)), scale="unit")
    np.testing.assert_array_equal(found.loc[new.index, ["low", "high"]], new[["low", "high"]])
    then = pd.read_parquet(run_dir / "intervals.parquet")
    np.testing.assert_array_equal(found.loc[then.index, ["low", "high"]], then)
    assert "90%, from" in repr(pipeline)


def test_what_else_a_calibration_can_be(saved, tmp_path):
    run_dir, _, bars, vix = saved
    for k, given in enumerate(({"half_width": 0.02}, None)):
        pipeline = fnb.load_pipeline(fnb.save_pipeline(run_dir, tmp_path / str(k), calibration=given, progress=False))
        assert pipeline.calibration == given and not pipeline.has_intervals and "low" not in pipeline.predict(bars, vix)
        assert "low" not in pipeline.stream().update(next(bars_of(bars.iloc[-100:])))
    with pytest.raises(DataError, match="calibration is 'split'"): fnb.save_pipeline(run_dir, tmp_path / "no", calibration="split")


def test_windows_and_several_nets_that_speak_as_one(market, tmp_path):
    folder, bars, vix = market
    run_dir = run_of(folder, "window", "realised_vol", "rolling", "daily", net=NetConfig(name="ConvNet", hidden=8, depth=1, window=3, n_members=2))
    pipeline = fnb.load_pipeline(fnb.save_pipeline(run_dir, folder / "window_pipeline", progress=False))
    said = pipeline.predict(bars, vix)
    assert_as_the_run(said, last_fold(run_dir), pipeline)
    assert said["high"].notna().sum() >= 8 and said.attrs["pipeline"]["n_short"] > 0
    with pytest.raises(DataError, match="the net sees windows of 3 rows, and a stream shows it one"): pipeline.stream()
    with pytest.raises(DataError, match="windows of 3 days"): pipeline.predict(bars, vix, rows="all")
    before = (folder / "ledger.jsonl").read_bytes()
    with fnb.use_ledger(tmp_path / "ledger.jsonl"):
        fresh = fnb.load_pipeline(fnb.save_pipeline(run_dir, tmp_path / "fresh", refit=True, progress=False))
    assert not (tmp_path / "ledger.jsonl").exists() and (folder / "ledger.jsonl").read_bytes() == before
    assert fresh.about["net"]["options"]["n_members"] == 2 and fresh.about["target"]["scale"] != pipeline.about["target"]["scale"]
    assert fresh.interval["n_train"] > pipeline.interval["n_train"] and (fresh.predict(bars, vix)["y_hat"] > 0).all()


@pytest.mark.slow
def test_a_rolling_scaler_of_bars_with_a_label_is_refused(market, tmp_path):
    run_dir = run_of(market[0], "bars_ahead", "return", "rolling", "all", horizon="12")
    with pytest.raises(DataError, match="choose a horizon in trade dates"): fnb.save_pipeline(run_dir, tmp_path / "no")


def test_a_restart_in_the_middle_of_a_session_changes_nothing(market):
    folder, bars, vix = market
    run_dir = folder / "vol_scaled_rolling_daily"
    if not run_dir.exists(): run_of(folder, run_dir.name, "vol_scaled", "rolling", "daily")
    path = folder / f"{run_dir.name}_pipeline"
    pipeline = fnb.load_pipeline(path if path.exists() else fnb.save_pipeline(run_dir, path, progress=False))
    part = list(bars_of(bars.loc[["ESM22"]].iloc[-2000:-1100]))
    live = pipeline.stream(bars[bars.index.get_level_values("ts") < part[0]["ts"]], vix)
    for k, bar in enumerate(part):
        if k in (137, 500):
            live.save(folder / "state.safetensors")
            live, old = fnb.load_pipeline(path).stream(state=folder / "state.safetensors"), live
        said = live.update(bar)
        if k >= 137: assert said == old.update(bar), bar["ts"]


def test_the_state_in_the_artefact_goes_on_after_the_runs_last_bar(saved):
    _, path, bars, vix = saved
    pipeline = fnb.load_pipeline(path)
    end = bars.index[-12 * 276][1]
    shipped, warmed = pipeline.stream(), pipeline.stream(bars[bars.index.get_level_values("ts") <= end], vix)
    one = bars.loc[["ESM22"]]
    for bar in bars_of(one[one.index.get_level_values("ts") > end].iloc[:400]): assert shipped.update(bar) == warmed.update(bar)


def test_a_rolling_scaler_learns_live_from_the_front_contract_only(market):
    folder, bars, vix = market
    path = folder / "vol_scaled_rolling_daily_pipeline"
    if not path.exists(): fnb.save_pipeline(run_of(folder, "vol_scaled_rolling_daily", "vol_scaled", "rolling", "daily"), path, progress=False)
    part = bars.loc[["ESM22"]].iloc[-2000:-1400]
    start = bars[bars.index.get_level_values("ts") < part.index[0][1]]
    front, back = (fnb.load_pipeline(path).stream(start, vix) for _ in range(2))
    for bar in bars_of(part): front.update(bar), back.update(bar, is_front=False)
    new = {d for d in front.scaler.sessions_["ESM22"] if d not in back.scaler.sessions_["ESM22"]}
    assert len(new) == 1 and front.measures["ESM22"][0].tolist() != back.measures["ESM22"][0].tolist()


def test_a_bar_after_a_gap_is_that_of_the_batch(saved):
    _, path, bars, vix = saved
    pipeline = fnb.load_pipeline(path)
    one = bars.loc[["ESM22"]]
    holed = pd.concat([one.iloc[:9000], one.iloc[9130:9133], one.iloc[9900:10_000]])     # half a session, and three
    live = pipeline.stream(holed.iloc[:9000], vix)
    heard = [live.update(bar)["y_hat"] for bar in bars_of(holed.iloc[9000:])]
    np.testing.assert_array_equal(heard, pipeline.predict(holed, vix, rows="all")["y_hat"].iloc[-len(heard):])


def test_a_vix_close_that_becomes_known_live(saved):
    _, path, bars, vix = saved
    pipeline = fnb.load_pipeline(path)
    one = bars.loc[["ESM22"]].iloc[:10_000]
    known = one.index[9000][1]
    live, heard = pipeline.stream(one.iloc[:9000], vix[vix.index <= known]), []
    new = list(vix[(vix.index > known) & (vix.index <= one.index[-1][1])]["vix_close"].items())
    for bar in bars_of(one.iloc[9000:]):
        heard.append(live.update(bar, vix=new.pop(0) if new and new[0][0] <= bar["ts"] else None)["y_hat"])
    assert not new
    np.testing.assert_array_equal(heard, pipeline.predict(one, vix, rows="all")["y_hat"].iloc[-1000:])


def test_refit_learns_up_to_the_end_and_says_that_nothing_is_left_to_judge_it_on(saved, tmp_path):
    run_dir, path, bars, vix = saved
    fresh, old = fnb.load_pipeline(fnb.save_pipeline(run_dir, tmp_path / "fresh", refit=True, progress=False)), fnb.load_pipeline(path)
    assert fresh.interval["n_train"] > old.interval["n_train"] and fresh.interval["n_test"] == 0 and fresh.known_to > old.known_to
    assert "never judged" in repr(fresh) and "never judged" in fresh._repr_html_()
    assert fresh.predict(bars, vix).loc[last_fold(run_dir).index[:-2000], "in_sample"].all()
    first = fnb.load_pipeline(fnb.save_pipeline(run_dir, tmp_path / "first", fold=0, progress=False))
    assert first.known_to < old.known_to
    with pytest.raises(DataError, match="folds 0 to 1"): fnb.save_pipeline(run_dir, tmp_path / "no", fold=2)


@pytest.mark.parametrize("name", [*NEEDED, *OPTIONAL, MANIFEST])
def test_a_changed_byte_a_missing_file_and_a_link_are_refused(damaged, name):
    data = (damaged / name).read_bytes()
    for k in (3, len(data) // 2, len(data) - 3):
        (damaged / name).write_bytes(data[:k] + bytes([data[k] ^ 1]) + data[k + 1:])
        with pytest.raises(DataError, match="^load_pipeline: .*" if name == MANIFEST else f"^load_pipeline: .*{name} was changed"): fnb.load_pipeline(damaged)
    (damaged / name).write_bytes(data[:-1])
    with pytest.raises(DataError, match=name): fnb.load_pipeline(damaged)
    (damaged / name).unlink()
    with pytest.raises(DataError, match=name): fnb.load_pipeline(damaged)
    if name == MANIFEST: return
    (damaged.parent / "real").write_bytes(data)
    (damaged / name).symlink_to(damaged.parent / "real")
    with pytest.raises(DataError, match=f"{name} is no plain file"): fnb.load_pipeline(damaged)
    (damaged / name).unlink()
    (damaged / name).write_bytes(data)
    assert fnb.load_pipeline(damaged).digest


def test_files_that_nobody_named_are_refused(damaged):
    (damaged / "model.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="holds model.pkl, which its manifest does not name"): fnb.load_pipeline(damaged)
    with pytest.raises(DataError, match="names model.pkl, which is no part"): fnb.load_pipeline(resealed(damaged))
    (damaged / "model.pkl").unlink()
    (damaged / "folder").mkdir()
    with pytest.raises(DataError, match="holds folder"): fnb.load_pipeline(damaged)


def test_a_pickle_under_the_name_of_the_weights_is_not_opened(damaged, tmp_path):
    import pickle

    class Trap:
        def __reduce__(self): return (open, (str(tmp_path / "sprung"), "w"))

    for name in ("net.safetensors", "check.safetensors", "scaler.json", "pipeline.json"):
        before = (damaged / name).read_bytes()
        (damaged / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(DataError, match="cannot be read as a pipeline"): fnb.load_pipeline(resealed(damaged))
        (damaged / name).write_bytes(before)
    before = (damaged / "live.safetensors").read_bytes()
    (damaged / "live.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="cannot be read as a saved stream"): fnb.load_pipeline(resealed(damaged)).stream()
    (damaged / "live.safetensors").write_bytes(before)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap())).close()            # noqa: S301  our own
    assert (tmp_path / "sprung").exists()                 # the trap works


def edit(folder, name, change):
    told = json.loads((folder / name).read_text())
    change(told)
    (folder / name).write_text(json.dumps(told))
    return resealed(folder)


@pytest.mark.parametrize("change, words", [
    (lambda a: a["columns"].reverse(), "not those of its scaler, or in another order"),
    (lambda a: (a["columns"].reverse(), a.update(columns_hash=column_hash(a["columns"]))), "not those of its scaler, or in another order"),
    (lambda a: a["features"][0].update(lookback=7), "feature 'return_1' has lookback 61 now and had 7 when the net was fitted"),
    (lambda a: a["features"][0].update(name="no_such"), "no feature 'no_such' in the catalogue"),
    (lambda a: a["net"].update({"class": "os:system"}), "none of the book's"),
    (lambda a: a["net"]["options"].update(hidden=9), "cannot be read as a pipeline"),
    (lambda a: a["parts"].update(net="0"), "net and scaler in .* are not those of its pipeline.json"),
])
def test_a_pipeline_json_that_does_not_fit_its_parts_is_refused(damaged, change, words):
    with pytest.raises(DataError, match=words): fnb.load_pipeline(edit(damaged, "pipeline.json", change))


def test_formats_digests_and_a_manifest_that_is_another_thing(damaged, saved):
    with pytest.raises(DataError, match="it is another pipeline"): fnb.load_pipeline(damaged, digest="0" * 64)
    assert fnb.load_pipeline(damaged, digest=read_sealed(saved[1])[0]["sha256_of_this"]).has_intervals
    told = json.loads((damaged / MANIFEST).read_text())
    (damaged / MANIFEST).write_text(json.dumps(told | {"format": 2}))
    with pytest.raises(DataError, match="has format 2, and this version reads 1"): fnb.load_pipeline(damaged)
    for text, words in (("{", "is no JSON"), ("[]", "is not the manifest of a pipeline"), ('{"what": "a store"}', "is not the manifest of a pipeline")):
        (damaged / MANIFEST).write_text(text)
        with pytest.raises(DataError, match=words): fnb.load_pipeline(damaged)


def test_a_net_that_says_something_else_here_is_refused(damaged):
    from safetensors.numpy import load_file, save_file
    rows = load_file(damaged / "check.safetensors")
    for name, gap, words in (("y_hat", 1e-3, "the net of .* says other numbers here"), ("raw", 1.0, "the scaler of .* gives other numbers here")):
        save_file(rows | {name: rows[name] + gap}, damaged / "check.safetensors")
        with pytest.raises(DataError, match=words): fnb.load_pipeline(resealed(damaged))


def test_a_run_whose_bars_or_numbers_have_changed_is_not_saved(saved, market, tmp_path):
    run_dir, *_ = saved
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    (copy / "bars.json").write_text('{"digest": "000000000000", "rows": 1}')
    with pytest.raises(DataError, match="the bars have changed"): fnb.save_pipeline(copy, tmp_path / "p")
    shutil.copy(run_dir / "bars.json", copy / "bars.json")
    said = pd.read_parquet(copy / "predictions.parquet")
    said.assign(y_hat=said["y_hat"] * 1.001).to_parquet(copy / "predictions.parquet")
    with pytest.raises(DataError, match="forecasts of .* are others"): fnb.save_pipeline(copy, tmp_path / "p")
    fit = json.loads((copy / "folds/01/fit.json").read_text())
    fit["config"]["data"] = "0" * 32
    (copy / "folds/01/fit.json").write_text(json.dumps(fit))
    with pytest.raises(DataError, match="fold 1 of .* was fitted on other numbers"): fnb.save_pipeline(copy, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_other_markets_and_bars_are_refused_unless_asked_for(saved):
    _, path, bars, vix = saved
    pipeline = fnb.load_pipeline(path)
    other = bars.rename(index={"ESH22": "NQH22", "ESM22": "NQM22"}, level=0)
    with pytest.raises(DataError, match="NQH22 is of NQ"): pipeline.predict(other, vix)
    with pytest.raises(DataError, match="NQH22 is of NQ"): pipeline.stream(other, vix)
    assert len(pipeline.predict(other, vix, any_market=True)) > 20_000
    with pytest.raises(DataError, match="need the VIX"): pipeline.predict(bars)
    with pytest.raises(DataError, match="need the VIX"): pipeline.stream(bars)
    with pytest.raises(DataError, match="give that much history"): pipeline.predict(bars.iloc[:300], vix)


@pytest.fixture(scope="module")
def es_pipeline(es_file, tmp_path_factory):
    """The whole catalogue on a real file of one-minute bars."""
    folder = tmp_path_factory.mktemp("es")
    config = RunConfig(out=str(folder / "run"), leaks=False, data=DataConfig(path=str(es_file)), split=SplitConfig(n_folds=1, min_train=0.6), net=NetConfig(hidden=16),
                       train=TrainConfig(epochs=1, batch_size=1024))
    run_dir = fnb.run(config, progress=False)
    return run_dir, fnb.load_pipeline(fnb.save_pipeline(run_dir, folder / "pipeline", progress=False)), fnb.read_bars(es_file)


@pytest.mark.slow
def test_every_row_of_a_real_file_bar_by_bar(es_pipeline):
    run_dir, pipeline, bars = es_pipeline
    wrote = pd.read_parquet(run_dir / "predictions.parquet")
    assert_as_the_run(pipeline.predict(bars), wrote, pipeline)
    live, heard, seconds = pipeline.stream(bars.iloc[:1]), [], []
    for bar in bars_of(bars.iloc[1:]):
        start = time.perf_counter()
        heard.append(live.update(bar))
        seconds.append(time.perf_counter() - start)
    heard = pd.DataFrame(heard).set_index(["contract", "ts"])
    batch = pipeline.predict(bars, rows="all")
    assert len(batch) > 40_000
    np.testing.assert_array_equal(heard["y_hat"].dropna(), batch["y_hat"])
    assert heard["y_hat"].dropna().index.equals(batch.index)
    print(f"{len(pipeline.columns)} features and the net: median {1e3 * np.median(seconds):.2f} ms, 99 % {1e3 * np.quantile(seconds, 0.99):.2f} ms, worst {1e3 * max(seconds):.1f} ms")
    assert np.median(seconds) < 5e-3


def stirred(net):
    import torch
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters(): p.add_(torch.randn(p.shape, generator=draw) * 0.2)
    return net.eval()


def exported(format, cls, head, tmp_path, **more):
    if format == "onnx": pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'futures_nb[onnx]'")
    return export_net(stirred(getattr(fnb, cls)(6, hidden=8, head=head, **more)), tmp_path / f"net{FORMATS[format]}", format)


NETS = {"MLP": {}, "ResidualMLP": {"input_norm": "batch"}, "AttentionNet": {}, "AttentionNet ": {"window": 5}, "ConvNet": {"window": 5}, "Ensemble": {"n_members": 2}}


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec:FutureWarning")   # torch's exporter of a part of torch
@pytest.mark.parametrize("format, cls, head", [("torch", "AttentionNet", "quantile"), ("onnx", "ResidualMLP", "student"), ("onnx", "MLP", "quantile")])
def test_programs_say_what_the_net_says(format, cls, head, tmp_path):
    told = exported(format, cls, head, tmp_path)
    assert set(told["max_error"]) == {"ordinary", "tails", "absurd"} and max(told["max_error"].values()) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec:FutureWarning")
@pytest.mark.parametrize("head", ["return", "class", "quantile", "student"])
@pytest.mark.parametrize("cls", NETS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_net_and_head_as_a_program(format, cls, head, tmp_path):
    told = exported(format, cls.strip(), head, tmp_path, **NETS[cls])
    print(cls, head, format, max(told["max_error"].values()))


def test_a_pipelines_net_alone_times_one_sigma(saved, tmp_path):
    import torch
    _, path, bars, vix = saved
    pipeline = fnb.load_pipeline(path)
    pipeline.export_net(tmp_path / "net.pt2")
    said = pipeline.predict(bars, vix).tail(200)
    features = fnb.make_features(bars, vix, features=pipeline.columns, progress=False).loc[said.index]
    x = torch.tensor(pipeline.scaler.transform(features).to_numpy() if hasattr(pipeline.scaler.transform(features), "to_numpy") else pipeline.scaler.transform(features), dtype=torch.float32)
    out = torch.export.load(tmp_path / "net.pt2").module()(x)
    np.testing.assert_allclose(out.detach().double().numpy() * pipeline.y_scale, said["y_hat"], atol=1e-6 * pipeline.y_scale)
