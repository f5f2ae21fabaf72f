"""What a chapter on training cannot show: artefacts on disk, the picture in a notebook, processes that must end."""
import json
import os
import signal
import time

import numpy as np
import pandas as pd
import psutil
import pytest

from fit_script import finish, small_dataset

QUIET = dict(epochs=2, batch_size=64, progress=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artefacts") / "fit"
    finish(folder)
    return folder


def test_no_pickle_among_the_artefacts(out):
    from safetensors import safe_open

    for path in out.iterdir():
        head = path.read_bytes()[:4]
        assert not head.startswith((b"\x80", b"PK")), f"{path.name} looks like a pickle"
    with safe_open(str(out / "model.safetensors"), "pt") as f:
        state = json.loads(f.metadata()["state"])
        assert state["config"]["columns"] == ["x0", "x1", "x2", "x3", "x4"]
        assert all(np.isfinite(f.get_tensor(k).numpy()).all() for k in f.keys())
    about = json.loads((out / "fit.json").read_text())
    assert about["config"] == state["config"] and about["facts"]["n_steps"] == 72


def test_every_line_of_the_metrics_is_plain_json(out):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    lines = (out / "metrics.jsonl").read_text().splitlines()
    kinds = pd.Series([json.loads(line, parse_constant=refuse)["kind"] for line in lines])
    assert kinds.value_counts().to_dict() == {"step": 72, "epoch": 6}


def test_a_real_dataset_goes_through():
    """Not only a stand-in with its fields: the Dataset of the book, saved and loaded."""
    from futures_nb import make_dataset, make_index
    from futures_nb.nets import ResidualMLP
    from futures_nb.splits import Fold
    from futures_nb.train import fit, predict

    plain = small_dataset()
    features = pd.DataFrame(np.random.default_rng(1).standard_normal((600, 3)), plain.index, columns=["a", "b", "c"])
    target = pd.DataFrame({"y": plain.y.astype(float), "t1": plain.t1, "weight": 1.0}, plain.index)
    early = make_index("ESZ24", plain.t1)  # a second contract over the same hours, which expires first
    features = pd.concat([features.set_axis(early), features])
    target = pd.concat([target.set_axis(early), target])
    at = np.argsort(target.index.get_level_values("ts").asi8, kind="stable")
    dataset = make_dataset(features, target, Fold(at[:700], at[720:900], at[920:], {"fold": 3}))
    done = fit(ResidualMLP, dataset, live=False, **QUIET)
    predictions = predict(done, dataset)
    assert list(predictions.columns) == ["y", "y_hat", "fold", "t1", "weight"]
    assert (predictions["fold"] == 3).all() and len(predictions) == len(dataset.test)
    assert list(predictions.index.get_level_values("contract").unique()) == ["ESZ24", "ESH25"]
    np.testing.assert_array_equal(predictions["y"], target["y"].reindex(predictions.index).astype(np.float32))


def test_the_picture_is_drawn_once_and_then_updated(monkeypatch):
    import IPython.display

    from futures_nb.nets import MLP
    from futures_nb.train import fit

    shown = []

    class Handle:
        def update(self, picture):
            shown.append(("update", picture))

    def display(picture, display_id=None):
        shown.append(("display", picture))
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    fit(MLP, small_dataset(), live=True, **QUIET)
    assert [kind for kind, _ in shown] == ["display", "update"]
    assert all(picture.data.startswith(b"\x89PNG") for _, picture in shown)
    fit(MLP, small_dataset(), **QUIET)  # a process of tests is no notebook
    assert len(shown) == 2


def test_a_second_writer_is_refused(out):
    from futures_nb.checkpoint import locked_folder
    from futures_nb.schema import DataError

    with locked_folder(out), pytest.raises(DataError, match="another process is writing"), locked_folder(out, patience=0.2):
        pass
    with locked_folder(out, patience=0.2):
        pass


def test_launch_ends_what_it_started(tmp_path):
    from futures_nb.distributed import launch

    script = tmp_path / "endless.py"
    script.write_text("import os, sys, time\nopen(f'{sys.argv[1]}.{os.getpid()}', 'w').close()\ntime.sleep(600)\n")
    with pytest.raises(RuntimeError, match="still running after 15 s"):
        launch(2, script, [tmp_path / "pid"], timeout=15)
    pids = [int(p.suffix[1:]) for p in tmp_path.glob("pid.*")]
    assert len(pids) == 2 and os.getpid() not in pids
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, pids))


