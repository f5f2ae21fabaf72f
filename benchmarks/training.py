"""Training: one epoch of the same net by each loop over the same rows, in turn in one process; rows per second.

    python benchmarks/training.py            # writes benchmarks/results/training.json
    python benchmarks/training.py --small    # tries every part with few rows, writes nothing

n x 54 float32, a net of two hidden layers, batches of 1,024, AdamW, Huber's loss; one thread, then two. `ours` is the whole call of `fit` with its checks, weights, input
bounds, clip and history, its steps by hand or by autograd. Its peers are what one writes first: a DataLoader over a TensorDataset, skorch, Lightning, scikit-learn's MLPRegressor (Adam, squared error), and a
loop over tensors in memory with the fused AdamW. `arithmetic` is the matrix products of both directions alone, into buffers, without data, loss or optimiser: nothing that
multiplies these matrices can be faster. Before times are compared, ours and the two plain loops take the same rows in the same order from the same weights and must come to
the same forecasts; the libraries, which shuffle on their own, must come to about the same validation loss. A peer that is not installed is left out, and that is said.

Two more parts: two processes of one thread each against one process of two, and what each guard of a step costs, switched on and off in turn. Threads that share a core wait for each
other while they spin: run it on a quiet machine with two cores.
"""
import argparse
import importlib
import itertools
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from common import peers_in_turn, write_results
from torch import nn

import futures_nb as fnb
from futures_nb.dataset import epoch_order
from futures_nb.distributed import launch
from futures_nb.heads import soft_bound
from futures_nb.step import train_step

COLUMNS, BATCH, LR = 54, 1024, 1e-3
N_ROWS = 1_142_640                                       # 12 contracts of 69 sessions of 1,380 minutes
NETS = ((128, 64), (256, 256), (512, 512))
N_VALID = 4096


