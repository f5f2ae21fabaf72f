"""The kinds of faults: `FAULTS[kind] = (stage, accepted names, function(seed, folder) -> World)`."""
import numpy as np
import torch
from torch import nn

from .world import N_FEATURES, N_ROWS, healthy

FAULTS = {}


def fault(stage, *names, silent=False):
    def keep(plant):
        FAULTS[plant.__name__] = (stage, names, plant, silent)
        return plant
    return keep


def pick(seed, kind, n): return int(np.random.default_rng((seed, sum(map(ord, kind)))).integers(n))


def hit(w, share=0.03):
    """Rows that are hit, at least one in a batch of the first steps."""
    return np.random.default_rng((w.seed, 3)).random(N_ROWS) < share


def once(w, value, change):
    """`change` applied at step `w.at` only."""
    return change(value) if w.step == w.at else value


# raw data and features -------------------------------------------------------------------------------------------------
@fault(1, "RAW_NONFINITE")
def raw_nan(seed, folder):
    w, j = healthy(seed, folder), pick(seed, "raw", N_FEATURES)
    rows = hit(w)
    w.raw[rows, j] = np.nan; w.x[rows, j] = np.nan        # np.clip keeps NaN
    return w


@fault(1, "RAW_NONFINITE")
def log_of_negative(seed, folder):
    w, j = healthy(seed, folder, with_raw=False), pick(seed, "log", N_FEATURES)
    def host(w, b):
        if w.step >= w.at: b["x"][pick(w.step, "r", len(b["x"])), j] = float("nan")
        return b
    return w.on("host", host)


@fault(1, "RAW_ROLL")
def return_across_roll(seed, folder):
    w = healthy(seed, folder)
    price = 5000 + np.cumsum(w.rng.standard_normal(N_ROWS))
    after = price * (1 + 1e-3 * w.rng.standard_normal(N_ROWS))
    contract, later = np.zeros(N_ROWS, np.int64), np.zeros(N_ROWS, np.int64)
    rows = hit(w, 0.02)
    later[rows] = 1
    w.y = np.where(rows, 40 + 10 * w.rng.random(N_ROWS), w.y)   # a gap of many sigmas
    w.extra = dict(price=price, next_price=after, contract=contract, next_contract=later)
    return w


def column(w, j, values):
    w.raw[:, j] = values
    center, scale = np.median(values), np.subtract(*np.percentile(values, [75, 25]))
    w.center[j], w.scale[j] = center, scale if scale > 2.2e-15 else 1.0     # scikit-learn's guard
    w.x[:, j] = (values - w.center[j]) / w.scale[j]


@fault(2, "FEATURE_RESIDUE")
def iqr_residue(seed, folder):
    w, j = healthy(seed, folder), pick(seed, "iqr", N_FEATURES)
    dust = w.rng.integers(-2, 3, N_ROWS) * 2.0 ** -40
    column(w, j, np.where(hit(w), w.rng.integers(1, 40, N_ROWS) * 0.25, dust))
    return w


@fault(2, "FEATURE_RESIDUE", silent=True)
def iqr_residue_clipped(seed, folder):
    w = iqr_residue(seed, folder)
    w.with_raw = w.with_scaler = True
    w.x = np.clip(w.x, -10, 10)
    return w


@fault(2, "FEATURE_UNSAFE_DIV", "FEATURE_RESIDUE")
def running_sum_division(seed, folder):
    w, j = healthy(seed, folder), pick(seed, "run", N_FEATURES)
    base = np.where(hit(w), 3.8e-11 * w.rng.integers(1, 9, N_ROWS), w.rng.gamma(2.0, 500, N_ROWS))
    column(w, j, w.rng.gamma(2.0, 500, N_ROWS) / base)
    return w


@fault(2, "FEATURE_UNSAFE_DIV")
def eps_division(seed, folder):
    w, j = healthy(seed, folder), pick(seed, "eps", N_FEATURES)
    base = np.where(hit(w), 0.0, w.rng.gamma(2.0, 500, N_ROWS))
    column(w, j, w.rng.gamma(2.0, 500, N_ROWS) / (base + 10.0 ** -float(w.rng.integers(8, 13))))
    return w


@fault(2, "FEATURE_UNSAFE_DIV")
def zero_division(seed, folder):
    w, j = healthy(seed, folder, with_raw=False), pick(seed, "zero", N_FEATURES)
    w.x[hit(w), j] = np.inf
    return w


# scaler ------------------------------------------------------------------------------------------------------------------
@fault(3, "SCALER_TINY")
def tiny_iqr(seed, folder):
    w, j = healthy(seed, folder, with_scaler=True), pick(seed, "tiny", N_FEATURES)
    w.raw[:, j] = w.rng.gamma(2.0, 10, N_ROWS)
    w.center[j], w.scale[j] = np.median(w.raw[:, j]), 10.0 ** -w.rng.uniform(10.5, 13)
    w.x[:, j] = (w.raw[:, j] - w.center[j]) / w.scale[j]
    return w


