"""Faults planted by someone who had not seen the checks, in loops of their own. `python -m tests.faults.held_out` prints the table.

Measured on 2026-11-25, 5 seeds of each kind; the right names and stages were written before the first run, by someone who knew the list of names only:

kind                            stage loss right would be                          named, of 5 seeds                                   right / unknown / missed / wrong
rolling_std_zero                   2  loss FEATURE_RESIDUE or FEATURE_UNSAFE_DIV   FEATURE_UNSAFE_DIV 5                                5 / 0 / 0 / 0
vix_missing                        1  loss RAW_NONFINITE                           RAW_NONFINITE 5                                     5 / 0 / 0 / 0
target_in_ticks                    4  loss TARGET_SCALE                            TARGET_SCALE 5                                      5 / 0 / 0 / 0
target_times_100                   4  loss TARGET_SCALE                            HEALTHY 5                                           0 / 0 / 5 / 0
half_on_the_way                    6  loss CAST_OVERFLOW                           CAST_OVERFLOW 5                                     5 / 0 / 0 / 0
column_swapped                     3  -    SCALER_COLUMNS                          SCALER_COLUMNS 5                                    5 / 0 / 0 / 0
scaler_of_sorted_columns           3  -    SCALER_COLUMNS or SCALER_SATURATED      SCALER_COLUMNS 5                                    5 / 0 / 0 / 0
new_column_unscaled                3  loss SCALER_BYPASS                           SCALER_SATURATED 5                                  0 / 0 / 0 / 5
last_rows_have_no_future           4  loss TARGET_NONFINITE                        TARGET_NONFINITE 5                                  5 / 0 / 0 / 0
inputs_of_the_last_batch           5  -    COPY_STALE                              COPY_STALE 5                                        5 / 0 / 0 / 0
targets_of_the_last_batch          5  -    COPY_STALE                              HEALTHY 5                                           0 / 0 / 5 / 0
half_of_the_batch_zero             5  -    COPY_BLOCK                              COPY_BLOCK 5                                        5 / 0 / 0 / 0
rows_in_another_order              5  -    COPY_BLOCK or COPY_STALE                COPY_STALE 5                                        5 / 0 / 0 / 0
old_weights_written_back           7  -    REPLICA_DESYNC                          REPLICA_DESYNC 5                                    5 / 0 / 0 / 0
bit_flip_in_a_bias                 7  loss COPY_BITFLIP or REPLICA_DESYNC          REPLICA_DESYNC 5                                    5 / 0 / 0 / 0
scheduler_times_1000              15  loss LR_DIVERGED                             UNKNOWN 3, HEALTHY 2                                0 / 3 / 2 / 0
loss_summed                       15  loss LR_DIVERGED                             LR_DIVERGED 4, UNKNOWN 1                            4 / 1 / 0 / 0
zero_grad_every_second_step       13  -    GRAD_ACCUM                              GRAD_ACCUM 5                                        5 / 0 / 0 / 0
saliency_leaves_gradients         13  -    GRAD_ACCUM                              UNKNOWN 5                                           0 / 5 / 0 / 0
accumulation_divides_by_nothing   13  -    GRAD_ACCUM                              HEALTHY 5                                           0 / 0 / 5 / 0
values_clipped_before_unscale     14  -    CLIP_ORDER                              CLIP_ORDER 5                                        5 / 0 / 0 / 0
scaled_by_hand                    14  -    UNSCALE_MISSING                         UNSCALE_MISSING 5                                   5 / 0 / 0 / 0
second_moments_zeroed             15  -    OPT_STATE_LOST                          OPT_STATE_LOST 2, HEALTHY 2, UNKNOWN 1              2 / 1 / 2 / 0
whole_state_zeroed                15  -    OPT_STATE_LOST                          HEALTHY 5                                           0 / 0 / 5 / 0
batch_norm_without_variance        9  loss BN_STATS or BUFFER_UNINIT               BN_STATS 5                                          5 / 0 / 0 / 0
deviations_never_filled            8  loss BUFFER_UNINIT                           BUFFER_UNINIT 4, ACT_OVERFLOW 1                     4 / 0 / 0 / 1
unbounded_log_variance            12  loss LOSS_EXP                                HEALTHY 2, LR_DIVERGED 1, LOSS_EXP 1, SCALER_COLUMNS 1   1 / 0 / 2 / 2
log_of_a_negative                 12  loss LOSS_EXP                                LOSS_EXP 5                                          5 / 0 / 0 / 0
root_of_zero                      12  -    LOSS_EXP                                LOSS_EXP 5                                          5 / 0 / 0 / 0
eps_of_zero                       15  loss OPT_PRECISION or PARAM_NONFINITE        OPT_PRECISION 5                                     5 / 0 / 0 / 0
gate_by_exp                        9  loss ACT_OVERFLOW                            UNKNOWN 3, ACT_OVERFLOW 2                           2 / 3 / 0 / 0

All 155: right 69.7 %, unknown 8.4 %, missed (called healthy) 16.8 %, wrong 5.2 %. Asked for were 75 % right and 2 % wrong: **both are missed**.
13 healthy loops, 65 runs: one alarm (closed_sessions, seed 4: SCALER_COLUMNS, of two columns drawn from one distribution).

Four plants did not come about, or were another fault, in the first run (right 62.6 %, unknown 7.7 %, missed 23.9 %, wrong 5.8 %) and were planted
anew before any check was read: log_of_a_negative and root_of_zero gave no NaN, unbounded_log_variance hardly moved the loss (three attempts; nor does
it in every seed now), gate_by_exp had most columns at the bound. Without these four, as first planted: 135 runs, right 70.4 %, wrong 4.4 %.
closed_sessions was added to the healthy loops after its name had come up. Expectations were never changed.

Afterwards the checks were read and one was mended with this table in view: a value beyond the bound is not "at" it, so new_column_unscaled is called
SCALER_BYPASS. With that the table gives right 72.9 %, wrong 1.9 %, which is no longer a held-out result.

Then seven checks were mended with it in view, each by an argument of its own. Before: 69.7 % right, 5.2 % wrong, one alarm; after the mends, no longer
held out: right 92.9 %, unknown 0.6 %, missed 5.8 %, wrong 0.6 % of 155, no alarm in 65 healthy runs. On seeds 5 to 9 of the same kinds, which nobody had
looked at: right 94.2 %, unknown 0.6 %, missed 3.9 %, wrong 1.3 %, no alarm. What a new kind of fault would give is not known from either.
Still missed: accumulation_divides_by_nothing (a sum where a mean was meant: nothing recorded says which), unbounded_log_variance (the loss only falls),
one loss_summed in five (UNKNOWN), one deviations_never_filled in five (ACT_OVERFLOW); and one of ten stale targets is called COPY_BLOCK.
"""
import copy
import math
import tempfile
import warnings
from collections import Counter

