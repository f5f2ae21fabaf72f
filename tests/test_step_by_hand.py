"""The step by hand against autograd where the chapter does not look: nets and batches at random, whole fits, kills, bad rows."""
import random
import time
import warnings

import numpy as np
import pytest
import torch

import fit_script
from fit_script import finish, metrics, same_end, small_dataset, start
from futures_nb.heads import HEADS
from futures_nb.losses import HEAD_OF_LOSS, LOSSES
from futures_nb.nets import MLP, input_counts
from futures_nb.optim import make_optimizer
from futures_nb.step import Fuse, train_step
from futures_nb.step_by_hand import make_step
from futures_nb.train import fit

QUIET = dict(epochs=3, batch_size=64, progress=False, live=False, device="cpu")


def drawn(seed):
    """A net, how it is trained, and batches of different sizes with what one meets in data."""
    rng, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    loss, n_features = str(rng.choice(list(LOSSES))), int(rng.integers(1, 9))
    more = dict(hidden=tuple(int(v) for v in rng.integers(1, 20, rng.integers(1, 4))), dropout=float(rng.choice([0, 0.25])), head=HEAD_OF_LOSS[loss], n_classes=int(rng.choice([2, 3])),
                x_max=float(rng.choice([0.5, 10])), y_max=float(rng.choice([0.3, 5, 100])), seed=seed)
    how = dict(clip=float(rng.choice([1e-3, 1, 1e9])))
    clips, decay, weighted, n_parts = bool(rng.integers(2)), float(rng.choice([0, 0.1])), bool(rng.integers(2)), int(rng.choice([1, 1, 3]))
    steps = []
    for _ in range(6):
        group = []
        for _ in range(n_parts):
            n = int(rng.choice([1, 5, 63, 64, 65, 200]))
            x, y, w = (torch.randn(size, generator=draw, dtype=torch.float64) * scale for size, scale in (((n, n_features), 3.0), ((n,), 10.0 ** rng.integers(-2, 3)), ((n,), 1.0)))
            if rng.random() < 0.3: x[rng.integers(n), rng.integers(n_features)] = float(rng.choice([np.nan, np.inf, -1e300]))
            if rng.random() < 0.3 and n > 4: y[::4] = 0
            group.append((x, y, w.abs() if weighted else None))
        steps.append(group if n_parts > 1 else group[0])
    return loss, n_features, more, how, clips, decay, steps


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_random_nets_and_batches_agree_with_autograd(first):
    kinds = set()
    for seed in range(first, first + 20):
        loss, n_features, more, how, clips, decay, steps = drawn(seed)
        kinds.add(loss)
        ends = []
        for by_hand in (False, True):
            net = MLP(n_features, **more).double().train()
            with torch.no_grad(): net.readout.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(seed))
            opt, fuse = make_optimizer(net, lr=0.01, weight_decay=decay, update_clip=clips, flat=True), Fuse()
            step, path = make_step(net, opt, by_hand=by_hand, loss=loss, fuse=fuse, **how)
            torch.manual_seed(seed)
            told = [(d.loss.item(), d.grad_norm.item()) for d in map(step, steps)]
            assert path == "by hand" and step.n_autograd == 0 if by_hand else path.startswith("autograd")
            ends.append((np.array(told), opt.flat.clone(), opt.grad.clone(), input_counts(net), opt.step_count.item(), int(opt.n_clipped)))
        (told, flat, grad, *counts), (told_2, flat_2, grad_2, *counts_2) = ends
        assert counts == counts_2, seed
        np.testing.assert_allclose(told_2, told, rtol=1e-9, atol=1e-12, err_msg=str(seed))
        for a, b in ((flat, flat_2), (grad, grad_2)): assert (a - b).abs().max() <= 1e-10 * a.abs().max() + 1e-13, seed     # Adam makes more of a rounding where the gradient is nearly zero
    assert len(kinds) >= 4 and set(HEAD_OF_LOSS.values()) == set(HEADS)


