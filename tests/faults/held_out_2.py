"""A second held-out set: faults and healthy runs by somebody who had read the specification and the recorder, and none of the checks.

Every kind is a run as a user would write it, in one of several loops of their own, with one fault at a random place and of a random size. `KINDS[name]`
says what was planted: the first name is the planted cause, a second one is given only where the facts of the run cannot tell the two apart. `HEALTHY` are runs
that look odd and are meant. The expectations were written down before the first diagnosis of any of these runs; see `CORRECTED` for what was changed afterwards.
"""
import copy
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from torch import nn
from torch.utils.checkpoint import checkpoint

from futures_nb.checks import VERDICTS
from futures_nb.diagnosing import diagnose
from futures_nb.recorder import Contract, Recorder

KINDS, HEALTHY = {}, {}
CORRECTED = {"wide_net_in_half": "the features, in their own units by design, are a fault of their own at an earlier stage (they reach 1e5); SCALER_BYPASS is true and first, and was added"}


@dataclass
class Kind:
    run: Callable            # run(folder, rng): a recorded run
    names: tuple             # what may be said; the first is what was planted
    is_silent: bool = False  # the loss is as in a healthy run, by design


def kind(*names, is_silent=False):
    def put(run):
        KINDS[run.__name__] = Kind(run, names, is_silent)
        return run
    return put


def healthy(run):
    HEALTHY[run.__name__] = run
    return run


def run_kind(name: str, folder, seed: int) -> None:
    """Make the run `name`, recorded in `folder`; `seed` decides the place, the size, the net, the optimizer and the loop."""
    run = KINDS[name].run if name in KINDS else HEALTHY[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7_000_003 * seed + sum(map(ord, name)))
        run(folder, np.random.default_rng([seed, *map(ord, name)]))


# ---------------------------------------------------------------- data

def tensor(a, dtype=torch.float32): return torch.tensor(np.asarray(a), dtype=dtype)


def table(rng, n=1024, f=12, tails=6.0, raw=False):
    """Rows of scaled features and a target that they explain in part; with `raw`, the features in units of their own and the scaler."""
    z = rng.standard_t(tails, (n, f)) if tails else rng.standard_normal((n, f))
    y = z @ rng.normal(size=f) / f ** 0.5 * 0.5 + 0.8 * rng.standard_normal(n)
    if not raw: return dict(x=tensor(z), y=tensor(y))
    level, unit = rng.uniform(-3, 3, f) * 10.0 ** rng.integers(0, 4, f), 10.0 ** rng.uniform(-1, 3, f)
    level[0], unit[0] = 5200.0, 35.0                                      # a price
    values = level + unit * z
    scaler = (StandardScaler(), RobustScaler(), MinMaxScaler((-1, 1)))[rng.integers(3)].fit(values)
    return dict(x=tensor(scaler.transform(values)), y=tensor(y), raw=tensor(values, torch.float64)), scaler


def names_of(f): return [f"{w}_{k}" for k, w in zip(range(f), ("close", "vol", "range", "gap", "ret", "poc", "hurst", "vix", "tod", "imb", "oi", "spread") * 5)]


def draw(rng, data, size, steps, ordered=False):
    """`steps` batches of `size` rows, shuffled anew every epoch, or in order of time."""
    n, at, order = len(data["y"]), 0, None
    for _ in range(steps):
        if order is None or at + size > n: order, at = np.arange(n) if ordered else rng.permutation(n), 0
        rows = order[at:at + size]
        at += size
        yield {k: v[torch.from_numpy(rows)] for k, v in data.items()} | dict(row_ids=torch.from_numpy(rows.copy()))


def windows(data, length):
    """(B, T, F) from a table in order of time."""
    at = torch.arange(len(data["x"]) - length + 1)[:, None] + torch.arange(length)
    return {k: (v[at] if k in ("x", "raw") else v[length - 1:]) for k, v in data.items()}


# ---------------------------------------------------------------- nets

def mlp(f, hidden=24, out=1): return nn.Sequential(nn.Linear(f, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out), *([nn.Flatten(0)] if out == 1 else []))


class Residual(nn.Module):
    def __init__(self, f, hidden=24):
        super().__init__()
        self.inp, self.a, self.b, self.head = nn.Linear(f, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.norm = nn.LayerNorm(hidden)
    def forward(self, x):
        h = self.inp(x)
        h = h + self.b(F.gelu(self.a(self.norm(h))))
        return self.head(h).squeeze(-1)


class Recurrent(nn.Module):
    def __init__(self, f, hidden=16, cell=nn.LSTM):
        super().__init__()
        self.cell, self.head = cell(f, hidden, batch_first=True), nn.Linear(hidden, 1)
    def forward(self, x): return self.head(self.cell(x)[0][:, -1]).squeeze(-1)


class Convolved(nn.Module):
    def __init__(self, f, hidden=16):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(f, hidden, 3, padding=1), nn.BatchNorm1d(hidden), nn.SiLU(), nn.Conv1d(hidden, hidden, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(hidden, 1))
    def forward(self, x): return self.net(x.transpose(1, 2)).squeeze(-1)


class Attending(nn.Module):
    """A small transformer over time."""
    def __init__(self, f, d=16, heads=2, length=12, dropout=0.1, norm_first=True, table=None):
        super().__init__()
        self.inp = nn.Linear(f, d)
        self.register_buffer("places", 0.02 * torch.randn(length, d) if table is None else table)
        self.block = nn.TransformerEncoderLayer(d, heads, 2 * d, dropout=dropout, batch_first=True, norm_first=norm_first)
        self.head = nn.Linear(d, 1)
    def forward(self, x): return self.head(self.block(self.inp(x) + self.places[:x.shape[1]]).mean(1)).squeeze(-1)


class Tokens(nn.Module):
    def __init__(self, vocab, d=12, classes=5, sparse=False):
        super().__init__()
        self.embed, self.mid, self.head = nn.Embedding(vocab, d, sparse=sparse), nn.Linear(d, 24), nn.Linear(24, classes)
    def forward(self, ids): return self.head(F.relu(self.mid(self.embed(ids).mean(1))))


def some_net(rng, f): return (mlp, Residual, lambda f: nn.Sequential(nn.LayerNorm(f), *mlp(f)))[rng.integers(3)](f)
def some_sequence_net(rng, f): return (Recurrent, Convolved, Attending, lambda f: Recurrent(f, cell=nn.GRU))[rng.integers(4)](f)


def some_opt(rng, net):
    return (lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9), lambda p: torch.optim.Adam(p, lr=1e-3), lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.05),
            lambda p: torch.optim.RMSprop(p, lr=5e-4), lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True), lambda p: torch.optim.NAdam(p, lr=1e-3))[rng.integers(6)](net.parameters())


def adam(rng, net, lr=2e-3): return (torch.optim.Adam, torch.optim.AdamW)[rng.integers(2)](net.parameters(), lr=lr)


# ---------------------------------------------------------------- loops that are not ours

def as_is(i, b): return b
def nothing(i): return None


@dataclass
class Places:
    """Where a user's own lines stand in a loop."""
    move: Callable = as_is           # (step, batch) -> batch that net and loss get
    grads: Callable = nothing        # after backward
    stepped: Callable = nothing      # after the optimizer's step, outside of the recorded step
    clip: float | None = None
    sched: object = None
    rec: dict = field(default_factory=dict)


def tutorial(folder, net, opt, batches, loss=F.mse_loss, at=None):
    at = at or Places()
    with Recorder(folder, net, opt, **at.rec) as rec:
        for i, b in enumerate(batches):
            with rec.step(b if "raw" in b or "columns" in b else (b["x"], b["y"])) as s:
                b = at.move(i, b)
                opt.zero_grad()
                value = s.loss(loss(net(b["x"]), b["y"]))
                value.backward()
                at.grads(i)
                if at.clip: nn.utils.clip_grad_norm_(net.parameters(), at.clip)
                opt.step()
            if at.sched: at.sched.step()
            at.stepped(i)


def functional(folder, net, opt, batches, loss=F.mse_loss, at=None):
    """A `train_step` of somebody else, wrapped; it returns a dictionary."""
    at, count = at or Places(), [0]
    def train_step(model, batch):
        i, count[0] = count[0], count[0] + 1
        b = at.move(i, batch)
        out = model(b["x"])
        value = loss(out, b["y"])
        opt.zero_grad(set_to_none=False)
        value.backward()
        at.grads(i)
        if at.clip: nn.utils.clip_grad_norm_(model.parameters(), at.clip, error_if_nonfinite=False)
        opt.step()
        return dict(loss=value.detach(), out=out.detach())
    rec = Recorder(folder, net, opt, **at.rec)
    step = rec.wrap(train_step)
    for i, b in enumerate(batches):
        step(net, b)
        if at.sched: at.sched.step()
        at.stepped(i)
    rec.close()