@fault(3, "SCALER_TINY", silent=True)
def tiny_iqr_clipped(seed, folder):
    w = tiny_iqr(seed, folder)
    w.with_raw = True
    w.x = np.clip(w.x, -10, 10)
    return w


@fault(3, "SCALER_BYPASS")
def raw_batches(seed, folder):
    w = healthy(seed, folder)
    first = w.at
    def host(w, b):
        if (w.step - first) % 5 == 0 and w.step >= first: b["x"] = torch.tensor(w.raw[w.rows(w.step)], dtype=torch.float32)
        return b
    return w.on("host", host)


@fault(3, "SCALER_COLUMNS", silent=True)
def columns_reordered(seed, folder):
    w = healthy(seed, folder)
    order = w.rng.permutation(N_FEATURES)
    while (order == np.arange(N_FEATURES)).sum() > 5: order = w.rng.permutation(N_FEATURES)
    w.x = w.x[:, order]
    w.extra_names = [w.names[k] for k in order]
    def host(w, b):
        b["columns"] = w.extra_names
        return b
    return w.on("host", host)


@fault(3, "SCALER_COLUMNS", silent=True)
def columns_scaled_by_others(seed, folder):
    w = healthy(seed, folder, with_raw=True, with_scaler=True)
    order = np.roll(np.arange(N_FEATURES), 1 + pick(seed, "order", N_FEATURES - 1))
    w.x = np.clip((w.raw[:, order] - w.center) / w.scale, -10, 10)
    return w


@fault(3, "SCALER_COLUMNS", silent=True)
def columns_reordered_later(seed, folder):
    w = healthy(seed, folder, batch_size=64)
    order = np.roll(np.arange(N_FEATURES), 1 + pick(seed, "later", N_FEATURES - 1))
    def host(w, b):
        if w.step >= w.at: b["x"] = b["x"][:, torch.tensor(order)]
        return b
    return w.on("host", host)


@fault(3, "SCALER_SATURATED", silent=True)
def saturated_column(seed, folder):
    w, j = healthy(seed, folder, with_raw=False), pick(seed, "sat", N_FEATURES)
    w.x[:, j] = np.where(w.rng.random(N_ROWS) < w.rng.uniform(0.7, 0.95), 10.0, w.x[:, j])
    return w


# target ------------------------------------------------------------------------------------------------------------------
@fault(4, "TARGET_NONFINITE")
def target_nan(seed, folder):
    w = healthy(seed, folder)
    w.y[hit(w, 0.01)] = [np.nan, np.inf][seed % 2]
    return w


@fault(4, "TARGET_SCALE")
def target_tiny_volatility(seed, folder):
    w = healthy(seed, folder)
    rows = hit(w, 0.01)
    w.y[rows] = w.y[rows] * 10.0 ** w.rng.uniform(3, 12)
    return w


# copy and cast: hardware writes, no operation knows ------------------------------------------------------------------------
def damaged(x, change):
    x = x.clone()
    change(x.detach().numpy())
    return x


@fault(5, "COPY_BITFLIP")
def input_bit_flip(seed, folder):
    w = healthy(seed, folder)
    def flip(a):
        bits = a.view(np.uint32)
        bits[pick(seed, "row", len(a)), pick(seed, "col", a.shape[1])] ^= np.uint32(1 << (30 - pick(seed, "bit", 3)))
    return w.on("copy", lambda w, x: once(w, x, lambda x: damaged(x, flip)))


@fault(5, "COPY_BLOCK")
def input_garbage(seed, folder):
    w = healthy(seed, folder)
    def write(a):
        k, n = pick(seed, "at", a.size - 24), 12 + pick(seed, "n", 12)
        a.reshape(-1)[k:k + n] = (10.0 ** w.rng.uniform(3, 12, n)).astype(np.float32)
    return w.on("copy", lambda w, x: once(w, x, lambda x: damaged(x, write)))


@fault(5, "COPY_BLOCK", silent=True)
def input_zeros(seed, folder):
    w = healthy(seed, folder)
    first = pick(seed, "z", 12)
    return w.on("copy", lambda w, x: once(w, x, lambda x: damaged(x, lambda a: a[first:first + 8].fill(0.0))))


def previous(w, value, name):
    last = w.__dict__.get(f"last_{name}")
    w.__dict__[f"last_{name}"] = value.clone()
    return last


@fault(5, "COPY_STALE", silent=True)
def stale_input(seed, folder):
    w = healthy(seed, folder)
    def copy(w, x):
        last = previous(w, x, "x")
        return damaged(x, lambda a: a.__setitem__(slice(None), last.numpy())) if w.step == w.at else x
    return w.on("copy", copy)


