"""The backtest against a slow engine that walks from event to event, and numbers of other packages."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.backtest import Cost, max_drawdown, run_backtest, sharpe_ratio
from futures_nb.schema import contract_month, instrument, sort_by_expiry

CHICAGO = "America/Chicago"
SHARPE, DRAWDOWN = -1.1310191173383892, -0.2538938092414479   # of `profits() / 250_000`, empyrical-reloaded 0.7.1


def market(seed, symbol="ES", year=2024, days=("2024-12-12", "2024-12-19")):
    """Two contracts of one root over the same days: a random share of the minutes around opens, closes, cash hours and rests; random ticks."""
    rng, inst = np.random.default_rng(seed), instrument(symbol)
    clocks = ["08:27", "08:33", "14:57", "15:12", "15:28", "15:57", "17:00"]
    minutes = pd.DatetimeIndex([day + pd.Timedelta(f"{clock}:00") + pd.Timedelta(m, "min")
                                for day in pd.date_range(*days) for clock in clocks for m in range(1, 5)], tz=CHICAGO)
    parts = []
    for letter, start in (("Z", 20_000), ("H", 20_240)):
        name = f"{symbol}{letter}{year % 100 + (letter == 'H')}"
        ts = minutes[rng.random(len(minutes)) < 0.8].tz_convert("UTC")
        ts = ts[~fnb.off_session(ts, symbol) | (rng.random(len(ts)) < 0.05)]   # some bars are stamped while the market is closed
        close = start + rng.integers(-9, 10, len(ts)).cumsum()
        opened = np.append(start, close[:-1]) + rng.integers(-3, 4, len(ts))
        frame = {"open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close}
        parts.append(pd.DataFrame({k: inst.to_price(v) for k, v in frame.items()} | {"volume": 1.0}, fnb.make_index(name, ts)))
    return sort_by_expiry(pd.concat(parts))


def said(bars, seed):
    """Signals at some bars, some of them with an end that comes soon, each with its own size; the later contract speaks late."""
    rng = np.random.default_rng(seed)
    first, later = (bars.loc[[name]].index for name in bars.index.levels[0][np.argsort([contract_month(n) for n in bars.index.levels[0]])])
    cut = later[len(later) * 2 // 3][1]
    index = first.append(later[later.get_level_values("ts") >= cut])
    index = index[rng.random(len(index)) < rng.choice([0.1, 0.4, 1.0])]
    if not len(index): index = first[:1]
    ts = index.get_level_values("ts")
    length = pd.to_timedelta(rng.choice([2, 30, 600, 3000], len(index)), unit="min")
    return pd.DataFrame({"y_hat": rng.choice([-1.0, 0.0, 0.5], len(index)), "t1": ts + length, "n_contracts": rng.integers(0, 4, len(index))}, index)


class Account:
    """One contract's account in whole cents, told of one event after the other."""
    def __init__(self, inst): self.inst, self.held, self.price, self.trades, self.trade = inst, 0, None, [], None

    def mark(self, price):
        """The value of a tick, in cents, times what is held, since the last price."""
        ticks = 0 if self.price is None else round((price - self.price) / self.inst.tick)
        self.price = price
        gain = self.held * ticks * round(self.inst.tick_value * 100)
        if self.trade is not None: self.trade["pnl"] += gain
        return gain

    def fill(self, want, ts, side):
        """Cents paid to hold `want` instead, at the last price."""
        paid, steps = 0, [0, want] if self.held * want < 0 else [want]     # a reversal is two orders
        for aim in steps:
            if aim == self.held: continue
            cents = abs(aim - self.held) * side
            if self.held == 0: self.trade = {"opened": ts, "entry": self.price, "n_contracts": 0, "pnl": 0, "cost": 0}
            self.trade["cost"] += cents
            if abs(aim) > abs(self.trade["n_contracts"]): self.trade["n_contracts"] = aim
            if aim == 0:
                self.trades.append(self.trade | {"closed": ts, "exit": self.price})
                self.trade = None
            paid, self.held = paid + cents, aim
        return paid


def wanted_at(heard, contract, now):
    """What the predictions heard so far want to hold in `contract` at the moment `now`."""
    own = heard[heard["contract"] == contract]
    if own.empty or any(contract_month(c) > contract_month(contract) for c in heard["contract"]): return 0
    last = own.iloc[-1]
    return int(np.sign(last["y_hat"])) * int(last["n_contracts"]) if last["t1"] >= now else 0


def is_cash(ts):
    """Does a minute that ends at `ts` begin in the cash hours of the exchange's clock?"""
    clock = (ts.tz_convert(CHICAGO) - pd.Timedelta("1min")).strftime("%H:%M")
    return "08:30" <= clock < "15:00" and ts.tz_convert(CHICAGO).day_of_week < 5