class Module(nn.Module):
    """In the manner of Lightning: the net and its loss in one, the trainer calls its hooks."""
    def __init__(self, net, loss): super().__init__(); self.net, self.criterion = net, loss
    def forward(self, x): return self.net(x)
    def training_step(self, b, i): return dict(loss=self.criterion(self(b["x"]), b["y"]))


def hooked(folder, net, opt, batches, loss=F.mse_loss, at=None):
    at, module = at or Places(), Module(net, loss)
    with Recorder(folder, module, opt, **at.rec) as rec:
        for i, b in enumerate(batches):
            with rec.step(b):
                moved = at.move(i, b)
                module.train()
                out = module.training_step(moved, i)
                opt.zero_grad()
                out["loss"].backward()
                at.grads(i)
                if at.clip: torch.nn.utils.clip_grad_norm_([p for p in module.parameters() if p.grad is not None], at.clip)
                opt.step()
                if at.sched: at.sched.step()
            at.stepped(i)


def by_hand(folder, net, opt, batches, loss=F.mse_loss, at=None):
    """Gradients asked for and put into place by hand."""
    at = at or Places()
    params = [p for p in net.parameters() if p.requires_grad]
    with Recorder(folder, net, opt, **at.rec) as rec:
        for i, b in enumerate(batches):
            with rec.step(b) as s:
                b = at.move(i, b)
                value = loss(net(b["x"]), b["y"])
                s.loss(value)
                for p, g in zip(params, torch.autograd.grad(value, params)): p.grad = g
                at.grads(i)
                if at.clip: nn.utils.clip_grad_norm_(params, at.clip)
                opt.step()
                opt.zero_grad()
            if at.sched: at.sched.step()
            at.stepped(i)


LOOPS = (tutorial, functional, hooked)
def some_loop(rng, by=LOOPS): return by[rng.integers(len(by))]
def onset(rng, low=10, high=34): return int(rng.integers(low, high))


# ================================================================ raw data and features

@kind("RAW_NONFINITE")
def vendor_gap(folder, rng):
    """Minutes that the vendor did not send were put back by `reindex`: NaN in two columns of the raw features, in every window over them."""
    data, scaler = table(rng, f=8, raw=True)
    for at in rng.integers(50, 950, 2): data["raw"][at:at + rng.integers(1, 4), rng.choice(8, 2, replace=False)] = np.nan
    data["x"] = tensor(scaler.transform(data["raw"].numpy()))
    data, net = windows(data, 12), some_sequence_net(rng, 8)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), at=Places(clip=1.0, rec=dict(scaler=scaler)))


@kind("RAW_NONFINITE")
def log_of_no_volume(folder, rng):
    """`np.log(volume)` where nobody traded; the scaler was fitted on a busy month."""
    data, scaler = table(rng, raw=True)
    data["raw"][rng.random(1024) < rng.uniform(0.002, 0.01), rng.integers(1, 12)] = -np.inf
    data["x"] = tensor((data["raw"].numpy() - _center(scaler)) / _scale(scaler))
    net = some_net(rng, 12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), F.huber_loss, Places(rec=dict(scaler=scaler)))


def _center(s): return s.mean_ if hasattr(s, "mean_") else s.center_ if hasattr(s, "center_") else -s.min_ / s.scale_
def _scale(s): return 1 / s.scale_ if isinstance(s, MinMaxScaler) else s.scale_


def _prices(rng, n, vol=2e-4, start=5200.0): return start * np.exp(np.cumsum(vol * rng.standard_t(5, n)))


@kind("RAW_ROLL", is_silent=True)
def roll_not_adjusted(folder, rng):
    """The front contract's prices one after the other, in order of time: one bar of return is the spread between two contracts."""
    n, k = 1024, int(rng.integers(400, 900))
    price = _prices(rng, n)
    price[k:] *= 1 + rng.choice([-1, 1]) * rng.uniform(0.012, 0.04)
    ret = np.diff(np.log(price), prepend=np.log(price[0]))
    raw = np.stack([price, ret, np.roll(ret, 1), rng.normal(size=n), rng.uniform(0, 390, n)], 1)
    scaler = StandardScaler().fit(raw[:390])
    data = dict(x=tensor(scaler.transform(raw)), y=tensor(rng.normal(size=n)), raw=tensor(raw, torch.float64))
    data["x"][:, 0] = tensor(rng.normal(size=n))
    columns, net = ["basis", "ret_1", "ret_2", "noise", "minute"], some_net(rng, 5)
    batches = (b | dict(columns=columns) for b in draw(rng, data, 16, 64, ordered=True))
    tutorial(folder, net, some_opt(rng, net), batches, F.huber_loss, Places(clip=1.0, rec=dict(scaler=scaler, contract=Contract(x_abs=30, columns=columns))))


@kind("RAW_ROLL", "RAW_NONFINITE")
def back_adjusted_below_zero(folder, rng):
    """Crude adjusted by differences over many rolls: the early prices are negative, and the log return of a negative price is NaN."""
    n = 1024
    price = _prices(rng, n, 4e-3, 40.0)
    shift = np.cumsum((rng.random(n) < 0.02) * rng.uniform(0.5, 2.0, n))
    adjusted = price - (shift[-1] - shift) * rng.uniform(1.5, 3) - rng.uniform(0, 10)
    with np.errstate(invalid="ignore"): ret = np.log(adjusted / np.roll(adjusted, 1))
    ret = np.where((adjusted > 0) & (np.roll(adjusted, 1) > 0), ret, np.nan)
    raw = np.stack([adjusted, ret, rng.normal(size=n), rng.uniform(0, 390, n)], 1)
    scaler = StandardScaler().fit(raw[np.isfinite(ret)])
    data = dict(x=tensor(scaler.transform(raw)), y=tensor(rng.normal(size=n)), raw=tensor(raw, torch.float64))
    net = some_net(rng, 4)
    some_loop(rng)(folder, net, some_opt(rng, net), (b | dict(columns=["close", "log_ret", "noise", "minute"]) for b in draw(rng, data, 32, 60)), at=Places(rec=dict(scaler=scaler)))


def _with_column(rng, data, scaler, column, fit_on):
    """`column` in place of a random one, scaled by its own statistics on the rows `fit_on`."""
    k = int(rng.integers(1, data["raw"].shape[1]))
    data["raw"][:, k] = torch.tensor(column)
    raw = data["raw"].numpy()
    scaler = type(scaler)().fit(raw[fit_on]) if not isinstance(scaler, MinMaxScaler) else StandardScaler().fit(raw[fit_on])
    data["x"] = tensor((raw - _center(scaler)) / _scale(scaler))
    return scaler


@kind("FEATURE_UNSAFE_DIV")
def locked_market(folder, rng):
    """Imbalance over the spread plus a small number; in a locked market the spread is zero."""
    data, scaler = table(rng, raw=True)
    spread = 0.25 * rng.integers(1, 4, 1024)
    spread[rng.choice(np.arange(300, 1024), 20, replace=False)] = 0
    scaler = _with_column(rng, data, scaler, rng.integers(-300, 300, 1024) / (spread + 10.0 ** -rng.integers(8, 13)), slice(0, 300))
    net = mlp(12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), at=Places(clip=1.0, rec=dict(scaler=scaler)))


@kind("FEATURE_UNSAFE_DIV", is_silent=True)
def range_over_range(folder, rng):
    """This bar's range over the last one's, plus 1e-8; behind a LayerNorm nothing of it shows in the loss, and such a row is blind."""
    data, scaler = table(rng, raw=True)
    tick = 0.25 * rng.poisson(3, 1024)
    scaler = _with_column(rng, data, scaler, tick / (np.roll(tick, 1) + 10.0 ** -rng.integers(7, 10)), np.flatnonzero(np.roll(tick, 1))[:300])
    net = nn.Sequential(nn.LayerNorm(12), *mlp(12))
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 48, 70), F.huber_loss, Places(clip=1.0, rec=dict(scaler=scaler)))


@kind("FEATURE_RESIDUE", "SCALER_TINY")
def close_less_vwap(folder, rng):
    """Close less vwap in a market that hardly moves: mostly rounding of the last digit, and the scaler divides by it."""
    data, scaler = table(rng, raw=True)
    price = 5200 + 0.25 * rng.integers(-40, 40, 1024)
    volume = rng.integers(1, 900, (1024, 30)) * rng.uniform(0.9, 1.1, (1024, 30))
    vwap = (price[:, None] * volume).sum(1) / volume.sum(1)
    column = price - vwap
    moved = rng.random(1024) < 0.05
    column[moved] += 0.25 * rng.integers(1, 5, moved.sum())
    k = int(rng.integers(1, 12))
    data["raw"][:, k] = torch.tensor(column)
    raw = data["raw"].numpy()
    scaler = RobustScaler().fit(raw)
    data["x"] = tensor(scaler.transform(raw))
    net = mlp(12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), at=Places(clip=1.0, rec=dict(scaler=scaler)))


