"""Laws of the optimiser and the step: a refused batch changes nothing, a step is bounded, healthy runs stay healthy."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from futures_nb.losses import huber
from futures_nb.nets import MLP, ResidualMLP
from futures_nb.optim import WeightAverage, add_gradient_noise, decay_groups, make_optimizer, step_bound, update_shares
from futures_nb.step import Fuse, train_step

OPTIMIZERS = {
    "plain fused": lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, fused=True),
    "update clip": lambda net: make_optimizer(net, lr=0.01),
    "no update clip": lambda net: make_optimizer(net, lr=0.01, update_clip=False),
    "foreach": lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, foreach=True),
    "amsgrad": lambda net: torch.optim.Adam(net.parameters(), lr=0.01, fused=True, amsgrad=True),
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9),
    "rmsprop": lambda net: torch.optim.RMSprop(net.parameters(), lr=0.01, momentum=0.5),
}


def one_row(value):
    return lambda x, y, w: (x, torch.where(torch.arange(len(y)) == 3, value, y), w)


SPOILS = {
    "nan y": one_row(float("nan")),
    "inf y": one_row(float("inf")),
    "inf y, huber": one_row(float("inf")),                          # the loss is infinite, its gradient is not
    "inf weight": lambda x, y, w: (x, y, torch.where(torch.arange(len(y)) == 5, torch.inf, w)),
    "huge y": one_row(3e38),
    "bad group": lambda x, y, w: [(x[:20], y[:20], w[:20]), one_row(float("nan"))(x[20:], y[20:], w[20:])],
    "first of group": lambda x, y, w: [one_row(float("nan"))(x[:20], y[:20], w[:20]), (x[20:], y[20:], w[20:])],
}


def problem(seed=0, **options):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.standard_normal((64, 6)), dtype=torch.float32)
    net = ResidualMLP(6, hidden=8, seed=seed, **options)
    return net, (x, (x[:, 0] - x[:, 1]).clamp(-4, 4), torch.ones(64))


def squared(y_hat, y, weight=None, *, total=None):
    """Overflows for a huge target, which Huber's loss does not."""
    weight = torch.ones_like(y) if weight is None else weight
    return (weight * (y_hat - y) ** 2).sum() / (weight.sum() if total is None else total)


def everything(net, optimizer):
    state = [v for p in net.parameters() for _, v in sorted(optimizer.state[p].items()) if torch.is_tensor(v)]
    return [t.detach().clone() for t in [*net.parameters(), *net.buffers(), *state]]


def same(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.mark.parametrize("input_norm", [None, "batch"])
@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_refused_batch_leaves_every_bit_with_and_without_a_fuse(optimizer, spoil, input_norm):
    for fuse in (None, Fuse()):
        net, batch = problem(input_norm=input_norm)
        net.train()
        opt, loss = OPTIMIZERS[optimizer](net), huber if "huber" in spoil else squared
        for _ in range(3):
            assert train_step(net, batch, opt, loss=loss, fuse=fuse).is_finite
        before = everything(net, opt)
        assert not train_step(net, SPOILS[spoil](*batch), opt, loss=loss, fuse=fuse).is_finite
        assert same(before, everything(net, opt))
        if fuse is not None:
            for _ in range(15):
                assert train_step(net, batch, opt, loss=loss, fuse=fuse).is_finite
            assert fuse.is_blown() and same(before, everything(net, opt))
            fuse.reset()
        done = train_step(net, batch, opt, loss=loss, fuse=fuse)
        never, batch = problem(input_norm=input_norm)              # as if the bad batch had never been there
        never.train()
        opt_never = OPTIMIZERS[optimizer](never)
        for _ in range(4):
            last = train_step(never, batch, opt_never, loss=loss)
        assert done.loss == last.loss and same(everything(net, opt), everything(never, opt_never))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_refused_batch_leaves_every_bit_in_half_precision(dtype):
    net, batch = problem()
    opt, fuse = make_optimizer(net), Fuse()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30) if dtype == torch.float16 else None
    options = dict(fuse=fuse, autocast=dtype, scaler=scaler)
    while not train_step(net, batch, opt, **options).is_finite:    # the scale comes down; not one of these is a fault
        assert not fuse.is_blown()
    before = everything(net, opt)
    done = train_step(net, SPOILS["nan y"](*batch), opt, **options)
    assert not done.is_finite and fuse.is_blown()
    for _ in range(15):
        train_step(net, batch, opt, **options)
    assert same(before, everything(net, opt))


