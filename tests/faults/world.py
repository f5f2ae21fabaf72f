"""A small healthy training run, in several shapes of loop, with places where a fault can be put.

Damage that hardware does (a flipped bit, a wrong layer) is written through numpy views: no torch operation may know of it.
"""
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from futures_nb.recorder import Contract, Recorder

N_FEATURES, N_ROWS = 10, 1024


class UserNet(nn.Module):
    """A module nobody has seen: two branches, a gate, a buffer."""
    def __init__(self, n):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(n, 24), nn.Linear(n, 24), nn.Linear(24, 1)
        self.register_buffer("shift", torch.zeros(24))

    def forward(self, x): return self.out(torch.tanh(self.a(x)) * torch.sigmoid(self.b(x)) + self.shift).squeeze(-1)


def make_net(kind, n=N_FEATURES, dropout=0.0, n_out=1):
    def body(norm):
        layers = [nn.Linear(n, 24), *( [norm(24)] if norm else [] ), nn.ReLU(), nn.Dropout(dropout), nn.Linear(24, 24), *( [norm(24)] if norm else [] ), nn.ReLU(), nn.Linear(24, n_out)]
        return nn.Sequential(*layers, *([nn.Flatten(0)] if n_out == 1 else []))
    return {"mlp": lambda: body(None), "layernorm": lambda: body(nn.LayerNorm), "batchnorm": lambda: body(nn.BatchNorm1d), "user": lambda: UserNet(n)}[kind]()


def make_optimizer(kind, net, lr=None):
    p = net.parameters()
    return {"sgd": lambda: torch.optim.SGD(p, lr=lr or 0.02, momentum=0.9), "adam": lambda: torch.optim.Adam(p, lr=lr or 1e-3),
            "adamw": lambda: torch.optim.AdamW(p, lr=lr or 1e-3), "fused": lambda: torch.optim.AdamW(p, lr=lr or 1e-3, fused=True)}[kind]()


def make_data(rng, tail=None, n=N_ROWS):
    """Raw columns of ten kinds with levels from 1e-4 to 1e5, scaled by median and interquartile range and clipped at 10."""
    z = rng.standard_normal((n, N_FEATURES)) if tail is None else rng.standard_t(tail, (n, N_FEATURES))
    raw = z.copy()
    raw[:, 1] = np.exp(0.7 * z[:, 1].clip(-6, 6)) * 1e3   # volume
    raw[:, 2] = 5000 + 40 * z[:, 2]                        # price level
    raw[:, 3] = 1e-4 * z[:, 3]                             # return
    raw[:, 4] = rng.integers(0, 5, n)                      # weekday
    raw[:, 5] = rng.uniform(-1, 1, n)                      # sine of the minute
    raw[:, 6] = 15 + 5 * np.abs(z[:, 6])                   # VIX
    raw[:, 7] = rng.gamma(2.0, 1e4, n)                     # open interest
    center, scale = np.median(raw, 0), np.subtract(*np.percentile(raw, [75, 25], axis=0))
    x = np.clip((raw - center) / scale, -10, 10)
    noise = rng.standard_normal(n) if tail is None else rng.standard_t(tail, n)
    y = np.clip(0.5 * x[:, 0] - 0.3 * x[:, 5] + 0.5 * noise, -5, 5)
    return raw, x, y, center, scale


class Scaler:
    """What a recorder is given of the loop's feature scaler."""
    def __init__(self, center, scale): self.center_, self.scale_ = center, scale


