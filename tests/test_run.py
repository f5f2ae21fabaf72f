"""The whole line as a user runs it: the command on the demo market and on a real file, killed, continued, and on bad input."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb import runner
from futures_nb.config import DataConfig, RunConfig, load_config
from futures_nb.har import qlike
from futures_nb.report import make_report
from futures_nb.runner import load_market

FUTURES_NB = [str(Path(sys.executable).with_name("futures_nb"))]
SMALL = ["--set", "data.start=2016-01-04", "--set", "data.end=2016-12-30", "--set", "split.n_folds=2", "--set", "train.epochs=6"]


def command(*args, **options):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*FUTURES_NB, *map(str, args)], capture_output=True, text=True, timeout=300, env=env, **options)


def result(out):
    """What must not depend on how often a run was interrupted."""
    weights = {p.parent.name: p.read_bytes() for p in sorted(Path(out).glob("folds/*/model.safetensors"))}
    return weights, pd.read_parquet(Path(out) / "predictions.parquet"), pd.read_parquet(Path(out) / "daily.parquet")


def assert_same(a, b):
    assert list(a[0]) == list(b[0]) and len(a[0]) == 2
    assert a[0] == b[0], "weights differ"
    pd.testing.assert_frame_equal(a[1], b[1], check_exact=True)
    pd.testing.assert_frame_equal(a[2], b[2], check_exact=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    done = command("run", *SMALL, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_the_last_line_says_where_the_report_is(small):
    out, done = small
    assert done.stdout.strip().splitlines()[-1] == f"report: {out / 'report.html'}"
    page = (out / "report.html").read_text()
    assert "Simulated" in page and "index" in page
    assert fnb.Ledger(out.parent / "ledger.jsonl").n_trials("demo") == 1


def test_the_report_tells_what_was_seen_before_and_what_leaks_are_worth(small):
    out, _ = small
    page = (out / "report.html").read_text()
    assert "Before training" in page and "Student" in page and "joined by date" in page
    prices = json.loads((out / "leaks.json").read_text())
    assert prices["info"]["n_days"] > 50 and len(prices["rows"]) > 15


@pytest.mark.parametrize("kind, scaler", [("vol_scaled", "rolling"), ("rank", "auto")])
def test_other_targets_and_scalers_are_judged_as_returns(small, tmp_path, kind, scaler):
    done = command("run", *SMALL, "--set", f"target.kind={kind}", "--set", f"train.scaler={scaler}", "--set", "leaks=false", "--out", tmp_path / kind)
    assert done.returncode == 0, done.stderr
    a, b = (pd.read_parquet(Path(folder) / "predictions.parquet") for folder in (small[0], tmp_path / kind))
    pd.testing.assert_series_equal(a["y"], b["y"].loc[a.index])
    assert 1e-6 < b["y_hat"].std() < 0.02 and not b["y_hat"].equals(a["y_hat"])
    assert not (tmp_path / kind / "leaks.json").exists()


def test_a_run_repeats_from_its_own_folder(small, tmp_path):
    done = command("run", "--config", small[0] / "config.toml", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert_same(result(small[0]), result(tmp_path / "again"))


def test_kill_9_and_the_same_command_ends_bit_equal(small, tmp_path):
    out = tmp_path / "killed"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    for kill in range(3):
        run = subprocess.Popen([*FUTURES_NB, "run", *SMALL, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        limit = time.monotonic() + 200
        want = out / "folds" / f"{min(kill, 1):02d}" / "metrics.jsonl"   # killed while it fits the first, then the second fold
        while run.poll() is None and time.monotonic() < limit and not (want.exists() and want.stat().st_size > 0):
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
    done = command("run", *SMALL, "--out", out)
    assert done.returncode == 0, done.stderr
    assert_same(result(small[0]), result(out))


def test_another_configuration_is_refused_in_the_same_folder(small):
    done = command("run", *SMALL, "--set", "train.learning_rate=0.5", "--out", small[0])
    assert done.returncode == 2 and "another configuration" in done.stderr and done.stderr.count("\n") == 1


def test_two_processes_write_one_run(small, tmp_path):
    out = tmp_path / "two"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "--no_python"]
    done = subprocess.run([*torchrun, *FUTURES_NB, "run", *SMALL, "--set", "net.dropout=0.0", "--out", str(out)],
                          capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert (out / "report.html").exists(), done.stderr[-2000:]
    one = command("run", *SMALL, "--set", "net.dropout=0.0", "--out", tmp_path / "one")
    assert one.returncode == 0, one.stderr
    a, b = (pd.read_parquet(p / "predictions.parquet") for p in (out, tmp_path / "one"))
    assert a.index.equals(b.index)
    assert (a["y_hat"] - b["y_hat"]).abs().max() < 1e-4 * b["y_hat"].abs().max() + 1e-9   # float32: sums in another order
    assert fnb.Ledger(tmp_path / "ledger.jsonl").n_trials("demo") == 1


ES = ["--set", "train.epochs=2", "--set", "split.n_folds=3"]


def test_a_real_contract_ends_in_cannot_tell(es_file, data_dir, tmp_path):
    done = command("run", "--data", es_file, "--vix", data_dir / "vix" / "vix-daily.csv", "--out", tmp_path / "es", *ES)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "es" / "run.json").read_text())
    page = (tmp_path / "es" / "report.html").read_text()
    assert facts["data"]["n_rows"] == 72_584 and facts["data"]["contracts"] == ["ESH25"]
    assert facts["data"]["read"]["off_session"] == 17
    assert "Cannot tell" in page and facts["skill"]["verdict"] == "cannot tell"
    assert 0.1 < facts["skill"]["detectable"] < 0.6 and f"{100 * facts['skill']['detectable']:.1f} points" in page
    assert facts["rows"]["independent_labels"] < 60   # 54 trade dates, not 72,584 rows
    assert "17 stamped while the market is closed" in done.stdout


def test_stray_bars_can_be_dropped(es_file, tmp_path):
    done = command("ingest", "--data", es_file, "--off-session", "drop", "--out", tmp_path / "es.parquet")
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "es.parquet")) == 72_584 - 17
    pd.testing.assert_frame_equal(fnb.read_bars(tmp_path / "es.parquet"), fnb.read_bars(es_file, off_session="drop"), check_exact=True)


@pytest.fixture(scope="module")
def real_head(es_file, tmp_path_factory):
    """The first rows of the real file, under a name the reader knows."""
    folder = tmp_path_factory.mktemp("head")
    lines = es_file.read_bytes().splitlines(keepends=True)[20_000:23_000]
    return folder, lines


def damaged(real_head, name, change):
    folder, lines = real_head
    path = folder / name / "ES 03-25.Last.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(change(list(lines))))
    return path


# Every kind of damage has its test in test_read_bars.py; here is what the command makes of two of them.
BAD = {
    "cut": (lambda x: [*x[:-1], x[-1][:24]], "row 3000"),
    "negative": (lambda x: [*x[:99], b";".join([x[99].split(b";")[0]] + [b"-5.00"] * 4 + [b"7\r\n"]), *x[100:]], "row 100"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bars_get_one_clear_line(real_head, tmp_path, name):
    change, told = BAD[name]
    path = damaged(real_head, name.replace(" ", "_"), change)
    done = command("ingest", "--data", path, "--out", tmp_path / "x.parquet")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert path.name in done.stderr and told in done.stderr, done.stderr
    assert not (tmp_path / "x.parquet").exists()


def test_a_store_gives_the_run_the_same_bars(real_head, tmp_path):
    """Ingested twice, the store holds the bars once, and a run on it sees what a run on the file sees."""
    path, store = damaged(real_head, "whole", lambda lines: lines), tmp_path / "bars"
    for told in ("1 part written", "nothing written"):
        done = command("ingest", "--data", path, "--out", store)
        assert done.returncode == 0 and told in done.stdout, done.stdout + done.stderr
    of_file, of_store = (load_market(RunConfig(data=DataConfig(path=str(p)))) for p in (path, store))
    pd.testing.assert_frame_equal(of_file[0], of_store[0], check_exact=True, check_flags=False)
    assert of_file[2]["quality"] == of_store[2]["quality"] and of_file[2]["real"] == of_store[2]["real"]
    done = command("run", "--data", store, "--tz", "UTC", "--out", tmp_path / "run")
    assert done.returncode == 2 and "is a store" in done.stderr and done.stderr.count("\n") == 1


def test_a_store_of_the_demo_market_says_that_its_minutes_are_simulated(tmp_path):
    done = command("ingest", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    facts = load_market(RunConfig(data=DataConfig(path=str(tmp_path / "demo"))))[2]
    assert "imulated" in facts["simulated"] or "minute" in facts["simulated"], facts["simulated"]


def test_the_intact_file_beside_them_still_runs(real_head, tmp_path):
    path = damaged(real_head, "intact", lambda x: x)
    done = command("ingest", "--data", path, "--out", tmp_path / "x.parquet")
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "x.parquet")) == 3000


@pytest.mark.parametrize("args, told", [
    (["--data", "no/such/file.txt"], "no/such/file.txt"),
    (["--config", "none.toml"], "none.toml"),
    (["--set", "train.learning_rte=1"], "learning_rte"),
    (["--set", "data.start=2030-01-01"], "2030"),
    (["--set", "net.name=Perceptron"], "Perceptron"),
])
def test_other_bad_input_gets_one_clear_line(tmp_path, args, told):
    done = command("run", "--out", tmp_path / "x", *args)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1 and told in done.stderr, done.stderr


def test_naive_times_need_a_zone_and_a_stamp(tmp_path):
    (tmp_path / "bars.csv").write_text("time,open,high,low,close,volume\n2024-03-01 09:31:00,5100,5101,5099,5100,7\n2024-03-01 09:32:00,5100,5101,5099,5100,7\n")
    given = ["--data", tmp_path / "bars.csv", "--contract", "ESH24", "--out", tmp_path / "x.parquet"]
    for more, told in (([], "row 2 has a time without a time zone"), (["--stamp", "end"], "tz"), (["--tz", "America/New_York"], "stamp")):
        done = command("ingest", *given, *more)
        assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert command("ingest", *given, "--tz", "America/New_York", "--stamp", "end").returncode == 0


def test_a_vix_that_ends_before_the_bars_begin(real_head, data_dir, tmp_path):
    old = tmp_path / "old.csv"
    lines = (data_dir / "vix" / "vix-daily.csv").read_text().splitlines(keepends=True)
    old.write_text("".join(lines[:3000]))
    done = command("run", "--data", damaged(real_head, "vix", lambda x: x), "--vix", old, "--out", tmp_path / "x")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "2001" in done.stderr and "2025" in done.stderr, done.stderr
    assert not (tmp_path / "x").exists()


def test_a_refused_value_does_not_claim_the_folder(tmp_path):
    for wrong in ("train.learning_rate=-1", "cost.commission=-3", "net.hidden=0", "data.start=xx"):
        done = command("run", *SMALL, "--set", wrong, "--out", tmp_path / "r")
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and wrong.split("=")[0].split(".")[1] in done.stderr, done.stderr
        assert not (tmp_path / "r").exists()


def test_a_mistyped_file_name_does_not_claim_the_folder(real_head, tmp_path):
    path = damaged(real_head, "claim", lambda x: x)
    assert command("run", "--data", str(path) + "x", "--out", tmp_path / "r").returncode == 2
    assert not (tmp_path / "r").exists()
    done = command("run", "--data", path, "--out", tmp_path / "r")   # two days: too few, but not "another configuration"
    assert done.returncode == 2 and "another configuration" not in done.stderr, done.stderr


@pytest.mark.parametrize("recipe", sorted(Path(__file__).parent.parent.glob("recipes/*.toml")), ids=lambda p: p.name)
def test_every_recipe_is_a_configuration(recipe):
    config = fnb.RunConfig.from_toml(recipe)
    if recipe.name == "demo.toml":
        assert config == fnb.RunConfig(), "recipes/demo.toml is the default, written out"


# What a configuration can ask for, run in this process on one set of features.

@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A run on the small market with overrides: its folder and facts. Features are made once."""
    bars, vix, _ = load_market(load_config(None, SMALL[1::2]))
    made = fnb.make_features(bars, vix=vix, progress=False)
    folder = tmp_path_factory.mktemp("asked")

    def run(name, *overrides):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "make_features", lambda *args, **options: made)
            config = load_config(None, [*SMALL[1::2], "leaks=false", f"out='{folder / name}'", *overrides])
            out = runner.run(config, progress=False)
        return out, json.loads((out / "run.json").read_text()), (out / "report.html").read_text()

    run.bars, run.made = bars, made
    return run


