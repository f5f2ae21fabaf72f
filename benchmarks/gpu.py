"""A GPU's worth: rows per second of the training step, and the share of what the same device can multiply and move.

    python benchmarks/gpu.py                 # on a machine with a GPU: writes benchmarks/results/gpu.json
    python benchmarks/gpu.py --small         # few steps, writes nothing; without a GPU this is what it does anyway

The rows are on the device from the start. Nets of the book, float32 and bfloat16 (autocast), batches of 1,024 and 16,384, three ways to run the same step: one by one, as `fit`
does; captured once as a CUDA graph and replayed; compiled by torch.compile and called. Each step gathers its own batch by position, so that the data are read as in an epoch.
`of_matmul` is the step's arithmetic over the rate of one large matrix product in the same number format on the same device, measured just before; `of_bandwidth` the least it
must move (the batch once in and once gathered, each weight matrix read twice and its gradient and optimiser state read and written once) over the rate of a large copy.
Needs torch and numpy; where the package's own step cannot be imported (it takes pandas), a plain copy of its operations is timed, and the table says so.
"""
import argparse
import importlib
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch
from torch import nn

COLUMNS, N_ROWS, WINDOW = 54, 1_142_640, 64


def load(module, name):
    """`futures_nb.<module>.<name>`, or None (and a line that says why) where it is not there."""
    try: return getattr(importlib.import_module(f"futures_nb.{module}"), name)
    except (ImportError, AttributeError) as e:
        print(f"without futures_nb.{module}.{name}: {e}")
        return None


def plain_step(net, batch, optimizer, *, total=None, clip=1.0):
    """The operations of the book's step: forward, Huber's loss, backward, norm, clip, step unless the norm is not finite."""
    x, y, weight = batch
    optimizer.zero_grad(set_to_none=True)
    value = (weight * nn.functional.huber_loss(net(x), y, reduction="none")).sum() / (weight.sum() if total is None else total)
    value.backward()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, torch.clamp(clip / (norm + 1e-6), max=1.0))
    optimizer.found_inf = (~torch.isfinite(norm)).float()
    optimizer.step()
    del optimizer.found_inf


def wait(device):
    if device.type == "cuda": torch.cuda.synchronize(device)
    elif device.type == "mps": torch.mps.synchronize()


def seconds(call, device, k, rounds=5):
    """Median seconds of one of `k` calls in a row."""
    call()
    took = []
    for _ in range(rounds):
        wait(device)
        start = time.perf_counter()
        for _ in range(k): call()
        wait(device)
        took.append((time.perf_counter() - start) / k)
    return statistics.median(took)


def matmul_rate(device, dtype, size):
    """Operations per second of a square matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: torch.mm(a, b), device, 10)


def copy_rate(device, n_bytes):
    """Bytes per second, read and written, of a copy."""
    a = torch.empty(n_bytes // 4, device=device)
    b = torch.empty_like(a)
    return 2 * n_bytes / seconds(lambda: b.copy_(a), device, 10)


def work_of(net, x):
    """Operations and least bytes of one step: those of the linear maps, counted by hooks at one forward pass, three times, less the first layer's gradient of its input."""
    flops, hooks = [], []

    def count(module, given, out): flops.append(2 * given[0].numel() * module.out_features)
    for module in net.modules():
        if isinstance(module, nn.Linear): hooks.append(module.register_forward_hook(count))
    with torch.no_grad(): net(x)
    for hook in hooks: hook.remove()
    n_params = sum(p.numel() for p in net.parameters())
    return 3 * sum(flops) - flops[0], 4 * (3 * x.numel() + 11 * n_params)


