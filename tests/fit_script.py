"""A small fit that can be killed: `python fit_script.py OUT [--dtype float64] [--dropout 0] ...`, alone or under torchrun."""
import argparse
import hashlib
import json
import multiprocessing
import os
import signal
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd


def small_dataset(n=600, n_features=5, seed=0, weighted=True):
    """Anything with the fields of a Dataset will do."""
    from futures_nb.schema import make_index

    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_features)).astype(np.float32)
    X[rng.random(X.shape) < 0.001] *= 1e6  # outliers the net must cut and count
    y = (0.01 * (0.5 * np.tanh(X[:, 0]) + rng.standard_normal(n))).astype(np.float32)
    ts = pd.date_range("2024-01-02 15:00", periods=n, freq="h", tz="UTC")
    train, valid, test = np.split(np.arange(n), [int(0.6 * n), int(0.8 * n)])
    weight = rng.random(n).astype(np.float32) + 0.1 if weighted else np.ones(n, np.float32)
    return SimpleNamespace(
        X=X, y=y, weight=weight, index=make_index("ESH25", ts), t1=ts + pd.Timedelta("1h"), train=train, valid=valid, test=test,
        columns=[f"x{k}" for k in range(n_features)], y_scale=float(y[train].std()), fold=None, scaler=None,
    )


def kill_at_call(name, n):
    """Kill this process, without a word, at the n-th call of os.fsync, os.replace or backward: before it, so the call is not made."""
    home = os
    if name == "backward":
        import torch

        home = torch.Tensor
    real, calls = getattr(home, name), [0]

    def deadly(*args, **options):
        calls[0] += 1
        if calls[0] == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    setattr(home, name, deadly)


def run_fit(out, epochs=6, batch_size=32, dtype="float32", dropout=0.2, checkpoint_every=4, n=600, loss="huber", kind="ResidualMLP",
            patience=100, **more):
    import torch

    from futures_nb import nets
    from futures_nb.train import fit

    torch.set_num_threads(1)
    dataset = small_dataset(n=n)
    net = getattr(nets, kind)(dataset.X.shape[1], hidden=16, dropout=dropout)
    return fit(net, dataset, loss=loss, epochs=epochs, batch_size=batch_size, lr=3e-3, patience=patience, out=out, dtype=getattr(torch, dtype),
               device="cpu", checkpoint_every=checkpoint_every, progress=False, live=False, **more)


def bad_on_rank_1(bad_call=7):
    """Huber's loss that is NaN once, and only on the second rank."""
    from futures_nb.distributed import rank
    from futures_nb.losses import huber

    calls = [0]

    def loss(y_hat, y, weight=None, *, total=None):
        if y_hat.requires_grad:
            calls[0] += 1
        bad = y_hat.requires_grad and calls[0] == bad_call and rank() == 1
        return huber(y_hat, y, weight, total=total) * (float("nan") if bad else 1.0)

    return loss


@cache
def warm():
    """Import once what costs seconds (torch imports half of itself with the first optimizer), so that forks start at once."""
    import torch

    import futures_nb.train  # noqa: F401

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    torch.set_num_threads(1)


def start(out, deadly=None, **options):
    """A fit in a forked child; no backward pass ever runs in this process, so that its fork is safe."""
    warm()

    def child():
        if deadly:
            kill_at_call(*deadly)
        run_fit(out, **options)

    p = multiprocessing.get_context("fork").Process(target=child)
    p.start()
    return p


def finish(out, **options):
    p = start(out, **options)
    p.join(90)
    assert p.exitcode == 0, f"the fit in {out} ended with {p.exitcode}"


def metrics(out):
    """The records, without how long they took; each (kind, step) must be there once."""
    records = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    for r in records:
        r.pop("seconds", None)
    keys = [(r["kind"], r["step"]) for r in records]
    assert len(set(keys)) == len(keys), "a record is there twice"
    return records


def checkpoints(out):
    """Those that are there, the newest last."""
    return sorted(Path(out).glob("step-*.safetensors"))


def same_end(a, b):
    """Bit-equal weights, optimiser and story."""
    from futures_nb.checkpoint import load_tensors

    assert [p.name for p in checkpoints(a)[-1:]] == [p.name for p in checkpoints(b)[-1:]]
    for name in ("model.safetensors", checkpoints(a)[-1].name):
        (one, state_one), (two, state_two) = load_tensors(a / name), load_tensors(b / name)
        assert one.keys() == two.keys()
        for key in one:
            assert one[key].numpy().tobytes() == two[key].numpy().tobytes(), f"{name}: {key} differs"
        for state in (state_one, state_two):
            state.pop("n_bytes", None)  # counts the digits of the seconds, too
        assert state_one == state_two
    assert metrics(a) == metrics(b)


def write_end(done):
    """What this rank ended with, beside the fit."""
    from futures_nb.distributed import rank

    weights = b"".join(p.detach().numpy().tobytes() for p in done.net.parameters())
    about = {"weights": hashlib.sha256(weights).hexdigest(), **done.facts()}
    (done.out / f"rank{rank()}.json").write_text(json.dumps(about))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--deadly", nargs=3, metavar=("RANK", "CALL", "N"))
    parser.add_argument("--bad_on_rank_1", action="store_true")
    for name, kind in dict(epochs=int, batch_size=int, dtype=str, dropout=float, checkpoint_every=int, n=int, kind=str).items():
        parser.add_argument(f"--{name}", type=kind)
    options = {k: v for k, v in vars(parser.parse_args()).items() if v is not None}
    deadly, bad = options.pop("deadly", None), options.pop("bad_on_rank_1")
    if deadly and deadly[0] == os.environ.get("RANK", "0"):
        kill_at_call(deadly[1], int(deadly[2]))
    done = run_fit(**options | ({"loss": bad_on_rank_1()} if bad else {}))
    from futures_nb.distributed import leave_group

    write_end(done)
    leave_group()


if __name__ == "__main__":
    main()
