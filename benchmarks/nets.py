"""Nets: what the bounds at both ends cost beside the plain stack of layers, and an ensemble beside a loop over its members.

    python benchmarks/nets.py                     # writes benchmarks/results/nets.json
    python benchmarks/nets.py --rounds 5          # smaller

One thread, float32. Forward: MLP(128, 64) on batches of 1,024 rows and 54 columns, without gradient and with backward, beside Linear, ReLU, Linear, ReLU, Linear; and the first operation alone beside the five passes over the data that one
writes first (bools counted, isnan of the sum). Ensemble: forward and backward of 8 members, stacked and one after the other, in three sizes; before times are compared, both give the same numbers.
"""
import argparse
import os
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from common import peers_in_turn, write_results
from torch import nn

from futures_nb.ensemble import Ensemble
from futures_nb.nets import MLP, BoundedInput

N_COLUMNS, N_ROWS = 54, 1024


def by_bools(x, limit=10.0):
    """What `BoundedInput` gives, with masks of bools."""
    cut = x.clamp(-limit, limit)
    flag = torch.isnan(cut.sum(1, keepdim=True)).to(x.dtype)
    n_nan = torch.count_nonzero(cut != cut)
    return torch.cat([cut.nan_to_num(0.0), flag], 1), torch.stack([n_nan, torch.count_nonzero(x != cut) - n_nan])


def repeated(call, n):
    def run():
        for _ in range(n): call()
    return run


def step(nets, batch):
    for net in nets: net(batch).square().sum().backward()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--calls", type=int, default=20, help="calls in each round")
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator, rows = torch.Generator().manual_seed(0), []
    x = torch.randn(N_ROWS, N_COLUMNS, generator=generator)
    x[::97, 3], x[::31, 7] = float("nan"), 99.0

    def timed(name, peers):
        told = {"what": name, "calls": args.calls} | peers_in_turn({k: repeated(f, args.calls) for k, f in peers.items()}, args.rounds)
        rows.append(told)
        print(name, told["median_s"], "ratio to the first:", told["ratio_to_ours"])

    net, bound = MLP(N_COLUMNS, hidden=(128, 64)), BoundedInput()
    plain = nn.Sequential(nn.Linear(N_COLUMNS, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0))
    assert torch.equal(bound(x), by_bools(x)[0]) and torch.equal(bound.counts, by_bools(x)[1])
    clean = x.nan_to_num(0.0)
    with torch.no_grad():
        timed("the first operation", {"BoundedInput": lambda: bound(x), "bools": lambda: by_bools(x)})
        timed("forward, 1,024 x 54", {"MLP(128, 64)": lambda: net(x), "plain layers": lambda: plain(clean)})
    timed("forward and backward, 1,024 x 54", {"MLP(128, 64)": lambda: net(x).square().sum().backward(), "plain layers": lambda: plain(clean).square().sum().backward()})
    for hidden, n in (((16,), 64), ((64, 32), 256), ((128, 64), 1024)):
        several = Ensemble(20, "MLP", n_members=8, hidden=hidden)
        with torch.no_grad(): several.members.net.readout.weight.normal_(generator=generator)
        nets, batch = [several.member(k) for k in range(8)], torch.randn(n, 20, generator=generator)
        torch.testing.assert_close(several(batch), torch.stack([one(batch) for one in nets]), rtol=1e-4, atol=1e-5)
        timed(f"8 nets {hidden}, {n} rows", {"Ensemble": partial(step, [several], batch), "one by one": partial(step, nets, batch)})
    write_results("nets", rows)


if __name__ == "__main__":
    main()
