"""The backtest beside vectorbt and backtesting.py on one strategy, and the stationary bootstrap beside arch.

    python benchmarks/backtest.py         # writes benchmarks/results/backtest.json

One contract's minutes, a signal to be long or short that changes every 50 bars on average, filled at the next bar's open, 2.25 USD and half a tick a side, flat at the
last close. Every engine is given arrays or frames that are already in memory; `trade_contract` does what `from_orders` does,
`run_backtest` all the rest too; "with stats" adds vectorbt's `stats` and table of trades. Accounts are compared before times: each bar's for vectorbt, the net profit for backtesting.py.
vectorbt and backtesting.py live in their own environments: give `--python` the interpreter of one, and its part is timed there, in turn with ours, through a pipe;
without it the peers that can be imported here are used. backtesting.py is timed up to 100,000 bars. `whole` is all of `run_backtest` on twelve contracts with a signal at
every bar: the check of the clock, ticks and stamps, always long, trades, and the interval of the Sharpe ratio.
"""
import argparse
import json
import os
import subprocess
import sys
import warnings
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

POINT, TICK, SIDE, CASH = 50, 0.25, 8.5, 10_000_000.0
N_ROWS = 1_142_640                                       # 12 contracts of 69 sessions of 1,380 minutes


def market(n):
    """Opens and closes [points] and the position wanted at the end of each bar."""
    rng = np.random.default_rng(0)
    close = 20_000 + np.cumsum(rng.integers(-2, 3, n))
    opened = np.append(close[0], close[:-1]) + rng.integers(-1, 2, n)
    side = np.where(np.cumsum(rng.random(n) < 0.02) % 2 == 0, 1, -1)
    return opened * TICK, close * TICK, side


def vectorbt_account(opened, close, side, whole=False):
    """Net profit by bar [USD]: `Portfolio.from_orders`, target sizes of 50 units a contract filled at the open, the fee a fixed part of an order of one contract."""
    import vectorbt as vbt
    n = len(close)
    target = np.concatenate([[0], side[:-1], [0]]) * POINT       # known at a bar's end, filled at the next open; one bar more, to be flat at the last close
    fees = np.abs(np.diff(np.append(0, target))) / POINT * SIDE
    price, value = np.append(opened, close[-1]), pd.Series(np.append(close, close[-1]))
    pf = vbt.Portfolio.from_orders(close=value, size=target.astype(float), size_type="targetamount", price=price, fixed_fees=fees, init_cash=CASH, freq="1min")
    if whole: pf.stats(), pf.trades.records_readable
    account = pf.value().to_numpy() - CASH
    return np.append(account[:n - 1], account[n])


def backtesting_net(opened, close, side):
    """Net profit [USD] of backtesting.py: a contract is 50 units, each order of 50 pays one side."""
    from backtesting import Backtest, Strategy
    o, c = (np.concatenate([opened[:1], x, close[-1:]]) for x in (opened, close))   # it asks from the second bar on, and ends the last trade at the last open
    frame = pd.DataFrame({"Open": o, "High": np.maximum(o, c), "Low": np.minimum(o, c), "Close": c}, pd.date_range("2020-01-01", periods=len(c), freq="min"))

    class Follow(Strategy):
        def init(self): pass
        def next(self):
            k = len(self.data) - 2
            if k + 1 >= len(close): return
            want = int(side[k])
            if want != np.sign(self.position.size):
                if self.position: self.position.close()
                (self.buy if want > 0 else self.sell)(size=POINT)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                   # of intraday data without a day
        told = Backtest(frame, Follow, cash=CASH, commission=lambda size, price: SIDE * abs(size) / POINT, margin=1.0, exclusive_orders=False, finalize_trades=True).run()
    return float(told["Equity Final [$]"] - CASH)


PEERS = {"vectorbt": vectorbt_account, "vectorbt with stats": partial(vectorbt_account, whole=True), "backtesting": backtesting_net}


def serve():
    """Run by the other interpreter: `peer n` a line, an account (its sum and last) or a time a line."""
    import time
    for line in sys.stdin:
        name, n = line.rsplit(maxsplit=1)
        data = market(int(n))
        start = time.perf_counter()
        account = np.atleast_1d(PEERS[name](*data))
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "last": float(account[-1]), "sum": float(account.sum()), "n": len(account)}), flush=True)