def test_a_volatility_is_judged_by_qlike_against_har(ask):
    out, facts, page = ask("vol", "target.kind=realised_vol")
    v, p = facts["volatility"], pd.read_parquet(out / "predictions.parquet")
    told = {r["name"]: r for r in v["table"]}
    assert {"ResidualMLP", "known", "ridge", "boosting", "har", "har_vix", "garch", "gjr", "last", "mean"} <= set(told) and v["judge"] == "har_vix"
    assert "skill" not in facts and "backtest" not in facts and facts["significance"] is None and facts["n_trials"] == 1
    assert not list(out.glob("daily.parquet")) and not list(out.glob("backtest.parquet"))
    assert told["ResidualMLP"]["loss"] == pytest.approx(qlike(p["y_hat"] ** 2, p["y"] ** 2).mean(), rel=1e-9)
    realised = fnb.make_target(ask.bars, kind="realised_vol")["y"].reindex(p.index)
    pd.testing.assert_series_equal(p["y"], realised, check_names=False)
    assert told["har_vix"]["loss"] < told["mean"]["loss"] and 0.5 < told["ResidualMLP"]["bias"] < 2
    assert "Nothing was traded" in page and ">Money</h2>" not in page and ">Volatility</h2>" in page and "HAR with VIX" in page