import numpy as np
import torch
from torch import nn

from futures_nb.diagnosing import diagnose
from futures_nb.recorder import Contract, Recorder

N_COLUMNS = 54
NAMES = ([f"ret_{k}" for k in range(14)] + [f"vol_{k}" for k in range(10)] + [f"dist_{k}" for k in range(12)] + [f"z_{k}" for k in range(8)] +
         ["vix", "vix_change", "tod_sin", "tod_cos", "dow_0", "dow_1", "dow_2", "is_roll", "price", "notional"])


# ---- the market, its scaler, the nets -------------------------------------------------------------------------------------------------------------------

class Robust:
    """Centre and range of every column; what scikit-learn's RobustScaler would keep."""
    def fit(self, raw, columns):
        low, mid, high = np.quantile(raw, [0.25, 0.5, 0.75], axis=0)
        scale = np.where(high - low > 1e-6, high - low, np.maximum(np.ptp(raw, axis=0), 1.0) / 4)
        self.center_, self.scale_, self.feature_names_in_ = mid, scale, np.array(columns, dtype=object)
        return self

    def transform(self, raw, bound=10.0):
        out = (raw - self.center_) / self.scale_
        return out if bound is None else np.clip(out, -bound, bound)


def market(seed, n=6000):
    """`(raw, y)`: 54 columns as a desk has them, float64, and a standardised target that they explain a little."""
    g = np.random.default_rng(seed)
    vol = np.exp(0.4 * np.cumsum(g.normal(size=n)) / np.sqrt(n) * 3)
    raw = np.empty((n, N_COLUMNS))
    raw[:, :14] = g.standard_t(4, size=(n, 14)) * vol[:, None] * 1e-4
    raw[:, 14:24] = np.exp(g.normal(5, 1, size=(n, 10))).round()
    raw[:, 24:36] = (g.normal(size=(n, 12)) * 20).round() * 0.25
    raw[:, 36:44] = g.normal(size=(n, 8))
    raw[:, 44] = 15 + 4 * np.abs(np.cumsum(g.normal(size=n)) / np.sqrt(n)) + g.normal(size=n) * 0.3
    raw[:, 45] = g.standard_t(4, size=n) * 0.4
    t = np.arange(n) / 390 * 2 * np.pi
    raw[:, 46], raw[:, 47] = np.sin(t), np.cos(t)
    for k in range(3): raw[:, 48 + k] = (np.arange(n) // 390 % 5 == k)
    raw[:, 51] = np.arange(n) // 390 % 13 == 0
    raw[:, 52] = (5000 + np.cumsum(g.normal(size=n)) * 2).round()
    raw[:, 53] = raw[:, 52] * raw[:, 14]
    y = 0.3 * np.tanh(raw[:, 36]) + 0.2 * raw[:, 37] + 0.7 * g.standard_t(6, size=n)
    return raw, np.clip(y / y.std(), -6, 6)


class Recurrent(nn.Module):
    def __init__(self, width=24, out=1):
        super().__init__()
        self.gru, self.head = nn.GRU(18, width, batch_first=True), nn.Linear(width, out)

    def forward(self, x):
        return self.head(self.gru(x.reshape(len(x), 3, 18))[0][:, -1])


class Residual(nn.Module):
    def __init__(self, width=48, out=1):
        super().__init__()
        self.first, self.norm, self.up, self.down, self.head = nn.Linear(54, width), nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width), nn.Linear(width, out)

    def forward(self, x):
        h = self.first(x)
        h = h + self.down(nn.functional.gelu(self.up(self.norm(h))))
        return self.head(h)


class Standardised(nn.Module):
    """A net that keeps its own mean and deviation of the inputs as buffers, because somebody wanted to ship one file."""
    def __init__(self, body):
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.zeros(N_COLUMNS))
        self.register_buffer("std", torch.ones(N_COLUMNS))

    def forward(self, x): return self.body((x - self.mean) / self.std)


