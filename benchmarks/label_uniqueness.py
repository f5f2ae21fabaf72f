"""Average uniqueness of labels: sorted searches beside mlfinpy, the loop per label and the indicator matrix of the literature.

    pip install --no-deps mlfinpy           # its pins are older than ours; the functions used here run as they are
    python benchmarks/label_uniqueness.py                           # writes benchmarks/results/label_uniqueness.json
    python benchmarks/label_uniqueness.py --sizes 500 1000 2000     # smaller

Labels to the next close on one-minute bars of one contract. mlfinpy counts a bar as inside a label if it is the label's own row; ours begins after it. It is given
rows a microsecond later, which makes the spans equal; then the answers are compared. Ours is timed at a million rows; what the peers would need there follows from their
growth (`extrapolated_s`), and the memory of the matrix from its shape.
"""
import argparse
import contextlib
import io
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import peers_in_turn, write_results

import futures_nb as fnb
from futures_nb.labels import label_spans, label_uniqueness

MATRIX_ROWS = 5000   # labels, above which the indicator matrix is not tried


def labels(n):
    """The first `n` labels of one market, and all its moments."""
    bars = fnb.synth_bars(n_contracts=1, n_days=max(8, n // 1380 + 3), overlap=0, seed=0)
    ts, spans = bars.index.get_level_values("ts"), label_spans(bars, "1D")
    rows = np.flatnonzero(spans.missing == 0)[:n]
    assert len(rows) == n
    return ts[rows], ts[spans.end[rows]], ts[:spans.end[rows[-1]] + 1]


def by_loop(t0, t1, times):
    """mlfinpy 0.1.2, `get_av_uniqueness_from_triple_barrier`: snippets 4.1 and 4.2 of López de Prado (2018), one process."""
    from mlfinpy.sampling.concurrent import get_av_uniqueness_from_triple_barrier
    late = t0 + pd.Timedelta(1, "us")
    with contextlib.redirect_stderr(io.StringIO()):
        return get_av_uniqueness_from_triple_barrier(pd.DataFrame({"t1": t1}, late), pd.Series(0.0, times), 1, False)["tW"].to_numpy()


def by_matrix(t0, t1, times):
    """The dense table, labels by moments (snippets 4.3 and 4.4), in numpy."""
    t, a, b = times.asi8, t0.asi8, t1.asi8
    inside = (a[:, None] < t) & (t <= b[:, None])
    return (inside / inside.sum(0).clip(1)).sum(1) / inside.sum(1)


def timed(n, rounds):
    given = labels(n)
    want = label_uniqueness(*given)
    np.testing.assert_allclose(by_loop(*given), want, rtol=1e-9)
    peers = {"ours": lambda: label_uniqueness(*given), "mlfinpy": lambda: by_loop(*given)}
    if n <= MATRIX_ROWS:
        np.testing.assert_allclose(by_matrix(*given), want, rtol=1e-9)
        peers["matrix"] = lambda: by_matrix(*given)
    row = {"labels": n, "moments": len(given[2])} | peers_in_turn(peers, rounds)
    print(row)
    return row


def whole_market(n_contracts, small):
    """Ours at full size, and what the peers would need."""
    bars = fnb.synth_bars(n_contracts=n_contracts, n_days=70, overlap=4, seed=0)
    ts, spans = bars.index.get_level_values("ts"), label_spans(bars, "1D")
    has, seconds = spans.missing == 0, []
    t1 = ts[spans.end].where(has)
    for _ in range(3):
        start = time.perf_counter()
        weight = label_uniqueness(ts, t1, ts)
        seconds.append(time.perf_counter() - start)
    n, moments = int(has.sum()), ts.nunique()
    last = small[-1]
    row = {"labels": n, "moments": moments, "median_s": {"ours": round(float(np.median(seconds)), 3)}, "independent": round(float(np.nansum(weight)), 1),
           "extrapolated_s": {"mlfinpy, as many steps a label as there": round(last["median_s"]["mlfinpy"] / last["labels"] * n)},
           "matrix_gb": round(n * moments / 1e9)}    # one byte a cell
    print(row)
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 20000], help="labels")
    parser.add_argument("--contracts", type=int, default=12, help="of the whole market")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    rows = [timed(n, asked.rounds) for n in asked.sizes]
    write_results("label_uniqueness", [*rows, whole_market(asked.contracts, rows)])
