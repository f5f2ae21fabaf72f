"""Data sets: kill -9 in the middle of a save, and no second copy of the frame in memory."""
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from futures_nb.dataset import Dataset, make_dataset
from futures_nb.splits import WalkForward
from futures_nb.synth import synth_bars
from futures_nb.targets import make_target

SAVE_FOR_EVER = """
import sys
import numpy as np, pandas as pd
from futures_nb.dataset import make_dataset
from futures_nb.splits import WalkForward
from futures_nb.synth import synth_bars
from futures_nb.targets import make_target
bars = synth_bars(n_contracts=1, n_days=30, overlap=0, minutes=5)
target = make_target(bars)
fold = WalkForward(n_folds=2).folds(target)[0]
k = 0
while True:
    features = pd.DataFrame(np.random.default_rng(k % 2).normal(size=(len(bars), 20)), bars.index, columns=[f"f{j}" for j in range(20)])
    make_dataset(features, target, fold).save(sys.argv[1])
    if k == 1: print("saved", flush=True)
    k += 1
"""


def test_killed_while_saving_leaves_a_whole_data_set(tmp_path):
    rng = np.random.default_rng(0)
    seen = set()
    child = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "saved\n"
        for _ in range(8):                     # stop it at any moment, look, let it go on
            time.sleep(rng.uniform(0.01, 0.08))
            child.send_signal(signal.SIGSTOP)
            seen.add(Dataset.load(tmp_path).X.tobytes())
            child.send_signal(signal.SIGCONT)
    finally:
        child.kill()
        child.wait()
    seen.add(Dataset.load(tmp_path).X.tobytes())
    assert 1 <= len(seen) <= 2                 # one of the two data sets, never a mixture


@pytest.mark.slow
def test_a_million_rows_need_no_second_copy():
    import resource
    bars = synth_bars(n_contracts=12, n_days=70, overlap=4)
    target = make_target(bars)
    features = pd.DataFrame(np.random.default_rng(0).normal(size=(len(bars), 20)), bars.index, columns=[f"f{j}" for j in range(20)])
    fold = WalkForward().folds(target)[-1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    dataset = make_dataset(features, target, fold)
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert len(dataset) > 900_000
    assert seconds < 10
    assert grown < 3.5 * len(dataset) * 20 * 8


def test_nanoseconds_are_the_same_moments(tmp_path):
    def in_nanoseconds(frame):
        return frame.set_index(frame.index.set_levels(frame.index.levels[1].astype("datetime64[ns, UTC]"), level="ts"))

    bars = synth_bars(n_contracts=2, n_days=14, overlap=3, minutes=60)
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(len(bars), 2)), bars.index, columns=["a", "b"])
    target = make_target(bars)
    want = make_dataset(features, target, WalkForward(n_folds=2).folds(target)[1])
    fine = make_target(in_nanoseconds(bars))
    for other in (features, in_nanoseconds(features), in_nanoseconds(features).iloc[:-1]):
        got = make_dataset(other, fine, WalkForward(n_folds=2).folds(fine)[1])
        got.save(tmp_path)
        for one in (got, Dataset.load(tmp_path)):
            assert one.index.equals(want.index) and (one.t1 == want.t1).all()
            for name in ("X", "y", "weight", "train", "valid", "test"):
                assert getattr(one, name).tobytes() == getattr(want, name).tobytes()