class Elsewhere:
    """A peer in another environment: each call sends a line and waits for the answer. Only the seconds inside are its time."""
    def __init__(self, python): self.process = subprocess.Popen([python, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, name, n):
        self.process.stdin.write(f"{name} {n}\n"); self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def has(python, name): return subprocess.run([python, "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"]).returncode == 0


def one_size(n, rounds, pythons):
    """Rows of ours beside each peer that some interpreter has: accounts first, then times in turn."""
    import statistics
    import time

    import futures_nb as fnb
    opened, close, side = market(n)
    index = fnb.make_index("ES", pd.date_range("2020-01-01", periods=n, freq="min", tz="UTC"))
    ours = partial(trade, opened, close, side)
    bars = pd.DataFrame({"open": opened, "close": close}, index)
    whole = partial(fnb.run_backtest, pd.DataFrame({"y_hat": side.astype(float)}, index)[:-1], bars, n_draws=1000)
    account, _ = ours(), whole()   # compiled before they are timed
    for name in PEERS:
        if name == "backtesting" and n > 100_000: continue
        python = next((p for p in pythons if has(p, name.split()[0])), None)
        if python is None: continue
        other = Elsewhere(python)
        theirs = other(name, n)
        assert abs(theirs["last"] - account[-1]) < 0.005, (name, theirs["last"], account[-1])
        if theirs["n"] == n: assert abs(theirs["sum"] - account.sum()) < 0.005 * n, (name, theirs["sum"], account.sum())
        seconds = {"trade_contract": [], "run_backtest": [], name: []}
        for _ in range(rounds):
            for key, call in (("trade_contract", ours), ("run_backtest", whole)):
                start = time.perf_counter(); call(); seconds[key].append(time.perf_counter() - start)
            seconds[name].append(other(name, n)["seconds"])
        other.process.stdin.close()
        other.process.wait()
        yield {"rows": n, "what": f"one strategy beside {name}", "net_usd": round(float(account[-1]), 2), "median_s": {k: round(statistics.median(v), 5) for k, v in seconds.items()},
               "ratio_to_ours": {f"{name} over {key}": round(statistics.median(b / a for a, b in zip(seconds[key], seconds[name])), 2) for key in seconds if key != name}}


def trade(opened, close, side):
    """Our account by bar [USD] without the frames around it: what vectorbt's `from_orders` does."""
    from futures_nb.backtest import trade_contract
    from futures_nb.schema import instrument
    inst, n = instrument("ES"), len(close)
    ts = np.arange(n)
    _, profit, traded, _, _ = trade_contract(ts, inst.to_ticks(opened), inst.to_ticks(close), np.ones(n, bool), ts[:-1], side[:-1])
    return np.cumsum(profit * inst.tick_value - traded * SIDE)


def whole_book(rounds, n_days):
    import futures_nb as fnb
    from common import peers_in_turn
    bars = fnb.synth_bars(n_contracts=12, n_days=n_days, seed=1)
    p = pd.DataFrame({"y_hat": np.random.default_rng(0).normal(size=len(bars))}, bars.index)
    yield {"rows": len(bars), "what": "whole: twelve contracts, a signal at every bar"} | peers_in_turn({"ours": partial(fnb.run_backtest, p, bars)}, rounds)


def resampling(rounds, sizes):
    from arch.bootstrap import StationaryBootstrap
    from common import peers_in_turn
    from futures_nb.regimes import stationary_sums
    for n in sizes:
        days, block = np.random.default_rng(1).standard_t(5, n), 5.0
        table = np.column_stack([days, days**2])
        ours, theirs = partial(stationary_sums, table, block), partial(StationaryBootstrap(block, days, seed=0).apply, np.mean, 1000)
        a, b = ours()[:, 0] / n, theirs()
        assert abs(a.std() / b.std() - 1) < 0.1 and abs(a.mean() - b.mean()) < 0.2 * b.std(), (a.std(), b.std())
        row = peers_in_turn({"ours": ours, "arch, 1,000": theirs}, rounds)
        row["ratio_to_ours"] = {"arch, a draw": round(10 * row["ratio_to_ours"]["arch, 1,000"], 1)}
        yield {"rows": n, "what": "stationary bootstrap, 10,000 draws"} | row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, N_ROWS])
    parser.add_argument("--days", type=int, default=70, help="sessions of each contract in the whole book")
    parser.add_argument("--python", nargs="*", default=[], help="interpreters of the peers' environments")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    if given.serve: return serve()
    from common import write_results
    rows = []
    for n in given.rows: rows += [*one_size(n, given.rounds, given.python + [sys.executable])]
    rows += [*whole_book(given.rounds, given.days), *resampling(given.rounds, [500, 5000])]
    for row in rows: print(row)
    if not given.dry: write_results("backtest", rows)


if __name__ == "__main__": main()