@kind("FEATURE_RESIDUE", "FEATURE_UNSAFE_DIV")
def running_window_sum(folder, rng):
    """Signed volume over a running sum (`s += new; s -= old`): in an empty window the sum is rounding dust."""
    data, scaler = table(rng, raw=True)
    volume = rng.uniform(0, 3e3, 1024) * rng.uniform(0.9, 1.1, 1024)
    for at in rng.integers(400, 1000, 4): volume[at:at + 24] = 0
    total, kept, s = np.empty(1024), [0.0] * 20, 0.0
    for i, v in enumerate(volume):
        s += v
        s -= kept.pop(0)
        kept.append(v)
        total[i] = s
    total[total == 0] = 1e-11
    scaler = _with_column(rng, data, scaler, rng.normal(0, 50, 1024) / total, slice(20, 380))
    net = mlp(12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), at=Places(clip=5.0, rec=dict(scaler=scaler)))


# ================================================================ scaler

@kind("SCALER_TINY")
def fee_column(folder, rng):
    """A fee that did not change in the months of the fit, but for the last digits; then the exchange changed it."""
    data, _ = table(rng, raw=True)
    k, fee = int(rng.integers(1, 12)), rng.uniform(0.5, 3)
    data["raw"][:, k] = torch.tensor(fee + 10.0 ** rng.uniform(-11, -8) * rng.standard_normal(1024))
    data["raw"][700:, k] += rng.uniform(0.01, 0.3)
    raw = data["raw"].numpy()
    scaler = (StandardScaler, RobustScaler)[rng.integers(2)]().fit(raw[:600])
    data["x"] = tensor(scaler.transform(raw))
    net = mlp(12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), at=Places(clip=1.0, rec=dict(scaler=scaler)))


@kind("SCALER_BYPASS")
def augmented_from_raw(folder, rng):
    """A branch of the collate function, taken now and then, makes its batch from the raw rows."""
    data, scaler = table(rng, raw=True)
    share, net = rng.uniform(0.08, 0.25), mlp(12)
    batches = (b | (dict(x=b["raw"].float()) if i > 8 and rng.random() < share else {}) for i, b in enumerate(draw(rng, data, 32, 70)))
    some_loop(rng)(folder, net, some_opt(rng, net), batches, at=Places(clip=1.0, rec=dict(scaler=scaler)))


@kind("SCALER_COLUMNS")
def sorted_by_a_merge(folder, rng):
    """A merge sorted the columns of the later files; the scaler's numbers are in the old order, and a clip hides what comes of it."""
    data, scaler = table(rng, raw=True)
    columns, k = names_of(12), onset(rng)
    order = np.argsort(columns)
    wrong = tensor((data["raw"].numpy()[:, order] - _center(scaler)) / _scale(scaler)).clamp(-10, 10)
    def batches():
        for i, b in enumerate(draw(rng, data, 32, 70)):
            if i >= k: b |= dict(x=wrong[b["row_ids"]], raw=b["raw"][:, order], columns=[columns[j] for j in order])
            yield b | (dict(columns=columns) if i < k else {})
    net = some_net(rng, 12)
    tutorial(folder, net, some_opt(rng, net), batches(), at=Places(clip=1.0, rec=dict(scaler=scaler, contract=Contract(columns=columns))))


@kind("SCALER_COLUMNS", is_silent=True)
def blocks_in_another_order(folder, rng):
    """Two blocks of scaled columns were put together in the wrong order; nobody gave names."""
    data, scaler = table(rng, raw=True)
    cut, net = int(rng.integers(3, 9)), some_net(rng, 12)
    data["x"] = torch.cat([data["x"][:, cut:], data["x"][:, :cut]], 1)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 70), at=Places(clip=1.0, rec=dict(scaler=scaler)))


@kind("SCALER_SATURATED", is_silent=True)
def cents_for_dollars(folder, rng):
    """The scaler was fitted on dollars; the new files come in cents, and the clip makes of half of the columns a sign."""
    data, scaler = table(rng, raw=True)
    c, s, net = _center(scaler), _scale(scaler), some_net(rng, 12)
    cols = rng.choice(12, int(rng.integers(4, 9)), replace=False)
    raw = data["raw"].numpy()
    raw[:, cols] = c[cols] + (raw[:, cols] - c[cols]) * 100
    data["x"] = tensor((raw - c) / s).clamp(-5, 5)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 70), at=Places(rec=dict(scaler=scaler, contract=Contract(x_abs=5))))


# ================================================================ target

@kind("TARGET_NONFINITE")
def last_rows_of_the_month(folder, rng):
    """`shift(-h)`: the last rows of a file have no target, and nobody dropped them."""
    data = table(rng, f=8)
    for end in range(256, 1025, 256): data["y"][end - int(rng.integers(1, 20)):end] = np.nan
    data = windows(data, 12)
    net = some_sequence_net(rng, 8)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60, ordered=True), F.smooth_l1_loss, Places(clip=1.0))


@kind("TARGET_SCALE")
def one_symbol_in_basis_points(folder, rng):
    """From some file on, the target of one symbol of four is not in the units of the others."""
    data, k, factor = table(rng), onset(rng), 10.0 ** rng.uniform(3.3, 5)
    contract = Contract(y_abs=12) if rng.random() < 0.5 else None
    net = some_net(rng, 12)
    def batches():
        for i, b in enumerate(draw(rng, data, 32, 60)):
            if i >= k: b["y"] = torch.where(b["row_ids"] % 4 == 0, b["y"] * factor, b["y"])
            yield b
    some_loop(rng)(folder, net, some_opt(rng, net), batches(), at=Places(clip=1.0, rec=dict(contract=contract)))


@kind("TARGET_SCALE")
def stale_quotes(folder, rng):
    """The return over its volatility; where the quote was stale the volatility is a small number that was to protect the division."""
    data = table(rng, f=8)
    at = rng.choice(1024, 9, replace=False)
    data["y"][at] = tensor(rng.normal(size=9) * 1e-3 / 10.0 ** -rng.uniform(9, 12))
    data = windows(data, 12)
    net = some_sequence_net(rng, 8)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), at=Places(clip=1.0))


# ================================================================ copies

class Staging:
    """A buffer that batches are copied into on their way; `spoil(step, buffer, new)` is the machine's fault."""
    def __init__(self, spoil, name="x"): self.spoil, self.name, self.buffer = spoil, name, None

    def __call__(self, i, b):
        new = b[self.name]
        if self.buffer is None: self.buffer = torch.empty_like(new)
        old = self.buffer.clone()
        self.buffer.copy_(new)
        with torch.no_grad(): self.spoil(i, self.buffer.numpy(), old.numpy())
        return b | {self.name: self.buffer.clone()}


def _moving(folder, rng, staging, steps=70):
    """A run of any net in any loop, whose batches go through `staging`."""
    if rng.random() < 0.5: data, net = table(rng), some_net(rng, 12)
    else:
        data = windows(table(rng, f=8), 12)
        net = some_sequence_net(rng, 8)
    some_loop(rng, (tutorial, functional, hooked, by_hand))(folder, net, some_opt(rng, net), draw(rng, data, 32, steps), at=Places(move=staging, clip=1.0))


@kind("COPY_STALE", is_silent=True)
def not_waited_for(folder, rng):
    """The copy was not waited for: now and then the net gets the batch before."""
    first, share = onset(rng), rng.uniform(0.05, 0.4)
    def spoil(i, buffer, old):
        if i == first or (i > first and rng.random() < share): buffer[...] = old
    _moving(folder, rng, Staging(spoil))


@kind("COPY_STALE", is_silent=True)
def half_not_arrived(folder, rng):
    """The second part of the copy came too late: its rows are those of the batch before."""
    first, rows = onset(rng), int(rng.integers(6, 28))
    def spoil(i, buffer, old):
        if i == first or (i > first and i % 9 == 0): buffer[rows:] = old[rows:]
    _moving(folder, rng, Staging(spoil))


@kind("COPY_BITFLIP")
def one_bit_on_the_way(folder, rng):
    """One bit of one word is another one after the copy; any bit of the 32."""
    at = set(rng.choice(np.arange(10, 65), rng.integers(1, 4), replace=False).tolist())
    def spoil(i, buffer, old):
        if i in at: buffer.reshape(-1).view(np.uint32)[rng.integers(buffer.size)] ^= np.uint32(1 << int(rng.integers(0, 32)))
    _moving(folder, rng, Staging(spoil))