def test_the_scaled_step_clips_the_true_gradient():
    """With plain SGD the move is lr * min(clip, norm): clipped before it is unscaled it would be 65536 times smaller."""
    for clip in (0.05, 1e6):
        net, batch = problem()
        before = nn.utils.parameters_to_vector(net.parameters()).detach()
        scaler = torch.amp.GradScaler("cpu")
        done = train_step(net, batch, torch.optim.SGD(net.parameters(), lr=0.1), scaler=scaler, clip=clip)
        moved = (nn.utils.parameters_to_vector(net.parameters()).detach() - before).norm()
        assert moved.item() == pytest.approx(0.1 * min(clip, done.grad_norm.item()), rel=1e-3)
        assert 0.1 < done.grad_norm < 10                             # the logged norm is unscaled and unclipped


def test_nothing_makes_the_host_wait():
    class NoHostWait(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            assert "_local_scalar_dense" not in str(op), "the host waits"
            return op(*args, **(kwargs or {}))

    net, batch = problem(input_norm="batch")
    net.train()
    opt, fuse, average = make_optimizer(net), Fuse(), WeightAverage(net)
    for scaler in (None, torch.amp.GradScaler("cpu")):
        for b in (batch, SPOILS["nan y"](*batch), SPOILS["bad group"](*batch)):
            with NoHostWait():
                noise = lambda params: add_gradient_noise(params, 3)   # noqa: E731
                done = train_step(net, b, opt, fuse=fuse, scaler=scaler, autocast=torch.bfloat16, noise=noise)
                average.update(done.is_finite)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(n=st.integers(1, 40), size=st.integers(1, 40), loss=st.sampled_from(["huber", "direction"]), weighted=st.booleans(), seed=st.integers(0, 999))
def test_a_group_is_the_one_big_batch(n, size, loss, weighted, seed):
    rng = np.random.default_rng(seed)
    x, y = torch.tensor(rng.standard_normal((n, 6))), torch.tensor(rng.choice([-1.0, 0.0, 2.0], n))
    weight = torch.tensor(rng.uniform(0.1, 2, n)) if weighted else None
    results = []
    for cut in (n, size):
        net = ResidualMLP(6, hidden=8, seed=seed % 7).double()
        nn.init.normal_(net.head.weight, generator=torch.Generator().manual_seed(seed))
        group = [(x[a:a + cut], y[a:a + cut], None if weight is None else weight[a:a + cut]) for a in range(0, n, cut)]
        done = train_step(net, group, torch.optim.SGD(net.parameters(), lr=0.1), loss=loss)
        results.append((done.loss, done.grad_norm, *net.parameters()))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(b2=st.sampled_from([0.95, 0.99, 0.999]), seed=st.integers(0, 9999), tail=st.floats(0.5, 5), grow=st.floats(0.8, 1.2), clipped=st.booleans())
def test_no_step_is_longer_than_the_bound(b2, seed, tail, grow, clipped):
    rng = np.random.default_rng(seed)
    net = nn.Linear(3, 2, bias=False).double()
    opt = make_optimizer(net, lr=1e-3, weight_decay=0.0, betas=(0.9, b2), update_clip=clipped)
    for t in range(60):
        before = net.weight.detach().clone()
        net.weight.grad = torch.tensor(rng.standard_t(tail, (2, 3)) * grow**t)
        opt.step()
        assert (net.weight.detach() - before).abs().max() <= 1e-3 * step_bound((0.9, b2)) * (1 + 1e-6)


def test_update_shares_are_one_for_gradients_as_usual_and_small_for_a_jump():
    net = nn.Linear(50, 50)
    opt = make_optimizer(net, betas=(0.9, 0.99))
    for t in range(200):
        for p in net.parameters():
            p.grad = torch.full_like(p, 30.0 if t == 199 else 1.0)
        if t == 199:
            expected = (1 + 0.01 * (900 - 1) / (1 - 0.99**200)) ** 0.5 / 30
            assert update_shares(opt, opt.param_groups[0], opt.param_groups[0]["params"]).item() == pytest.approx(expected, rel=1e-3)
        opt.step()
        if t < 199:
            assert opt.update_clip.shares is None or opt.update_clip.shares.min() > 0.999
    assert int(opt.update_clip.n_clipped) >= 2


def test_same_seed_same_bits_and_another_seed_others():
    def run(seed):
        net, batch = problem(seed=1, dropout=0.2)
        opt = make_optimizer(net)
        for k in range(8):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed + k)
                train_step(net, [batch, batch], opt, noise=lambda params, k=k: add_gradient_noise(params, k, seed=seed))
        return everything(net, opt)

    assert same(run(0), run(0)) and not same(run(0), run(100))