def test_healthy_runs_never_give_a_number_that_is_not_finite():
    """100 short fits with tails down to t with 2.1 degrees, odd batches, dropout: no number is ever not finite."""
    import torch

    from futures_nb.nets import MLP, ResidualMLP
    from futures_nb.step import train_step

    for trial in range(100):
        rng = np.random.default_rng(trial)
        kind = (ResidualMLP, MLP)[trial % 2]
        net = kind(6, hidden=8, dropout=float(rng.choice([0.0, 0.3])), seed=trial)
        x = rng.standard_t(2.1, (256, 6)) * 10 ** rng.uniform(-2, 6, 6)
        y = rng.standard_t(2.1, 256)
        optimizer = torch.optim.AdamW(net.parameters(), lr=10 ** rng.uniform(-4, -1), fused=True)
        rows = torch.tensor(rng.permutation(256))
        X, Y = torch.tensor(x, dtype=torch.float32)[rows], torch.tensor(y, dtype=torch.float32)[rows]
        size = int(rng.choice([4, 37, 256]))
        for a in range(0, min(256, 12 * size), size):
            done = train_step(net, (X[a:a + size], Y[a:a + size], None), optimizer)
            assert done.is_finite, f"trial {trial}: {done}"
        assert all(torch.isfinite(p).all() for p in net.parameters())


LOSSES = {"huber": [], "direction": [], "cross_entropy": ["p_down", "p_up"], "pinball": ["q_0.05", "q_0.25", "q_0.5", "q_0.75", "q_0.95"], "student": ["scale", "df"]}