@kind("COPY_BLOCK")
def short_copy(folder, rng):
    """The copy stopped short: what stands in the last rows is zero, or what was in that memory before, of another type."""
    at, rows, what = set(rng.choice(np.arange(10, 65), rng.integers(1, 4), replace=False).tolist()), int(rng.integers(4, 20)), rng.integers(3)
    def spoil(i, buffer, old):
        if i not in at: return
        n = buffer[rows:].size
        rest = np.zeros(n) if what == 0 else rng.normal(5200, 30, (n + 1) // 2).view(np.float32)[:n] if what == 1 else rng.integers(0, 2 ** 31, n, dtype=np.uint32).view(np.float32)
        buffer[rows:] = rest.reshape(buffer[rows:].shape)
    _moving(folder, rng, Staging(spoil))


@kind("COPY_STALE", is_silent=True)
def target_of_the_batch_before(folder, rng):
    """A prefetcher that counts wrongly from some step on: features of this batch, targets of the one before."""
    first = onset(rng)
    def spoil(i, buffer, old):
        if i >= first: kept[0], buffer[...] = buffer.copy(), kept[0] if kept[0] is not None else old
    kept = [None]
    _moving(folder, rng, Staging(spoil, "y"), 80)


# ================================================================ casts

@kind("CAST_OVERFLOW")
def notional_over_the_bus(folder, rng):
    """Features travel as float16 to save time; one column is a notional that nobody scaled."""
    data, net = table(rng), some_net(rng, 12)
    k = int(rng.integers(12))
    data["x"][:, k] = tensor(np.exp(rng.normal(9.0, 0.9, 1024)) * rng.choice([-1, 1], 1024))
    scaled = nn.Sequential(nn.BatchNorm1d(12), net)
    move = lambda i, b: b | dict(x=b["x"].to(torch.float16).to(torch.float32))
    some_loop(rng)(folder, scaled, some_opt(rng, scaled), draw(rng, data, 32, 70), F.huber_loss, Places(move=move, clip=1.0))


@kind("CAST_OVERFLOW")
def loss_summed_in_half(folder, rng):
    """The squared errors, in ticks, are summed in float16."""
    data, net = table(rng, tails=3.0), mlp(12)
    data["y"] *= rng.uniform(28, 40)
    def loss(out, y): return ((out.half() - y.half()) ** 2).sum() / len(y)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 48, 70), loss, Places(clip=10.0))


@kind("CAST_OVERFLOW", is_silent=True)
def tokens_in_a_byte(folder, rng):
    """Ids of 900 instruments are kept in a byte; the net sees their rest by 256."""
    vocab = 900
    ids = rng.integers(0, vocab, (768, 6))
    data = dict(x=torch.from_numpy(ids), y=torch.from_numpy((ids.sum(1) // 7) % 5))
    net = Tokens(vocab)
    move = lambda i, b: b | dict(x=b["x"].to(torch.uint8).to(torch.int64))
    some_loop(rng)(folder, net, adam(rng, net), draw(rng, data, 32, 70), F.cross_entropy, Places(move=move))


@kind("CAST_OVERFLOW", "ACT_OVERFLOW", "SCALER_BYPASS")
def wide_net_in_half(folder, rng):
    """float16 autocast around a net without a norm, fed with features in their own units: an activation leaves the range of float16."""
    data = table(rng)
    data["x"] *= tensor(10.0 ** rng.uniform(3.0, 3.8))
    data["x"][rng.choice(1024, 30, replace=False)] *= 40
    net = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0))
    for p in net.parameters():
        if p.ndim == 2: nn.init.kaiming_normal_(p)
    opt, amp = torch.optim.AdamW(net.parameters(), lr=1e-4), torch.amp.GradScaler("cpu", init_scale=8.0)
    with Recorder(folder, net, opt, scaler=amp) as rec:
        for b in draw(rng, data, 32, 60):
            with rec.step((b["x"], b["y"])) as s:
                opt.zero_grad()
                with torch.autocast("cpu", dtype=torch.float16): out = net(b["x"])
                value = s.loss(F.huber_loss(out.float(), b["y"]))
                amp.scale(value).backward()
                amp.unscale_(opt)
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                amp.step(opt)
                amp.update()


# ================================================================ weights

def _between(folder, rng, spoil, clip=1.0, steps=70, opt=None, data_and_net=None):
    """A run whose weights or optimizer somebody else touches between two steps: `spoil(step, net, opt)`."""
    data, net = data_and_net or ((table(rng), some_net(rng, 12)) if rng.random() < 0.5 else (windows(table(rng, f=8), 12), some_sequence_net(rng, 8)))
    opt = (opt or some_opt)(rng, net)
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, steps), at=Places(stepped=lambda i: spoil(i, net, opt), clip=clip))


@kind("REPLICA_DESYNC", is_silent=True)
def averages_not_taken_out(folder, rng):
    """The running average of the weights is put in for an evaluation; once it is not taken out again."""
    at, average = onset(rng, 20, 50), {}
    def spoil(i, net, opt):
        with torch.no_grad():
            for n, p in net.named_parameters(): average[n] = p.clone() if n not in average else average[n].lerp(p, 0.03)
            if i == at:
                for n, p in net.named_parameters(): p.copy_(average[n])
    _between(folder, rng, spoil)


@kind("REPLICA_DESYNC")
def one_bit_of_a_weight(folder, rng):
    """One bit of one weight is another one between two steps; the weight is finite before and after."""
    at = onset(rng, 10, 50)
    def spoil(i, net, opt):
        while i == at:
            p = list(net.parameters())[rng.integers(len(list(net.parameters())))].detach().numpy().reshape(-1)
            k, bit = rng.integers(len(p)), np.uint32(1 << int(rng.integers(16, 32)))
            p.view(np.uint32)[k] ^= bit
            if np.isfinite(p[k]): return
            p.view(np.uint32)[k] ^= bit
    _between(folder, rng, spoil)


@kind("PARAM_NONFINITE")
def checkpoint_saved_in_half(folder, rng):
    """A checkpoint was saved in float16; one weight did not fit and is infinite. The run goes on from it."""
    data, net = table(rng), mlp(12)
    with torch.no_grad():
        p = list(net.parameters())[2 * rng.integers(2)]
        p[rng.integers(p.shape[0]), rng.integers(p.shape[1])] = rng.choice([-1, 1]) * rng.uniform(7e4, 1e6)
    net.load_state_dict({k: v.half().float() for k, v in net.state_dict().items()})
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 40), at=Places(clip=1.0))


def _garbage(rng, shape):
    """What may stand in memory that nobody has written to: numbers of another type, or any bits."""
    n = int(np.prod(shape))
    bits = rng.normal(5200, 30, n // 2 + 1).view(np.float32)[:n] if rng.random() < 0.5 else rng.integers(0, 2 ** 32, n, dtype=np.uint32).view(np.float32)
    return tensor(bits).reshape(shape)


@kind("BUFFER_UNINIT")
def empty_table(folder, rng):
    """A table of places made by `torch.empty`, and the line that fills it was lost in a merge."""
    data = windows(table(rng, f=8), 12)
    net = Attending(8, table=_garbage(rng, (12, 16)), norm_first=bool(rng.integers(2)))
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 40), at=Places(clip=1.0))


# ================================================================ batch norm

class Frozen(nn.Module):
    """A backbone with batch norm in evaluation mode, as for fine tuning, and a head that is trained."""
    def __init__(self, f, hidden=20):
        super().__init__()
        self.back = nn.Sequential(nn.Linear(f, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 1)
    def warm(self, x):
        """Running statistics as a long training would leave them."""
        with torch.no_grad():
            for m in self.back:
                if isinstance(m, nn.BatchNorm1d):
                    m.running_mean.copy_(x.mean(0))
                    m.running_var.copy_(x.var(0))
                x = m.eval()(x)
        return self
    def train(self, mode=True):
        super().train(mode)
        self.back.eval()
        return self
    def forward(self, x): return self.head(self.back(x)).squeeze(-1)


def _norms(net): return [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]


@kind("BN_STATS")
def variances_not_loaded(folder, rng):
    """The backbone's running variances were not in the checkpoint and are zero: a frozen batch norm multiplies by 300, twice."""
    data, net = table(rng), Frozen(12)
    net.warm(data["x"]).train()
    for m in _norms(net): m.running_var.zero_()
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 50), at=Places(clip=1.0))