def test_an_optimizer_that_has_decay_groups_covers_every_parameter_once():
    net = ResidualMLP(6, hidden=8, depth=3)
    groups = decay_groups(net, 0.1)
    held = [p for g in groups for p in g["params"]]
    assert len(held) == len(set(held)) == len(list(net.parameters()))
    assert {p.ndim for p in groups[0]["params"]} == {2} and {p.ndim for p in groups[1]["params"]} == {1}


def healthy_run(trial):
    """One run drawn at random; asserts that nothing is ever not finite, and that a planted signal is learned."""
    rng = np.random.default_rng(trial)
    size = int(np.exp(rng.uniform(np.log(4), np.log(8193))))
    n_rows = max(256, size) if size > 32 else 128
    tail = rng.choice([2.1, 3.0, 10.0])
    has_signal = trial % 3 > 0
    options = dict(hidden=8, dropout=float(rng.choice([0.0, 0.2])), seed=trial)
    net = (ResidualMLP, MLP)[trial % 2](6, **options).train()
    x = rng.standard_t(tail, (2 * n_rows, 6))
    if has_signal:
        y = np.clip(x[:, 0], -3, 3) + 0.2 * rng.standard_t(tail, 2 * n_rows)
    else:
        x, y = x * 10 ** rng.uniform(-2, 6, 6), rng.standard_t(tail, 2 * n_rows)
    X, Y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    lr, clips = 1e-3 * 10 ** rng.uniform(0, 1), bool(rng.integers(2))
    opt, fuse, autocast = make_optimizer(net, lr=lr, update_clip=clips), Fuse(), torch.bfloat16 if rng.random() < 0.3 else None
    n_parts, per_epoch = int(rng.choice([1, 1, 3])), -(-n_rows // size)
    n_epochs = max(3, int(np.ceil(max(30, 0.08 / lr) / per_epoch)))   # a small rate needs steps to learn
    about = f"trial {trial}: batch {size}, tail {tail}, lr {lr:.2g}, {options}, update_clip {clips}, autocast {autocast}, parts {n_parts}"

    def valid():
        with torch.no_grad():
            value = huber(net.eval()(X[n_rows:]), Y[n_rows:]).item()
        net.train()
        return value

    losses, at_first = [], valid()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial)
        for epoch in range(n_epochs):
            rows = torch.tensor(rng.permutation(n_rows))
            for a in range(0, n_rows, size):
                part = [r for r in rows[a:a + size].tensor_split(n_parts) if len(r)]
                done = train_step(net, [(X[r], Y[r], None) for r in part], opt, fuse=fuse, autocast=autocast)
                losses.append((epoch, done.loss.item(), sum(map(len, part))))
    assert not fuse.is_blown() and np.isfinite(losses).all(), about
    assert all(torch.isfinite(t).all() for t in everything(net, opt)), about
    epochs, values, rows = np.array(losses).T
    if has_signal:
        first, last = (np.average(values[epochs == e], weights=rows[epochs == e]) for e in (0, n_epochs - 1))
        assert last < first, about
        assert valid() < at_first, about
    assert np.isfinite(valid()), about
    return len(losses)


def test_thirty_healthy_runs():
    for trial in range(30):
        healthy_run(trial)


@pytest.mark.slow
def test_three_hundred_healthy_runs():
    for trial in range(30, 330):
        healthy_run(trial)