class Loop:
    """Net, optimiser and resident rows; `step` trains on the batch whose positions stand in `at`."""
    def __init__(self, net, data, batch_size, dtype, device, train_step):
        self.net, self.dtype, self.device, self.train_step = net.to(device).train(), dtype, device, train_step
        self.X, self.y, self.weight = data
        self.window = getattr(net, "window", None) if getattr(net, "is_sequence", False) else None
        lr = torch.tensor(1e-4, device=device) if device.type == "cuda" else 1e-4   # a tensor, so that a graph reads the rate of the day
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), fused=True, capturable=device.type == "cuda")
        self.order = torch.randperm(len(self.y) - (self.window or 0), device=device) + (self.window or 0)
        self.at, self.k, self.batch_size = self.order[:batch_size].clone(), 0, batch_size
        self.total = torch.tensor(float(batch_size), device=device)    # on the device: a graph may not copy from the host

    def batch(self):
        if self.window is None: return self.X[self.at], self.y[self.at], self.weight[self.at]
        rows = self.at[:, None] - torch.arange(self.window - 1, -1, -1, device=self.device)   # (B, T)
        return self.X[rows], self.y[self.at], self.weight[self.at]

    def step(self):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16, cache_enabled=False):
            self.train_step(self.net, self.batch(), self.optimizer, total=self.total)

    def next(self):
        """Put the next batch's positions where `step` reads them."""
        a = self.k * self.batch_size % (len(self.order) - self.batch_size)
        self.at.copy_(self.order[a:a + self.batch_size])
        self.k += 1

    def one_by_one(self):
        self.next()
        self.step()

    def captured(self):
        """The step as a CUDA graph; a call replays it on the next batch."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3): self.step()             # the optimiser's state must exist before
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph): self.step()

        def replay():
            self.next()
            graph.replay()
        return replay

    def compiled(self):
        """The net compiled, the rest as it is."""
        net, run = self.net, torch.compile(self.net)
        self.net = run

        def call():
            self.next()
            self.step()
        try:
            for _ in range(3): call()
        except Exception: self.net = net; raise
        return call


def ways(loop, device, compile_too):
    yield "one by one", lambda: loop.one_by_one
    if device.type == "cuda": yield "CUDA graph", loop.captured
    if compile_too: yield "torch.compile", loop.compiled


def check_trains(loop, call):
    """Five calls must move every weight and leave it finite: a graph that replays nothing would be fast too."""
    before = {name: p.detach().clone() for name, p in loop.net.named_parameters()}
    for _ in range(5): call()
    wait(loop.device)
    for name, p in loop.net.named_parameters():
        assert not torch.equal(before[name], p.detach()), f"{name} did not move"
        assert torch.isfinite(p).all(), f"{name} is not finite"


def nets(small):
    """`(name, make)` of the nets of this version."""
    mlp = load("nets", "MLP")
    for hidden in ((128, 64), (256, 256)) if small else ((128, 64), (256, 256), (512, 512), (2048, 2048)):
        yield f"MLP {hidden}", lambda hidden=hidden: mlp(COLUMNS, hidden=hidden, seed=0)
    attention = load("sequence", "AttentionNet") or load("nets", "AttentionNet")
    if attention is not None: yield f"AttentionNet, {WINDOW} rows", lambda: attention(COLUMNS, window=WINDOW, seed=0)


def measure(device, small, compile_too):
    n = 65_536 if small else N_ROWS
    data = (torch.randn(n, COLUMNS, device=device), torch.randn(n, device=device), torch.ones(n, device=device))
    step = load("step", "train_step")
    step, told = (plain_step, "a plain copy of its operations") if step is None else (step, "futures_nb.step.train_step")
    makers = list(nets(small))
    copied = copy_rate(device, 1 << (26 if small else 30))
    for dtype in (torch.float32, torch.bfloat16):
        rate = matmul_rate(device, dtype, 1024 if small else 8192)
        for name, make in makers:
            for batch_size in (1024,) if small else (1024, 16_384):
                loop = Loop(make(), data, batch_size, dtype, device, step)
                loop_ways, net = list(ways(loop, device, compile_too)), loop.net
                flops, n_bytes = work_of(net, loop.batch()[0])
                for way, start in loop_ways:
                    loop.net = net
                    call = start()
                    check_trains(loop, call)
                    took = seconds(call, device, 5 if small else 200, 3 if small else 7)
                    yield {"net": name, "dtype": str(dtype).removeprefix("torch."), "batch_size": batch_size, "way": way, "ms": round(took * 1e3, 4),
                           "rows_per_s": round(batch_size / took), "of_matmul": round(flops / took / rate, 4), "of_bandwidth": round(n_bytes / took / copied, 4),
                           "tflops_of_matmul": round(rate / 1e12, 3), "gb_per_s_of_copy": round(copied / 1e9, 1), "step": told}


def commit():
    def git(*command):
        try: return subprocess.run(["git", *command], cwd=HERE.parent, capture_output=True, text=True).stdout.strip()
        except FileNotFoundError: return ""
    return (git("describe", "--always") or "unknown") + ("-dirty" if git("status", "--porcelain", "--", ".", ":!benchmarks/results") else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few rows and steps, no results")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too (needs a compiler on the machine)")
    given = parser.parse_args()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    if cuda: torch.backends.cuda.matmul.allow_tf32 = False   # float32 is float32
    else: print("no GPU here: the same code runs on the CPU with few rows, and nothing is written")
    name = torch.cuda.get_device_name(device) if cuda else f"CPU, {platform.machine()}"
    print(f"{name}, torch {torch.__version__}, python {platform.python_version()}, {date.today()}")
    print(f"{'net':28}{'dtype':10}{'batch':>7}  {'way':14}{'ms':>9}{'rows/s':>13}{'of matmul':>11}{'of bandwidth':>14}")
    rows = []
    for row in measure(device, given.small or not cuda, given.compile):
        rows.append(row)
        print(f"{row['net']:28}{row['dtype']:10}{row['batch_size']:7,}  {row['way']:14}{row['ms']:9.3f}{row['rows_per_s']:13,}{row['of_matmul']:11.1%}{row['of_bandwidth']:14.1%}")
    if given.small or not cuda: return
    told = {"device": name, "date": date.today().isoformat(), "commit": commit(), "machine": f"{platform.machine()}, python {platform.python_version()}",
            "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip}, "rows": rows}
    path = HERE / "results" / "gpu.json"
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(f"written: {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