@kind("BN_STATS")
def statistics_of_a_bad_batch(folder, rng):
    """One bad batch of an earlier run was skipped, but its NaN stayed in the running statistics, and now the backbone is frozen."""
    data, net = table(rng), Frozen(12)
    net.warm(data["x"]).train()
    m = _norms(net)[rng.integers(2)]
    (m.running_mean if rng.random() < 0.5 else m.running_var)[torch.from_numpy(rng.choice(20, rng.integers(1, 20), replace=False))] = float(rng.choice([np.nan, np.inf]))
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 40), at=Places(clip=1.0))


@kind("BN_STATS")
def statistics_of_other_units(folder, rng):
    """The backbone saw its features divided by a few hundred; the statistics are of those, the features now are not."""
    data, net = table(rng), Frozen(12)
    net.warm(data["x"]).train()
    factor = rng.uniform(100, 1000)
    for m in _norms(net):
        m.running_mean /= factor
        m.running_var /= factor ** 2
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 50), at=Places(clip=1.0))


# ================================================================ activations and compute

class Softplus(nn.Module):
    def forward(self, z): return torch.log(1 + torch.exp(z))


@kind("ACT_OVERFLOW")
def softplus_by_hand(folder, rng):
    """log(1 + exp(z)) is infinite in float32 from z = 89 on: one row of a heavy tail is enough."""
    data = table(rng, tails=1.8)
    net = nn.Sequential(nn.Linear(12, 24), Softplus(), nn.Linear(24, 1), nn.Flatten(0))
    data["x"][rng.integers(1024)] = tensor(rng.choice([-1, 1], 12) * rng.uniform(200, 600))
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 70), F.huber_loss, Places(clip=1.0))


class RMSNorm(nn.Module):
    def __init__(self, d): super().__init__(); self.gain = nn.Parameter(torch.ones(d))
    def forward(self, x): return self.gain * x / x.square().mean(-1, keepdim=True).sqrt()


@kind("ACT_OVERFLOW")
def norm_without_eps(folder, rng):
    """A norm of one's own without an eps: a row of padding is divided by zero."""
    data = table(rng)
    data["x"][rng.choice(1024, 4, replace=False)] = 0
    net = nn.Sequential(RMSNorm(12), *mlp(12))
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 70), at=Places(clip=1.0))


class Masked(nn.Module):
    """Attention of one's own; a row whose last column is the number of bars it has."""
    def __init__(self, f, d=16): super().__init__(); self.q, self.k, self.v, self.head = nn.Linear(f, d), nn.Linear(f, d), nn.Linear(f, d), nn.Linear(d, 1)
    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        score = q @ k.transpose(1, 2) / k.shape[-1] ** 0.5
        is_there = torch.arange(x.shape[1]) < x[:, :1, -1]
        return self.head((score.masked_fill(~is_there[:, None], -torch.inf).softmax(-1) @ v).mean(1)).squeeze(-1)


@kind("ACT_OVERFLOW")
def nothing_to_attend_to(folder, rng):
    """A sequence with no bar at all: every score is masked, and the softmax of nothing is NaN."""
    data = windows(table(rng, f=8), 12)
    data["x"][:, :, -1] = tensor(rng.integers(1, 13, len(data["x"])))[:, None]
    data["x"][torch.from_numpy(rng.choice(1000, 5, replace=False)), :, -1] = 0
    net = Masked(8)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), at=Places(clip=1.0))


def _glitch(folder, rng, net, when, damage):
    """A layer's output is written over in memory, behind the back of every operation."""
    linear = [m for m in net.modules() if type(m) is nn.Linear]
    count = [0]
    def hook(module, args, out):
        count[0] += 1
        if when(count[0] - 1): damage(out.detach().numpy())
    linear[rng.integers(len(linear))].register_forward_hook(hook)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, table(rng), 32, 80), at=Places(clip=1.0))


@kind("COMPUTE_FLAKY", "COMPUTE_WRONG")
def tile_goes_wrong(folder, rng):
    """Now and then a tile of a product is wrong by many powers of ten."""
    first = onset(rng)
    when = lambda i: i == first or (i > first and rng.random() < 0.1)
    def damage(out): out[:int(rng.integers(1, 16)), :int(rng.integers(1, 8))] *= 10.0 ** rng.uniform(4, 12)
    _glitch(folder, rng, (mlp(12), Residual(12))[rng.integers(2)], when, damage)


@kind("COMPUTE_WRONG", "COMPUTE_FLAKY", is_silent=True)
def tile_a_little_off(folder, rng):
    """From some step on a tile of a product is some percent off, always: no number looks wrong."""
    first, rows, factor = onset(rng), int(rng.integers(4, 24)), 1 + rng.choice([-1, 1]) * rng.uniform(0.01, 0.3)
    def damage(out): out[:rows] *= factor
    _glitch(folder, rng, (mlp(12), Residual(12))[rng.integers(2)], lambda i: i >= first, damage)


# ================================================================ loss

class TwoHeads(nn.Module):
    def __init__(self, body, hidden=24): super().__init__(); self.body, self.mean, self.log_var = body, nn.Linear(hidden, 1), nn.Linear(hidden, 1)
    def forward(self, x):
        h = self.body(x)
        return torch.stack([self.mean(h).squeeze(-1), self.log_var(h).squeeze(-1)], 1)


@kind("LOSS_EXP")
def sure_of_itself(folder, rng):
    """A normal likelihood with a free log-variance: the head's bias was set so that the net begins sure of itself."""
    data = table(rng, tails=3.0)
    net = TwoHeads(nn.Sequential(nn.Linear(12, 24), nn.ReLU()))
    nn.init.constant_(net.log_var.bias, -rng.uniform(14, 30))
    def loss(out, y): return 0.5 * (out[:, 1] + torch.exp(-out[:, 1]) * (y - out[:, 0]) ** 2).mean()
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), loss, Places(clip=1.0))


@kind("LOSS_EXP")
def rate_of_trades(folder, rng):
    """Poisson loss of a logarithm of the rate: for a row in the tail the net says e to the power of fifty."""
    data, net = table(rng), mlp(12)
    data["y"] = tensor(rng.poisson(3, 1024))
    data["x"][rng.choice(1024, 4, replace=False)] = tensor(rng.uniform(250, 500, (4, 12)) * rng.choice([-1, 1], (4, 12)))
    with torch.no_grad(): net[4].weight.copy_(net[4].weight.abs() * 3)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 70), lambda out, y: F.poisson_nll_loss(out, y, log_input=True), Places(clip=1.0))


@kind("LOSS_EXP")
def log_of_a_probability(folder, rng):
    """Cross entropy by hand, log(sigmoid(z)): a net that is wrong and sure has probability zero, and its logarithm is not a number."""
    data, net = table(rng, tails=3.0), mlp(12)
    data["x"] *= rng.uniform(2, 4)
    data["y"] = tensor(rng.random(1024) < 0.5)
    with torch.no_grad(): net[4].weight.mul_(rng.uniform(60, 150))
    def loss(out, y):
        p = torch.sigmoid(out)
        return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), loss, Places(clip=1.0))


@kind("LOSS_EXP")
def percent_of_nothing(folder, rng):
    """Mean absolute percentage error; some targets are zero, or nearly."""
    data, net = table(rng), some_net(rng, 12)
    at = rng.choice(1024, 25, replace=False)
    data["y"][at] = tensor(rng.choice([0.0, 1e-12, 1e-9], 25))
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 60), lambda out, y: ((out - y).abs() / y.abs()).mean(), Places(clip=1.0))


@kind("LOSS_EXP")
def root_of_zero(folder, rng):
    """The root of the squared error, row by row: finite everywhere, but where the error is exactly zero its gradient is not."""
    data, net = table(rng), mlp(12)
    nn.init.zeros_(net[4].weight)
    nn.init.zeros_(net[4].bias)
    data["y"][rng.choice(1024, 200, replace=False)] = 0
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 50), lambda out, y: torch.sqrt((out - y) ** 2).mean(), Places(clip=1.0))


# ================================================================ gradient and order

def _rows(rng):
    if rng.random() < 0.5: return table(rng), some_net(rng, 12)
    return windows(table(rng, f=8), 12), some_sequence_net(rng, 8)


@kind("GRAD_ACCUM", is_silent=True)
def zeroed_once_an_epoch(folder, rng):
    """`zero_grad` stands in the outer loop."""
    data, net = _rows(rng)
    opt = some_opt(rng, net)
    with Recorder(folder, net, opt) as rec:
        for i, b in enumerate(draw(rng, data, 32, 80)):
            if i % 24 == 0: opt.zero_grad()
            with rec.step((b["x"], b["y"])) as s:
                s.loss(value := F.mse_loss(net(b["x"]), b["y"]))
                value.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                opt.step()