class Gate(nn.Module):
    """A gate by exp where a sigmoid was meant."""
    def __init__(self, width=32, gain=1.0):
        super().__init__()
        self.value, self.gate, self.head = nn.Linear(54, width), nn.Linear(54, width), nn.Linear(width, 1)
        with torch.no_grad(): self.gate.weight.mul_(gain)

    def forward(self, x): return self.head(torch.exp(self.gate(x)) * torch.tanh(self.value(x)))


class MeanAndVariance(nn.Module):
    """A linear mean without a constant, and a log-variance by a net that nothing bounds."""
    def __init__(self, body):
        super().__init__()
        self.mean, self.log_variance = nn.Linear(54, 1, bias=False), body

    def forward(self, x): return torch.cat([self.mean(x), self.log_variance(x)], 1)


def net_of(kind, out=1, dropout=0.0):
    if kind == "mlp": return nn.Sequential(nn.Linear(54, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, out))
    if kind == "layer": return nn.Sequential(nn.Linear(54, 48), nn.LayerNorm(48), nn.SiLU(), nn.Dropout(dropout), nn.Linear(48, out))
    if kind == "batch": return nn.Sequential(nn.Linear(54, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, out))
    if kind == "batch_first": return nn.Sequential(nn.BatchNorm1d(54), nn.Linear(54, 48), nn.ReLU(), nn.Linear(48, out))
    if kind == "conv": return nn.Sequential(nn.Unflatten(1, (6, 9)), nn.Conv1d(6, 16, 3, padding=1), nn.BatchNorm1d(16), nn.ReLU(), nn.Flatten(), nn.Linear(144, out))
    return dict(gru=Recurrent, residual=Residual)[kind](out=out)


def optimizer_of(kind, net, lr=None, **more):
    p = net.parameters()
    if kind == "sgd": return torch.optim.SGD(p, lr=lr or 1e-2, momentum=0.9, **more)
    if kind == "adam": return torch.optim.Adam(p, lr=lr or 1e-3, **more)
    if kind == "fused": return torch.optim.AdamW(p, lr=lr or 1e-3, fused=True, **more)
    if kind == "rms": return torch.optim.RMSprop(p, lr=lr or 3e-4, **more)
    return torch.optim.AdamW(p, lr=lr or 1e-3, **more)


def mse(p, y): return nn.functional.mse_loss(p.reshape(-1), y)
def huber(p, y): return nn.functional.smooth_l1_loss(p.reshape(-1), y)
def gaussian(p, y): return (torch.exp(-p[:, 1]) * (p[:, 0] - y) ** 2 + p[:, 1]).mean() / 2
def pinball(p, y):
    q = torch.tensor([0.1, 0.5, 0.9])
    e = y[:, None] - p
    return torch.maximum(q * e, (q - 1) * e).mean()


class World:
    """What a script has before its loop: data, batches by number, a net, an optimizer. The faults change it, or the loop."""
    def __init__(self, seed, folder, net="mlp", opt="adamw", lr=None, out=1, rows=64, dropout=0.0, steps=None, **options):
        torch.manual_seed(seed)
        self.g, self.folder = np.random.default_rng(seed + 77), folder
        self.raw, self.y = market(seed)
        self.scaler = Robust().fit(self.raw[:2000], NAMES)
        self.x = self.scaler.transform(self.raw)
        self.at = int(self.g.integers(5, 81))                      # the step of the fault
        self.steps, self.rows = steps or max(self.at + 30, 60), rows
        self.net = net if isinstance(net, nn.Module) else net_of(net, out, dropout)
        self.opt = optimizer_of(opt, self.net, lr, **options)
        self.order = np.random.default_rng(seed + 5).integers(0, len(self.y), size=(self.steps + 1, rows))

    def batch(self, i, names=("x", "y"), with_raw=False, with_rows=False, columns=None):
        r = self.order[i]
        b = {names[0]: torch.tensor(self.x[r], dtype=torch.float32), names[1]: torch.tensor(self.y[r], dtype=torch.float32)}
        if with_raw: b["raw"] = torch.tensor(self.raw[r])
        if with_rows: b["row_ids"] = torch.tensor(r)
        if columns is not None: b["columns"] = list(columns)
        return b

    def recorder(self, scaler=None, contract=None, **options): return Recorder(self.folder, self.net, self.opt, scaler, contract, **options)

    def fit(self, rec, loss=mse, make=None, clip=1.0, before=None, after=None, sched=None):
        """The plain loop: `make(i)` gives batches, `before(i)` and `after(i)` run outside the step."""
        make = make or self.batch
        with rec:
            for i in range(self.steps):
                if before is not None: before(i)
                b = make(i)
                x, y = list(b.values())[:2]
                with rec.step(b) as s:
                    self.opt.zero_grad()
                    l = s.loss(loss(self.net(x), y))
                    l.backward()
                    if clip: nn.utils.clip_grad_norm_(self.net.parameters(), clip)
                    self.opt.step()
                if sched is not None: sched.step()
                if after is not None: after(i)


def pick(seed, *choices): return choices[seed % len(choices)]
def hit(g, n, share): return g.random(n) < share


# ---- the faults -----------------------------------------------------------------------------------------------------------------------------------------

FAULTS = {}


def fault(stage, names, shows):
    """Registers a fault with the stage and the names that would be right, written before it was ever run; `shows`: whether the loss shows it."""
    def keep(f):
        FAULTS[f.__name__] = (stage, set(names.split()), shows, f)
        return f
    return keep