def test_many_rows_a_day_have_the_known_volatility_as_judge(ask, tmp_path):
    y = fnb.make_target(ask.bars, kind="realised_vol", horizon=30)[["y", "t1"]].dropna().iloc[:20_000:30]
    y = y[y["y"] > 0]
    said = {name: y.assign(y_hat=y["y"].mean() * scale, fold=0) for name, scale in (("net", 1.0), ("zero", 1.1), ("ridge", 0.9), ("majority", 1.0))}
    config = load_config(None, ["target.kind=realised_vol", "target.horizon=30", "rows=all"])
    facts, daily = runner.judge_volatility(config, ask.bars, None, said, tmp_path)
    assert facts["volatility"]["judge"] == "known" and "har" in facts["volatility"]["left_out"] and daily is None
    assert {r["name"] for r in facts["volatility"]["table"]} == {"net", "known", "ridge"}


def test_every_rival_is_judged_on_the_rows_of_the_net(ask):
    out, facts, page = ask("rivals")
    p, others = (pd.read_parquet(out / f"{name}.parquet") for name in ("predictions", "rivals"))
    assert list(others) == ["zero", "mean", "last", "ridge", "boosting", "majority"] and others.notna().all(axis=None) and others.index.equals(p.index)
    squared = {r["name"]: r["loss"] for r in facts["rankings"]["squared"]["table"]}
    assert squared["zero"] == pytest.approx((p["y"] ** 2).mean()) and squared["ridge"] == pytest.approx(((p["y"] - others["ridge"]) ** 2).mean())
    sign = {r["name"]: r["loss"] for r in facts["rankings"]["sign"]["table"]}
    assert sign["majority"] == pytest.approx(1 - facts["skill"]["train_majority"]) and "zero" not in sign
    assert facts["moves"]["judge"] == "last" and facts["moves"]["name"] == "har_vix" and facts["regimes"]["rows"]
    assert facts["backtest"]["sharpe_lo"] is not None and "Lo 2002" in page
    for part in ("Regimes", "Health of the training", "Volatility"): assert f">{part}</h2>" in page
    assert (out / "trades.parquet").exists() and facts["money"]["trades"]["n"] == len(pd.read_parquet(out / "trades.parquet"))


