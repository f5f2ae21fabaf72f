"""The whole line as a user runs it: the command on the demo market and on a real file, killed, continued, and on bad input."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.config import DataConfig, RunConfig
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
    assert (out.parent / "ledger.jsonl").read_text().count("\n") == 1


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
    assert (tmp_path / "ledger.jsonl").read_text().count("\n") == 1


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