@dataclass
class World:
    seed: int
    folder: str
    net_kind: str = "mlp"
    opt_kind: str = "adamw"
    loop: str = "plain"
    n_steps: int = 36
    batch_size: int = 32
    lr: float | None = None
    dropout: float = 0.0
    autocast: bool = False
    tail: float | None = None
    clip: float | None = 1.0
    with_raw: bool = False
    with_scaler: bool = False
    with_names: bool = True
    contract: bool = True
    n_out: int = 1
    amp_scale: float = 2.0 ** 16
    loss: object = None
    hooks: dict = field(default_factory=dict)      # place -> function(world, value) -> value
    flags: set = field(default_factory=set)        # faults of the order of calls
    at: int = 10                                   # step of the fault

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.raw, self.x, self.y, self.center, self.scale = make_data(self.rng, self.tail)
        self.names = [f"f{j}" for j in range(N_FEATURES)]
        self.step, self.extra = 0, {}

    def on(self, place, function):
        self.hooks[place] = function
        return self

    def do(self, place, value=None):
        return self.hooks[place](self, value) if place in self.hooks else value

    def rows(self, step):
        if step % (N_ROWS // self.batch_size) == 0 or not hasattr(self, "order"):
            self.order = np.random.default_rng((self.seed, step // (N_ROWS // self.batch_size))).permutation(N_ROWS)
        k = step % (N_ROWS // self.batch_size)
        return self.order[k * self.batch_size:(k + 1) * self.batch_size]

    def batch(self, step):
        self.step = step
        rows = self.rows(step)
        b = dict(x=torch.tensor(self.x[rows], dtype=torch.float32), y=torch.tensor(self.y[rows], dtype=torch.float32), row_ids=torch.tensor(rows))
        if self.with_raw: b["raw"] = torch.tensor(self.raw[rows])
        for name, values in self.extra.items(): b[name] = torch.tensor(values[rows])
        return self.do("host", b)

    def error(self, out, y):
        return (self.loss or F.huber_loss)(out, y)

    def build(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.net = make_net(self.net_kind, dropout=self.dropout, n_out=self.n_out)
        self.do("net", self.net)
        self.opt = make_optimizer(self.opt_kind, self.net, self.lr)
        self.amp = torch.amp.GradScaler("cpu", init_scale=self.amp_scale) if self.loop == "scaler" else None
        contract = Contract(x_abs=10, y_abs=5, columns=self.names if self.with_names else None) if self.contract else None
        scalers = [self.amp] * (self.amp is not None) + [Scaler(self.center, self.scale)] * self.with_scaler
        self.rec = Recorder(self.folder, self.net, self.opt, scaler=scalers or None, contract=contract)
        return self

    def run(self):
        self.build()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            LOOPS[self.loop](self)
        self.rec.close()
        return self.folder


def plain(w):
    for step in range(w.n_steps):
        batch = w.batch(step)
        w.do("between", w.net)
        with w.rec.step(batch) as s:
            if "no_zero_grad" not in w.flags: w.opt.zero_grad()
            x, y = w.do("copy", batch["x"]), w.do("copy_y", batch["y"])
            with torch.autocast("cpu", torch.bfloat16, enabled=w.autocast): out = w.net(x)
            s.forward(out)
            loss = w.error(out.float(), y)
            s.loss(loss)
            loss.backward()
            w.do("gradient", w.net)
            if w.clip and "clip_after_step" not in w.flags: torch.nn.utils.clip_grad_norm_(w.net.parameters(), w.clip)
            w.opt.step()
            if "clip_after_step" in w.flags: torch.nn.utils.clip_grad_norm_(w.net.parameters(), w.clip)
        w.do("after", w.net)


def scaler(w):
    """Loss scaling, the usual recipe."""
    for step in range(w.n_steps):
        batch = w.batch(step)
        w.do("between", w.net)
        with w.rec.step(batch) as s:
            w.opt.zero_grad(set_to_none=True)
            x, y = w.do("copy", batch["x"]), w.do("copy_y", batch["y"])
            out = w.net(x)
            s.forward(out)
            loss = w.error(out.float(), y)
            s.loss(loss)
            w.amp.scale(loss).backward()
            w.do("gradient", w.net)
            if "clip_before_unscale" not in w.flags and "unscale_missing" not in w.flags: w.amp.unscale_(w.opt)
            torch.nn.utils.clip_grad_norm_(w.net.parameters(), w.clip or 1.0)
            if "unscale_missing" in w.flags: w.opt.step()
            else:
                w.amp.step(w.opt)
                w.amp.update()
        w.do("after", w.net)


def accumulate(w, parts=2):
    """Micro-batches inside one step."""
    for step in range(w.n_steps):
        batch = w.batch(step)
        w.do("between", w.net)
        with w.rec.step(batch) as s:
            if "no_zero_grad" not in w.flags: w.opt.zero_grad()
            x, y = w.do("copy", batch["x"]), w.do("copy_y", batch["y"])
            total = 0.0
            for a, b in zip(x.chunk(parts), y.chunk(parts)):
                out = w.net(a)
                s.forward(out)
                loss = w.error(out.float(), b) / parts
                total = total + loss.detach()
                loss.backward()
            s.loss(total)
            w.do("gradient", w.net)
            torch.nn.utils.clip_grad_norm_(w.net.parameters(), w.clip or 1.0)
            w.opt.step()
        w.do("after", w.net)


def wrapped(w):
    """A loop that does not know of the recorder: its step is wrapped."""
    def train_step(batch):
        if "no_zero_grad" not in w.flags: w.opt.zero_grad()
        x, y = w.do("copy", batch["x"]), w.do("copy_y", batch["y"])
        loss = w.error(w.net(x).float(), y)
        loss.backward()
        w.do("gradient", w.net)
        if w.clip: torch.nn.utils.clip_grad_norm_(w.net.parameters(), w.clip)
        w.opt.step()
        return loss

    train_step = w.rec.wrap(train_step)
    for step in range(w.n_steps):
        batch = w.batch(step)
        w.do("between", w.net)
        train_step(batch)
        w.do("after", w.net)


LOOPS = {"plain": plain, "scaler": scaler, "accumulate": accumulate, "wrapped": wrapped}


def healthy(seed, folder, **options):
    """A healthy world; the shape of net, optimiser and loop follow from the seed."""
    rng = np.random.default_rng((seed, 7))
    chosen = dict(net_kind=str(rng.choice(["mlp", "layernorm", "batchnorm", "user"])), opt_kind=str(rng.choice(["sgd", "adam", "adamw", "fused"])),
                  loop=str(rng.choice(["plain", "wrapped", "plain", "scaler", "accumulate"])), at=int(rng.integers(9, 24)), with_raw=bool(rng.random() < 0.5))
    return World(seed, str(folder), **(chosen | options))
