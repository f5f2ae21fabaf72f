"""Scaling: ours beside scikit-learn's transformers of the same definition, on the same matrix, in turn in one process.

    python benchmarks/scaling.py         # writes benchmarks/results/scaling.json

Sixty columns of float64 (six for the power transform), normal, with tails, and lognormal, as an array that lies in rows. `robust` is timed for `fit` and
`transform` apart, the others for both together. scikit-learn's QuantileTransformer is given all rows (`subsample=None`), as ours takes them, and its PowerTransformer
the columns that a robust scaler has scaled, which ours does itself. Answers are compared before times, for ranks inside the train rows. `rolling` and `auto` have no
peer; their matrix has the index of the bars it goes with.
"""
import argparse
import os
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from sklearn import preprocessing as theirs

from common import peers_in_turn, write_results

import futures_nb as fnb
from futures_nb.scaling import StandardScaler

COLUMNS, FEW = 60, 6
N_ROWS = 1_142_640                                       # 12 contracts of 69 sessions of 1,380 minutes


def matrix(n):
    """Columns in turn normal, Student's t with three degrees of freedom, and lognormal, in units from 1e-5 to 1e5."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, COLUMNS))
    x[:, 1::3] = rng.standard_t(3, x[:, 1::3].shape)
    x[:, 2::3] = np.exp(x[:, 2::3])
    return x * 10.0 ** np.linspace(-5, 5, COLUMNS)


def both(scaler, x): return scaler.fit(x).transform(x)


def races(x, even):
    """`what is done: (ours, theirs, columns)`, as calls without arguments."""
    few, few_even = np.ascontiguousarray(x[:, :FEW]), np.ascontiguousarray(even[:, :FEW])
    ours, robust = fnb.RobustScaler().fit(x), theirs.RobustScaler().fit(x)
    yield "robust, fit", partial(fnb.RobustScaler().fit, x), partial(theirs.RobustScaler().fit, x), COLUMNS
    yield "robust, transform", partial(ours.transform, x), partial(robust.transform, x), COLUMNS
    yield "standard, fit and transform", partial(both, StandardScaler(), x), partial(both, theirs.StandardScaler(), x), COLUMNS
    yield ("quantile (normal), fit and transform", partial(both, fnb.make_scaler("quantile"), x),
           partial(both, theirs.QuantileTransformer(output_distribution="normal", subsample=None), x), COLUMNS)
    yield "power (Yeo-Johnson), fit and transform", partial(both, fnb.make_scaler("power"), few), partial(both, theirs.PowerTransformer(), few_even), FEW


def difference(name, ours, peer, x):
    """The largest difference of what the two return, in scales."""
    a, b = ours(), peer()
    if "fit" in name and "transform" not in name: return float(max(np.abs(a.center_ / b.center_ - 1).max(), np.abs(a.scale_ / b.scale_ - 1).max()))
    inside = (x > x.min(axis=0)) & (x < x.max(axis=0)) if "quantile" in name else np.full(a.shape, True)
    if "quantile" in name: inside[:, np.abs(x).max(axis=0) < 100] = False   # scikit-learn's ends are 1e-7 wide in the unit of the column
    return float(np.abs(a - b)[inside].max())


def one_size(n, rounds):
    x = matrix(n)
    even = fnb.RobustScaler().fit_transform(x)
    for name, ours, peer, columns in races(x, even):
        off = difference(name, ours, peer, x)
        assert off < 1e-6, (name, off)
        yield {"rows": n, "scaler": name, "columns": columns, "largest_difference": off} | peers_in_turn({"ours": ours, "scikit-learn": peer}, rounds)


def without_peer(n, rounds):
    bars = fnb.synth_bars(n_contracts=12, n_days=70, seed=1).iloc[:n]
    frame = pd.DataFrame(matrix(n), bars.index, [f"f{j}" for j in range(COLUMNS)], copy=False)
    for kind in ("rolling", "auto", "winsor", "log1p"):
        yield {"rows": n, "scaler": f"{kind}, fit and transform", "columns": COLUMNS} | peers_in_turn({"ours": partial(both, fnb.make_scaler(kind), frame)}, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, N_ROWS])
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    rows = []
    for n in given.rows:
        for row in (*one_size(n, given.rounds), *without_peer(n, given.rounds)):
            rows.append(row)
            print(row)
    names = list(dict.fromkeys(row["scaler"] for row in rows))
    rows.sort(key=lambda row: names.index(row["scaler"]))   # a table for each, the sizes beside each other
    if not given.dry: write_results("scaling", rows)


if __name__ == "__main__":
    main()