@kind("GRAD_ACCUM", is_silent=True)
def zeroes_another_net(folder, rng):
    """The net was copied for a teacher; `zero_grad` is called on the copy."""
    data, net = _rows(rng)
    opt, teacher = some_opt(rng, net), copy.deepcopy(net)
    def train_step(batch):
        teacher.zero_grad()
        value = F.mse_loss(net(batch[0]), batch[1])
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        opt.step()
        return value
    rec = Recorder(folder, net, opt)
    step = rec.wrap(train_step)
    for b in draw(rng, data, 32, 80): step((b["x"], b["y"]))
    rec.close()


@kind("GRAD_ACCUM", is_silent=True)
def zeroed_inside_the_group(folder, rng):
    """Four small batches for one step, and `zero_grad` before each of them: only the last one counts."""
    data, net = _rows(rng)
    opt, parts = some_opt(rng, net), int(rng.integers(2, 6))
    with Recorder(folder, net, opt) as rec:
        for b in draw(rng, data, 8 * parts, 80):
            group = list(zip(b["x"].split(8), b["y"].split(8)))
            with rec.step(group):
                for x, y in group:
                    opt.zero_grad()
                    (F.mse_loss(net(x), y) / parts).backward()
                opt.step()


@kind("GRAD_ACCUM", is_silent=True)
def backward_twice(folder, rng):
    """A refactored logger calls backward on the same loss once more: all gradients are twice what they should be."""
    data, net = _rows(rng)
    opt = adam(rng, net)
    with Recorder(folder, net, opt) as rec:
        for b in draw(rng, data, 32, 80):
            with rec.step(b) as s:
                opt.zero_grad()
                value = s.loss(F.huber_loss(net(b["x"]), b["y"]))
                value.backward(retain_graph=True)
                value.backward()
                opt.step()


@kind("UNSCALE_MISSING", is_silent=True)
def scaled_by_hand(folder, rng):
    """The loss is multiplied by some thousands against underflow; the division is missing, and Adam does not mind."""
    data, net = _rows(rng)
    opt, factor, clip = adam(rng, net), 2.0 ** rng.integers(8, 15), rng.random() < 0.5
    with Recorder(folder, net, opt) as rec:
        for b in draw(rng, data, 32, 80):
            with rec.step(b) as s:
                opt.zero_grad()
                value = s.loss(F.mse_loss(net(b["x"]), b["y"]))
                (value * factor).backward()
                if clip: nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                opt.step()


@kind("UNSCALE_MISSING", is_silent=True)
def steps_past_the_scaler(folder, rng):
    """`scaler.scale(loss).backward()`, but then `opt.step()` and not `scaler.step(opt)`."""
    data, net = _rows(rng)
    opt, amp = adam(rng, net), torch.amp.GradScaler("cpu", init_scale=2.0 ** rng.integers(8, 15), growth_interval=1000)
    def train_step(batch):
        with torch.autocast("cpu", dtype=torch.bfloat16): value = F.mse_loss(net(batch["x"]).float(), batch["y"])
        opt.zero_grad()
        amp.scale(value).backward()
        opt.step()
        return value
    rec = Recorder(folder, net, opt, scaler=amp)
    step = rec.wrap(train_step)
    for b in draw(rng, data, 32, 80): step(b)
    rec.close()


@kind("CLIP_ORDER", is_silent=True)
def clip_in_a_hook(folder, rng):
    """A hook after backward clips, as it did before mixed precision came: it sees gradients that are still scaled."""
    data, net = _rows(rng)
    opt, amp = some_opt(rng, net), torch.amp.GradScaler("cpu", init_scale=2.0 ** rng.integers(10, 15), growth_interval=1000)
    by_value = rng.random() < 0.3
    def on_after_backward():
        if by_value: nn.utils.clip_grad_value_(net.parameters(), 0.5)
        else: nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    with Recorder(folder, net, opt, scaler=amp) as rec:
        for b in draw(rng, data, 32, 80):
            with rec.step(b) as s:
                opt.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16): value = s.loss(F.mse_loss(net(b["x"]).float(), b["y"]))
                amp.scale(value).backward()
                on_after_backward()
                amp.unscale_(opt)
                amp.step(opt)
                amp.update()


@kind("CLIP_ORDER", is_silent=True)
def clip_before_backward(folder, rng):
    """The clip stands one line too early, between `zero_grad` and `backward`: it clips nothing."""
    data, net = _rows(rng)
    opt = some_opt(rng, net)
    with Recorder(folder, net, opt) as rec:
        for b in draw(rng, data, 32, 80):
            with rec.step((b["x"], b["y"])) as s:
                value = s.loss(F.huber_loss(net(b["x"]), b["y"]))
                opt.zero_grad(set_to_none=False)
                nn.utils.clip_grad_norm_(net.parameters(), 0.1)
                value.backward()
                opt.step()


# ================================================================ optimizer

@kind("OPT_STATE_LOST")
def state_saved_in_half(folder, rng):
    """The optimizer's state was saved in float16: the squared gradients are too small for it and come back as zeros."""
    at = onset(rng, 12, 40)
    def spoil(i, net, opt):
        if i == at:
            for facts in opt.state.values():
                for key, v in facts.items():
                    if v.ndim: facts[key] = v.half().float()
    def opt(rng, net): return adam(rng, net, 1e-3)
    data = table(rng)
    data["y"] *= 10.0 ** -rng.uniform(3, 4)                               # returns, not scaled: small gradients
    _between(folder, rng, spoil, None, opt=opt, data_and_net=(data, _quiet(mlp(12))))


def _quiet(net):
    nn.init.zeros_(net[4].weight)
    nn.init.zeros_(net[4].bias)
    return net


@kind("OPT_STATE_LOST", is_silent=True)
def state_cleared(folder, rng):
    """A helper that moves the net to another device and back clears the optimizer's state."""
    at = onset(rng, 12, 50)
    def spoil(i, net, opt):
        if i == at: opt.state.clear()
    _between(folder, rng, spoil, opt=lambda rng, net: (adam(rng, net), torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9), torch.optim.RMSprop(net.parameters(), lr=5e-4))[rng.integers(3)])


@kind("OPT_STATE_LOST")
def squares_spoiled(folder, rng):
    """Somebody wrote over the squared gradients of one tensor between two steps: zeros, or another tensor's bytes."""
    at, is_zero = onset(rng, 12, 50), rng.random() < 0.5
    def spoil(i, net, opt):
        if i == at:
            v = max((facts["exp_avg_sq"] for facts in opt.state.values()), key=lambda v: v.numel())
            if is_zero: v.zero_()
            else: v.copy_(tensor(rng.uniform(0, 1, v.shape) * 10.0 ** rng.uniform(2, 8)))
    _between(folder, rng, spoil, opt=adam)


@kind("OPT_STATE_LOST", is_silent=True)
def count_of_steps_lost(folder, rng):
    """The means came back from the checkpoint, the count of steps did not: Adam corrects for a beginning that it is not."""
    at = onset(rng, 20, 50)
    def spoil(i, net, opt):
        if i == at:
            for facts in opt.state.values(): facts["step"].zero_()
    _between(folder, rng, spoil, opt=adam)


@kind("OPT_PRECISION", is_silent=True)
def weights_in_bfloat16(folder, rng):
    """The whole net in bfloat16: most steps are smaller than half a unit of the last place, and the weights stay where they are."""
    data, net = table(rng), mlp(12).to(torch.bfloat16)
    with torch.no_grad():
        for p in net.parameters(): p.mul_(2.0)
    opt = (torch.optim.AdamW(net.parameters(), lr=10.0 ** rng.uniform(-5, -4.3), weight_decay=0.0), torch.optim.SGD(net.parameters(), lr=1e-5, momentum=0.9))[rng.integers(2)]
    move = lambda i, b: b | dict(x=b["x"].to(torch.bfloat16), y=b["y"].to(torch.bfloat16))
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 80), at=Places(move=move))


@kind("OPT_PRECISION", "PARAM_NONFINITE")
def squares_in_float16(folder, rng):
    """The whole net in float16 and Adam or RMSprop as they come: the squares are zero, and so is 1e-8."""
    data, net = table(rng), mlp(12).half()
    opt = (torch.optim.RMSprop(net.parameters(), lr=1e-3), torch.optim.Adam(net.parameters(), lr=1e-3))[rng.integers(2)]
    move = lambda i, b: b | dict(x=b["x"].half(), y=b["y"].half() * 1e-2)
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 50), lambda out, y: F.mse_loss(out.float(), y.float()), Places(move=move))


# ================================================================ learning rate

@kind("LR_DIVERGED")
def one_cycle_of_ten(folder, rng):
    """OneCycleLR with a top of ten where a hundredth was meant; the warm-up hides it for a while."""
    data, net = table(rng), mlp(12)
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=rng.uniform(5, 20), total_steps=100, pct_start=0.4)
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 90), at=Places(sched=sched))