def event_by_event(predictions, bars, cost, delay, last_days):
    """Position, pnl and cost [cents] of each bar, and the trades [cents]; written to be read, with no arrays."""
    heard = predictions.reset_index().sort_values("ts")
    closed, dates, rows, trades = dict(zip(bars.index, fnb.off_session(bars))), dict(zip(bars.index, fnb.trade_dates(bars.index.get_level_values("ts")))), {}, []
    for contract, part in bars.groupby(level="contract", sort=False):
        inst, account = instrument(contract), Account(instrument(contract))
        tradable = [key for key in part.index if not closed[key] and dates[key] <= last_days.get(contract, pd.Timestamp.max)]
        for key in part.index:
            pnl = paid = 0
            if key in tradable:
                k, ts = tradable.index(key), key[1]
                side = round(100 * (cost.commission + (cost.slippage_ticks if is_cash(ts) or cost.night_ticks is None else cost.night_ticks) * inst.tick_value))
                pnl += account.mark(part.loc[key, "open"])
                if k + 1 >= delay:
                    now = tradable[k + 1 - delay][1]
                    paid += account.fill(wanted_at(heard[heard["ts"] < now], contract, now), ts, side)
                pnl += account.mark(part.loc[key, "close"])
                if key == tradable[-1]: paid += account.fill(0, ts, side)
            rows[key] = account.held, pnl, paid
        trades += [trade | {"contract": contract} for trade in account.trades]
    return pd.DataFrame(rows.values(), bars.index, columns=["position", "pnl", "cost"]), pd.DataFrame(trades)


@pytest.mark.parametrize("seed", range(12))
def test_the_account_of_the_slow_engine_to_the_cent(seed):
    rng = np.random.default_rng(seed + 100)
    symbol, delay, night, days_before = rng.choice(["ES", "MES", "NQ"]), int(rng.integers(1, 5)), rng.choice([None, 0.0, 1.6]), rng.choice([None, 0, 1, 3])
    halts = seed % 2 == 1
    bars = market(seed, symbol, 2019, ("2019-12-12", "2019-12-20")) if halts else market(seed, symbol, days=("2024-12-12", "2024-12-20"))   # in 2019 the market rested at 15:15
    p, cost = said(bars, seed + 1), Cost(commission=2.0, slippage_ticks=0.4, night_ticks=night)
    names = [name for name in bars.index.levels[0]]
    fridays = {n: pd.Timestamp("2019-12-20" if n.endswith("19") else "2024-12-20") for n in names if "Z" in n}
    last = {} if days_before is None else {n: day - pd.offsets.BDay(days_before) for n, day in fridays.items()}
    fast = run_backtest(p, bars, cost=cost, delay=delay, days_before=days_before, n_draws=10)
    slow, trades = event_by_event(p, bars, cost, delay, last)
    np.testing.assert_array_equal(fast.bars["position"], slow["position"])
    for column in ("pnl", "cost"): np.testing.assert_array_equal((fast.bars[column] * 100).round().astype(int), slow[column])
    np.testing.assert_allclose([fast.gross * 100, fast.cost * 100, fast.daily.sum() * 100], [slow["pnl"].sum(), slow["cost"].sum(), slow["pnl"].sum() - slow["cost"].sum()], atol=1e-3)
    assert len(fast.trades) == len(trades) == fast.n_trades
    if len(trades):
        for column in ("contract", "opened", "closed", "n_contracts", "entry", "exit"): assert fast.trades[column].tolist() == trades[column].tolist(), column
        for column in ("pnl", "cost"): np.testing.assert_array_equal((fast.trades[column] * 100).round().astype(int), trades[column])


def test_trades_add_up_to_the_account():
    bars = market(3)
    test = run_backtest(said(bars, 4), bars, n_draws=10)
    assert test.trades["pnl"].sum() == test.gross and test.trades["cost"].sum() == pytest.approx(test.cost, abs=1e-9)
    assert test.net == pytest.approx(test.daily.sum(), abs=1e-9) and test.n_trades > 5


def profits(): return np.round(np.random.default_rng(2026).standard_t(4, 756) * 900 + 40, 2)   # dollars a day


def test_numbers_of_empyrical():
    """Its sharpe_ratio, and its max_drawdown, which compounds: a fall of the summed logarithms is a fall in percent."""
    assert sharpe_ratio(profits()) == pytest.approx(SHARPE, rel=1e-12)
    assert sharpe_ratio(profits() / 250_000) == pytest.approx(SHARPE, rel=1e-12)
    assert max_drawdown(np.log1p(profits() / 250_000)) == pytest.approx(-np.log1p(DRAWDOWN), rel=1e-12)


def test_the_account_of_two_public_engines():
    """Frozen from vectorbt 1.2.0 (`Portfolio.from_orders`) and backtesting.py 0.6.6, which agree to the cent: benchmarks/backtest.py makes these prices and runs both again."""
    rng, n = np.random.default_rng(0), 10_000
    close = 20_000 + np.cumsum(rng.integers(-2, 3, n))
    opened = np.append(close[0], close[:-1]) + rng.integers(-1, 2, n)
    side = np.where(np.cumsum(rng.random(n) < 0.02) % 2 == 0, 1, -1)
    bars = pd.DataFrame({"open": opened * 0.25, "close": close * 0.25}, fnb.make_index("ES", pd.date_range("2020-01-01", periods=n, freq="min", tz="UTC")))
    test = run_backtest(pd.DataFrame({"y_hat": side * 1.0}, bars.index)[:-1], bars, n_draws=10)
    assert round(test.net, 2) == -5545.50
    assert len(test.notes) == 1   # the stamps follow no session clock, and every bar is traded
