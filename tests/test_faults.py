"""Planted faults are named, healthy runs are not accused. `python -m tests.faults` prints the whole table."""
import pytest

from futures_nb.checks import STAGES, VERDICTS
from futures_nb.diagnosing import diagnose
from futures_nb.losslog import diagnose_log
from faults import kinds
from faults.table import FAULTS, full_table, healthy_worlds, score, try_fault, try_healthy
from faults.world import healthy

pytestmark = pytest.mark.filterwarnings("ignore:Recorder")
PAIRS = [("iqr_residue", "no_zero_grad"), ("target_nan", "clip_after_step"), ("raw_batches", "weights_garbage"), ("stale_input", "clip_after_step"),
         ("eps_division", "target_tiny_volatility"), ("saturated_column", "no_zero_grad"), ("input_garbage", "rate_too_high_sgd")]


def test_suite_is_large_and_covers_the_stages():
    assert len(FAULTS) >= 40
    assert {stage for stage, *_ in FAULTS.values()} >= {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15}
    assert {name for _, names, *_ in FAULTS.values() for name in names} >= set(VERDICTS) - {"HEALTHY", "UNKNOWN"}
    assert {VERDICTS[name][0] for name in VERDICTS} - {0} <= set(STAGES)


@pytest.mark.parametrize("kind", FAULTS)
def test_fault_is_named(kind):
    found, seconds = try_fault(kind, 0)
    assert score(kind, found) == "right", found
    assert seconds < 30


@pytest.mark.parametrize("seed,options", list(healthy_worlds(8)))
def test_healthy_run_is_not_accused(seed, options):
    found = try_healthy(seed, options)
    assert found.is_healthy, found
    asked = [said for table in found.asked.values() for said in table.values()]
    assert sum(said == "ok" for said in asked) > 0.8 * len(asked)          # healthy because asked, not because silent


@pytest.mark.parametrize("first,second", PAIRS)
def test_of_two_faults_the_earlier_stage_is_named(first, second, tmp_path):
    w = FAULTS[first][2](1, str(tmp_path))
    other = FAULTS[second][2](1, str(tmp_path))
    w.flags |= other.flags
    if other.hooks: w.hooks = other.hooks | w.hooks
    if second == "target_tiny_volatility": w.y = other.y
    if w.flags & {"clip_after_step", "no_zero_grad"}: w.loop = "plain"
    if second == "rate_too_high_sgd": w.lr, w.opt_kind, w.clip, w.loop = other.lr, "sgd", None, "plain"
    found = diagnose(w.run())
    assert found.name in FAULTS[first][1], found


def test_report_is_written_and_read_back(tmp_path):
    import json
    folder = FAULTS["target_nan"][2](0, str(tmp_path)).run()
    found = diagnose(folder)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["name"], report["verdicts"][0]["stage"]) == ("TARGET_NONFINITE", 4)
    assert "TARGET_NONFINITE" in (tmp_path / "report.md").read_text() and found._repr_html_().count("<table>") >= 1


def test_diagnosis_needs_only_the_folder(tmp_path):
    """A copy of the folder, in a process that never saw the net or the loop."""
    import shutil
    import subprocess
    import sys
    FAULTS["weights_garbage"][2](0, str(tmp_path / "run")).run()
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "run")
    said = subprocess.run([sys.executable, "-m", "futures_nb.cli", "diagnose", str(tmp_path / "elsewhere")], capture_output=True, text=True)
    if "REPLICA_DESYNC" not in said.stdout:
        said = subprocess.run([sys.executable, "-c", f"from futures_nb.cli import main; main(['diagnose', {str(tmp_path / 'elsewhere')!r}])"], capture_output=True, text=True)
    assert "REPLICA_DESYNC" in said.stdout, said.stderr


def test_ranks_that_disagree_are_named(tmp_path):
    """Checksums as two ranks report them: other weights, or the same rows twice."""
    import json
    folder = healthy(3, str(tmp_path), loop="plain").run()
    path = sorted((tmp_path / "blackbox").glob("*/manifest.json"))[0]
    plain = path.read_text()
    for ranks, word in (([[0, 11, 12, 1, 0], [1, 11, 13, 2, 0]], "different checksums"), ([[0, 11, 12, 7, 0], [1, 11, 12, 7, 0]], "same rows")):
        manifest = json.loads(plain)
        manifest["checks"] = dict(manifest.get("checks") or {}, ranks=ranks, world_size=2)
        path.write_text(json.dumps(manifest))
        found = diagnose(folder)
        assert found.name == "REPLICA_DESYNC" and word in found.verdicts[0].evidence
    path.write_text(plain)
    assert diagnose(folder).is_healthy


def test_output_above_its_certificate_needs_no_tape(tmp_path):
    import json
    folder = healthy(0, str(tmp_path), net_kind="layernorm", opt_kind="adamw", loop="plain").run()
    assert diagnose(folder).is_healthy
    for path in (tmp_path / "blackbox").glob("*/tape.json"): path.unlink()
    path = sorted((tmp_path / "blackbox").glob("*/manifest.json"))[0]
    manifest = json.loads(path.read_text())
    layer = [name for name, said in manifest["acts"].items() if said["type"] == "Linear"][-1]
    manifest["acts"][layer]["max_abs"] = 7e13
    path.write_text(json.dumps(manifest))
    found = diagnose(folder).verdicts[0]
    assert (found.name, found.stage) == ("COMPUTE_WRONG", 10) and "weights allow" in found.evidence


def test_log_of_the_first_case():
    log = {batch: 0.7 for batch in range(1, 49)} | {1: 1.0e28, 11: 2.6e30, 21: 1.4e29, 31: 2.2e35}
    found = diagnose_log(log, y_abs=5, last_op="float16")
    assert {"LR_DIVERGED", "CLIP_ORDER", "OPT_PRECISION", "TARGET_SCALE", "FLOAT16_OUTPUT"} <= set(found.excluded)
    assert {"FEATURE_RESIDUE", "COPY_BLOCK", "COMPUTE_WRONG"} <= set(found.open)


@pytest.mark.slow
def test_whole_table():
    total, alarms = full_table(5, 300)
    n = sum(total.values())
    assert total["right"] >= 0.90 * n and total["right"] + total["stage"] >= 0.95 * n
    assert total["wrong"] + total["stage"] <= 0.02 * n
    assert not alarms


assert kinds  # the kinds register themselves on import
