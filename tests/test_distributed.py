"""One, two and four ranks (gloo, real torchrun) on the same global batch; what happens when one of them, or their launcher, is killed."""
import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from fit_script import checkpoints, finish, metrics, same_end
from futures_nb.distributed import free_port, launch, launch_command

FIT, RANKS = (Path(__file__).with_name(name) for name in ("fit_script.py", "ranks_script.py"))
HUNDRED = dict(n=610, batch_size=37, epochs=10, dropout=0.0)  # 366 train rows: ten batches of 36 or 37 rows, so the shares are uneven
OPTIONS = [f"--{k}={v}" for k, v in HUNDRED.items()]


def ranks(n, out, *tasks, **options):
    out.mkdir(exist_ok=True)
    return launch(n, RANKS, [out, *tasks], expect=out / "done", timeout=150, **options)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one")
    finish(out / "float64", **HUNDRED, dtype="float64")
    finish(out / "float32", **HUNDRED)
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    ranks(2, out, "float64", "float32", "bad", "flags", "flip", "sharded")
    return out


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    out = tmp_path_factory.mktemp("four")
    ranks(4, out, "float64", "float32", "flags", "flip")
    return out


def last_weights(out):
    from futures_nb.checkpoint import load_tensors

    tensors, state = load_tensors(checkpoints(out)[-1])
    return np.concatenate([t.double().numpy().ravel() for k, t in sorted(tensors.items()) if k.startswith("net.")]), state["step"]


def relative_difference(one_out, other_out, n_ranks):
    (one, steps), (other, steps_other) = last_weights(one_out), last_weights(other_out)
    assert steps == steps_other == 100
    a, b = metrics(one_out), metrics(other_out)
    assert len(a) == len(b) == 110
    for r, s in zip(a, b):  # the story is that of the global batch, too: loss, norm, counted inputs
        assert r.keys() == s.keys()
        for key in r:
            if key == "kind" or key.startswith(("n_", "is_")):
                assert r[key] == s[key], (key, r, s)
            else:
                assert s[key] == pytest.approx(r[key], rel=1e-3), (key, r, s)
    assert sum(r["n_clamped"] for r in a if r["kind"] == "epoch") > 0
    ended = {json.loads((other_out / f"rank{k}.json").read_text())["weights"] for k in range(n_ranks)}
    assert len(ended) == 1, "the ranks ended with different weights"
    return np.linalg.norm(one - other) / np.linalg.norm(one)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 1e-4)])  # 04_training/08_distributed states what was measured
@pytest.mark.parametrize("n_ranks", [2, 4])
def test_any_number_of_ranks_agrees_with_one(request, one, n_ranks, dtype, tolerance):
    many = request.getfixturevalue({2: "two", 4: "four"}[n_ranks])
    difference = relative_difference(one / dtype, many / dtype, n_ranks)
    print(f"{dtype}, {n_ranks} ranks: relative difference of the weights after 100 steps {difference:.1e}")
    assert 0 < difference <= tolerance


@pytest.mark.slow
def test_one_rank_under_torchrun_is_the_program_alone(one, tmp_path):
    ranks(1, tmp_path / "one", "float64")
    same_end(one / "float64", tmp_path / "one" / "float64")


def test_a_bad_loss_on_one_rank_skips_the_step_on_both(two):
    skipped = [r["step"] for r in metrics(two / "bad") if r["kind"] == "step" and r["is_skipped"]]
    assert skipped == [6]
    ended = [json.loads((two / "bad" / f"rank{k}.json").read_text()) for k in (0, 1)]
    assert ended[0] == ended[1] and ended[0]["n_skipped"] == 1


def test_all_ranks_know_of_a_flag_and_of_a_flipped_bit(two, four):
    for out, n, who in ((two, 2, "rank 1 than on rank 0"), (four, 4, "rank 3 than on rank 0, 1, 2")):
        for k in range(n):
            assert json.loads((out / f"flags{k}.json").read_text()) == [1.0, 0.0]
            said = (out / f"flip{k}.txt").read_text()
            assert f"parameter 'body.1.first.weight' has other bits on {who} after step 1 (1 of 18" in said, said


def test_a_sharded_net_computes_what_copies_compute(two):
    """FSDP2 over two ranks, and on from a checkpoint of whole tensors."""
    a, b = (json.loads((two / f"sharded{k}.json").read_text()) for k in (0, 1))
    for about in (a, b):
        print({k: v for k, v in about.items() if k != "sums"})
        assert about["names"] and about["local"] < 0.6 * about["total"]
        assert about["to_ddp"] <= 1e-12 and about["norms"][1] == pytest.approx(about["norms"][0], rel=1e-12)
        assert about["bits_resumed"]
    assert a["sums"] == b["sums"]


