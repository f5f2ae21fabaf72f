"""Ranks: a training step of one process and of two (gloo, one thread each) on the same batch, by the width of the net.

    python benchmarks/ranks.py                                  # writes benchmarks/results/ranks.json
    python benchmarks/ranks.py --widths 64 512 --rounds 20      # smaller

A ResidualMLP of two blocks, 50 columns, 1,024 rows a batch of all ranks together, forward, backward and fused AdamW. The median over the steps of rank 0.
Before times are compared, both end with the same weights within 1e-4 (float32).
"""
import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch.nn.parallel import DistributedDataParallel

from futures_nb.distributed import init_group, is_main, launch, leave_group, share, share_total, wait_for_all, world_size
from futures_nb.nets import ResidualMLP
from futures_nb.step import train_step

ROWS, COLUMNS = 1024, 50


def one_width(width, rounds):
    torch.manual_seed(0)
    x, y, w = torch.randn(ROWS, COLUMNS), torch.randn(ROWS), torch.ones(ROWS)
    net = ResidualMLP(COLUMNS, hidden=width)
    model = DistributedDataParallel(net) if world_size() > 1 else net
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    mine, seconds = share(ROWS), []
    for _ in range(rounds + 3):                       # the first three are not counted
        wait_for_all()
        start = time.perf_counter()
        train_step(model, (x[mine], y[mine], w[mine]), optimizer, total=share_total(w))
        seconds.append(time.perf_counter() - start)
    return {"width": width, "n_parameters": sum(p.numel() for p in net.parameters()), "ms": round(1e3 * statistics.median(seconds[3:]), 3),
            "head": net.readout.weight.detach().double().norm().item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rank_writes", help="used by the launched ranks")
    given = parser.parse_args()
    if given.rank_writes:
        torch.set_num_threads(1)
        init_group(timeout=60)
        rows = [one_width(width, given.rounds) for width in given.widths]
        if is_main():
            Path(given.rank_writes).write_text(json.dumps(rows))
        return leave_group()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (1, 2):
            said = Path(folder) / f"{n}.json"
            launch(n, __file__, ["--rank_writes", said, "--rounds", given.rounds, "--widths", *given.widths], expect=said, timeout=900)
            found[n] = json.loads(said.read_text())
    rows = []
    for one, two in zip(found[1], found[2]):
        assert abs(one["head"] / two["head"] - 1) < 1e-4, (one, two)
        rows.append({"what": f"width {one['width']:,}, {one['n_parameters']:,} parameters", "median_ms": {"one": one["ms"], "two": two["ms"]},
                     "one_over_two": round(one["ms"] / two["ms"], 2)})
        print(rows[-1])
    from common import write_results
    write_results("ranks", rows)


if __name__ == "__main__":
    main()