def test_a_window_over_days_and_a_distribution(ask):
    out, facts, page = ask("window", "net.name=AttentionNet", "net.window=5", "net.hidden=8", "net.n_members=2", "train.loss=student", "train.epochs=2")
    p = pd.read_parquet(out / "predictions.parquet")
    assert p.index.is_unique and len(p) == sum(f["n_test"] for f in facts["folds"])
    assert facts["net"]["net"] == "2 x AttentionNet"
    past = runner.history_of(load_config(out / "config.toml"), ask.bars, ask.made, ask.made.iloc[:9])
    front = fnb.front_rows(ask.bars)[ask.bars.index.get_indexer(past.index)]
    assert past.index.equals(ask.bars.index[runner.last_bars(ask.bars)]) and 0.2 < (~front).mean() < 0.6    # a new front contract has days of its own behind it
    assert {"q_0.05", "q_0.5", "q_0.95", "p_up"} <= set(p) and np.allclose(p["q_0.5"], p["y_hat"])
    assert facts["quantiles"]["n_crossed"] == 0 and facts["probabilities"]["n"] == len(p) and ">Quantiles</h3>" in page


@pytest.mark.slow
def test_quantiles_of_another_unit_are_returns_again(ask):
    out, facts, _ = ask("quantiles", "target.kind=vol_scaled", "train.loss=pinball", "net.name=ConvNet", "net.window=3", "net.hidden=8")
    p = pd.read_parquet(out / "predictions.parquet")
    width = facts["quantiles"]["ranges"]["width"][0]
    assert 2 * p["y"].std() < width < 8 * p["y"].std()


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3])
def test_classes_are_ranked_by_brier(ask, n_classes):
    _, facts, page = ask(f"classes{n_classes}", "train.loss=cross_entropy", f"net.n_classes={n_classes}")
    names = {r["name"] for r in facts["rankings"]["brier"]["table"]} if n_classes == 2 else {"logistic"}
    assert "logistic" in names and facts["probabilities"]["n"] > 50 and ">Probabilities</h3>" in page


