"""The command as a user types it: the example of each help, the Tab key, and what is said when something is wrong."""
import functools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import futures_nb as fnb
from futures_nb import cli

ROOT = Path(__file__).resolve().parent.parent
SUBS = cli.parser()._subparsers._group_actions[0].choices
FEW = ["--set", "train.epochs=1", "--set", "leaks=false", "--set", "split.n_folds=2", "--set", 'features.names=["return_1", "return_5", "vix_change"]']
PLUS = {"run": FEW, "train": ["--set", "train.epochs=1", "--set", "leaks=false", "--set", "split.n_folds=2", "--set", 'features.names=["return_1"]', "--set", "data.start=2016-01-04", "--set", "data.end=2016-12-30"]}   # so that it takes seconds


def write_place(folder):
    """Files that the examples name: bars as NinjaTrader writes them, a VIX, a configuration, a space, a recorded fit."""
    bars = fnb.synth_bars(n_contracts=1, n_days=60, minutes=60, start="2024-12-02", seed=1)
    ts = bars.index.get_level_values("ts")
    rows = zip(ts, *(bars[c] for c in ("open", "high", "low", "close", "volume")))
    (folder / "ES 03-25.Last.txt").write_text("".join(f"{t:%Y%m%d %H%M%S};{o};{h};{low};{c};{int(v)}\n" for t, o, h, low, c, v in rows))
    days = pd.bdate_range("2024-11-01", ts.max().date())
    close = 15 + np.random.default_rng(0).normal(0, 0.5, len(days)).cumsum().clip(-4, 20)
    (folder / "vix-daily.csv").write_text("DATE,CLOSE\n" + "".join(f"{d:%m/%d/%Y},{c:.2f}\n" for d, c in zip(days, close)))
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    (folder / "run.toml").write_text('leaks = false\n[data]\npath = "ES 03-25.Last.txt"\n[features]\nnames = ["return_1"]\n[split]\nn_folds = 2\n[train]\nepochs = 1\n')
    (folder / "space.toml").write_text('"net.hidden" = [4, 8]\n"train.learning_rate" = {low = 1e-4, high = 1e-2, log = true}\n')
    net = torch.nn.Linear(2, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.01)
    record = fnb.Recorder(folder / "runs" / "recorded", net, opt)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        with record.step((x, x.sum(1))) as step:
            loss = step.loss((step.forward(net(x))[:, 0] - x.sum(1)).square().mean())
            opt.zero_grad()
            loss.backward()
            opt.step()
    record.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the examples can be typed one after the other."""
    folder = tmp_path_factory.mktemp("place")
    write_place(folder)
    return folder


def typed(capsys, *words):
    """Exit status, what was printed and what was said of errors."""
    capsys.readouterr()
    try: cli.main(list(words))
    except SystemExit as leave: status = leave.code
    else: status = 0
    out, err = capsys.readouterr()
    return status, out, err


def example(name): return SUBS[name].format_help().rstrip().splitlines()[-1].strip()


def test_examples_run_one_after_the_other(place, monkeypatch, capsys):
    """Those of the commands that make what the next one needs, as they stand in the help."""
    monkeypatch.chdir(place)
    for name in ("run", "ingest", "features", "pipeline", "predict", "diagnose", "preflight", "info"):
        program, command, *words = shlex.split(example(name))
        assert (program, command) == ("futures_nb", name)
        status, out, err = typed(capsys, name, *words, *PLUS.get(name, []))
        assert status == 0 and out, (name, err)
    status, out, err = typed(capsys, "report", "runs/es")                # its example names the demo's folder, the default of run
    assert status == 0 and "report: runs/es/report.html" in out
    shutil.copytree("runs/es", "runs/other")
    status, out, err = typed(capsys, "compare", *shlex.split(example("compare"))[2:])
    assert status == 0 and "page: compare.html" in out and "<html" in Path("compare.html").read_text(), err
    frame = pd.read_parquet("forecasts.parquet")
    assert list(frame.columns[:1]) == ["y_hat"] and frame["in_sample"].any() and frame.index.names == ["contract", "ts"]
    same = fnb.load_pipeline("es-pipeline").predict(fnb.read_bars("ES 03-25.Last.txt"), fnb.read_vix("vix-daily.csv"))
    pd.testing.assert_frame_equal(frame, same, check_exact=True)
    _, *words = shlex.split(example("predict"))
    status, out, _ = typed(capsys, *words[:-1], "forecasts.csv")
    assert status == 0 and len(pd.read_csv("forecasts.csv")) == len(frame)
    status, _, err = typed(capsys, *[w for w in words if w not in ("--vix", "vix-daily.csv")])
    assert status == 2 and "give --vix" in err and err.count("\n") == 1
    status, _, err = typed(capsys, "pipeline", "runs/es", "es-pipeline")
    assert status == 2 and "es-pipeline exists" in err


def test_search_example(place, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.chdir(place)
    words = shlex.split(example("search"))[1:]
    words[words.index("--trials") + 1] = "2"
    status, out, err = typed(capsys, *words)
    assert status == 0 and "best: runs/study/best.toml" in out, err
    assert fnb.load_config("runs/study/best.toml").net.hidden in (4, 8, 32)
    status, _, err = typed(capsys, *words, "--seed", "1")
    assert status == 2 and "with another seed" in err and err.count("\n") == 1


@pytest.mark.slow
def test_train_example_on_two_processes(place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    cli.main([*shlex.split(example("train"))[1:], *PLUS["train"], "--out", "runs/two"])
    assert (place / "runs" / "two" / "report.html").exists()


def test_lab_example_starts_jupyterlab(monkeypatch):
    started = []
    monkeypatch.setattr(cli.subprocess, "call", lambda command: started.append(command) or 0)
    with pytest.raises(SystemExit) as leave: cli.main(shlex.split(example("lab"))[1:])
    assert leave.value.code == 0 and "--ServerApp.port=8890" in started[0] and "--ServerApp.ip=127.0.0.1" in started[0]


def test_every_command_has_a_test_of_its_example():
    tested = Path(__file__).read_text()
    assert set(SUBS) == set(cli.COMMANDS) and not [name for name in SUBS if f'"{name}"' not in tested]


@functools.cache
def script(shell): return subprocess.run([sys.executable, "-c", f"from futures_nb.cli import main; main(['completion', {shell!r}])"], capture_output=True, text=True, check=True).stdout


def completed(shell, line):
    """What Tab offers at the end of `line` in a fresh shell."""
    if shutil.which(shell) is None: pytest.skip(f"no {shell} here")
    words = line.split(" ")
    ask = f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; _futures_nb; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    started = {"bash": ["bash", "--norc", "--noprofile", "-c", f"{script(shell)}\n{ask}"], "fish": ["fish", "--no-config", "-c", f"{script(shell)}\ncomplete -C {shlex.quote(line)}"],
               "zsh": ["zsh", "-f", "-c", f"{script(shell)}\nemulate sh; setopt kshglob noshglob braceexpand\n{ask}"]}[shell]      # as zsh calls functions of bash
    done = subprocess.run(started, capture_output=True, text=True, timeout=60)
    assert not done.stderr, done.stderr
    return [name for word in done.stdout.split("\n") if word and (name := word.split("\t")[0]).startswith(words[-1])]      # zsh itself keeps what begins so


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_tab_completes(shell):
    """The example of "completion", in each shell."""
    assert {"run", "search", "predict"} <= set(completed(shell, "futures_nb "))
    assert completed(shell, "futures_nb pre") and set(completed(shell, "futures_nb pre")) == {"predict", "preflight"}
    assert "--learning" not in completed(shell, "futures_nb run --") and {"--data", "--vix", "--out", "--set"} <= set(completed(shell, "futures_nb run --"))
    assert set(completed(shell, "futures_nb run --rows ")) == {"auto", "all", "daily"}
    assert completed(shell, "futures_nb run --source ninj") == ["ninjatrader"]
    assert set(completed(shell, "futures_nb completion ")) == {"bash", "zsh", "fish"}


WRONG = {   # words, and what the one line says
    "no file": ("run --data nowhere.txt", r"no file nowhere\.txt"),
    "empty folder": ("run --data empty", r"empty"),
    "unknown source": ("run --data 'ES 03-25.Last.txt' --source ninjatrade", r"ninjatrader"),
    "unknown zone": ("run --data 'ES 03-25.Last.txt' --tz America/New_Yrok", r"America/New_Yrok"),
    "another file": ("run --data run.toml", r"run\.toml"),
    "not text": ("run --data noise.csv", r"noise\.csv"),
    "no tz": ("run --data ESH25.csv", r"tz"),
    "key": ("run --set train.learning_rte=1", r'did you mean "learning_rate"'),
    "key in a file": ("run --config bad.toml", r'bad\.toml: \[train\] has no key "epoch"; did you mean "epochs"'),
    "not TOML": ("run --config vix-daily.csv", r"not TOML"),
    "no config": ("run --config nowhere.toml", r"nowhere\.toml is not a file"),
    "config is a folder": ("run --config empty", r"empty is not a file"),
    "type": ("run --set train.epochs=many", r"'many', of type str; the type must be int"),
    "out is a file": ("run --out run.toml --set data.end=2014-06-30", r"run\.toml is a file"),
    "out below a file": ("run --data 'ES 03-25.Last.txt' --out run.toml/x --set 'features.names=[\"return_1\"]'", r"run\.toml"),
    "no vix": ("run --data 'ES 03-25.Last.txt' --vix nowhere.csv", r"nowhere\.csv"),
    "vix without closes": ("run --data 'ES 03-25.Last.txt' --vix ESH25.csv", r"ESH25\.csv"),
    "vix feature without vix": ("run --data 'ES 03-25.Last.txt' --set 'features.names=[\"vix_change\"]'", r"vix"),
    "no feature": ("run --data 'ES 03-25.Last.txt' --set 'features.names=[\"return_l\"]'", r"no feature 'return_l'; did you mean"),
    "ingest into a file": ("ingest --data 'ES 03-25.Last.txt' --out run.toml", r"run\.toml"),
    "ingest nowhere": ("ingest --data 'ES 03-25.Last.txt' --out no/such/x.parquet", r"no/such is not a folder"),
    "features into a folder": ("features --data 'ES 03-25.Last.txt' --out empty", r"empty is a folder"),
    "no run": ("report empty", r"empty"),
    "no pipeline": ("predict empty --out x.csv", r"no empty/manifest\.json"),
    "no record": ("diagnose empty", r"no recorded step"),
    "study is a file": ("search --space space.toml --config run.toml --study run.toml", r"run\.toml is a file"),
    "bad space": ("search --space run.toml --config run.toml --study s", r"cannot be searched"),
    "no value": ("run --data", r"expected one argument"),
    "no command": ("", r"required: command"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_clear_line(place, monkeypatch, capsys, name):
    """Status 2, one line that names what was wrong, no traceback, and no folder left behind."""
    monkeypatch.chdir(place)
    (place / "empty").mkdir(exist_ok=True)
    (place / "bad.toml").write_text("[train]\nepoch = 3\n")
    (place / "noise.csv").write_bytes(np.random.default_rng(0).bytes(4000))
    (place / "ESH25.csv").write_text("time,open,high,low,close,volume\n2025-01-02 10:00,1,2,1,2,5\n2025-01-02 11:00,1,2,1,2,5\n")
    words, said = WRONG[name]
    there = sorted(map(str, place.rglob("*")))
    status, _, err = typed(capsys, *shlex.split(words))
    line = err.strip()
    assert status == 2, err
    assert len([x for x in err.splitlines() if x]) == 1 and re.search(said, line) and "fault of ours" not in line and "Traceback" not in line
    assert [p for p in sorted(map(str, place.rglob("*"))) if p not in there and "ledger" not in p] == []
    assert str(place) not in line or name == "no file"


def test_debug_shows_where(capsys):
    status, _, err = typed(capsys, "--debug", "run", "--set", "train.epochs=many")
    assert status == 2 and "Traceback" in err


def test_a_closed_pipe_is_nobodys_error():
    done = subprocess.run(f"{shlex.quote(sys.executable)} -c \"from futures_nb.cli import main; main(['completion', 'bash'])\" | head -1; exit ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("_futures_nb")


def test_info_says_what_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FUTURES_NB_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("FUTURES_NB_LEDGER", str(tmp_path / "l.jsonl"))
    fnb.Ledger(tmp_path / "l.jsonl").record("ES", {"a": 1})
    status, out, _ = typed(capsys, "info")
    assert status == 0 and "nowhere (NOT there)" in out and "l.jsonl (1 trials)" in out and "accelerators: " in out and "optional: optuna" in out
    assert "compiled functions: " in out and f"book: {ROOT / 'nbs'}" in out