@pytest.mark.parametrize("kind", ["MLP", "Ensemble"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_head_goes_through_fit_and_predict(loss, kind, tmp_path):
    import futures_nb as fnb
    from futures_nb.train import fit, predict

    dataset, options = small_dataset(n=1200), dict(hidden=8) | (dict(n_members=3, net="MLP") if kind == "Ensemble" else {})
    call = dict(loss=loss, net_options=options, lr=1e-2, live=False, out=tmp_path / "fit", **QUIET | dict(epochs=8, average="ema"))
    done = fit(getattr(fnb, kind), dataset, **call)
    said = predict(done, dataset)
    assert list(said.columns) == ["y", "y_hat", "fold", "t1", "weight", *LOSSES[loss]]
    assert said["y_hat"].corr(said["y"]) > 0.15 and np.isfinite(said.select_dtypes("number")).all(axis=None)
    if loss == "cross_entropy":
        np.testing.assert_allclose(said["p_up"] - said["p_down"], said["y_hat"] / dataset.y_scale, atol=1e-6)
    if loss == "pinball":
        assert (said[LOSSES[loss]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None) and said["q_0.5"].std() < dataset.y_scale
    again = fit(getattr(fnb, kind), dataset, **call)  # finished: read from the folder
    assert again.history.equals(done.history) and predict(again, dataset).equals(said)
    assert done.valid_loss == done.evaluate(dataset, "valid")


def test_a_net_with_another_head_is_refused():
    from futures_nb.nets import MLP
    from futures_nb.schema import DataError
    from futures_nb.train import fit

    with pytest.raises(DataError, match="head='quantile'"):
        fit(MLP(5), small_dataset(), loss="pinball", **QUIET)


@pytest.mark.parametrize("options", [dict(input_norm="batch"), dict(dropout=0.3)], ids=str)
def test_steps_behind_a_bad_batch_are_made_again_from_where_they_were(options):
    """Running statistics, dropout, clipped inputs and an average: with two bad batches as without the look every sixteen steps."""
    import torch

    from futures_nb import train
    from futures_nb.losses import huber
    from futures_nb.nets import MLP

    dataset, ends = small_dataset(n=1500), []
    marks = torch.tensor([float(np.float32(float(dataset.y[k]) / dataset.y_scale)) for k in dataset.train[[100, 500]]])

    def spoiled(out, y, weight=None, *, total=None):
        return huber(out, y, weight, total=total) * torch.where(torch.isin(y, marks).any() & out.requires_grad, torch.nan, 1.0)

    for look in (16, 1):
        with pytest.MonkeyPatch.context() as patched, pytest.warns(UserWarning, match="is not finite"):
            patched.setattr(train, "LOOK", look)
            ends.append(train.fit(MLP, dataset, loss=spoiled, net_options=dict(hidden=8) | options, average="ema", live=False, **QUIET | dict(batch_size=16, epochs=3)))
    one, other = ends
    assert one.n_skipped >= 4 and one.history.equals(other.history)
    assert one.epochs.drop(columns="seconds").equals(other.epochs.drop(columns="seconds"))
    assert one.n_clamped > 0 or "input_norm" in options  # a batch of 16 has no normalised number beyond 4
    for a, b in zip(one.net.state_dict().values(), other.net.state_dict().values()):
        assert torch.equal(a, b)


def of_windows(n=900):
    from futures_nb import make_dataset
    from futures_nb.splits import Fold

    plain = small_dataset(n)
    features = pd.DataFrame(np.random.default_rng(1).standard_normal((n, 3)), plain.index, columns=["a", "b", "c"])
    target = pd.DataFrame({"y": 0.01 * (features["a"] - features["a"].shift(2, fill_value=0.0)), "t1": plain.t1, "weight": 1.0}, plain.index)
    fold = Fold(np.arange(600), np.arange(610, 700), np.arange(720, n))
    return make_dataset(features, target, fold), make_dataset(features, target, fold, window=5)


@pytest.mark.parametrize("name", ["ConvNet", "AttentionNet"])
def test_nets_over_windows(name):
    import futures_nb as fnb
    from futures_nb.schema import DataError
    from futures_nb.train import fit, predict

    rows, windows = of_windows()
    options = dict(epochs=8, batch_size=32, lr=5e-3, progress=False, live=False)
    done = fit(getattr(fnb, name), windows, **options)
    said = predict(done, windows)
    assert len(said) == len(windows.test) and said["y_hat"].corr(said["y"]) > 0.7
    with pytest.raises(DataError, match="windows"):
        predict(done, rows)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """A fit on two processes that was started from here."""
    import threading

    from futures_nb import processes, train
    from futures_nb.nets import MLP

    rows, _ = of_windows()
    seen, real = [], processes.Watch.poll

    def poll(self):
        real(self)
        seen.append((len(self.records["step"]), len(self.records["epoch"])))

    out = tmp_path_factory.mktemp("two") / "fit"
    options = dict(net_options=dict(hidden=8), epochs=600, patience=600, batch_size=64, live=False, progress=False, out=out, checkpoint_every=20)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(processes.Watch, "poll", poll)

        def press():
            while not (seen and seen[-1][1] > 2):
                time.sleep(0.1)
            os.kill(os.getpid(), 2)

        threading.Thread(target=press, daemon=True).start()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)   # a process started in the background ignores it
        try:
            with pytest.raises(train.Interrupted, match="the same call goes on") as stopped:
                train.fit(MLP, rows, n_procs=2, **options)
        finally:
            signal.signal(signal.SIGINT, before)
    return rows, options, seen, stopped.value.fit


def test_an_interrupt_ends_the_processes_and_keeps_what_they_did(of_two):
    from futures_nb.train import interrupted_fit, predict

    rows, options, seen, part = of_two
    assert part is interrupted_fit() and part.interrupted and 20 <= len(part.history) < 6000 and len(part.epochs) >= 2
    assert len({n for n, _ in seen}) >= 2, "the lines were not followed while the processes worked"
    assert len(predict(part, rows)) == len(rows.test)
    left = [p for p in psutil.process_iter(["cmdline"]) if str(options["out"]) in (p.info["cmdline"] or [])]
    assert not left


def test_the_command_of_this_module_makes_a_run(tmp_path):
    """`python -m futures_nb.train --config` is `futures_nb train`: here up to the first thing that is wrong."""
    import subprocess
    import sys

    (tmp_path / "x.toml").write_text("[train]\nlearning_rte = 1\n")
    done = subprocess.run([sys.executable, "-m", "futures_nb.train", "--config", str(tmp_path / "x.toml")], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (2, 'futures_nb train: config x.toml: [train] has no key "learning_rte"; did you mean "learning_rate"?')


def test_the_module_s_code_in_a_notebook_starts_nothing():
    from pathlib import Path

    from futures_nb import train

    source = Path(train.__file__).read_text(encoding="utf-8")
    guard = source[source.index("if __name__ =="):]
    exec(guard.replace("_main(sys.argv[1:])", "raise AssertionError"), {"__name__": "__main__"})
    with pytest.raises(AssertionError):
        exec(guard.replace("_main(sys.argv[1:])", "raise AssertionError"), {"__name__": "__main__", "__spec__": train.__spec__})


def test_a_fit_says_how_much_memory_it_took(out):
    about = json.loads((out / "fit.json").read_text())
    assert 50 < about["memory"]["rss"] < 1e5 and about["facts"]["peak_rss_mb"] == about["memory"]["rss"]


class PlainNet:
    """Made inside, so that this file imports no torch at its top: a net without any bound."""
    def __new__(cls, n_features):
        import torch
        from torch import nn

        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(n_features, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1), nn.Flatten(0))
        net.n_features = n_features
        return net


def squared(out, y, weight=None, *, total=None):
    return ((out - y).square() * (1 if weight is None else weight)).sum() / (len(y) if total is None else total)


def test_a_fit_that_blew_leaves_what_names_the_cause(tmp_path):
    """One absurd row and a net without a bound: the fit ends as if the batch had not been there, and its folder tells why, column and row."""
    import warnings

    import torch

    import futures_nb as fnb

    dataset = small_dataset()
    dataset.X = np.clip(dataset.X, -10, 10)
    dataset.X[dataset.train[100], 2] = 1e30
    fits = {}
    for name, asked in (("told", None), ("quiet", lambda blown: None)):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with torch.random.fork_rng():
                fits[name] = fnb.fit(PlainNet(5), dataset, loss=squared, out=tmp_path / name, on_blown=asked, **QUIET | dict(epochs=5))
        assert any("largest input is 1e+30" in str(w.message).lower() for w in said)
    assert all(map(torch.equal, fits["told"].net.parameters(), fits["quiet"].net.parameters()))   # looking changes nothing
    assert fits["told"].n_skipped == 5 and len(list((tmp_path / "told" / "blackbox").glob("0*"))) == 3
    assert not (tmp_path / "quiet" / "blackbox").exists()
    found = fnb.diagnose(tmp_path / "told")
    assert found.verdicts[0].name == "FEATURE_UNSAFE_DIV" and found.verdicts[0].confidence == "proven"
    assert "x2" in str(found)