def a_set(n, n_valid=N_VALID):
    """`n` train rows with the fields of a Dataset; no number is beyond the net's bound, and every row counts 1."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n + n_valid, COLUMNS), dtype=np.float32)
    y = np.tanh(X[:, 0]) + 0.5 * X[:, 1] * X[:, 2] + rng.standard_normal(len(X), dtype=np.float32)
    ts = pd.date_range("2020-01-06", periods=len(X), freq="min", tz="UTC")
    rows = np.arange(len(X))
    return SimpleNamespace(X=X, y=y, weight=np.ones(len(X), np.float32), index=fnb.make_index("ESZ24", ts), t1=ts + pd.Timedelta("1min"), train=rows[:n], valid=rows[n:],
                           test=rows[n:], columns=[f"f{j}" for j in range(COLUMNS)], y_scale=1.0, fold=None, scaler=None)


class OutputBound(nn.Module):
    def forward(self, z): return soft_bound(z, 5.0)


class Problem:
    """The rows as tensors, and the net each loop begins with."""
    def __init__(self, n, hidden):
        self.n, self.hidden, self.dataset = n, hidden, a_set(n)
        self.X, self.y = torch.from_numpy(self.dataset.X[:n]), torch.from_numpy(self.dataset.y[:n])
        self.X_valid, self.y_valid = torch.from_numpy(self.dataset.X[n:]), torch.from_numpy(self.dataset.y[n:])
        self.order, self.rates = None, None              # given for the comparison: order of the rows, rate of each step

    def net(self): return fnb.MLP(COLUMNS, hidden=self.hidden, seed=1)

    def plain_net(self):
        """The same weights without a bound at the input: the rows are inside it."""
        net = self.net()
        entry, *more = [m for m in net.body if isinstance(m, nn.Linear)]
        first, last = nn.Linear(COLUMNS, entry.out_features), nn.Linear(net.readout.in_features, net.readout.out_features)   # the readout holds the bound, too
        with torch.no_grad():
            first.weight.copy_(entry.weight[:, :COLUMNS])     # the last column is the flag of missing numbers
            first.bias.copy_(entry.bias)
            last.weight.copy_(net.readout.weight)
            last.bias.copy_(net.readout.bias)
        bound = [] if self.order is None else [OutputBound()]      # where forecasts are compared, not where loops are timed
        return nn.Sequential(first, *itertools.chain.from_iterable((nn.ReLU(), layer) for layer in [*more, last]), nn.Flatten(0), *bound)


def ours(p, by_hand=True):
    done = fnb.fit(p.net(), p.dataset, epochs=1, batch_size=BATCH, lr=LR, weight_decay=0.0, by_hand=by_hand, progress=False, live=False, device="cpu")
    assert by_hand == (done.path == "by hand"), done.path
    p.history = done.history
    with torch.no_grad(): return done.net(p.X_valid).numpy()


def forecasts(p, net):
    with torch.no_grad(): return net.eval()(p.X_valid).reshape(-1).numpy()


def set_rate(p, optimizer, step):
    if p.rates is not None:
        for group in optimizer.param_groups: group["lr"] = p.rates[step]


def dataloader(p):
    from torch.utils.data import DataLoader, TensorDataset
    order = {"shuffle": True} if p.order is None else {"sampler": p.order.tolist()}
    loader, net = DataLoader(TensorDataset(p.X, p.y), batch_size=BATCH, **order), p.plain_net()
    optimizer, loss = torch.optim.AdamW(net.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.0), nn.HuberLoss()
    for step, (x, y) in enumerate(loader):
        set_rate(p, optimizer, step)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
    return forecasts(p, net)


def tensors(p):
    order, net = torch.randperm(p.n) if p.order is None else p.order, p.plain_net()
    optimizer, loss = torch.optim.AdamW(net.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.0, fused=True), nn.HuberLoss()
    X, y = p.X[order], p.y[order]
    for step, a in enumerate(range(0, p.n, BATCH)):
        set_rate(p, optimizer, step)
        optimizer.zero_grad()
        loss(net(X[a:a + BATCH]), y[a:a + BATCH]).backward()
        optimizer.step()
    return forecasts(p, net)


def skorch(p):
    from skorch import NeuralNetRegressor
    net = NeuralNetRegressor(p.plain_net(), criterion=nn.HuberLoss, optimizer=torch.optim.AdamW, optimizer__betas=(0.9, 0.99), lr=LR, max_epochs=1, batch_size=BATCH,
                             iterator_train__shuffle=True, train_split=None, verbose=0)
    net.fit(p.dataset.X[:p.n], p.dataset.y[:p.n])
    return net.predict(p.dataset.X[p.n:])


def lightning(p):
    import lightning as L
    from torch.utils.data import DataLoader, TensorDataset
    for name in ("lightning", "lightning.pytorch"): logging.getLogger(name).setLevel(logging.ERROR)

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.loss = p.plain_net(), nn.HuberLoss()

        def training_step(self, batch, k): return self.loss(self.net(batch[0]), batch[1])
        def configure_optimizers(self): return torch.optim.AdamW(self.parameters(), lr=LR, betas=(0.9, 0.99))

    module = Module()
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*num_workers.*")   # no worker processes is on purpose: there is one core
        trainer.fit(module, DataLoader(TensorDataset(p.X, p.y), batch_size=BATCH, shuffle=True))
    return forecasts(p, module.net)


def sklearn(p):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor
    net = MLPRegressor(hidden_layer_sizes=p.hidden, batch_size=BATCH, learning_rate_init=LR, beta_2=0.99, max_iter=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)    # one epoch is what is asked for
        net.fit(p.dataset.X[:p.n], p.dataset.y[:p.n])
    return net.predict(p.dataset.X[p.n:])


def arithmetic(p):
    """The matrix products of one epoch: forward, gradients of weights, gradients of hidden activations."""
    widths, draw = [COLUMNS, *p.hidden, 1], torch.Generator().manual_seed(0)
    h = [torch.randn(BATCH, k, generator=draw) for k in widths]
    W = [torch.randn(a, b, generator=draw) for a, b in itertools.pairwise(widths)]
    dW, dh, d = [torch.empty_like(w) for w in W], [torch.empty_like(x) for x in h], torch.randn(BATCH, 1, generator=draw)
    for _ in range(-(-p.n // BATCH)):
        for k, w in enumerate(W): torch.mm(h[k], w, out=h[k + 1])
        top = d
        for k in reversed(range(len(W))):
            torch.mm(h[k].T, top, out=dW[k])
            if k: top = torch.mm(top, W[k].T, out=dh[k])


LOOPS = {"ours": ours, "ours by autograd": partial(ours, by_hand=False), "DataLoader": dataloader, "skorch": skorch, "Lightning": lightning, "scikit-learn": sklearn, "tensors, fused AdamW": tensors, "arithmetic": arithmetic}
NEEDS = {"skorch": "skorch", "Lightning": "lightning", "scikit-learn": "sklearn"}


def available(wanted):
    """`wanted` loops without those whose library is absent."""
    absent = [name for name in wanted if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None]
    for name in absent: print(f"left out: {name} is not installed")
    return [name for name in wanted if name not in absent]


def compare(hidden, n, loops):
    """Largest difference of forecasts between ours and the plain loops, and every loop's validation loss."""
    p = Problem(n - n % BATCH, hidden)
    said = {"ours": ours(p), "ours by autograd": ours(p, by_hand=False)}
    assert (p.history.grad_norm <= 1).all(), "a gradient was clipped: the plain loops do not"
    p.order, p.rates = p.dataset.train[epoch_order(p.n, 0, 0)], p.history.lr.tolist()
    p.order = torch.as_tensor(p.order)
    for name in ("DataLoader", "tensors, fused AdamW"): said[name] = LOOPS[name](p)
    off = {name: float(np.abs(v - said["ours by autograd"]).max()) for name, v in said.items() if name != "ours by autograd"}
    p.order = p.rates = None
    for name in loops:
        if name not in said and name != "arithmetic": said[name] = LOOPS[name](p)
    loss = {name: round(float(nn.functional.huber_loss(torch.as_tensor(v), p.y_valid)), 4) for name, v in said.items()}
    nothing = float(nn.functional.huber_loss(torch.zeros(N_VALID), p.y_valid))
    assert off["tensors, fused AdamW"] < 1e-6 and max(off["DataLoader"], off["ours"]) < 1e-2, off     # the unfused AdamW and the step by hand round otherwise, and a net makes more of it step by step
    assert all(abs(v / loss["ours"] - 1) < 0.1 for v in loss.values()), loss
    return {"compared": f"{hidden}, {p.n:,} rows", "largest_difference": off, "valid_loss": loss, "loss_of_zero": round(nothing, 4)}