@fault(2, "FEATURE_UNSAFE_DIV FEATURE_RESIDUE", True)
def rolling_std_zero(seed, folder):
    """A z-score over a rolling window whose prices stand still: the running-sum variance leaves a residue, the scaler comes before, no bound."""
    w = World(seed, folder, net=pick(seed, "mlp", "gru", "conv"), opt=pick(seed, "adamw", "sgd"), lr=1e-3)
    c, eps = int(w.g.integers(36, 44)), 10.0 ** w.g.integers(-13, -8)
    flat = hit(w.g, len(w.x), w.g.uniform(0.002, 0.02))
    w.x[flat, c] = w.g.normal(size=flat.sum()) * 0.3 / (w.g.uniform(0, 1, flat.sum()) * 1e-12 + eps)
    w.fit(w.recorder(contract=Contract(columns=NAMES)), mse)


@fault(1, "RAW_NONFINITE", True)
def vix_missing(seed, folder):
    """The VIX file ends early: both VIX columns are NaN for one batch, in the raw rows and, since np.clip keeps NaN, in the scaled ones."""
    w = World(seed, folder, net=pick(seed, "layer", "gru", "mlp"), opt=pick(seed, "fused", "rms"))
    def make(i):
        b = w.batch(i, with_raw=True)
        if i == w.at:
            rows = torch.tensor(hit(w.g, w.rows, 0.5))
            for k in ("x", "raw"): b[k][rows, 44:46] = math.nan
        return b
    w.fit(w.recorder(contract=Contract(columns=NAMES)), huber, make)


@fault(4, "TARGET_SCALE", True)
def target_in_ticks(seed, folder):
    """After a refactoring the target comes in ticks instead of sigmas, from the first batch on."""
    w = World(seed, folder, net=pick(seed, "residual", "mlp"), opt=pick(seed, "adam", "sgd"), lr=1e-3)
    w.y *= w.g.uniform(15, 80)
    w.fit(w.recorder(contract=Contract(x_abs=10, y_abs=8)), mse)


@fault(4, "TARGET_SCALE", True)
def target_times_100(seed, folder):
    """Percent against fraction: the target of one batch is 100 times too large. No contract was written."""
    w = World(seed, folder, net=pick(seed, "layer", "conv", "mlp"), opt=pick(seed, "fused", "adam"))
    def make(i):
        b = w.batch(i, ("features", "label"))
        if i == w.at: b["label"] *= 100
        return b
    w.fit(w.recorder(), mse, make)


@fault(6, "CAST_OVERFLOW", True)
def half_on_the_way(seed, folder):
    """Half precision saves bandwidth: x.half() before the copy and .float() after it; one unscaled column of notional passes 65504, the net's BatchNorm had coped."""
    w = World(seed, folder, net="batch_first", opt=pick(seed, "adamw", "rms"))
    w.x[:, 53] = 6e4 * np.clip(w.g.normal(0.5, 0.12, len(w.x)), 0, 1)
    big = hit(w.g, len(w.x), 0.002)
    w.x[big, 53] = w.g.uniform(7e4, 2e5, big.sum())
    rec = w.recorder()
    with rec:
        for i in range(w.steps):
            b = w.batch(i)
            with rec.step(b) as s:
                x = b["x"].half().float()
                l = s.loss(mse(w.net(x), b["y"]))
                w.opt.zero_grad(set_to_none=True)
                l.backward()
                w.opt.step()


