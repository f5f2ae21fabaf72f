"""A full disk, a read-only one, and a kill in the midst of the last checkpoints: what was there before stays."""
import ctypes
import multiprocessing
import os
import random
import sys
import time
import warnings

import pytest

from fit_script import finish, run_fit, same_end, start, warm

FORK = multiprocessing.get_context("fork")
REMOUNT, READ_ONLY, PRIVATE = 32, 1, 1 << 18 | 1 << 14  # of mount(2)


def call(name, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args):
        raise OSError(ctypes.get_errno(), f"{name}{args}: {os.strerror(ctypes.get_errno())}")


def mount_small(path, size):
    """A file system of our own, [bytes]; it ends with this process."""
    uid, gid = os.getuid(), os.getgid()
    try:
        call("unshare", 0x20000)  # a table of mounts of our own, for which one has to be root
    except OSError:
        call("unshare", 0x10000000 | 0x20000)  # in a user namespace of our own we are
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as f:
                f.write(text)
    call("mount", b"none", b"/", None, PRIVATE, None)
    call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", 0, f"size={size}".encode())


def in_small_file_system(folder, size, work):
    """What `work(remount)` returns in a forked process in which `folder` is a file system of its own; skips where that is not allowed."""
    here, there = FORK.Pipe(duplex=False)

    def child():
        try:
            mount_small(folder, size)
        except OSError as e:
            return there.send(("skip", str(e)))
        try:
            there.send(("done", work(lambda flag: call("mount", None, os.fsencode(folder), None, REMOUNT | flag, None))))
        except BaseException as e:
            there.send(("failed", repr(e)))
            raise

    warm()
    p = FORK.Process(target=child)
    p.start()
    there.close()
    kind, value = here.recv() if here.poll(60) else ("failed", "still running after 60 s")
    p.kill() if kind == "failed" else p.join(30)
    if kind == "skip" and not os.environ.get("CI"):
        pytest.skip(f"no file system can be mounted here: {value}")
    assert kind == "done", value
    return value


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")
def test_a_full_and_a_read_only_disk_cost_a_line_and_no_step(tmp_path):
    """The fit gets a little more room again and again, then a read-only disk, then all it needs."""
    from futures_nb.schema import DataError

    finish(tmp_path / "never")
    disk = tmp_path / "disk"
    disk.mkdir()

    def newest_file(out):
        found = [p for p in out.glob("**/*.safetensors")]
        return max((p.stat().st_mtime_ns, p.name, p.read_bytes()) for p in found)[1:] if found else None

    def work(remount):
        said, kept = [], []

        def attempt():
            before = newest_file(disk / "fit")
            try:
                run_fit(disk / "fit")
                said.append("finished")
            except DataError as e:
                said.append(str(e))
            kept.append((before, newest_file(disk / "fit")))

        for room in range(4, 52, 8):  # [KiB] free; a checkpoint has about 20, and the old and the new one are there together
            (disk / "filler").write_bytes(b"")
            (disk / "filler").write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - (room << 10))))
            attempt()
            assert not list(disk.glob("fit/*.tmp")), "half a file is left"
        remount(READ_ONLY)
        attempt()
        remount(0)
        (disk / "filler").unlink()
        attempt()
        same_end(tmp_path / "never", disk / "fit")
        return said, kept

    said, kept = in_small_file_system(disk, 1 << 19, work)
    full = [s for s in said if "the disk is full" in s]
    assert len(full) >= 3 and all("\n" not in s and "run the same command again" in s for s in said[:-1]), said
    assert "the file system is read-only" in said[-2] and said[-1] == "finished"
    assert kept[-2][0] == kept[-2][1] is not None, "the read-only disk has changed"
    assert len({after for _, after in kept[:-2]} - {None}) >= 2, "the disk was full before the first checkpoint only"


def test_the_last_checkpoints_survive_a_kill(tmp_path):
    """Twelve kills of a process that does nothing but write checkpoints: the newest is whole, and at most one step behind what was told."""
    import torch

    from futures_nb.checkpoint import Checkpoints

    warm()
    rng, step = random.Random(3), 0
    for _ in range(12):
        here, there = FORK.Pipe(duplex=False)

        def child(there=there, first=step):
            files = Checkpoints(tmp_path, keep=2)
            files.newest()
            for k in range(first + 1, first + 100_000):
                files.save({"w": torch.full((5000,), float(k))}, {"step": k}, is_best=k % 7 == 0)
                there.send(k)

        p = FORK.Process(target=child)
        p.start()
        there.close()
        assert here.poll(30), "no checkpoint was written"
        time.sleep(rng.uniform(0.0, 0.1))
        p.kill()
        p.join()
        told = step
        try:
            while here.poll():
                told = here.recv()
        except EOFError:
            pass
        tensors, state = Checkpoints(tmp_path).newest()
        assert state["step"] in (told, told + 1) and (tensors["w"] == state["step"]).all()
        best = Checkpoints(tmp_path).best()
        assert best is None or best[1]["step"] == state["step"] // 7 * 7
        assert len(Checkpoints(tmp_path).files()) <= 2 + 1 + 2  # the last, the best, and those that were about to be removed
        step = state["step"]
    assert step > 24


def test_a_locked_folder_is_free_after_a_kill(tmp_path):
    """The lock is the system's: SIGKILL of its holder ends it."""
    from futures_nb.checkpoint import locked_folder

    p = start(tmp_path)
    time.sleep(0.5)
    p.kill()
    p.join()
    with locked_folder(tmp_path, patience=0):
        pass


def test_a_broken_newest_checkpoint_costs_the_way_from_the_one_before(tmp_path):
    """A bit of the newest file of a killed fit is another: the fit says so, goes on from the one before, and ends with the same bits."""
    finish(tmp_path / "never")
    out = tmp_path / "fit"
    p = start(out, ("replace", 9))
    p.join(60)
    files = sorted(out.glob("step-*.safetensors"))
    if len(files) < 2:
        pytest.skip("this fit keeps one checkpoint")
    data = bytearray(files[-1].read_bytes())
    data[-5] ^= 1
    files[-1].write_bytes(data)
    here, there = FORK.Pipe(duplex=False)

    def child():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            run_fit(out, checkpoint_every=1)  # so that steps before the broken one are saved, too
        there.send([str(w.message) for w in said if files[-1].name in str(w.message)])

    p = FORK.Process(target=child)
    p.start()
    p.join(60)
    assert p.exitcode == 0 and here.poll(1)
    said = here.recv()
    assert len(said) == 1 and "the one before it is used" in said[0], said
    same_end(tmp_path / "never", out)