def with_threads(n, call):
    """Run `call` with `n` threads in torch and in the BLAS that numpy and scikit-learn use."""
    from threadpoolctl import threadpool_limits
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with threadpool_limits(n): return call()
    finally: torch.set_num_threads(before)


def race(n, hidden, loops, rounds):
    p = Problem(n, hidden)
    return rates(n, peers_in_turn({name: partial(LOOPS[name], p) for name in loops}, rounds))


def rates(n, told):
    """Rows per second beside the seconds, and the goals' two ratios."""
    per_s = {name: round(n / s) for name, s in told["median_s"].items()}
    return {"rows_a_second": per_s, "faster_than_DataLoader": round(told["ratio_to_ours"]["DataLoader"], 2),
            "times_the_arithmetic": round(1 / told["ratio_to_ours"]["arithmetic"], 2)} | told


def worker(out, n, hidden, threads, epochs):
    """One rank: the median seconds of its epochs after the first, written by the first rank."""
    torch.set_num_threads(threads)
    done = fnb.fit(fnb.MLP(COLUMNS, hidden=hidden, seed=1), a_set(n), epochs=epochs, batch_size=BATCH, lr=LR, weight_decay=0.0, progress=False, live=False, device="cpu")
    from futures_nb.distributed import is_main, leave_group
    if is_main(): Path(out).write_text(json.dumps({"seconds": statistics.median(done.epochs.seconds[1:]), "valid_loss": done.valid_loss}))
    leave_group()