@fault(3, "SCALER_COLUMNS", False)
def column_swapped(seed, folder):
    """One shard was written with two columns exchanged: its batch says so in its own list of names, nobody reads it."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt="adamw")
    a, c = w.g.choice(N_COLUMNS, 2, replace=False)
    def make(i):
        b = w.batch(i, columns=NAMES)
        if i == w.at:
            o = np.arange(N_COLUMNS)
            o[[a, c]] = o[[c, a]]
            b["x"], b["columns"] = b["x"][:, o.tolist()], [NAMES[k] for k in o]
        return b
    w.fit(w.recorder(contract=Contract(columns=NAMES)), mse, make)


@fault(3, "SCALER_COLUMNS SCALER_SATURATED", False)
def scaler_of_sorted_columns(seed, folder):
    """The scaler was fitted on a frame whose columns were sorted by name and is applied by position."""
    w = World(seed, folder, net=pick(seed, "mlp", "residual"), opt=pick(seed, "adamw", "adam"))
    o = sorted(range(N_COLUMNS), key=lambda k: NAMES[k])
    w.scaler = Robust().fit(w.raw[:2000, o], [NAMES[k] for k in o])
    w.x = w.scaler.transform(w.raw)
    w.fit(w.recorder(w.scaler, Contract(x_abs=10, columns=NAMES)), huber, lambda i: w.batch(i, with_raw=True))


@fault(3, "SCALER_BYPASS", True)
def new_column_unscaled(seed, folder):
    """A column was added after the scaler was written: price comes through as it is, the raw rows are in the batch."""
    w = World(seed, folder, net=pick(seed, "mlp", "gru"), opt=pick(seed, "adamw", "sgd"), lr=1e-4)
    w.x[:, 52] = w.raw[:, 52]
    w.fit(w.recorder(w.scaler, Contract(x_abs=10, columns=NAMES)), mse, lambda i: w.batch(i, with_raw=True))


@fault(4, "TARGET_NONFINITE", True)
def last_rows_have_no_future(seed, folder):
    """shift(-h) leaves NaN in the last rows of the last session, and one batch draws one of them."""
    w = World(seed, folder, net=pick(seed, "batch", "gru"), opt=pick(seed, "adamw", "sgd"))
    def make(i):
        b = w.batch(i, ("inputs", "targets"))
        if i == w.at: b["targets"][int(w.g.integers(w.rows))] = math.nan
        return b
    w.fit(w.recorder(), huber, make)


def in_the_copy(w, rec, spoil, loss=mse):
    """A loop with its own copy to the device; `spoil(i, x, y)` is what the copy does."""
    with rec:
        for i in range(w.steps):
            b = w.batch(i)
            with rec.step(b) as s:
                x, y = spoil(i, b["x"].clone(), b["y"].clone())
                l = s.loss(loss(w.net(x), y))
                w.opt.zero_grad()
                l.backward()
                nn.utils.clip_grad_norm_(w.net.parameters(), 1.0)
                w.opt.step()


@fault(5, "COPY_STALE", False)
def inputs_of_the_last_batch(seed, folder):
    """A pinned buffer is reused too early: the net computes on the inputs of the batch before."""
    w = World(seed, folder, net=pick(seed, "mlp", "gru", "layer"), opt=pick(seed, "adamw", "sgd"))
    in_the_copy(w, w.recorder(every=4), lambda i, x, y: (w.batch(i - 1)["x"], y) if i >= w.at else (x, y))


@fault(5, "COPY_STALE", False)
def targets_of_the_last_batch(seed, folder):
    """The same with the targets."""
    w = World(seed, folder, net=pick(seed, "mlp", "conv", "layer"), opt=pick(seed, "fused", "rms"))
    in_the_copy(w, w.recorder(every=4), lambda i, x, y: (x, w.batch(i - 1)["y"]) if i >= w.at else (x, y))


@fault(5, "COPY_BLOCK", False)
def half_of_the_batch_zero(seed, folder):
    """The copy ends half way: the rest of the rows are zeros, in every step from some step on."""
    w = World(seed, folder, net=pick(seed, "residual", "mlp"), opt=pick(seed, "adamw", "sgd"))
    def spoil(i, x, y):
        if i >= w.at: x[w.rows // 2:] = 0
        return x, y
    in_the_copy(w, w.recorder(every=4), spoil)


@fault(5, "COPY_BLOCK COPY_STALE", False)
def rows_in_another_order(seed, folder):
    """The inputs are gathered by another permutation than the targets."""
    w = World(seed, folder, net=pick(seed, "mlp", "batch"), opt="adamw")
    in_the_copy(w, w.recorder(every=4), lambda i, x, y: (x[torch.randperm(len(x))], y) if i >= w.at else (x, y))


@fault(7, "REPLICA_DESYNC", False)
def old_weights_written_back(seed, folder):
    """An evaluation swaps averaged weights in and puts one matrix back from an older copy."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=pick(seed, "adamw", "sgd"))
    old = {n: p.detach().clone() for n, p in w.net.named_parameters()}
    def before(i):
        if i == w.at:
            n = [n for n in old if n.endswith("weight")][int(w.g.integers(2))]
            with torch.no_grad(): dict(w.net.named_parameters())[n].copy_(old[n])
    w.fit(w.recorder(every=4), mse, before=before)


@fault(7, "REPLICA_DESYNC COPY_BITFLIP", True)
def bit_flip_in_a_bias(seed, folder):
    """The highest exponent bit of one bias turns over between two steps."""
    w = World(seed, folder, net=pick(seed, "mlp", "residual"), opt=pick(seed, "adamw", "sgd", "adam"))
    def before(i):
        if i == w.at:
            p = [p for n, p in w.net.named_parameters() if n.endswith("bias")][-1 - int(w.g.integers(2))]
            with torch.no_grad(): p.view(torch.int32)[int(w.g.integers(p.numel()))] ^= 1 << 30
    w.fit(w.recorder(every=4), mse, before=before)


@fault(15, "LR_DIVERGED", True)
def scheduler_times_1000(seed, folder):
    """A scheduler in epochs is fed with steps: from some step on the rate is a thousand times the right one."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer", "residual"), opt=pick(seed, "sgd", "adamw", "rms"))
    w.fit(w.recorder(), mse, clip=None, sched=torch.optim.lr_scheduler.LambdaLR(w.opt, lambda t: 1000.0 if t >= w.at else 1.0))


@fault(15, "LR_DIVERGED", True)
def loss_summed(seed, folder):
    """mean() became sum() under plain SGD whose rate was tuned for the mean."""
    w = World(seed, folder, net=pick(seed, "mlp", "gru"), opt="sgd", lr=w_lr(seed), rows=pick(seed, 128, 256))
    w.fit(w.recorder(), lambda p, y: ((p.reshape(-1) - y) ** 2).sum(), clip=None)


def w_lr(seed): return 0.03 + 0.01 * (seed % 3)


@fault(13, "GRAD_ACCUM", False)
def zero_grad_every_second_step(seed, folder):
    """`if i % 2: zero_grad()` was left from an accumulation that is gone."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=pick(seed, "adamw", "sgd"), lr=1e-3)
    rec, offset = w.recorder(every=pick(seed, 16, 5)), seed % 2
    with rec:
        for i in range(w.steps):
            b = w.batch(i)
            with rec.step(b) as s:
                if i % 2 == offset: w.opt.zero_grad()
                l = s.loss(huber(w.net(b["x"]), b["y"]))
                l.backward()
                w.opt.step()


