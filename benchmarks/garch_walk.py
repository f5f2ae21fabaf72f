"""GARCH, walking forward: refits on the past only, and the filter between them, on simulated and real returns.

    python benchmarks/garch_walk.py          # writes benchmarks/results/garch_walk.json

Windows of 1,000, 2,500 and 10,000 returns, GARCH(1,1) with normal surprises, a refit every 20. The peer is a loop of `arch` over the same windows, each fit started at
the parameters of the one before, no rescaling, no output; it is run on a sample of the refits and extrapolated. Before the clock starts the log-likelihoods of
the sample are compared: ours must not be lower by more than 1e-6. Real returns are the S&P 500 of 1999 to 2018 inside arch (up to 2,500: there are 5,030 days).
"""
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import write_results

import futures_nb as fnb
from futures_nb.synth import garch_path

REFIT, N_FITS, SAMPLE, ROUNDS = 20, 100, 12, 5


def arch_loop(x, window, positions):
    """Log-likelihoods of the windows before `positions`, each fit started where the last one ended."""
    from arch import arch_model
    start, out = None, []
    for p in positions:
        fit = arch_model(x[p - window:p], rescale=False).fit(disp="off", show_warning=False, starting_values=start)
        start = fit.params.to_numpy()
        out.append(fit.loglikelihood)
    return np.array(out)


def race(name, x, window):
    x = x[:window + REFIT * N_FITS]
    ours = lambda: fnb.garch_vol(pd.Series(x), refit=REFIT, min_obs=window, window=window)
    fits = fnb.garch_fits(ours())
    n = len(fits)
    positions = fits["position"].to_numpy()[::max(1, n // SAMPLE)][:SAMPLE]
    gap = fits.set_index("position")["loglik"][positions].to_numpy() - arch_loop(x, window, positions)
    if gap.min() < -1e-6: sys.exit(f"garch_walk: {name}, window {window}: log-likelihood below arch's by {-gap.min():.1e}")
    seconds = {"ours": [], "arch": []}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ours()
        seconds["ours"].append(time.perf_counter() - start)
        start = time.perf_counter()
        arch_loop(x, window, positions)
        seconds["arch"].append((time.perf_counter() - start) * n / len(positions))
    ratio = float(np.median(np.array(seconds["arch"]) / seconds["ours"]))
    return {"returns": f"{name}, window {window:,}", "fits": n, "not_converged": int((~fits["converged"]).sum()), "on_a_bound": int((fits["n_on_bound"] > 0).sum()),
            "lowest_gap_of_loglik": float(f"{gap.min():.1e}"), "median_s_extrapolated": {k: round(float(np.median(v)), 4) for k, v in seconds.items()},
            "ratio_to_ours": {"arch": round(ratio, 1)}, "sample": {"arch": len(positions)}, "step": {"arch": max(1, n // SAMPLE)},
            "microseconds_a_fit": round(1e6 * float(np.median(seconds["ours"])) / n, 1)}


def main():
    from arch.data import sp500
    real = (100 * np.log(sp500.load()["Adj Close"]).diff().dropna()).to_numpy()
    simulated = garch_path(np.random.default_rng(5).standard_normal(12_500), 0.02, 0.06, 0.92)[0]
    rows = [race("simulated", simulated, w) for w in (1000, 2500, 10_000)] + [race("S&P 500", real, w) for w in (1000, 2500)]
    for row in rows: print(row)
    write_results("garch_walk", rows)


if __name__ == "__main__":
    main()