def test_a_group_of_three_classes_is_the_big_batch():
    """A return of zero is flat there, and counts."""
    draw = torch.Generator().manual_seed(0)
    x, y, ends = torch.randn(60, 4, generator=draw), torch.randn(60, generator=draw), []
    y[::3] = 0
    for batch in ((x, y, None), [(x[:20], y[:20], None), (x[20:], y[20:], None)]):
        net = MLP(4, hidden=8, head="class", n_classes=3)
        ends.append(train_step(net, batch, make_optimizer(net), loss="cross_entropy").loss)
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_whole_fit_by_hand_is_the_fit_by_autograd(loss):
    dataset = small_dataset(n=1200)
    call = dict(loss=loss, net_options=dict(hidden=(16, 8), dropout=0.2), lr=1e-2, average="ema", dtype=torch.float64, **QUIET)
    one, two = fit(MLP, dataset, **call), fit(MLP, dataset, by_hand=False, **call)
    assert (one.facts()["path"], two.facts()["path"]) == ("by hand", "autograd: by_hand is False")
    np.testing.assert_allclose(one.history.drop(columns="is_skipped"), two.history.drop(columns="is_skipped"), rtol=1e-7)
    assert one.n_clamped == two.n_clamped > 0 and abs(one.valid_loss - two.valid_loss) < 1e-9
    for a, b in zip(one.net.parameters(), two.net.parameters()): torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("more", [dict(data="stream"), dict(accumulate=3), dict(batch_ramp=4.0), dict(update_clip=True)], ids=str)
def test_options_of_a_fit_by_hand(more):
    call = dict(net_options=dict(hidden=8), dtype=torch.float64, **QUIET | more)
    one, two = fit(MLP, small_dataset(n=900), **call), fit(MLP, small_dataset(n=900), by_hand=False, **call)
    assert one.path == "by hand" and two.path != "by hand"
    for a, b in zip(one.net.parameters(), two.net.parameters()): torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("more, why", [(dict(precision="bf16"), "autocast is asked for"), (dict(noise=1e-6), "noise is asked for"),
                                       (dict(net_options=dict(hidden=8, input_norm="batch")), "the net has a BatchNorm1d that is not MLP's own")], ids=str)
def test_a_fit_says_why_it_goes_through_autograd(more, why):
    done = fit(MLP, small_dataset(n=300), **QUIET | dict(epochs=1) | more)
    assert done.facts()["path"] == f"autograd: {why}" and why in repr(done) and why in done._repr_html_()


def test_a_bad_row_costs_its_batch_and_is_recorded(tmp_path):
    dataset, ends = small_dataset(n=1500), []
    dataset.y[dataset.train[333]] = 3e38                          # finite, but not in sigmas
    for by_hand in (True, False):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            ends.append(fit(MLP, dataset, by_hand=by_hand, out=tmp_path / str(by_hand), net_options=dict(hidden=8, dropout=0.1), **QUIET | dict(batch_size=16)))
        assert any("is not finite" in str(w.message) for w in said)
    one, two = ends
    assert one.path == "by hand" and one.n_skipped == two.n_skipped == 3
    assert one.history["is_skipped"].equals(two.history["is_skipped"]) and one.history["step"].tolist() == list(range(len(one.history)))
    np.testing.assert_allclose(one.history["loss"], two.history["loss"], rtol=1e-2, atol=1e-3)
    events = [sorted(p.name for p in (tmp_path / str(b) / "blackbox").iterdir() if p.is_dir()) for b in (True, False)]
    assert len(events[0]) >= 3 and events[0] == events[1]


def test_a_killed_fit_by_hand_ends_with_the_same_bits(tmp_path):
    fit_script.warm()
    options = dict(kind="MLP", dropout=0.2)
    finish(tmp_path / "warm", **options, epochs=1)                # the loops are compiled
    began = time.monotonic()
    finish(tmp_path / "never", **options)
    seconds, rng, stages = time.monotonic() - began, random.Random(3), set()
    assert '"path": "by hand"' in (tmp_path / "never" / "fit.json").read_text()
    for k in range(8):
        target = tmp_path / str(k)
        p = start(target, **options)
        time.sleep(rng.uniform(0.1, 1.0) * seconds)
        p.kill()
        p.join()
        stages.add(len(metrics(target)) if (target / "metrics.jsonl").exists() else None)
        finish(target, **options)
        same_end(tmp_path / "never", target)
    assert len(stages) >= 3