@fault(13, "GRAD_ACCUM", False)
def saliency_leaves_gradients(seed, folder):
    """zero_grad comes after the step, and between the steps a saliency of a probe batch runs backward through the weights."""
    w = World(seed, folder, net=pick(seed, "mlp", "residual", "gru"), opt=pick(seed, "adamw", "rms"))
    rec = w.recorder(every=4)
    with rec:
        for i in range(w.steps):
            b = w.batch(i)
            if i >= w.at:
                probe = w.batch(w.steps)["x"].requires_grad_()
                w.net(probe).sum().backward()
            with rec.step(b) as s:
                l = s.loss(mse(w.net(b["x"]), b["y"]))
                l.backward()
                w.opt.step()
                w.opt.zero_grad()


@fault(13, "GRAD_ACCUM", False)
def accumulation_divides_by_nothing(seed, folder):
    """Four micro-batches are added and nobody divides by four; one recorded step takes all four."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=pick(seed, "sgd", "adamw"), lr=1e-3, steps=80)
    rec = w.recorder()
    with rec:
        for i in range(0, w.steps, 4):
            micro = [w.batch(i + k) for k in range(4)]
            with rec.step(micro) as s:
                w.opt.zero_grad()
                for b in micro:
                    l = mse(w.net(b["x"]), b["y"])
                    l.backward()
                s.loss(l)
                w.opt.step()


def scaled_loop(w, amp, rec, step):
    with rec:
        for i in range(w.steps):
            b = w.batch(i)
            with rec.step(b) as s:
                w.opt.zero_grad()
                l = s.loss(mse(w.net(b["x"]), b["y"]))
                amp.scale(l).backward()
                step(i)
                amp.update()


@fault(14, "CLIP_ORDER", False)
def values_clipped_before_unscale(seed, folder):
    """clip_grad_value_ (or the norm) on gradients that are still scaled."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=pick(seed, "adamw", "sgd"))
    amp = torch.amp.GradScaler("cpu", init_scale=2.0 ** (10 + seed))
    def step(i):
        if seed % 2: nn.utils.clip_grad_value_(w.net.parameters(), 0.5)
        else: nn.utils.clip_grad_norm_(w.net.parameters(), 1.0)
        amp.step(w.opt)
    scaled_loop(w, amp, w.recorder(amp), step)


@fault(14, "UNSCALE_MISSING", False)
def scaled_by_hand(seed, folder):
    """A loss scale written by hand: the loss times 1024 goes backward, and the division was lost in a merge."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=pick(seed, "adamw", "adam"))
    rec, k = w.recorder(), pick(seed, 1024.0, 65536.0)
    with rec:
        for i in range(w.steps):
            b = w.batch(i)
            with rec.step(b) as s:
                w.opt.zero_grad()
                l = s.loss(mse(w.net(b["x"]), b["y"]))
                (l * k).backward()
                w.opt.step()


@fault(15, "OPT_STATE_LOST", False)
def second_moments_zeroed(seed, folder):
    """A resume that fills what it does not find with zeros: the second moments are gone, the rest is there."""
    kind = pick(seed, "adamw", "rms", "adam")
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=kind)
    def before(i):
        if i == w.at:
            for st in w.opt.state.values(): st["square_avg" if kind == "rms" else "exp_avg_sq"].zero_()
    w.fit(w.recorder(every=4), mse, before=before)


@fault(15, "OPT_STATE_LOST", False)
def whole_state_zeroed(seed, folder):
    """Both moments are zero, the step count goes on: no bias correction, the first updates are three times too long."""
    w = World(seed, folder, net=pick(seed, "residual", "mlp"), opt=pick(seed, "adamw", "adam", "fused"))
    def before(i):
        if i == w.at:
            for st in w.opt.state.values(): st["exp_avg"].zero_(), st["exp_avg_sq"].zero_()
    w.fit(w.recorder(every=4), mse, before=before)


@fault(9, "BN_STATS BUFFER_UNINIT", True)
def batch_norm_without_variance(seed, folder):
    """Fine-tuning with frozen statistics, whose variances came as zeros from a checkpoint of the wrong layout."""
    w = World(seed, folder, net=pick(seed, "batch", "conv"), opt="adamw")
    def before(i):
        if i in (0, w.at):
            for m in w.net.modules():
                if isinstance(m, nn.BatchNorm1d): m.eval(), (m.running_var.zero_() if i == w.at else None)
    for i in range(20): w.net(w.batch(i)["x"])
    w.fit(w.recorder(), mse, before=before)


@fault(8, "BUFFER_UNINIT", True)
def deviations_never_filled(seed, folder):
    """A buffer of deviations made with torch.empty: what happened to lie there."""
    w = World(seed, folder, net=Standardised(net_of(pick(seed, "mlp", "layer"))), opt="adamw")
    junk = 10.0 ** w.g.uniform(-38, 30, N_COLUMNS) * np.where(hit(w.g, N_COLUMNS, 0.5), 1, -1)
    if seed % 2: junk[hit(w.g, N_COLUMNS, 0.2)] = np.nan
    w.net.std.copy_(torch.tensor(junk))
    w.fit(w.recorder(), mse)


@fault(12, "LOSS_EXP", True)
def unbounded_log_variance(seed, folder):
    """A Gaussian likelihood by hand: half of the rows come from a closed session, features and target zero, and their log-variance falls without end; then it opens."""
    w = World(seed, folder, net=MeanAndVariance(net_of(pick(seed, "mlp", "layer"))), opt="adamw", lr=1e-2, steps=170)
    w.at = 110 + w.at // 2
    def make(i):
        b = w.batch(i)
        b["x"][::2] = 0
        if i < w.at: b["y"][::2] = 0
        return b
    w.fit(w.recorder(), gaussian, make, clip=None)


@fault(12, "LOSS_EXP", True)
def log_of_a_negative(seed, folder):
    """QLIKE on a variance that nothing keeps positive, log(p) + v/p: the variances are small, and one row after the other comes below zero."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt="adamw", lr=4e-3)
    w.y = 0.02 * w.y ** 2 + 1e-3
    w.x = w.x * 0.2
    with torch.no_grad(): w.net[-1].bias.fill_(w.g.uniform(0.5, 0.7)), w.net[-1].weight.mul_(0.3)
    w.fit(w.recorder(), lambda p, y: (torch.log(p.reshape(-1)) + y / p.reshape(-1)).mean())