def ranks_against_threads(n, hidden, rounds, epochs=4):
    """Seconds of an epoch: one process of one thread, one of two, two of one; started in turn."""
    ways = {"1 rank, 1 thread": (1, 1), "1 rank, 2 threads": (1, 2), "2 ranks, 1 thread": (2, 1)}
    seconds, losses = {name: [] for name in ways}, {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, (n_procs, threads) in ways.items():
                out = Path(folder) / "out.json"
                launch(n_procs, __file__, ["--worker", out, n, *hidden, threads, epochs], expect=out, env={"OMP_NUM_THREADS": str(threads)})
                told = json.loads(out.read_text())
                seconds[name].append(told["seconds"])
                losses[name] = told["valid_loss"]
    assert max(losses.values()) - min(losses.values()) < 1e-3, losses
    median = {name: statistics.median(s) for name, s in seconds.items()}
    return {"rows": n, "hidden": hidden, "part": "ranks", "median_s": median, "rows_a_second": {k: round(n / s) for k, s in median.items()},
            "two_ranks_over_two_threads": round(median["2 ranks, 1 thread"] / median["1 rank, 2 threads"], 2)}


def guards(hidden, folder):
    """`name: step(batch)`, the plain step first, each with a net of its own: weights that another loop moves in between are what the recorder is there to report."""
    from futures_nb.recorder import Recorder
    from futures_nb.step import Fuse

    def own():
        net = fnb.MLP(COLUMNS, hidden=hidden, seed=1).train()
        return net, torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def with_net(step, net, optimizer): return lambda batch: step(net, batch, optimizer)
    yield "plain", with_net(train_step, *own())
    yield "fuse", with_net(partial(train_step, fuse=Fuse("cpu")), *own())
    net, optimizer = own()
    yield "recorder", with_net(Recorder(folder, net, optimizer).wrap(train_step), net, optimizer)


def cost_of_guards(hidden, batch_size, rounds, seconds=0.3):
    """Milliseconds of a step with each guard, in turn; the median of `rounds`, and of the ratios to the plain step."""
    dataset = a_set(8 * batch_size, 1)
    X, y = torch.from_numpy(dataset.X), torch.from_numpy(dataset.y)
    batches = [(X[a:a + batch_size], y[a:a + batch_size], torch.ones(batch_size)) for a in range(0, 8 * batch_size, batch_size)]

    def some(step, k):
        start = time.perf_counter()
        for j in range(k): step(batches[j % 8])
        return (time.perf_counter() - start) / k * 1e3
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("error", message="Recorder: step")     # a healthy loop gives no event
        ways = dict(guards(hidden, folder))
        k = max(8, round(seconds * 1e3 / some(ways["plain"], 8)))
        took = {name: [] for name in ways}
        for step in ways.values(): some(step, 704)        # the recorder looks at each of the first 512 steps, and finds its pace in the next
        for _ in range(rounds):
            for name, step in ways.items(): took[name].append(some(step, k))
    ratio = {name: round(statistics.median(b / a for a, b in zip(took["plain"], t)), 4) for name, t in took.items() if name != "plain"}
    return {"part": "guards", "hidden": hidden, "batch_size": batch_size, "steps_a_turn": k, "rounds": rounds,
            "median_ms": {name: round(statistics.median(t), 4) for name, t in took.items()}, "ratio_to_plain": ratio}


def parts_of_a_step(hidden, rounds, n_steps=100):
    """Microseconds of a step: the products alone, the step by hand and by autograd, each with Huber's loss, weights, bounds, clip, fuse and AdamW; in turn."""
    from futures_nb.optim import make_optimizer
    from futures_nb.step import Fuse
    from futures_nb.step_by_hand import make_step
    p, ways = Problem(8 * BATCH, hidden), {}
    batches = [(p.X[a:a + BATCH], p.y[a:a + BATCH], torch.ones(BATCH)) for a in range(0, p.n, BATCH)]
    for name, by_hand in (("by hand", True), ("by autograd", False)):
        net = p.net().train()
        step, path = make_step(net, make_optimizer(net, flat=True, update_clip=False), by_hand=by_hand, loss="huber", fuse=Fuse())
        assert path.startswith(name.removeprefix("by ") if not by_hand else name)
        ways[name] = lambda step=step: [step(batches[k % 8], BATCH) for k in range(n_steps)]
    ways["products"] = partial(arithmetic, SimpleNamespace(n=n_steps * BATCH, hidden=hidden))
    told = peers_in_turn(ways, rounds)
    return {"part": "steps", "hidden": hidden, "batch_size": BATCH, "us": {name: round(s / n_steps * 1e6) for name, s in told["median_s"].items()},
            "by_hand_over_products": round(1 / told["ratio_to_ours"]["products"], 2), "autograd_over_by_hand": told["ratio_to_ours"]["by autograd"]}


def under_its_net(row):
    """The row with net and size as its name, and its part last: the page of results puts rows of one kind side by side."""
    if "hidden" not in row: return row
    name = f"{tuple(row['hidden'])}" + (f", {row['rows']:,} rows" if "rows" in row else "")
    return {"net": name} | {k: v for k, v in row.items() if k not in ("hidden", "rows", "part")} | {"part": row["part"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_240, 102_400, N_ROWS])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--parts", nargs="+", default=["loops", "wide", "ranks", "guards", "steps"])
    parser.add_argument("--small", action="store_true", help="few rows, one round, no results")
    given = parser.parse_args()
    if given.small: given.rows, given.rounds = [4_096, 20_480], 1
    n_wide, rows = min(102_400, given.rows[-1]), []

    def tell(row):
        row = under_its_net(row)
        rows.append(row)
        print(json.dumps(row))
    loops = available(LOOPS)
    for hidden in NETS if "wide" in given.parts else NETS[:1]: tell(compare(hidden, n_wide, loops))
    for threads in given.threads:
        if "loops" in given.parts:
            for n in given.rows: tell({"part": "loops", "rows": n, "hidden": NETS[0], "threads": threads} | with_threads(threads, partial(race, n, NETS[0], loops, given.rounds)))
        few = ["ours", "ours by autograd", "DataLoader", "tensors, fused AdamW", "arithmetic"]
        for hidden in NETS[1:] if "wide" in given.parts else ():
            tell({"part": "loops", "rows": n_wide, "hidden": hidden, "threads": threads} | with_threads(threads, partial(race, n_wide, hidden, few, given.rounds)))
    if "ranks" in given.parts:
        for hidden in NETS: tell(ranks_against_threads(n_wide, hidden, 1 if given.small else 3))
    if "guards" in given.parts:
        for hidden in NETS: tell(cost_of_guards(hidden, BATCH, 3 if given.small else 9, 0.05 if given.small else 0.3))
    if "steps" in given.parts:
        for hidden in NETS: tell(with_threads(1, partial(parts_of_a_step, hidden, 3 if given.small else 9)))
    checked = [row for row in rows if "compared" in row]
    for part in dict.fromkeys(row["part"] for row in rows if "part" in row) if not given.small else ():       # a file a part, so that each can be run on its own
        write_results("training" if part == "loops" else f"training_{part}", checked + [row for row in rows if row.get("part") == part])


if __name__ == "__main__":
    if "--worker" in sys.argv:
        out, n, *hidden, threads, epochs = sys.argv[sys.argv.index("--worker") + 1:]
        worker(out, int(n), tuple(map(int, hidden)), int(threads), int(epochs))
    else: main()
