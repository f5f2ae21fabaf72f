"""Faults of replicas in two real processes (gloo, DistributedDataParallel), a recorder on both: `python two_ranks.py OUT [CASE...]` under torchrun.

`CASES` says for each what `diagnose` has to name and whether `check_replicas` has to raise; what was said lies in `OUT/said.json`.
"""
import contextlib
import json
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from futures_nb.distributed import check_replicas
from futures_nb.recorder import Recorder
from futures_nb.schema import DataError

CASES = {                     # diagnose, check_replicas raises
    "healthy": ("HEALTHY", False),
    "own_dropout": ("HEALTHY", False),           # another seed on each rank, as it should be: DDP takes the weights of rank 0
    "own_buffers": ("HEALTHY", False),           # batch norm with statistics of its own on each rank
    "parts_of_a_batch": ("HEALTHY", False),      # no_sync for all parts but the last, as it should be
    "same_rows": ("REPLICA_DESYNC", False),      # no DistributedSampler: both ranks read the same batches; the weights agree
    "same_rows_later": ("REPLICA_DESYNC", False),# set_epoch with the rank lost after a resume
    "bit_of_a_weight": ("REPLICA_DESYNC", True), # one bit of a weight of rank 1
    "never_reduced": ("REPLICA_DESYNC", True),   # no_sync left on from some step
    "made_after_the_wrap": ("REPLICA_DESYNC", True),  # a layer initialised again after DDP had made the copies equal
    "own_rate": ("REPLICA_DESYNC", True),        # the scheduler of rank 1 counts other epochs
    "own_step": ("REPLICA_DESYNC", True),        # rank 1 skips a step by a rule of its own, after the reduction
    "loaded_on_one": ("REPLICA_DESYNC", True),   # the best weights are loaded on rank 0 alone
}


def run(case, folder, steps=40):
    rank, seed = dist.get_rank(), 5
    torch.manual_seed(100 + rank)
    norm = [nn.BatchNorm1d(16)] if case == "own_buffers" else []
    net = nn.Sequential(nn.Linear(6, 16), *norm, nn.ReLU(), nn.Dropout(0.2 if case == "own_dropout" else 0.0), nn.Linear(16, 1), nn.Flatten(0))
    ddp = DistributedDataParallel(net, broadcast_buffers=case != "own_buffers")
    if case == "made_after_the_wrap": nn.init.xavier_uniform_(net[3 + len(norm)].weight)
    opt = torch.optim.AdamW(net.parameters(), lr=1e-3)
    g, other = torch.Generator().manual_seed(seed if case == "same_rows" else seed + rank), torch.Generator().manual_seed(77)
    best = {k: v.clone() for k, v in net.state_dict().items()}
    with Recorder(folder, ddp, opt, every=8) as rec:
        for i in range(steps):
            own = g if case != "same_rows_later" or i < 18 else other
            x, y = torch.randn(16, 6, generator=own), torch.randn(16, generator=own)
            if case == "own_rate" and i >= 11: opt.param_groups[0]["lr"] = 1e-3 * (0.5 if rank == 1 else 1.0)
            parts = list(zip(x.split(8), y.split(8))) if case == "parts_of_a_batch" else [(x, y)]
            with rec.step((x, y)):
                opt.zero_grad()
                for k, (a, b) in enumerate(parts):
                    with ddp.no_sync() if k < len(parts) - 1 or case == "never_reduced" and i >= 13 else contextlib.nullcontext(): (nn.functional.mse_loss(ddp(a), b) / len(parts)).backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                if not (case == "own_step" and i == 12 and rank == 1): opt.step()
            if case == "bit_of_a_weight" and i == 14 and rank == 1: net[0].weight.detach().numpy().view("uint32")[2, 3] ^= 1 << 12
            if case == "loaded_on_one" and i == 20 and rank == 0: net.load_state_dict(best)
    try: check_replicas(ddp, steps)
    except DataError as error: return str(error)
    return ""


if __name__ == "__main__":
    out, cases = Path(sys.argv[1]), sys.argv[2:] or [*CASES]
    dist.init_process_group("gloo")
    said = {}
    for case in cases:
        (out / case).mkdir(exist_ok=True)
        dist.barrier()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Recorder:")
            said[case] = run(case, out / case)
    (out / f"said{dist.get_rank()}.json").write_text(json.dumps(said))
    dist.barrier()
    dist.destroy_process_group()