@fault(12, "LOSS_EXP", False)
def root_of_zero(seed, folder):
    """The root of the mean square, session by session; one batch has no row of a session: the loss is finite, the gradient is inf times zero."""
    w = World(seed, folder, net=pick(seed, "layer", "mlp", "gru"), opt=pick(seed, "adamw", "sgd"))
    rec = w.recorder()
    with rec:
        for i in range(w.steps):
            b = w.batch(i)
            b["x"][0, 51], b["x"][1, 51] = 1, 0
            if i == w.at: b["x"][:, 51] = 0
            with rec.step(b) as s:
                e, special = (w.net(b["x"]).reshape(-1) - b["y"]) ** 2, (b["x"][:, 51] > 0.5).float()
                l = s.loss(sum(((e * m).sum() / m.sum().clamp(min=1)).sqrt() for m in (special, 1 - special)))
                w.opt.zero_grad()
                l.backward()
                w.opt.step()


@fault(15, "OPT_PRECISION PARAM_NONFINITE", True)
def eps_of_zero(seed, folder):
    """Adam with eps=0, and a column that is zero in the first batches: 0/0 in its weights."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=pick(seed, "adamw", "adam"), eps=0.0)
    w.x[:, int(w.g.integers(48, 52))] = 0
    w.fit(w.recorder(), mse)


@fault(9, "ACT_OVERFLOW", True)
def gate_by_exp(seed, folder):
    """exp where a sigmoid was meant: three rows of a crash, inside the bounds of the contract, are too much for float32."""
    w = World(seed, folder, net=Gate(gain=pick(seed, 20.0, 25.0)), opt="adamw", lr=1e-4)
    w.x = w.x * 0.05
    def make(i):
        b = w.batch(i)
        if i == w.at: b["x"][torch.tensor(w.g.choice(w.rows, 3, replace=False))] *= 60
        b["x"].clamp_(-10, 10)
        return b
    w.fit(w.recorder(contract=Contract(x_abs=10)), huber, make)


# ---- the healthy --------------------------------------------------------------------------------------------------------------------------------------

HEALTHY = {}


def healthy(f):
    HEALTHY[f.__name__] = f
    return f


@healthy
def dropout_left_on(seed, folder):
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), dropout=0.5)
    w.fit(w.recorder(every=4, contract=Contract(x_abs=10, y_abs=8)), huber)


@healthy
def recurrent_with_restarts(seed, folder):
    w = World(seed, folder, net="gru", opt="sgd", lr=0.05)
    w.fit(w.recorder(every=4), mse, sched=torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(w.opt, 10))


@healthy
def jitter_and_masks(seed, folder):
    """Augmentation inside the step: noise on the inputs, and columns masked by zeros in half of the rows."""
    w = World(seed, folder, net=pick(seed, "mlp", "residual"))
    def spoil(i, x, y):
        x = x + 0.05 * torch.randn_like(x)
        x[torch.rand(len(x)) < 0.5, int(w.g.integers(50)):][:, :4] = 0
        return x * (torch.rand_like(x) > 0.1), y
    in_the_copy(w, w.recorder(every=4), spoil)


@healthy
def mixup(seed, folder):
    w = World(seed, folder, net="layer", opt="rms")
    def spoil(i, x, y):
        k, o = 0.7, torch.randperm(len(x))
        return k * x + (1 - k) * x[o], k * y + (1 - k) * y[o]
    in_the_copy(w, w.recorder(every=4), spoil)


@healthy
def accumulation_done_right(seed, folder):
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=pick(seed, "sgd", "adamw"), steps=80)
    rec = w.recorder()
    with rec:
        for i in range(0, w.steps, 4):
            micro = [w.batch(i + k) for k in range(4)]
            with rec.step(micro) as s:
                w.opt.zero_grad()
                total = 0.0
                for b in micro:
                    l = mse(w.net(b["x"]), b["y"]) / 4
                    l.backward()
                    total += l.detach()
                s.loss(total)
                nn.utils.clip_grad_norm_(w.net.parameters(), 1.0)
                w.opt.step()


@healthy
def gradient_scaler_done_right(seed, folder):
    w = World(seed, folder, net=pick(seed, "mlp", "batch"), opt=pick(seed, "adamw", "sgd"))
    amp = torch.amp.GradScaler("cpu", init_scale=2.0 ** 12, growth_interval=15)
    def step(i):
        amp.unscale_(w.opt)
        nn.utils.clip_grad_norm_(w.net.parameters(), 1.0)
        amp.step(w.opt)
    scaled_loop(w, amp, w.recorder(amp, every=4), step)


@healthy
def wrapped_convolutions(seed, folder):
    w = World(seed, folder, net="conv", opt="rms")
    rec = w.recorder()
    def train_step(batch):
        w.opt.zero_grad()
        l = huber(w.net(batch["inputs"]), batch["target"])
        l.backward()
        w.opt.step()
        return l
    step = rec.wrap(train_step)
    for i in range(w.steps): step(w.batch(i, ("inputs", "target")))
    rec.close()


@healthy
def three_quantiles(seed, folder):
    w = World(seed, folder, net=pick(seed, "residual", "gru"), out=3, opt="fused")
    w.fit(w.recorder(w.scaler, Contract(x_abs=10, y_abs=8, columns=NAMES), every=4), pinball, lambda i: w.batch(i, with_raw=True, with_rows=True))


@healthy
def heavy_tails_fast_rate(seed, folder):
    """Student t with 2.1 degrees of freedom, unclipped, Huber, a rate of 1e-2 and strong decay."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), lr=1e-2, weight_decay=0.1)
    w.y = w.y + w.g.standard_t(2.1, size=len(w.y))
    w.fit(w.recorder(every=4), huber)


