"""Folds of the three splitters: ours beside the pairs of rows (the definition, O(n^2)) and timeseriescv, in turn in one process.

    python benchmarks/splits.py            # writes benchmarks/results/splits.json
    pip install timeseriescv               # the peer, in an environment of its own; if it is absent it is left out, and that is said

One contract of one-minute bars, labels to the close of the next trade date, trade dates of 1,380 rows (shorter ones are left out): timeseriescv cuts blocks by count of rows, and so its blocks are ours. Train
and test rows are compared before times. Purged k-fold is equal. Of the combinatorial folds only those are whose test blocks are neighbours or begin with the first block: for the end of a block timeseriescv takes the last label among as
many test rows as the block's *position* says, so a later test block counts too. Either all train rows between the two are lost (`train_lost`, a share of ours), or, where the later block is the last of the sample, no row behind the
earlier one is taken out at all, although some have spans that meet it (`leaks`, a number of rows).
The pairs are looked at a thousand rows at a time, at the smallest size only; timeseriescv's combinations are left out at the largest (minutes). Peak memory is what numpy and Python allocate above what was there before (tracemalloc, in a call of its own).
Ours include the trade dates of all rows and the counts in `info`; the peers get their times as arrays of a frame that is there already.
"""
import argparse
import os
import tracemalloc
from functools import partial
from importlib.util import find_spec

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results

from futures_nb.kfold import CombinatorialPurged, PurgedKFold
from futures_nb.splits import WalkForward
from futures_nb.synth import synth_bars
from futures_nb.labels import row_dates
from futures_nb.targets import make_target

EMBARGO, SIZES = "6h", (30, 210, 840)


def labelled(n_days):
    """A target frame of `n_days` labelled trade dates of 1,380 rows; shorter ones are left out."""
    target = make_target(synth_bars(n_contracts=1, n_days=n_days + n_days // 10 + 2, overlap=0, seed=0)).dropna()
    date = row_dates(target.index)
    dates, counts = np.unique(date, return_counts=True)
    return target[np.isin(date, dates[counts == 1380][:n_days])]


def by_pairs(target, n_folds):
    """Purged k-fold by the definition: for each row outside a block, does its span come nearer than the embargo to any span in it?"""
    ts, t1 = target.index.get_level_values("ts").as_unit("us").asi8, pd.DatetimeIndex(target["t1"]).as_unit("us").asi8
    gap, n, folds = pd.Timedelta(EMBARGO) // pd.Timedelta("1us"), len(target), []
    for test in np.array_split(np.arange(n), n_folds):
        free = np.ones(n, bool)
        free[test] = False
        for a in range(0, n, 1000):
            rows = slice(a, a + 1000)
            free[rows] &= ~((ts[rows, None] <= t1[test] + gap) & (ts[test] <= t1[rows, None])).any(axis=1)
        folds.append((np.flatnonzero(free), test))
    return folds


def by_timeseriescv(target, n_blocks, n_test):
    from timeseriescv.cross_validation import CombPurgedKFoldCV
    pred, known = pd.Series(target.index.get_level_values("ts")), pd.Series(pd.DatetimeIndex(target["t1"]))
    cv = CombPurgedKFoldCV(n_blocks, n_test, pd.Timedelta(EMBARGO))
    return list(cv.split(pd.DataFrame({"x": np.zeros(len(target))}), pred_times=pred, eval_times=known))[::-1]


def allocated_mb(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 2**20, 1)


def compare(target, ours, theirs):
    """How many folds are equal, which share of our train rows theirs do not have, and how many of theirs know a test row's answer."""
    ts, t1 = target.index.get_level_values("ts").as_unit("us").asi8, pd.DatetimeIndex(target["t1"]).as_unit("us").asi8
    lost, leaks = [], 0
    for fold, (train, test) in zip(ours, theirs, strict=True):
        assert (fold.test == test).all()
        lost.append(len(np.setdiff1d(fold.train, train)) / len(fold.train))
        more = np.setdiff1d(train, fold.train)
        ends = np.maximum.accumulate(t1[test])[np.searchsorted(ts[test], t1[more], "right") - 1]   # the last label of the test rows that begin before it ends
        leaks += int(((ends >= ts[more]) & (ts[test[0]] <= t1[more])).sum())
    equal = sum(np.array_equal(np.sort(train), fold.train) for fold, (train, _) in zip(ours, theirs))
    return {"n_folds": len(ours), "n_equal": equal, "train_lost": round(float(np.mean(lost)), 3), "leaks": leaks}


def one_size(n_days, rounds):
    target, out = labelled(n_days), []
    peer = find_spec("timeseriescv")
    if not peer: print("timeseriescv is not here and is left out")
    for name, cv, shape in (("walk forward", WalkForward(5, embargo=EMBARGO), None), ("purged k-fold", PurgedKFold(5, EMBARGO, "0D"), (5, 1)),
                            ("combinatorial", CombinatorialPurged(6, 2, EMBARGO, "0D"), (6, 2))):
        calls = {"ours": partial(cv.folds, target)}
        if shape and peer and (name == "purged k-fold" or n_days < SIZES[-1]): calls["timeseriescv"] = partial(by_timeseriescv, target, *shape)
        if name == "purged k-fold" and n_days <= SIZES[0]: calls["pairs"] = partial(by_pairs, target, 5)
        answers = {who: compare(target, calls["ours"](), call()) for who, call in calls.items() if who != "ours"}
        if "pairs" in answers: assert answers["pairs"]["n_equal"] == 5
        if name == "purged k-fold" and peer: assert answers["timeseriescv"]["n_equal"] == 5
        row = {"splitter": name, "rows": len(target)} | peers_in_turn(calls, rounds) | {"allocated_mb": {who: allocated_mb(call) for who, call in calls.items()}, "answers": answers}
        print(row)
        out.append(row)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--days", type=int, nargs="+", default=SIZES, help="trade dates of each size; multiples of 30, so that blocks are equal")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    rows = [row for n_days in options.days for row in one_size(n_days, options.rounds)]
    if not options.no_write: write_results("splits", rows)