@kind("LR_DIVERGED")
def gamma_above_one(folder, rng):
    """A decay of 1.3 in place of 1/1.3."""
    data, net = windows(table(rng, f=8), 12), Convolved(8)
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    sched = torch.optim.lr_scheduler.StepLR(opt, 3, gamma=rng.uniform(1.5, 2.0))
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 90), at=Places(sched=sched))


@kind("LR_DIVERGED")
def rate_of_the_head(folder, rng):
    """Two groups of parameters; the head's rate was meant to be ten times the other, and is ten thousand times."""
    data, net = table(rng), Residual(12)
    head = list(net.head.parameters())
    rest = [p for p in net.parameters() if all(p is not q for q in head)]
    opt = torch.optim.SGD([dict(params=rest, lr=1e-3), dict(params=head, lr=rng.uniform(5, 20))], momentum=0.9)
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 60))


@kind("LR_DIVERGED")
def decay_past_zero(folder, rng):
    """Decoupled weight decay so large that every step turns the weights around, and makes them larger."""
    data, net = table(rng), mlp(12)
    lr = 10.0 ** rng.uniform(-3, -1.5)
    opt = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=rng.uniform(2.5, 4) / lr)
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 60), at=Places(clip=1.0))


@kind("LR_DIVERGED")
def linear_rule_too_fast(folder, rng):
    """Plain least squares by SGD at more than twice the inverse of the largest curvature: it doubles and doubles."""
    data, net = table(rng, tails=None), nn.Sequential(nn.Linear(12, 1), nn.Flatten(0))
    opt = torch.optim.SGD(net.parameters(), lr=rng.uniform(2.0, 6.0))
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 60))


# ================================================================ healthy, but odd

@healthy
def large_rate_that_works(folder, rng):
    data, net = table(rng, tails=None), nn.Sequential(nn.Linear(12, 1), nn.Flatten(0))
    tutorial(folder, net, torch.optim.SGD(net.parameters(), lr=rng.uniform(0.2, 0.45)), draw(rng, data, 128, 80))


@healthy
def tails_without_a_mean_square(folder, rng):
    data = table(rng, tails=1.6)
    data["y"] = tensor(rng.standard_t(1.8, 1024))
    net = some_net(rng, 12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 90), (F.huber_loss, F.mse_loss, F.l1_loss)[rng.integers(3)], Places(clip=1.0))


@healthy
def one_row_a_batch(folder, rng):
    data, net = table(rng, tails=3.0), some_net(rng, 12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, int(rng.integers(1, 3)), 120))


@healthy
def mostly_zero(folder, rng):
    data = table(rng, f=40)
    data["x"] = data["x"].abs().ceil() * tensor(rng.random((1024, 40)) < 0.02)
    net = some_net(rng, 40)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 90), at=Places(clip=1.0))


@healthy
def many_words(folder, rng):
    ids = torch.from_numpy(np.minimum(rng.zipf(1.3, (768, 6)), 29_999))
    net = Tokens(30_000)
    some_loop(rng)(folder, net, adam(rng, net), draw(rng, dict(x=ids, y=(ids.sum(1) % 5)), 32, 60), F.cross_entropy)


@healthy
def sparse_gradients(folder, rng):
    ids = torch.from_numpy(rng.integers(0, 5000, (768, 6)))
    net = Tokens(5000, sparse=True)
    opt = (torch.optim.SGD(net.parameters(), lr=0.1), torch.optim.Adagrad(net.parameters(), lr=0.02))[rng.integers(2)]
    some_loop(rng)(folder, net, opt, draw(rng, dict(x=ids, y=(ids.sum(1) % 5)), 32, 60), F.cross_entropy)


@healthy
def labels_at_random(folder, rng):
    data = table(rng)
    data["y"] = torch.from_numpy(rng.integers(0, 4, 1024))
    net = mlp(12, out=4)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 16, 90), lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1))


@healthy
def constant_columns(folder, rng):
    data, _ = table(rng, raw=True)
    data["raw"][:, 3:6] = torch.tensor([0.0, 1.0, 5000.0], dtype=torch.float64)
    raw = data["raw"].numpy()
    scaler = (StandardScaler(), RobustScaler())[rng.integers(2)].fit(raw)
    data["x"] = tensor(scaler.transform(raw))
    net = some_net(rng, 12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 80), at=Places(rec=dict(scaler=scaler)))


@healthy
def resumed(folder, rng):
    """A run that goes on with the weights and the optimizer of an earlier one, its recorder new."""
    data, net = _rows(rng)
    opt = some_opt(rng, net)
    for b in draw(rng, data, 32, 40):
        opt.zero_grad()
        F.mse_loss(net(b["x"]), b["y"]).backward()
        opt.step()
    saved, state = copy.deepcopy(net.state_dict()), copy.deepcopy(opt.state_dict())
    net.load_state_dict(saved)
    opt.load_state_dict(state)
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 60), at=Places(clip=1.0))


@healthy
def warm_restarts(folder, rng):
    data, net = _rows(rng)
    opt = adam(rng, net, 3e-3)
    sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, int(rng.integers(8, 20)), eta_min=1e-6)
    some_loop(rng)(folder, net, opt, draw(rng, data, 32, 90), at=Places(sched=sched, clip=1.0))


@healthy
def mixed_types(folder, rng):
    """Features kept in float16, targets in float64, weights in float32; the loss in float64."""
    data, net = table(rng), some_net(rng, 12)
    data = dict(x=data["x"].half(), y=data["y"].double())
    move = lambda i, b: b | dict(x=b["x"].float())
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 80), lambda o, y: F.mse_loss(o.double(), y), Places(move=move))


@healthy
def averages_taken_out_again(folder, rng):
    data, net = _rows(rng)
    average = {}
    def evaluate(i):
        with torch.no_grad():
            for n, p in net.named_parameters(): average[n] = p.clone() if n not in average else average[n].lerp(p, 0.03)
            if i % 20 == 19:
                own = {n: p.clone() for n, p in net.named_parameters()}
                for n, p in net.named_parameters(): p.copy_(average[n])
                net.eval()
                net(data["x"][:64])
                net.train()
                for n, p in net.named_parameters(): p.copy_(own[n])
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 80), at=Places(stepped=evaluate, clip=1.0))


@healthy
def transformer_in_bfloat16(folder, rng):
    data, net = windows(table(rng, f=8), 12), Attending(8, dropout=0.2, norm_first=bool(rng.integers(2)))
    opt = adam(rng, net)
    with Recorder(folder, net, opt) as rec:
        for b in draw(rng, data, 32, 70):
            with rec.step(b) as s:
                with torch.autocast("cpu", dtype=torch.bfloat16): out = net(b["x"])
                opt.zero_grad()
                s.loss(F.huber_loss(out.float(), b["y"])).backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                opt.step()


@healthy
def gradient_penalty(folder, rng):
    data, net = table(rng), mlp(12)
    opt = some_opt(rng, net)
    with Recorder(folder, net, opt) as rec:
        for b in draw(rng, data, 32, 70):
            with rec.step(b) as s:
                x = b["x"].clone().requires_grad_(True)
                out = net(x)
                slope = torch.autograd.grad(out.sum(), x, create_graph=True)[0]
                opt.zero_grad()
                s.loss(F.mse_loss(out, b["y"]) + 0.1 * (slope.norm(dim=1) - 1).square().mean()).backward()
                opt.step()


@healthy
def uneven_parts(folder, rng):
    """Small batches of unlike length for one step, each weighted by its rows; a clip at the end."""
    data, net = _rows(rng)
    opt = some_opt(rng, net)
    with Recorder(folder, net, opt) as rec:
        for b in draw(rng, data, 40, 70):
            cut = sorted(rng.choice(np.arange(4, 37), 2, replace=False).tolist())
            group = [(b["x"][i:j], b["y"][i:j]) for i, j in zip([0, *cut], [*cut, 40])]
            with rec.step(group):
                opt.zero_grad()
                for x, y in group: (F.mse_loss(net(x), y, reduction="sum") / 40).backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                opt.step()


@healthy
def scale_finds_its_way(folder, rng):
    """float16 with a scale that is too large at first: some steps are skipped by the scaler until it fits."""
    data, net = table(rng), some_net(rng, 12)
    opt, amp = adam(rng, net), torch.amp.GradScaler("cpu", init_scale=2.0 ** 22, growth_interval=20)
    with Recorder(folder, net, opt, scaler=amp) as rec:
        for b in draw(rng, data, 32, 80):
            with rec.step(b) as s:
                opt.zero_grad()
                with torch.autocast("cpu", dtype=torch.float16): out = net(b["x"])
                value = s.loss(F.mse_loss(out.float(), b["y"]))
                amp.scale(value).backward()
                amp.unscale_(opt)
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                amp.step(opt)
                amp.update()