def test_size_orders_and_margin(ask):
    size = ("cost.capital=1e6", "position.target_vol=0.1", "position.limit=12", "position.margin=6000.0", "cost.days_before=2")
    out, facts, page = ask("sized", *size, "cost.delay=3", "cost.night_ticks=2.0")
    held = pd.read_parquet(out / "backtest.parquet")["position"]
    assert held.abs().max() == facts["money"]["sizing"]["largest"] <= 12 and held.abs().max() > 1
    assert facts["backtest"]["capital"] == 1e6 and facts["backtest"]["charges"]["night_ticks"] == 2.0
    assert "open bar number 3" in facts["money"]["orders"] and "2 sessions before" in facts["money"]["orders"]
    assert facts["money"]["margin"]["margin"] == 6000 and facts["money"]["margin"]["n_calls"] == 0 and "outside the cash hours" in page
    soon = pd.read_parquet(ask("sized_soon", *size)[0] / "backtest.parquet")["position"]
    first = [ask.bars.index.get_loc(x[x != 0].index[0]) for x in (held, soon)]
    assert first[0] - first[1] == 2


@pytest.mark.slow
def test_the_margin_is_a_capital(ask):
    _, facts, _ = ask("margin", "position.margin=6000.0", "position.margin_is_capital=true")
    assert facts["backtest"]["capital"] == 6000


def test_an_old_folder_still_gives_a_report(ask):
    out, facts, _ = ask("rivals")
    for key in ("rankings", "regimes", "money", "moves", "net", "training"): facts.pop(key)
    for key in ("sharpe_lo", "exposure", "n_expired"): facts["backtest"].pop(key)
    for name in ("rivals.parquet", "trades.parquet", "bars.json"): (out / name).unlink()
    (out / "run.json").write_text(json.dumps(facts))
    page = make_report(out).read_text()
    for words in ("No forecasts were ranked", "does not say when it earned", "how well the size of a move"): assert words in page
