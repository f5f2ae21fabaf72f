"""What a chapter on training cannot show: artefacts on disk, the picture in a notebook, processes that must end."""
import json
import os
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
