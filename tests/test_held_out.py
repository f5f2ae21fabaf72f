"""Kinds of faults by someone who had not seen the checks: what share is named, and how often a wrong name is given. `python -m tests.faults.held_out` prints the table.

On 2026-11-25, before any check was mended: 69.7 % right (75 asked), 5.2 % wrong (2 asked), 1 alarm in 65 healthy runs; afterwards, no longer held out: 92.9, 0.6 and none.
The second set (held_out_2.py, 305 runs of 61 kinds) on the same day, before any mend: 76.1 % right, 10.8 % wrong, 7 alarms and 5 failures of the recorder in 135 healthy runs; after, on seeds not looked at: 98.0, 0.3, and two runs that did diverge.
"""
import json
from pathlib import Path

import pytest
import torch

from faults import held_out_2 as second
from faults.two_ranks import CASES
from futures_nb.diagnosing import diagnose
from futures_nb.distributed import launch
from faults.held_out import FAULTS, HEALTHY, World, held_out_table, mse, score, try_one

pytestmark = pytest.mark.filterwarnings("ignore:Recorder")


@pytest.fixture(scope="module")
def counted():
    lines = []
    return *held_out_table(say=lines.append), lines


def test_kinds_are_many():
    assert len(FAULTS) >= 12 and len(HEALTHY) >= 10
    assert all(1 <= len(names) <= 2 for _, names, *_ in FAULTS.values())


@pytest.mark.parametrize("kind", ["vix_missing", "half_of_the_batch_zero", "values_clipped_before_unscale", "root_of_zero", "target_times_100", "targets_of_the_last_batch",
                                  "saliency_leaves_gradients", "second_moments_zeroed", "whole_state_zeroed", "scheduler_times_1000", "gate_by_exp"])
def test_held_out_fault_is_named(kind):
    _, names, _, f = FAULTS[kind]
    found = try_one(f, 0)
    assert score(names, found) == "right", found


def test_columns_of_one_distribution_are_not_called_swapped():
    assert try_one(HEALTHY["closed_sessions"], 4).is_healthy


def test_a_warm_up_is_no_divergence():
    def warm_up(seed, folder):
        w = World(seed, folder, lr=1e-3, steps=60)
        w.y = w.y + w.g.standard_t(2.1, size=len(w.y))
        w.fit(w.recorder(every=4), mse, sched=torch.optim.lr_scheduler.ConstantLR(w.opt, factor=1e-3, total_iters=12))
    assert try_one(warm_up, 0).is_healthy


@pytest.mark.parametrize("kind", ["adamw", "adam"])
def test_state_lost_between_looks_is_named(kind):
    def lost(seed, folder):
        w = World(seed, folder, opt=kind)
        def before(i):
            if i == w.at:
                for st in w.opt.state.values(): st["exp_avg"].data.zero_(), st["exp_avg_sq"].data.zero_()
        w.at, w.steps = 45, 80
        w.fit(w.recorder(every=4, look=1000), mse, before=before)
    assert try_one(lost, 3).name == "OPT_STATE_LOST"


@pytest.mark.slow
def test_three_quarters_are_named(counted):
    total, _, _, lines = counted
    assert total["right"] >= 0.75 * total.total(), "\n".join(lines)


@pytest.mark.slow
def test_hardly_one_is_called_by_a_wrong_name(counted):
    total, _, _, lines = counted
    assert total["wrong"] <= 0.02 * total.total(), "\n".join(lines)


@pytest.mark.slow
def test_no_healthy_loop_is_accused(counted):
    _, alarms, _, lines = counted
    assert not alarms, "\n".join(lines)


# ---- the second set, by somebody else; see held_out_2.py

QUICK = ["locked_market", "fee_column", "augmented_from_raw", "blocks_in_another_order", "cents_for_dollars", "tokens_in_a_byte", "one_bit_of_a_weight", "norm_without_eps", "rate_of_trades", "log_of_a_probability", "backward_twice"]
LONGER = ["range_over_range", "loss_summed_in_half", "nothing_to_attend_to", "zeroed_inside_the_group", "scaled_by_hand", "state_cleared"]
MENDED = QUICK + [pytest.param(kind, marks=pytest.mark.slow) for kind in LONGER]          # what was missed or misnamed at first


def test_the_second_set_is_large():
    assert len(second.KINDS) >= 30 and len(second.HEALTHY) >= 15
    assert set(second.CORRECTED) <= set(second.KINDS) and all(name in second.VERDICTS for k in second.KINDS.values() for name in k.names)


@pytest.mark.parametrize("kind", MENDED)
def test_fault_of_the_second_set_is_named(kind):
    found = second.try_kind(kind, 2)
    assert second.score(second.KINDS[kind].names, found) == "right", found


@pytest.mark.parametrize("kind", ["slow_weights", "targets_with_holes", "sparse_gradients"])
def test_odd_run_of_the_second_set_is_not_accused(kind):
    assert (found := second.try_kind(kind, 1)).is_healthy, found


@pytest.mark.slow
def test_second_set_as_a_whole():
    lines = []
    total, alarms = second.held_out_2_table(range(5), say=lines.append)
    n, said = total.total(), "\n".join(lines)
    assert total["right"] >= 0.90 * n and total["right"] + total["stage"] >= 0.95 * n, said
    assert total["wrong"] + total["stage"] <= 0.02 * n and not alarms, said


# ---- two real processes

def two_ranks(folder, cases):
    launch(2, Path(__file__).with_name("faults") / "two_ranks.py", [folder, *cases], expect=folder / "said1.json", timeout=300)
    said = [json.loads((folder / f"said{r}.json").read_text()) for r in (0, 1)]
    assert said[0] == said[1] and [*said[0]] == [*cases]
    for case in cases:
        name, raises = CASES[case]
        found = diagnose(folder / case)
        assert found.name == name, (case, found)
        assert ("has other bits" in said[0][case]) == raises, (case, said[0][case])


def test_faults_of_replicas_are_named_on_two_ranks(tmp_path):
    two_ranks(tmp_path, ["same_rows", "never_reduced"])


@pytest.mark.slow
def test_all_faults_of_replicas_on_two_ranks(tmp_path):
    two_ranks(tmp_path, CASES)
