"""All nets with all heads and losses: bounded for any weights, counted, and the same on both sides of a file."""
import itertools
import json

import numpy as np
import pytest
import torch

from futures_nb.ensemble import NETS, Ensemble
from futures_nb.heads import HEADS, MAX_LOG_SCALE
from futures_nb.losses import HEAD_OF_LOSS, make_loss
from futures_nb.nets import input_counts, reset_input_counts

F, T = 5, 6
FORMS = {"MLP": dict(hidden=[8, 4]), "ResidualMLP": dict(hidden=8), "AttentionNet": dict(hidden=8, n_heads=2), "window": dict(hidden=8, n_heads=2, window=T), "ConvNet": dict(hidden=8, window=T)}
KINDS = [(form, head) for form in FORMS for head in HEADS]


def make(form, head, seed=0, n_members=None, **more):
    name = "AttentionNet" if form == "window" else form
    options = FORMS[form] | dict(head=head, seed=seed) | more
    return NETS[name](F, **options) if n_members is None else Ensemble(F, name, n_members, **options)


def hostile(net, trial, low=-3, high=4):
    """The net with weights of all sizes, and rows with tails to 1e30, NaN and infinities."""
    rng = np.random.default_rng(trial)
    with torch.no_grad():
        for p in net.parameters(): p.copy_(torch.tensor(rng.normal(size=p.shape) * 10 ** rng.uniform(low, high)))
    x = rng.normal(size=(8, T, F)) * 10 ** rng.uniform(-3, 30, (8, T, F))
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.1] = np.inf * rng.choice([-1, 1])
    x = torch.tensor(x, dtype=torch.float32)
    return x if net.is_sequence else x[:, -1]


def in_bounds(head, out, y_max=5.0):
    if head == "student":
        assert out[..., 1].abs().max() <= MAX_LOG_SCALE and 2.1 < out[..., 2].min() and out[..., 2].max() < 61
        out = out[..., 0]
    assert not out.isnan().any() and out.abs().max() <= y_max
    if head == "quantile": assert (out.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("form, head", KINDS)
def test_output_and_loss_are_bounded_for_any_finite_weights(form, head):
    """Fifteen nets of each of twenty kinds: 300 with weights from 1e-3 to 1e4, inputs to 1e30."""
    y = torch.tensor([-5.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 5.0, 0.0])
    for trial in range(15):
        net = make(form, head, seed=trial).eval()
        x = hostile(net, trial)
        with torch.no_grad():
            out = net(x)
            in_bounds(head, out)
            assert net.point(out).abs().max() <= 5
            assert all(torch.isfinite(v).all() for v in net.columns(out).values())
            for name in (loss for loss, of in HEAD_OF_LOSS.items() if of == head):
                loss = make_loss(name, net)(out, y).item()
                # 2C - 1/2 for Huber; |forecast| + ln 2; C + C; the widest logits; a t at its smallest scale, ten sigma off, with 61 degrees of freedom
                most = {"huber": 9.5, "direction": 5.7, "pinball": 10, "cross_entropy": 10 + np.log(3), "student": 31 * np.log(1 + (10 * np.exp(3)) ** 2 / 2.2) + 5}[name]
                assert -3 < loss <= most, (name, loss)
        assert input_counts(net) == {"n_missing": int(x.isnan().sum()), "n_clamped": int((x.abs() > 10).sum())}


@pytest.mark.parametrize("form, head", KINDS)
def test_gradients_of_an_honest_net_are_finite(form, head):
    for trial in range(3):
        net = make(form, head, seed=trial)
        x = hostile(net, trial, -1, 0)
        for loss in (loss for loss, of in HEAD_OF_LOSS.items() if of == head):
            net.zero_grad()
            make_loss(loss, net)(net(x), torch.tensor(np.random.default_rng(trial).standard_t(2.1, 8), dtype=torch.float32)).backward()
            assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("form, head", KINDS)
def test_ensembles_are_bounded_too(form, head):
    several = make(form, head, n_members=3)
    x = hostile(several, 1)
    with torch.no_grad():
        for out in several(x): in_bounds(head, out)
        several.eval()
        reset_input_counts(several)
        in_bounds(head, several(x))
    assert input_counts(several) == {"n_missing": int(x.isnan().sum()), "n_clamped": int((x.abs() > 10).sum())}


@pytest.mark.parametrize("form, n_members", list(itertools.product(FORMS, (None, 2))))
def test_options_build_the_same_net_and_files_keep_it(form, n_members, tmp_path):
    from safetensors.torch import load_file, save_file

    net = make(form, "class", seed=3, n_members=n_members, n_classes=3)
    again = type(net)(**json.loads(json.dumps(net.options())))
    assert all(map(torch.equal, net.state_dict().values(), again.state_dict().values())) and list(net.state_dict()) == list(again.state_dict())
    hostile(net, 0, -1, 0)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    again.load_state_dict(load_file(tmp_path / "net.safetensors"))
    x = torch.randn(4, T, F) if net.is_sequence else torch.randn(4, F)
    assert torch.equal(net.eval()(x), again.eval()(x))


def test_no_global_random_state_is_moved():
    before = torch.random.get_rng_state()
    for form, head in KINDS: make(form, head); make(form, head, n_members=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_ensemble_learns_as_its_members_alone():
    """Thirty steps of a fused AdamW on the stack and on each net: the same weights to rounding."""
    x = torch.randn(64, F, generator=torch.Generator().manual_seed(0))
    y = x[:, 0].clamp(-1, 1)
    several = make("ResidualMLP", "return", n_members=3)
    singles = [several.member(k) for k in range(3)]
    loss = make_loss("huber", several)

    def train(net, value):
        opt = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
        for _ in range(30):
            opt.zero_grad(); value(net).backward(); opt.step()

    train(several, lambda net: torch.stack([loss(out, y) for out in net(x)]).sum())
    for net in singles: train(net, lambda net: loss(net(x), y))
    for k, net in enumerate(singles):
        for a, b in zip(several.member(k).parameters(), net.parameters()): torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_levels_of_a_net_reach_its_loss():
    net = make("MLP", "quantile", levels=[0.1, 0.5, 0.9])
    x, y = torch.zeros(3, F), torch.tensor([-1.0, 0.0, 2.0])
    q = net(x)
    e = y[:, None] - q
    tau = torch.tensor([0.1, 0.5, 0.9])
    assert make_loss("pinball", net)(q, y).item() == pytest.approx(torch.where(e > 0, tau * e, (tau - 1) * e).mean().item())
