"""Batches: an epoch of shuffled batches from a data set, beside a torch DataLoader over the same tensors.

    python benchmarks/batches.py                    # writes benchmarks/results/batches.json
    python benchmarks/batches.py --rows 20000 50000 --windows 5000 --rounds 3     # smaller

1,024 rows a batch, 60 columns, no worker processes, one thread. Single rows: a DataLoader over a TensorDataset, and one that is handed whole batches of
positions by a BatchSampler. Windows of 64 rows: a DataLoader over a set that slices a window at a time; beside it a copy of as many bytes into new memory,
about the least that batches of windows can cost. Ours also gives the position of each row. Before times are compared, an epoch of each has each row once, with its own numbers.
The parts of an epoch are each measured alone: the order of the rows, fetching them, and making batches of them.
"""
import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from common import peers_in_turn, write_results
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset, default_collate

import futures_nb as fnb

COLUMNS, BATCH, WINDOW = 60, 1024, 64


def a_set(n, window=None):
    """A data set of `n` train samples; its first column is the number of the row, so that rows can be told apart."""
    n_rows = n + 2 + (window or 1) - 1
    index = fnb.make_index("ESZ24", pd.date_range("2020-01-06", periods=n_rows, freq="min", tz="UTC"))
    features = pd.DataFrame(np.random.default_rng(0).normal(size=(n_rows, COLUMNS)), index, columns=[f"f{j}" for j in range(COLUMNS)])
    features["f0"] = np.arange(n_rows)
    target = pd.DataFrame({"y": features["f1"] / 100, "t1": index.get_level_values("ts") + pd.Timedelta("1min")}, index)
    samples = np.arange(n_rows - n - 2, n_rows)
    from sklearn.preprocessing import FunctionTransformer
    return fnb.make_dataset(features, target, fnb.Fold(samples[:-2], samples[-2:-1], samples[-1:]), scaler=FunctionTransformer(), window=window)


class Windows(torch.utils.data.Dataset):
    """As one writes it: the window is sliced when it is asked for."""
    def __init__(self, t): self.t, self.end = t, (t["at"][t["train"]] + 1).tolist()
    def __len__(self): return len(self.end)
    def __getitem__(self, i): return self.t["X"][self.end[i] - WINDOW:self.end[i]], self.t["y"][i], self.t["weight"][i]


def used(batches):
    """Go through an epoch; the number of rows seen."""
    return sum(len(batch[0]) for batch in batches)


def check(dataset, epoch, whole):
    """Each sample once, with its own answer; and its own input, number by number, if `whole`."""
    seen, last = [], lambda x: x[:, 0] if dataset.window is None else x[:, -1, 0]
    own = dataset.X[dataset.at[dataset.train], 0]
    for x, y, weight, *_ in epoch:
        row = np.searchsorted(own, last(x).numpy())
        assert np.array_equal(y, dataset.y[row]) and np.array_equal(weight, dataset.weight[row])
        if whole: assert np.array_equal(x, dataset.inputs(row))
        seen.append(row)
    assert np.array_equal(np.sort(np.concatenate(seen)), dataset.train)


def median_seconds(f, rounds=3):
    seconds = []
    for _ in range(rounds + 1):     # the first one warms up
        start = time.perf_counter()
        f()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def parts_of(dataset, plain):
    """Seconds of an epoch's parts, ours and the DataLoader's, each alone."""
    t, names = dataset.tensors(), ("X", "y", "weight")
    near = t["train"][torch.randperm(len(t["train"]))].split(8192)
    def gather():
        for row in near:
            for name in names: t[name].index_select(0, row)
    def cut():
        for row in near:
            for _ in zip(*(values.split(BATCH) for values in (*(t[name][:len(row)] for name in names), row))): pass
    order, rows, stack = list(BatchSampler(RandomSampler(plain), BATCH, drop_last=False)), 0.0, 0.0
    for batch in order:
        start = time.perf_counter()
        fetched = [plain[i] for i in batch]
        middle = time.perf_counter()
        default_collate(fetched)
        rows, stack = rows + middle - start, stack + time.perf_counter() - middle
    told = {"ours: order": median_seconds(lambda: t["train"][torch.randperm(len(t["train"]))]), "ours: gather": median_seconds(gather), "ours: cut into batches": median_seconds(cut),
            "DataLoader: order": median_seconds(lambda: list(BatchSampler(RandomSampler(plain), BATCH, drop_last=False))), "DataLoader: one row at a time": rows, "DataLoader: stack": stack}
    return {name: round(s, 5) for name, s in told.items()}


def timed(n, rounds, window=None):
    dataset = a_set(n, window)
    t, turn = dataset.tensors(), iter(range(10**6))
    plain = Windows(t) if window else TensorDataset(*(t[name][t["train"]] for name in ("X", "y", "weight")))
    ours = lambda: dataset.batches("train", BATCH, epoch=next(turn))
    peers = {"DataLoader": lambda: DataLoader(plain, batch_size=BATCH, shuffle=True)}
    if window is None: peers["DataLoader, BatchSampler"] = lambda: DataLoader(plain, sampler=BatchSampler(RandomSampler(plain), BATCH, drop_last=False), batch_size=None)
    for epoch in (ours, *peers.values()): check(dataset, epoch(), whole=n <= 50_000)
    raced = {"ours": lambda: used(ours())} | {name: lambda peer=peer: used(peer()) for name, peer in peers.items()}
    if window:
        block = torch.zeros(BATCH, window, COLUMNS)
        raced["a copy of as many bytes"] = lambda: [block.clone().shape for _ in range(-(-n // BATCH))]
    told = peers_in_turn(raced, rounds)
    row = {"rows": n, "columns": COLUMNS, "batch": BATCH} | ({"window": window} if window else {}) | told
    row["thousand_rows_a_second"] = {name: round(n / s / 1000) for name, s in told["median_s"].items() if name != "a copy of as many bytes"}
    if window is None: row["seconds_of_parts"] = parts_of(dataset, plain)
    print(row)
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 150_000, 1_140_000])
    parser.add_argument("--windows", type=int, nargs="*", default=[10_000, 50_000, 250_000], help="samples with a window each")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    write_results("batches", [timed(n, asked.rounds) for n in asked.rows] + [timed(n, asked.rounds, WINDOW) for n in asked.windows])