def test_two_launchers_are_one_training(two, tmp_path):
    """Two nodes of one rank each, here both on the loopback, end with the bits of one node of two ranks."""
    out, ended = tmp_path / "nodes", {}
    out.mkdir()
    meet = f"127.0.0.1:{free_port()}"

    def node(k):
        try:
            ended[k] = launch(1, RANKS, [out, "float64"], timeout=120, n_nodes=2, node_rank=k, rendezvous=meet, env={"GLOO_SOCKET_IFNAME": "lo"})
        except RuntimeError as e:
            ended[k] = e

    nodes = [threading.Thread(target=node, args=(k,)) for k in (0, 1)]
    for n in nodes:
        n.start()
    for n in nodes:
        n.join(150)
    assert (out / "done").exists() and (out / "done").read_text() == "2", ended
    same_end(two / "float64", out / "float64")


def kill_the_launcher(out, beyond):
    """SIGKILL to torchrun while its ranks write beyond `beyond` bytes; they end with it, and write no more."""
    env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} | os.environ
    with open(out / "said", "wb") as said:
        p = subprocess.Popen(launch_command(2, FIT, [out, *OPTIONS]), env=env, stdout=said, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + 90
            while (out / "metrics.jsonl").stat().st_size <= beyond:
                assert p.poll() is None and time.monotonic() < end, (out / "said").read_text()
                time.sleep(0.01)
            children = psutil.Process(p.pid).children(recursive=True)
            assert len(children) == 2
        finally:
            p.kill()
            p.wait()
    gone, alive = psutil.wait_procs(children, timeout=5)
    for child in alive:
        child.kill()
    assert not alive, "ranks outlived their launcher"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc, kills as Linux does")
def test_ranks_and_launcher_are_killed_and_nothing_is_lost(two, tmp_path):
    """Rank 0 dies while it writes, then rank 1 in a step, then the launcher; the same command ends as if nothing had been."""
    out, sizes = tmp_path / "killed", []
    for deadly in (("0", "replace", "6"), ("1", "backward", "15")):
        with pytest.raises(RuntimeError, match="did not write"):
            launch(2, FIT, [out, *OPTIONS, "--deadly", *deadly], expect=out / "rank0.json", timeout=120)
        sizes.append(len(metrics(out)))
    kill_the_launcher(out, (out / "metrics.jsonl").stat().st_size)
    sizes.append(len(metrics(out)))
    assert 0 < sizes[0] < sizes[1] <= sizes[2] < 110, sizes
    launch(2, FIT, [out, *OPTIONS], expect=out / "rank0.json", timeout=120)
    same_end(two / "float32", out)


def test_a_launcher_ends_with_the_process_that_called_launch(tmp_path):
    """A kernel that is killed leaves neither torchrun nor ranks behind."""
    (tmp_path / "endless.py").write_text("import os, sys, time\nfrom futures_nb.distributed import init_group\ninit_group(timeout=30)\n"
                                         "open(f'{sys.argv[1]}.{os.getpid()}', 'w').close()\ntime.sleep(600)\n")
    kernel = f"from futures_nb.distributed import launch; launch(1, {str(tmp_path / 'endless.py')!r}, [{str(tmp_path / 'pid')!r}])"
    p = subprocess.Popen([sys.executable, "-c", kernel], start_new_session=True)
    started = []
    try:
        end = time.monotonic() + 60
        while not list(tmp_path.glob("pid.*")):
            assert p.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        started = psutil.Process(p.pid).children(recursive=True)
        assert len(started) == 2  # torchrun and its rank
    finally:
        os.kill(p.pid, signal.SIGKILL)
        p.wait()
    gone, alive = psutil.wait_procs(started, timeout=20)
    for child in alive:
        child.kill()
    assert not alive


def test_an_interrupt_ends_the_group_and_is_raised_again(tmp_path):
    (tmp_path / "endless.py").write_text("import os, sys, time\nopen(f'{sys.argv[1]}.{os.getpid()}', 'w').close()\ntime.sleep(600)\n")

    def interrupt():
        if list(tmp_path.glob("pid.*")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(1, tmp_path / "endless.py", [tmp_path / "pid"], timeout=60, on_poll=interrupt)
    pids = [int(p.suffix[1:]) for p in tmp_path.glob("pid.*")]
    assert len(pids) == 1
    end = time.monotonic() + 10
    while (left := psutil.pid_exists(pids[0])) and time.monotonic() < end:
        time.sleep(0.05)
    if left:
        os.kill(pids[0], signal.SIGKILL)
    assert not left


def test_nothing_uses_data_parallel():
    package = Path(__file__).resolve().parent.parent / "futures_nb"
    wrong = [f"{path.name}:{node.lineno}" for path in sorted(package.glob("*.py")) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if getattr(node, "id", getattr(node, "attr", getattr(node, "name", None))) == "DataParallel"]
    assert not wrong
