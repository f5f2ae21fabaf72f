"""A fit that is killed (SIGKILL) at any moment and called again ends bit-equal to one that never was."""
import multiprocessing
import random
import signal
import time

import pytest

import fit_script
from fit_script import finish, metrics, same_end, start, warm


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    out = tmp_path_factory.mktemp("never") / "fit"
    warm()
    began = time.monotonic()
    finish(out)
    return out, time.monotonic() - began


def test_the_fit_has_something_to_lose(never_killed):
    out, _ = never_killed
    records = metrics(out)
    assert [r["step"] for r in records if r["kind"] == "step"] == list(range(6 * 12))
    assert sum(r["n_clamped"] for r in records if r["kind"] == "epoch") > 0
    assert not list(out.glob("*.tmp"))


def test_a_finished_fit_is_not_made_again(never_killed):
    out, _ = never_killed
    before = (out / "metrics.jsonl").read_bytes()
    finish(out)
    assert (out / "metrics.jsonl").read_bytes() == before


def test_kill_at_20_random_moments(never_killed, tmp_path):
    out, seconds = never_killed
    rng, stages = random.Random(7), set()
    for k in range(20):
        # The fit takes `seconds` with the data and the folder: kills fall from before its first file to after its last.
        target = tmp_path / str(k)
        p = start(target)
        time.sleep(rng.uniform(0.0, 1.05) * seconds)
        p.kill()
        p.join()
        stages.add(len(metrics(target)) if (target / "metrics.jsonl").exists() else None)
        finish(target)
        same_end(out, target)
    assert len(stages) >= 5, f"the kills fell at the same stages {stages}: vary the moments"


@pytest.mark.parametrize("deadly", [("fsync", n) for n in (1, 2, 3, 4, 5, 6, 27)] + [("replace", n) for n in (1, 2, 9, 20)], ids=str)
def test_kill_between_two_writes(never_killed, tmp_path, deadly):
    """Before the n-th fsync or rename, wherever in the writing of metrics, checkpoint and result that is."""
    target = tmp_path / "fit"
    p = start(target, deadly)
    p.join(60)
    assert p.exitcode == -signal.SIGKILL
    finish(target)
    same_end(never_killed[0], target)


def test_killed_again_and_again(never_killed, tmp_path):
    out, seconds = never_killed
    target, rng = tmp_path / "fit", random.Random(1)
    for _ in range(6):
        p = start(target)
        time.sleep(rng.uniform(0.2, 0.6) * seconds)
        p.kill()
        p.join()
    finish(target)
    same_end(out, target)


def test_patience_is_counted_across_a_kill(tmp_path):
    """Two epochs without a better validation loss, the kill between them: it must not begin to count again."""
    options = dict(patience=2, epochs=30)
    finish(tmp_path / "never", **options)
    n_epochs = max(r["epoch"] for r in metrics(tmp_path / "never")) + 1
    assert n_epochs < 30
    target = tmp_path / "killed"  # a commit each third of an epoch: the first, then three an epoch; kill in the last epoch
    p = start(target, ("replace", 1 + 3 * (n_epochs - 1) + 2), **options)
    p.join(60)
    assert p.exitcode == -signal.SIGKILL
    finish(target, **options)
    same_end(tmp_path / "never", target)


def test_half_a_line_is_cut_off(never_killed, tmp_path):
    """What a kill in mid-write leaves behind the committed bytes is not read, and not kept."""
    target = tmp_path / "fit"
    p = start(target, ("replace", 9))
    p.join(60)
    with open(target / "metrics.jsonl", "ab") as f:
        f.write(b'{"kind": "step", "step": 99, "lo')
    (target / "checkpoint.safetensors.tmp").write_bytes(b"half")
    finish(target)
    same_end(never_killed[0], target)


def test_another_configuration_is_refused(never_killed):
    out, _ = never_killed
    queue = multiprocessing.get_context("fork").Queue()

    def other():
        from futures_nb.schema import DataError

        for change in (dict(batch_size=64), dict(dropout=0.0), dict(dtype="float64"), dict(n=700)):
            try:
                fit_script.run_fit(out, **change)
                queue.put("accepted")
            except DataError as e:
                queue.put(str(e))

    before = (out / "checkpoint.safetensors").read_bytes()
    p = multiprocessing.get_context("fork").Process(target=other)
    p.start()
    said = [queue.get(timeout=60) for _ in range(4)]
    p.join(60)
    assert "batch_size 32, this call has 64" in said[0]
    assert "of another net" in said[1] and "dtype float32, this call has float64" in said[2] and "n_train 360, this call has 420" in said[3]
    assert (out / "checkpoint.safetensors").read_bytes() == before


def test_only_the_first_rank_s_first_weights_count(tmp_path, monkeypatch):
    """Each rank may begin with other weights (DistributedDataParallel hands out the first one's), and resumes all the same."""
    import torch

    from futures_nb import train
    from futures_nb.nets import ResidualMLP
    from futures_nb.schema import DataError

    dataset, nets = fit_script.small_dataset(), [ResidualMLP(5, hidden=8), ResidualMLP(5, hidden=8)]
    with torch.no_grad():
        nets[1].readout.bias += 1
    options = dict(epochs=1, batch_size=64, lr=1e-3, weight_decay=0.0, warmup=0.0, clip=1.0, patience=1, seed=0)
    runs = [train._Run(net, net, train._optimizer(net, 1e-3, 0.0), train._config(net, dataset, "huber", torch.float32, options, with_data=True), tmp_path)
            for net in nets]
    train._commit(runs[0])
    with pytest.raises(DataError, match="the same but for the weights it began with"):
        train._resume(runs[1])
    monkeypatch.setattr(train, "is_main", lambda: False)
    train._resume(runs[1])
    assert torch.equal(nets[0].readout.bias, nets[1].readout.bias)
