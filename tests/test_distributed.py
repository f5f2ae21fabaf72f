"""One rank and two ranks (gloo, real torchrun) on the same global batch."""
import json
from pathlib import Path

import numpy as np
import pytest

from fit_script import finish, metrics, same_end
from futures_nb.distributed import launch

SCRIPT = Path(__file__).with_name("fit_script.py")
FIFTY = dict(n=610, batch_size=37, epochs=5, dropout=0.0)  # 366 train rows: ten batches of 36 or 37 rows, so the shares are uneven


def two_ranks(out, *flags, **options):
    args = [out, *(f"--{k}={v}" for k, v in options.items()), *flags]
    return launch(2, SCRIPT, args, expect=out / "rank0.json", timeout=120)


def last_weights(out):
    from futures_nb.checkpoint import load_tensors

    tensors, state = load_tensors(out / "checkpoint.safetensors")
    return np.concatenate([t.double().numpy().ravel() for k, t in sorted(tensors.items()) if k.startswith("net.")]), state["step"]


def relative_difference(one_out, two_out):
    (one, steps), (two, steps_two) = last_weights(one_out), last_weights(two_out)
    assert steps == steps_two == 50
    a, b = metrics(one_out), metrics(two_out)
    assert len(a) == len(b) == 55
    for r, s in zip(a, b):  # the story is that of the global batch, too: loss, norm, counted inputs
        assert r.keys() == s.keys()
        for key in r:
            if key == "kind" or key.startswith(("n_", "is_")):
                assert r[key] == s[key], (key, r, s)
            else:
                assert s[key] == pytest.approx(r[key], rel=1e-3), (key, r, s)
    assert sum(r["n_clamped"] for r in a if r["kind"] == "epoch") > 0
    ranks = [json.loads((two_out / f"rank{k}.json").read_text()) for k in (0, 1)]
    assert ranks[0]["weights"] == ranks[1]["weights"], "the two ranks ended with different weights"
    return np.linalg.norm(one - two) / np.linalg.norm(one)


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "fit"
    two_ranks(out, **FIFTY)
    return out


def test_two_ranks_agree_with_one_in_float64(tmp_path):
    finish(tmp_path / "one", **FIFTY, dtype="float64")
    two_ranks(tmp_path / "two", **FIFTY, dtype="float64")
    difference = relative_difference(tmp_path / "one", tmp_path / "two")
    print(f"float64: relative difference of the weights after 50 steps {difference:.1e}")
    assert difference <= 1e-10


def test_two_ranks_agree_with_one_in_float32(tmp_path, on_two):
    finish(tmp_path / "one", **FIFTY)
    difference = relative_difference(tmp_path / "one", on_two)
    print(f"float32: relative difference of the weights after 50 steps {difference:.1e}")
    assert difference <= 1e-4  # chapter 04_training/11_train states what was measured


def test_a_bad_loss_on_one_rank_skips_the_step_on_both(tmp_path):
    out = tmp_path / "bad"
    two_ranks(out, "--bad_on_rank_1", **FIFTY)
    skipped = [r["step"] for r in metrics(out) if r["kind"] == "step" and r["is_skipped"]]
    assert skipped == [6]
    ranks = [json.loads((out / f"rank{k}.json").read_text()) for k in (0, 1)]
    assert ranks[0] == ranks[1] and ranks[0]["n_skipped"] == 1


def test_two_ranks_go_on_after_one_was_killed(tmp_path, on_two):
    """Rank 0 dies in the middle of writing, rank 1 while it waits; the same command again ends as if nothing had been."""
    out = tmp_path / "killed"
    with pytest.raises(RuntimeError, match="did not write"):
        two_ranks(out, "--deadly", "0", "replace", "6", **FIFTY)
    assert len(metrics(out)) > 0
    two_ranks(out, **FIFTY)
    same_end(on_two, out)
