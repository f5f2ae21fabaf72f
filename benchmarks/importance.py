"""Permutation importance of a whole run: ours, with clusters, ranks, joint intervals and noise, beside scikit-learn's, which gives means alone.

    python benchmarks/importance.py                       # writes benchmarks/results/importance.json
    python benchmarks/importance.py --columns 20 --days 600 --rounds 1

Rows one a day, `--columns` columns, five folds, ten moves each. Both are asked about the same fitted forecasts: a ridge regression, and a small net (scikit-learn is given an object whose `predict` is the net's forward pass). Before
they are timed the means are compared: both estimate the same expectation with draws of their own, so they must agree within the draws' error. The budget of a run is ten seconds for ours and the gradients together.
"""
import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results
from sklearn.inspection import permutation_importance as by_sklearn

import futures_nb as fnb
from futures_nb.baselines import Baseline
from futures_nb.importance import fit_each, permutation_importance
from futures_nb.moves import ask
from futures_nb.response import gradient_importance
from futures_nb.schema import make_index


def market(n, p, seed=0):
    rng = np.random.default_rng(seed)
    ts = pd.bdate_range("2000-01-03 21:00", periods=n + 1, tz="UTC")
    index = make_index("ESZ24", ts[:-1])
    X = rng.standard_normal((n, p))
    y = X[:, :4] @ [0.5, 0.4, 0.3, 0.2] + rng.standard_normal(n)
    return pd.DataFrame(X, index, [f"c{k}" for k in range(p)]), pd.DataFrame({"y": 0.01 * y, "t1": ts[1:], "weight": 1.0}, index)


class Forecaster:
    """A fit as scikit-learn wants it."""
    def __init__(self, fit, dataset): self.asked = ask(fit, dataset, dataset.test, "squared" if not hasattr(fit.net, "parameters") else None)
    def fit(self, X, y): return self
    def predict(self, X): return self.asked.say(X)[1][0]


def of_sklearn(fits, datasets, repeats):
    score = lambda model, X, y: -model.asked.say(X)[0][0].mean()
    return [by_sklearn(Forecaster(f, d), d.X[d.test], d.y[d.test], scoring=score, n_repeats=repeats, random_state=0).importances for f, d in zip(fits, datasets)]


def compare(name, fits, datasets, rounds, repeats=10):
    loss = "squared" if name == "ridge" else None
    ours = permutation_importance(fits, datasets, loss=loss, repeats=repeats)
    theirs = of_sklearn(fits, datasets, repeats)
    n = [len(d.test) for d in datasets]
    mean = np.average([t.mean(axis=1) for t in theirs], axis=0, weights=n)
    error = np.sqrt(sum((t.std(axis=1) * k / sum(n)) ** 2 for t, k in zip(theirs, n)) / repeats * 2)
    off = np.abs(ours.columns.loc[list(datasets[0].columns), "importance"].to_numpy() - mean) / np.maximum(error, 1e-12)
    assert np.quantile(off, 0.9) < 4, f"{name}: {off.max():.1f} errors apart"
    peers = {"futures_nb": lambda: permutation_importance(fits, datasets, loss=loss, repeats=repeats), "scikit-learn": lambda: of_sklearn(fits, datasets, repeats)}
    if name == "net": peers["futures_nb, gradients"] = lambda: gradient_importance(fits, datasets)
    row = {"forecast": name, "columns": len(datasets[0].columns), "folds": len(fits), "test_rows": sum(n), "largest_difference_in_errors": round(float(off.max()), 2)} | peers_in_turn(peers, rounds)
    print(row)
    return row


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--columns", type=int, default=90)
    parse.add_argument("--days", type=int, default=2000)
    parse.add_argument("--rounds", type=int, default=3)
    given = parse.parse_args()
    features, target = market(given.days, given.columns)
    folds = fnb.WalkForward(n_folds=5).folds(target)
    rows = [compare("ridge", *fit_each(Baseline("ridge", alpha=0.01), features, target, folds), given.rounds),
            compare("net", *fit_each(fnb.MLP, features, target, folds, epochs=5), given.rounds)]
    write_results("importance", rows)


if __name__ == "__main__": main()
