"""Writes a store in children that can be killed; test_store.py drives it through its standard input.

Each line is a JSON object: `path`, and perhaps `delay` (kill the child after so many seconds), `step` (it kills itself at that file
operation) or `loop` (it writes so many times, in turn two states of the same rows). The answer says how the child ended.
"""
import itertools
import json
import os
import signal
import sys
import time

import numpy as np

import futures_nb as fnb

STEPS = ("replace", "fsync", "mkdir", "unlink")   # every operation of os after which the disk is another


def states():
    """Two frames: every stored value of the first is another one in the second, which has a contract and times more."""
    bars = fnb.synth_bars(n_contracts=4, n_days=3, overlap=1, seed=4)
    row = np.arange(len(bars))
    new = (bars + 1).assign(volume=bars["volume"] + 1000)
    first = bars[(bars.index.get_level_values("contract") != bars.index.get_level_values("contract")[-1]) & (row % 7 > 0)]
    first.attrs = {}
    new.attrs = {"read": {"files": [{"path": "new.csv"}], "sentences": ["new"]}}
    return first, new


def die_at(step):
    """From now on, this process is killed in place of its file operation of that number."""
    count = itertools.count()
    def wrapped(real):
        def call(*args, **kwargs):
            if next(count) == step: os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call
    for name in STEPS: setattr(os, name, wrapped(getattr(os, name)))


def child(told, new):
    store = fnb.Store(told["path"])
    if told.get("step") is not None: die_at(told["step"])
    for k in range(told.get("loop", 1)): store.write(new + k % 2, on_conflict="new")


def main():
    new = states()[1]
    print("ready", flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        number = os.fork()
        if number == 0:
            try:
                child(told, new)
                os._exit(0)
            finally:
                os._exit(1)
        if "delay" in told:
            time.sleep(told["delay"])
            os.kill(number, signal.SIGKILL)   # not yet waited for: the number is still this child's, even if it has ended
        status = os.waitpid(number, 0)[1]
        print("killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}", flush=True)


if __name__ == "__main__":
    main()
