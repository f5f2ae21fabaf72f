"""What a forecast costs live: all features of the catalogue with the VIX, the scaler and the net, bar by bar.

    python benchmarks/artifact.py                   # writes benchmarks/results/artifact.json
    python benchmarks/artifact.py --bars 500

Bars of one minute of a simulated market; a contract with 30 sessions of history. The net is new: what it says costs what a fitted one's answer costs.
Every answer is compared with the batch before times are told. Kernels are compiled before the clock starts.
"""
import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from common import write_results

import futures_nb as fnb
from futures_nb.artifact import Pipeline
from futures_nb.config import RunConfig


def market(n_days):
    """Bars of one contract, and a VIX that covers them."""
    bars = fnb.synth_bars(n_contracts=1, n_days=n_days, seed=0)
    first, last = (bars.index[k][1].normalize() for k in (0, -1))
    days = pd.bdate_range(first - pd.Timedelta("400D"), last, name="ts").as_unit("us") + pd.Timedelta("21h15min")
    return bars, pd.DataFrame({"vix_close": 15 + 10 * np.random.default_rng(0).random(len(days))}, days)


def pipeline_on(features, scaler, hidden, depth):
    """A pipeline as `load_pipeline` gives it, its net new."""
    net = fnb.ResidualMLP(features.shape[1], hidden=hidden, depth=depth).eval()
    about = {"columns": list(features), "lookback": 0, "y_scale": 0.01, "target": {"kind": "return", "horizon": "1D", "fitted": None}, "rows": "all", "markets": ["ES"],
             "bar_seconds": 60.0, "interval": {"known_to": "1970-01-01 00:00:00+00:00"}, "net": {"class": "ResidualMLP"}}
    return Pipeline(about, RunConfig(), net, fnb.make_scaler(scaler).fit(features.dropna()))


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--bars", type=int, default=4000, help="bars that come one at a time")
    ask.add_argument("--days", type=int, default=34)
    asked = ask.parse_args()
    bars, vix = market(asked.days)
    features = fnb.make_features(bars, vix, progress=False)
    rows = []
    for scaler, hidden, depth in (("robust", 32, 2), ("auto", 32, 2), ("robust", 256, 4)):
        pipeline = pipeline_on(features, scaler, hidden, depth)
        batch, n = pipeline.predict(bars, vix, rows="all"), len(bars) - asked.bars
        live = pipeline.stream(bars.iloc[:n], vix)
        seconds, heard = [], []
        for (contract, ts), row in zip(bars.index[n:], bars.iloc[n:].to_dict("records")):
            start = time.perf_counter()
            said = live.update(row | {"contract": contract, "ts": ts})
            seconds.append(time.perf_counter() - start)
            heard.append(said["y_hat"])
        np.testing.assert_array_equal(heard, batch["y_hat"].reindex(bars.index[n:]))
        ms = 1e3 * np.array(seconds)
        rows.append({"n_features": features.shape[1], "scaler": scaler, "net": f"ResidualMLP {hidden} x {depth}", "n_bars": asked.bars, "median_ms": round(float(np.median(ms)), 3),
                     "p99_ms": round(float(np.quantile(ms, 0.99)), 3), "worst_ms": round(float(ms.max()), 3)})
        print(rows[-1], flush=True)
    write_results("artifact", rows)


if __name__ == "__main__": main()
