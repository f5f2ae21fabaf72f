"""Runs side by side, what columns are worth in a run, and the notebook to go on from: with real runs on the embedded market."""
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb import runner
from futures_nb.beside import common_rows, losses_apart
from futures_nb.runner import load_market
from futures_nb.schema import DataError
from futures_nb.versus import compare_forecasts

SMALL = ["data.start=2016-01-04", "data.end=2016-12-30", "split.n_folds=2", "train.epochs=2", "leaks=false"]
FEW = "features.names=['return_5','return_session','har_day','har_week','vol_60','volume_session','vix_level','vix_change']"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A function that makes a small run with overrides; features are made once."""
    home, made = tmp_path_factory.mktemp("runs"), {}
    def run(name, *overrides):
        if name in made: return made[name]
        config = fnb.load_config(None, [*SMALL, FEW, f"out='{home / name}'", *overrides])
        with pytest.MonkeyPatch.context() as patch:
            if made: patch.setattr(runner, "make_features", lambda *args, **options: run.features)
            else:
                bars, vix, _ = load_market(config)
                run.features = fnb.make_features(bars, vix=vix, features=list(config.features.names), progress=False)
            made[name] = runner.run(config, progress=False)
        return made[name]
    return run


@pytest.fixture(scope="module")
def four(ran):
    return [ran("a"), ran("b", "net.hidden=16"), ran("c", "train.learning_rate=0.01"), ran("d", "net.name='MLP'", "train.seed=7")]


def test_every_run_says_what_its_columns_are_worth(ran):
    out = ran("a")
    worth = fnb.Importance.from_dict(json.loads((out / "importance.json").read_text()))
    moved = fnb.Response.from_dict(json.loads((out / "response.json").read_text()))
    facts = json.loads((out / "run.json").read_text())
    assert worth.info["n_folds"] == 2 and worth.info["noise"] == [] and worth.info["n_rows"] == sum(f["n_test"] for f in facts["folds"])
    assert set(worth.columns.index) == set(moved.columns.index) == {f["name"] for f in facts["features"]}
    page = (out / "report.html").read_text()
    assert "What the forecasts rest on" in page and "Which inputs move the forecasts" in page and "above zero" in page
    assert facts["seconds"]["of training, the worth of columns"] < 20


def test_asking_the_columns_changes_no_forecast(ran, monkeypatch, tmp_path):
    """A run that is not asked predicts the same bits."""
    out = ran("a")
    class Nobody:
        seconds = 0.0
        def add(self, *args): pass
        def write(self, *args): pass
    monkeypatch.setattr(runner, "ColumnWorth", Nobody)
    monkeypatch.setattr(runner, "make_features", lambda *args, **options: ran.features)
    other = runner.run(replace(fnb.load_config(out / "config.toml"), out=str(tmp_path / "quiet")), progress=False)
    a, b = (pd.read_parquet(f / "predictions.parquet") for f in (out, other))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    strip = lambda folder: [{k: v for k, v in f.items() if "seconds" not in k and "mb" not in k} for f in json.loads((folder / "run.json").read_text())["folds"]]
    assert strip(out) == strip(other)


def test_a_fit_that_cannot_be_asked_says_why(tmp_path):
    worth = runner.ColumnWorth()
    class Broken:
        columns = ["a"]
        def add(self, fit, dataset): raise DataError("too few days")
    worth.parts["importance"] = worth.parts["response"] = Broken()
    worth.add(None, None)
    worth.write(tmp_path)
    assert json.loads((tmp_path / "importance.json").read_text()) == {"why": "too few days"}


def test_side_by_side(four, tmp_path):
    told = fnb.compare(four)
    assert told.warnings == [] and list(told.runs.index) == ["a", "b", "c", "d"] and len(told.pairs) == 6
    assert set(told.settings.index) == {"net.hidden", "net.name", "train.learning_rate", "train.seed"}
    facts = [json.loads((f / "run.json").read_text()) for f in four]
    assert told.runs["sharpe"].tolist() == pytest.approx([f["backtest"]["sharpe"] for f in facts])
    assert told.runs["accuracy"].tolist() == [f["skill"]["accuracy"] for f in facts]
    daily = pd.concat([pd.read_parquet(f / "daily.parquet")["pnl"] for f in four], axis=1)
    assert np.allclose(told.pairs["corr"], [np.corrcoef(daily.iloc[:, i], daily.iloc[:, j])[0, 1] for i, j in combinations(range(4), 2)])
    assert f"{fnb.pbo(daily.dropna().to_numpy())!r}" in told.overfitting
    page = told.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page and all(f"<strong>{n}</strong>" in page for n in "abcd") and "<script" not in page
    assert told.sentence in repr(told) and "<table" in told._repr_html_()


def test_the_paired_test_is_that_of_compare_forecasts(four):
    a, b = (pd.read_parquet(f / "predictions.parquet") for f in four[:2])
    old = compare_forecasts(a, b)
    new = losses_apart(*common_rows(a, b)[:2], "squared")
    assert (new["loss_first"], new["loss_second"]) == pytest.approx(old.loss) and new["difference"] == pytest.approx(old.difference)
    assert new["p"] == pytest.approx(old.dm_p, rel=0.05) or old.dm_p is None


def test_the_same_run_twice_cannot_be_told_from_itself(four, tmp_path):
    shutil.copytree(four[0], tmp_path / "twin")
    told = fnb.compare([four[0], tmp_path / "twin"])
    assert len(told.settings) == 0 and told.pairs["corr"][0] == pytest.approx(1) and np.isnan(told.pairs["p"][0])
    assert "same forecast" in told.pairs["why"][0] and "the same up to their unit" in told.pairs["why"][0] and "could not be tested" in told.sentence


def test_other_bars_are_warned_of(four, ran, tmp_path):
    shutil.copytree(four[0], tmp_path / "other")
    (tmp_path / "other" / "bars.json").write_text('{"digest": "000000000000"}')
    told = fnb.compare([four[1], tmp_path / "other"])
    assert len(told.warnings) == 1 and "The bars are not the same" in told.warnings[0] and "Not comparable as a whole" in told.to_html()
    p = pd.read_parquet(tmp_path / "other" / "predictions.parquet")
    p.assign(y=p["y"] + 1e-3).to_parquet(tmp_path / "other" / "predictions.parquet")
    told = fnb.compare([four[1], tmp_path / "other"])
    assert told.pairs["n"][0] == 0 and told.pairs["n_other_answer"][0] == len(p) and "no row" in told.pairs["why"][0]


def test_trials_made_later_deflate_the_earlier_runs_too(four, tmp_path):
    for k, f in enumerate(four[:2]): shutil.copytree(f, tmp_path / "xy"[k])
    path = tmp_path / "y" / "run.json"
    facts = json.loads(path.read_text())
    one = fnb.compare([tmp_path / "x", tmp_path / "y"]).runs["dsr"]
    path.write_text(json.dumps(facts | {"significance": {**(facts["significance"] or {}), "n_effective": 400.0, "n_trials": 400}}))
    many = fnb.compare([tmp_path / "x", tmp_path / "y"]).runs["dsr"]
    assert (many < one).all()
    assert many["x"] == fnb.deflated_sharpe(pd.read_parquet(tmp_path / "x" / "daily.parquet")["pnl"].to_numpy(), 400.0)["dsr"]


def executed(path):
    """The notebook after a fresh process has run every cell in its own folder."""
    out = path.with_name("ran.ipynb")
    code = "import sys; from execnb.shell import CaptureShell; CaptureShell().execute(sys.argv[1], dest=sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", code, path.name, out.name], cwd=path.parent, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert out.exists(), done.stderr[-2000:]
    return json.loads(out.read_text())


def texts(nb):
    return "\n".join("".join(o.get("text") or o.get("data", {}).get("text/plain") or "") for c in nb["cells"] for o in c.get("outputs", []))


@pytest.mark.parametrize("kind", ["return", "realised_vol"])
def test_the_notebook_of_a_report_runs_and_makes_the_run_again(ran, kind):
    nbformat = pytest.importorskip("nbformat")
    out = ran("a") if kind == "return" else ran("size", "target.kind='realised_vol'")
    nbformat.validate(nbformat.read(out / "report.ipynb", 4))
    nb = executed(out / "report.ipynb")
    errors = [o for c in nb["cells"] for o in c.get("outputs", []) if o["output_type"] == "error"]
    assert not errors, errors[0]["evalue"]
    said = texts(nb)
    assert "These are the bars of the run." in said
    facts = json.loads((out / "run.json").read_text())
    if kind == "return": assert "Largest difference from daily.parquet: 0" in said and facts["skill"]["sentence"] in said
    assert fnb.report_notebook(out, out / "again.ipynb").is_file()
