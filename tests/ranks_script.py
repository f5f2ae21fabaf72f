"""What several ranks do together, for tests/test_distributed.py: `python ranks_script.py OUT TASK...` under torchrun."""
import argparse
import json
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

import fit_script
from futures_nb.checkpoint import load_tensors, save_tensors
from futures_nb.distributed import (check_replicas, init_group, is_main, leave_group, max_over_ranks, rank, replica_sums, shard_like, shard_net, share,
                                    share_total, wait_for_all, whole_tensor, world_size)
from futures_nb.nets import ResidualMLP
from futures_nb.schema import DataError
from futures_nb.step import train_step


def a_fit(out, **options):
    """A whole fit; what each rank ended with lies beside it."""
    done = fit_script.run_fit(out, **options)
    fit_script.write_end(done)


def flags(out):
    """One rank raises a flag: all know."""
    flag = max_over_ranks(torch.tensor([float(rank() == world_size() - 1), 0.0]))
    (out / f"flags{rank()}.json").write_text(json.dumps(flag.tolist()))


def planted_flip(out):
    """A bit of one weight of the last rank flips: all ranks raise the same."""
    net = DistributedDataParallel(ResidualMLP(5, hidden=8))
    check_replicas(net, step=0)
    if rank() == world_size() - 1:
        net.module.body[1].first.weight.detach().view(-1).view(torch.int32)[17] ^= 1
    try:
        check_replicas(net, step=1)
        said = "nothing"
    except DataError as e:
        said = str(e)
    (out / f"flip{rank()}.txt").write_text(said)


def steps(net, optimizer, rows, first, last, bad=None):
    """Steps on uneven shares of batches of 37 rows; in step `bad` the last rank's first answer is NaN."""
    X, y, w = rows
    for k in range(first, last):
        batch = slice(37 * k % 370, 37 * k % 370 + 37)
        mine = share(37)
        y_here = y[batch][mine].clone()
        if k == bad and rank() == world_size() - 1:
            y_here[0] = float("nan")
        done = train_step(net, (X[batch][mine], y_here, w[batch][mine]), optimizer, total=share_total(w[batch]))
        assert bool(done.is_finite) == (k != bad)
    return float(whole_tensor(done.grad_norm))


def sharded(out):
    """FSDP2 and DDP from the same weights; then a checkpoint of whole tensors in between."""
    data = fit_script.small_dataset(n=610)
    rows = [torch.tensor(a, dtype=torch.float64) for a in (data.X.clip(-10, 10), data.y / data.y_scale, data.weight)]

    def fresh(kind):
        net = ResidualMLP(5, hidden=16, seed=3).double()
        net = shard_net(net) if kind == "sharded" else DistributedDataParallel(net)
        return net, torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01, fused=True)

    def whole(net):
        return {k.removeprefix("module."): whole_tensor(v).clone() for k, v in net.state_dict().items()}

    (plain, one), (split, two) = fresh("plain"), fresh("sharded")
    norms = [steps(net, optimizer, rows, 0, 30, bad=17) for net, optimizer in ((plain, one), (split, two))]
    tensors = {f"net.{k}": v for k, v in whole(split).items()}
    for name, p in split.named_parameters():
        tensors |= {f"optim.{k}.{name}": whole_tensor(v) for k, v in two.state[p].items()}
    if is_main():
        save_tensors(out / "sharded.safetensors", tensors, {"step": 30})
    wait_for_all()
    for net, optimizer in ((plain, one), (split, two)):
        steps(net, optimizer, rows, 30, 60)

    again, three = fresh("sharded")
    tensors, _ = load_tensors(out / "sharded.safetensors")
    again.load_state_dict({k: shard_like(tensors[f"net.{k}"], v) for k, v in again.state_dict().items()})
    for name, p in again.named_parameters():
        three.state[p] = {k: shard_like(tensors[f"optim.{k}.{name}"], p if k != "step" else torch.zeros(())) for k in ("step", "exp_avg", "exp_avg_sq")}
    steps(again, three, rows, 30, 60)
    a, b, c = whole(plain), whole(split), whole(again)
    check_replicas(split)  # no copies, nothing to compare
    about = {"norms": norms, "names": sorted(a) == sorted(b), "local": sum(p.to_local().numel() for p in split.parameters()),
             "total": sum(p.numel() for p in plain.parameters()),
             "to_ddp": max(float((a[k] - b[k]).abs().max() / a[k].abs().max().clamp(min=1e-12)) for k in a),
             "bits_as_ddp": all(torch.equal(a[k], b[k]) for k in a), "bits_resumed": all(torch.equal(b[k], c[k]) for k in b),
             "sums": replica_sums(plain).tolist()}
    (out / f"sharded{rank()}.json").write_text(json.dumps(about))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("tasks", nargs="+")
    given = parser.parse_args()
    torch.set_num_threads(1)
    init_group(timeout=30)
    hundred = dict(n=610, batch_size=37, epochs=10, dropout=0.0)
    tasks = {"float64": lambda: a_fit(given.out / "float64", dtype="float64", **hundred), "float32": lambda: a_fit(given.out / "float32", **hundred),
             "bad": lambda: a_fit(given.out / "bad", loss=fit_script.bad_on_rank_1(), **hundred | {"epochs": 2}),
             "flags": lambda: flags(given.out), "flip": lambda: planted_flip(given.out), "sharded": lambda: sharded(given.out)}
    for task in given.tasks:
        tasks[task]()
        wait_for_all()
    if is_main():
        (given.out / "done").write_text(str(world_size()))
    leave_group()


if __name__ == "__main__":
    main()