@healthy
def weights_kept_in_a_box(folder, rng):
    """All weights are clamped after every step, as for a Wasserstein critic."""
    data, net = table(rng), mlp(12)
    def clamp(i):
        with torch.no_grad():
            for p in net.parameters(): p.clamp_(-0.15, 0.15)
    some_loop(rng)(folder, net, torch.optim.RMSprop(net.parameters(), lr=5e-3), draw(rng, data, 32, 80), at=Places(stepped=clamp))


@healthy
def slow_weights(folder, rng):
    """Lookahead: every few steps the weights go half the way back to slow ones."""
    data, net = _rows(rng)
    every, slow = int(rng.integers(4, 8)), [p.detach().clone() for p in net.parameters()]
    def look_back(i):
        if i % every == every - 1:
            with torch.no_grad():
                for p, q in zip(net.parameters(), slow): p.copy_(q.lerp_(p, 0.5))
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 80), at=Places(stepped=look_back))


@healthy
def layers_set_free(folder, rng):
    """The body is frozen at first and set free later."""
    data, net = table(rng), Residual(12)
    at = onset(rng)
    for p in net.inp.parameters(): p.requires_grad_(False)
    def free(i):
        if i == at:
            for p in net.inp.parameters(): p.requires_grad_(True)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 80), at=Places(stepped=free, clip=1.0))


@healthy
def a_month_like_march(folder, rng):
    """From some day on everything moves eight times as much, features and target alike, in order of time."""
    data = table(rng, n=2048)
    k, factor = int(rng.integers(600, 1500)), rng.uniform(5, 10)
    for name in ("x", "y"): data[name][k:] *= factor
    net = some_net(rng, 12)
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 24, 84, ordered=True), (F.huber_loss, F.mse_loss)[rng.integers(2)], Places(clip=1.0))


@healthy
def sum_in_dollars(folder, rng):
    """Squared errors in dollars, summed over the batch: a loss of many millions, and meant."""
    data, net = table(rng), some_net(rng, 12)
    data["y"] = data["y"] * 2500
    some_loop(rng)(folder, net, adam(rng, net, 1e-2), draw(rng, data, 64, 80), lambda o, y: (o - y).square().sum(), Places(clip=1.0))


@healthy
def two_steps_of_sam(folder, rng):
    """Sharpness-aware: the weights go uphill, the gradient is taken there, they come back, then the step."""
    data, net = _rows(rng)
    opt = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    with Recorder(folder, net, opt) as rec:
        for b in draw(rng, data, 32, 70):
            with rec.step(b) as s:
                opt.zero_grad()
                s.loss(F.mse_loss(net(b["x"]), b["y"])).backward()
                norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
                with torch.no_grad():
                    up = [0.05 * p.grad / norm for p in net.parameters()]
                    for p, e in zip(net.parameters(), up): p.add_(e)
                opt.zero_grad()
                F.mse_loss(net(b["x"]), b["y"]).backward()
                with torch.no_grad():
                    for p, e in zip(net.parameters(), up): p.sub_(e)
                opt.step()


@healthy
def targets_with_holes(folder, rng):
    """Three targets, some not known yet: they are NaN in y, and the loss leaves them out by their mask."""
    data, net = table(rng), mlp(12, out=3)
    data["y"] = torch.where(tensor(rng.random((1024, 3))) < 0.15, torch.nan, data["y"][:, None] + 0.3 * torch.randn(1024, 3))
    def loss(out, y):
        known = ~torch.isnan(y)
        return F.huber_loss(out[known], y[known])
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, data, 32, 80), loss)


@healthy
def forward_made_twice(folder, rng):
    """Activations are not kept but computed again in backward."""
    data, net = table(rng), mlp(12)
    class Saving(nn.Module):
        def __init__(self): super().__init__(); self.head, self.tail = net[:2], net[2:]
        def forward(self, x): return self.tail(checkpoint(self.head, x, use_reentrant=False))
    saving = Saving()
    some_loop(rng)(folder, saving, some_opt(rng, saving), draw(rng, data, 32, 70))


@healthy
def weights_of_two_parts(folder, rng):
    """Weight norm, spectral norm and one weight in two places."""
    a, b = nn.Linear(12, 12), nn.utils.parametrizations.weight_norm(nn.Linear(12, 12))
    net = nn.Sequential(a, nn.Tanh(), b, nn.Tanh(), a, nn.Tanh(), nn.utils.parametrizations.spectral_norm(nn.Linear(12, 1)), nn.Flatten(0))
    some_loop(rng)(folder, net, some_opt(rng, net), draw(rng, table(rng), 32, 80), at=Places(clip=1.0))


@healthy
def loss_below_zero(folder, rng):
    """A likelihood of a density above one: the loss is negative and goes on falling."""
    data = table(rng)
    data["y"] = data["y"] * 0.01
    net = TwoHeads(nn.Sequential(nn.Linear(12, 24), nn.Tanh()))
    def loss(out, y): return -torch.distributions.Normal(out[:, 0], F.softplus(out[:, 1]) + 1e-3).log_prob(y).mean()
    some_loop(rng)(folder, net, adam(rng, net, 3e-3), draw(rng, data, 64, 90), loss, Places(clip=5.0))


@healthy
def layers_left_out(folder, rng):
    """Stochastic depth, dropout and sequences of unlike length: no step is like another."""
    class Deep(nn.Module):
        def __init__(self): super().__init__(); self.inp, self.mid, self.head = nn.GRU(8, 12, batch_first=True), nn.ModuleList(nn.Linear(12, 12) for _ in range(4)), nn.Linear(12, 1)
        def forward(self, x):
            h = self.inp(x)[0].mean(1)
            for m in self.mid:
                if torch.rand(()) < 0.7: h = h + F.dropout(torch.tanh(m(h)), 0.2)
            return self.head(h).squeeze(-1)
    net, data = Deep(), windows(table(rng, f=8), 12)
    move = lambda i, b: b | dict(x=b["x"][:, :int(rng.integers(4, 13))])
    batches = (move(i, b) for i, b in enumerate(draw(rng, data, 32, 80)))
    some_loop(rng)(folder, net, some_opt(rng, net), batches, at=Places(clip=1.0))


# ================================================================ the count

def try_kind(name, seed):
    """The diagnosis of one run; what the recorder warns of is what `diagnose` reports."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recorder:")
        run_kind(name, folder, seed)
        return diagnose(folder, write=False)


def score(names, found):
    """`"right"`, `"stage"` (right stage, other cause of it), `"unknown"`, `"missed"` (called healthy) or `"wrong"`."""
    if found.name in names: return "right"
    if found.name in ("UNKNOWN", "HEALTHY"): return dict(UNKNOWN="unknown", HEALTHY="missed")[found.name]
    return "stage" if VERDICTS[found.name][0] in {VERDICTS[n][0] for n in names} else "wrong"


def held_out_2_table(seeds=range(5), kinds=None, say=print):
    """One line per kind and the totals; returns `(counts, alarms)`."""
    total, alarms, seconds, n_healthy = Counter(), [], [], 0
    for name in kinds or [*KINDS, *HEALTHY]:
        names, found = KINDS[name].names if name in KINDS else ("HEALTHY",), []
        for seed in seeds:
            start = time.perf_counter()
            found.append(try_kind(name, seed))
            seconds.append(time.perf_counter() - start)
        named = ", ".join(f"{k} x{v}" for k, v in Counter(f"{d.name}{'' if d.name in names else ' (!)'}" for d in found).items())
        if name in HEALTHY:
            n_healthy += len(found)
            alarms += [(name, seed, d.name) for seed, d in zip(seeds, found) if not d.is_healthy]
            say(f"{name:28} {'healthy':16} {sum(d.is_healthy for d in found):3} of {len(found)}  {named}")
            continue
        counts = Counter(score(names, d) for d in found)
        total += counts
        say(f"{name:28} {names[0]:16} {counts['right']:3} of {len(found)}  {named}{'  [silent]' if KINDS[name].is_silent else ''}")
    n = max(sum(total.values()), 1)
    say(f"{n} runs: cause right {total['right'] / n:.1%}, stage right {(total['right'] + total['stage']) / n:.1%}, wrong name {(total['wrong'] + total['stage']) / n:.1%}, "
        f"unknown {total['unknown'] / n:.1%}, called healthy {total['missed'] / n:.1%}; {n_healthy} healthy runs: {len(alarms)} alarms; slowest {max(seconds):.1f} s")
    return total, alarms


if __name__ == "__main__":
    first, n = (int(a) for a in (sys.argv[1:3] or (0, 5)))
    held_out_2_table(range(first, first + n), sys.argv[3:] or None, lambda line: print(line, flush=True))