@fault(5, "COPY_STALE", silent=True)
def stale_half(seed, folder):
    w = healthy(seed, folder)
    def copy(w, x):
        last = previous(w, x, "x")
        return damaged(x, lambda a: a.__setitem__(slice(len(a) // 2, None), last.numpy()[len(a) // 2:])) if w.step == w.at else x
    return w.on("copy", copy)


@fault(5, "COPY_STALE", silent=True)
def stale_target(seed, folder):
    w = healthy(seed, folder)
    def copy(w, y):
        last = previous(w, y, "y")
        return damaged(y, lambda a: a.__setitem__(slice(None), last.numpy())) if w.step >= w.at else y
    return w.on("copy_y", copy)


@fault(6, "CAST_OVERFLOW")
def input_cast_to_half(seed, folder):
    w = healthy(seed, folder, contract=False, loop="plain", net_kind="mlp")
    j = pick(seed, "half", N_FEATURES)
    w.x[:, j] = np.where(hit(w, 0.05), 1e5 * (1 + w.rng.random(N_ROWS)), w.x[:, j])
    return w.on("copy", lambda w, x: x.half().float())


# replicas and weights ------------------------------------------------------------------------------------------------------
def write_weights(w, change):
    p = list(w.net.parameters())
    change(p[2 * pick(w.seed, "layer", len(p) // 2)].detach().numpy())


@fault(7, "REPLICA_DESYNC")
def weights_garbage(seed, folder):
    w = healthy(seed, folder)
    def between(w, net):
        if w.step == w.at: write_weights(w, lambda a: a.reshape(-1)[:16].__setitem__(slice(None), (10.0 ** w.rng.uniform(3, 12, a.reshape(-1)[:16].shape)).astype(np.float32)))
    return w.on("between", between)


@fault(7, "REPLICA_DESYNC", silent=True)
def weights_zero(seed, folder):
    w = healthy(seed, folder)
    def between(w, net):
        if w.step == w.at: write_weights(w, lambda a: a.reshape(-1)[:16].fill(0.0))
    return w.on("between", between)


@fault(7, "REPLICA_DESYNC")
def weight_bit_flip(seed, folder):
    w = healthy(seed, folder)
    def flip(a):
        bits = a.reshape(-1).view(np.uint32)
        bits[pick(seed, "word", len(bits))] ^= np.uint32(1 << 30)
    def between(w, net):
        if w.step == w.at: write_weights(w, flip)
    return w.on("between", between)


@fault(8, "PARAM_NONFINITE")
def unguarded_nan_step(seed, folder):
    """A checkpoint with a NaN in it is loaded before the first step."""
    w = healthy(seed, folder)
    def net(w, net):
        p = list(net.parameters())
        p[2 * pick(seed, "nan", len(p) // 2)].detach().numpy().reshape(-1)[pick(seed, "w", 8)] = np.nan
    return w.on("net", net)





@fault(8, "BUFFER_UNINIT")
def empty_buffer(seed, folder):
    w = healthy(seed, folder, net_kind="user")
    def net(w, net):
        net.shift.numpy()[:] = (np.sign(w.rng.standard_normal(24)) * 10.0 ** w.rng.uniform(-38, 38, 24)).astype(np.float32)
        if seed % 2: net.shift.numpy()[3] = np.nan
    return w.on("net", net)


# forward ------------------------------------------------------------------------------------------------------------------
class Broken(nn.Linear):
    """A linear layer whose multiplication is now and then wrong, seen by nobody."""
    every, at, size, calls, rng = 0, None, 1.0, 0, None

    def forward(self, x):
        out = super().forward(x)
        self.calls += 1
        if self.calls == self.at or (self.every and self.calls >= self.at and (self.calls - self.at) % self.every == 0): out.detach().numpy()[3 % len(out), 5] += self.size
        return out


def broken(w, net, **facts):
    layer = next(m for m in net.modules() if isinstance(m, nn.Linear))
    layer.__class__ = Broken
    for k, v in facts.items(): setattr(layer, k, v)


@fault(9, "COMPUTE_WRONG")
def wrong_layer(seed, folder):
    w = healthy(seed, folder, loop="plain", net_kind=["mlp", "layernorm", "user"][seed % 3])
    return w.on("net", lambda w, net: broken(w, net, at=1, every=1, size=10.0 ** w.rng.uniform(2, 8)))


@fault(9, "COMPUTE_FLAKY", "COMPUTE_WRONG")
def flaky_layer(seed, folder):
    w = healthy(seed, folder, loop="plain", net_kind="mlp")
    return w.on("net", lambda w, net: broken(w, net, at=w.at, size=10.0 ** w.rng.uniform(6.5, 10)))


@fault(9, "ACT_OVERFLOW", "CAST_OVERFLOW")
def half_layer_overflows(seed, folder):
    class Half(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
        def forward(self, x): return (self.inner(x).half() * 3e4).float() / 3e4
    w = healthy(seed, folder, loop="plain", net_kind="mlp", contract=False)
    def net(w, net):
        net[0] = Half(net[0])
        with torch.no_grad(): net[0].inner.weight.mul_(3 + 3 * w.rng.random())
    return w.on("net", net)


@fault(9, "BN_STATS")
def batch_norm_lost_statistics(seed, folder):
    """Fine tuning with the norms in evaluation mode and statistics that were lost."""
    w = healthy(seed, folder, net_kind="batchnorm", loop="plain")
    def net(w, net):
        with torch.no_grad(): net[0].weight.mul_(10.0 ** w.rng.uniform(3, 4))
        for m in net.modules():
            if isinstance(m, nn.BatchNorm1d): m.eval()
    return w.on("net", net)





# loss -------------------------------------------------------------------------------------------------------------------
@fault(12, "LOSS_EXP")
def exp_of_log_variance(seed, folder):
    def loss(out, y): return (0.5 * (y - out[:, 0]) ** 2 * torch.exp(-out[:, 1]) + 0.5 * out[:, 1]).mean()
    w = healthy(seed, folder, n_out=2, net_kind="mlp", loop="plain", loss=loss)
    def net(w, net):
        with torch.no_grad(): net[-1].bias[1] = -w.rng.uniform(15, 30)
    return w.on("net", net)


@fault(12, "LOSS_EXP")
def division_in_the_loss(seed, folder):
    def loss(out, y): return ((out - y).abs() / (y.abs() + 1e-12)).mean()
    w = healthy(seed, folder, loss=loss)
    w.y[hit(w, 0.05)] = 0.0
    return w


# gradient and order of calls ------------------------------------------------------------------------------------------------
@fault(13, "GRAD_ACCUM", silent=True)
def no_zero_grad(seed, folder):
    return healthy(seed, folder, loop=["plain", "wrapped", "accumulate"][seed % 3], flags={"no_zero_grad"})


@fault(14, "UNSCALE_MISSING", silent=True)
def unscale_missing(seed, folder): return healthy(seed, folder, loop="scaler", flags={"unscale_missing"})


@fault(14, "CLIP_ORDER", silent=True)
def clip_before_unscale(seed, folder): return healthy(seed, folder, loop="scaler", flags={"clip_before_unscale"})


@fault(14, "CLIP_ORDER", silent=True)
def clip_after_step(seed, folder): return healthy(seed, folder, loop="plain", flags={"clip_after_step"})


# optimiser ------------------------------------------------------------------------------------------------------------------
def adam(seed): return ["adam", "adamw", "fused"][seed % 3]


@fault(15, "OPT_STATE_LOST")
def lost_second_moment(seed, folder):
    w = healthy(seed, folder, opt_kind=adam(seed), loop="plain")
    def after(w, net):
        if w.step == w.at:
            for s in w.opt.state.values(): s["exp_avg_sq"].numpy()[:] = 0.0
    return w.on("after", after)


@fault(15, "OPT_STATE_LOST", silent=True)
def optimizer_made_anew(seed, folder):
    w = healthy(seed, folder, opt_kind=adam(seed), loop=["plain", "accumulate"][seed % 2])
    def after(w, net):
        if w.step == w.at: w.opt.state.clear()
    return w.on("after", after)


@fault(15, "OPT_PRECISION")
def adam_in_half(seed, folder):
    w = healthy(seed, folder, opt_kind=["adam", "adamw"][seed % 2], net_kind=["mlp", "layernorm"][seed % 2], loop="plain")
    w.on("net", lambda w, net: net.half())
    return w.on("copy", lambda w, x: x.half())


@fault(15, "OPT_PRECISION", silent=True)
def weights_in_bfloat16(seed, folder):
    w = healthy(seed, folder, opt_kind="sgd", lr=1e-7, net_kind=["mlp", "layernorm"][seed % 2], loop="plain")
    w.on("net", lambda w, net: net.bfloat16())
    return w.on("copy", lambda w, x: x.bfloat16())


@fault(15, "LR_DIVERGED")
def rate_too_high_sgd(seed, folder):
    return healthy(seed, folder, opt_kind="sgd", net_kind=["mlp", "user"][seed % 2], lr=[3.0, 2.0, 5.0][seed % 3], clip=None, loop="plain", loss=nn.functional.mse_loss)


@fault(15, "LR_DIVERGED")
def rate_too_high_adam(seed, folder):
    return healthy(seed, folder, opt_kind=adam(seed), net_kind="mlp", lr=[1.0, 3.0, 2.0][seed % 3], clip=None, loop="plain", loss=nn.functional.mse_loss)