@healthy
def averaged_weights_and_back(seed, folder):
    """Every ten steps averaged weights go in for an evaluation and the right ones come back."""
    w = World(seed, folder, net=pick(seed, "mlp", "batch"), opt=pick(seed, "adamw", "sgd"))
    mean = copy.deepcopy(w.net)
    def after(i):
        with torch.no_grad():
            for a, p in zip(mean.parameters(), w.net.parameters()): a.lerp_(p, 0.1)
            if i % 10 == 9:
                kept = copy.deepcopy(w.net.state_dict())
                w.net.load_state_dict(mean.state_dict())
                w.net.eval()
                w.net(w.batch(w.steps)["x"])
                w.net.train()
                w.net.load_state_dict(kept)
    w.fit(w.recorder(every=4), mse, after=after)


@healthy
def uneven_last_batch(seed, folder):
    """Epochs whose last batch has five rows, a plateau scheduler, zero_grad after the step."""
    w = World(seed, folder, net=pick(seed, "batch", "gru"), opt="adam", rows=128)
    sched, rec = torch.optim.lr_scheduler.ReduceLROnPlateau(w.opt, patience=5), w.recorder(every=4)
    with rec:
        for i in range(w.steps):
            b = w.batch(i)
            if i % 12 == 11: b = {k: v[:5] for k, v in b.items()}
            with rec.step(b) as s:
                l = s.loss(mse(w.net(b["x"]), b["y"]))
                l.backward()
                w.opt.step()
                w.opt.zero_grad()
            sched.step(l.item())


@healthy
def closed_sessions(seed, folder):
    """Every second row comes from a closed session: all features and the target are zero."""
    w = World(seed, folder, net=pick(seed, "mlp", "layer"), opt=pick(seed, "adamw", "adam"), steps=170)
    def make(i):
        b = w.batch(i)
        b["x"][::2], b["y"][::2] = 0, 0
        return b
    w.fit(w.recorder(), huber, make)


@healthy
def frozen_statistics_and_layers(seed, folder):
    """Fine-tuning: BatchNorm in eval, the first layer without gradients, two groups of rates."""
    w = World(seed, folder, net="batch")
    for i in range(30): w.net(w.batch(i)["x"])
    w.net[0].requires_grad_(False)
    w.net[1].eval()
    w.opt = torch.optim.AdamW([dict(params=w.net[1].parameters(), lr=1e-4), dict(params=w.net[3].parameters(), lr=3e-3)])
    w.fit(w.recorder(every=4), huber)


# ---- the count ------------------------------------------------------------------------------------------------------------------------------------------

def try_one(f, seed):
    """The diagnosis of one run of `f`."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recorder")     # it says what it found in every one of these runs
        torch.manual_seed(seed)
        f(seed, folder)
        return diagnose(folder)


def score(names, found):
    """`"right"`, `"unknown"`, `"missed"` (called healthy) or `"wrong"`."""
    if found.name in names: return "right"
    return dict(UNKNOWN="unknown", HEALTHY="missed").get(found.name, "wrong")


def held_out_table(seeds=range(5), say=print):
    """`(counts of faults, false alarms, healthy runs)`, and a line for each kind."""
    total, alarms, n = Counter(), 0, 0
    for kind, (stage, names, shows, f) in FAULTS.items():
        found = [try_one(f, seed) for seed in seeds]
        scores = Counter(score(names, d) for d in found)
        total += scores
        at = sum(bool(d.verdicts) and d.verdicts[0].stage == stage for d in found)
        named = ", ".join(f"{k} {v}" for k, v in Counter(d.name for d in found).most_common())
        say(f"{kind:34}{stage:3} {'loss' if shows else '-':5}{'|'.join(sorted(names)):40}{named:60}{scores['right']:2}{scores['unknown']:3}{scores['missed']:3}{scores['wrong']:3}   stage {at}")
    for kind, f in HEALTHY.items():
        found = [try_one(f, seed) for seed in seeds]
        bad = [d.name for d in found if not d.is_healthy]
        alarms, n = alarms + len(bad), n + len(found)
        say(f"{kind:34}    healthy                                      {', '.join(bad) or 'no alarm'}")
    return total, alarms, n


if __name__ == "__main__":
    total, alarms, n = held_out_table()
    k = total.total()
    print(f"{k} planted: right {total['right'] / k:.1%}, unknown {total['unknown'] / k:.1%}, missed {total['missed'] / k:.1%}, wrong {total['wrong'] / k:.1%}; {alarms} alarms in {n} healthy runs")
