"""Markets that nobody wants and everybody gets, simulated; and every real file of bars there is, as bars.

Each entry says what may be missing there and why, and which verdicts of `assert_healthy` are no fault of a feature: in a market that stands
still most columns are constant.
"""
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

import futures_nb as fnb

PRICES = ["open", "high", "low", "close"]
STILL = ("constant", "stuck", "not judged")


@dataclass(frozen=True)
class Market:
    """How to make or read some bars, and what is no fault there."""
    make: object
    allow: tuple = ("not judged",)
    reason: str = ""                      # why a feature may be NaN
    families: tuple | None = field(default=())     # of features for which the reason holds; None: all


NASTY, REAL = {}, {}


def nasty(**said):
    def add(f):
        NASTY[f.__name__] = Market(f, **said)
        return f
    return add


def real(**said):
    def add(f):
        REAL[f.__name__] = Market(f, **said)
        return f
    return add


def reasons(market, features):
    """`{column: reason}` for the features (name -> Feature) for which the market has one."""
    return {name: market.reason for name, f in features.items() if market.reason and (market.families is None or f.family in market.families)}


def vix_of(bars, seed=0):
    """A daily VIX from two months before the bars to their end, known at 15:15 Chicago."""
    ts = bars.index.get_level_values("ts")
    days = pd.bdate_range(ts.min().tz_localize(None).normalize() - pd.Timedelta("60D"), ts.max().tz_localize(None).normalize())
    known = (days + pd.Timedelta("15:15:00")).tz_localize("America/Chicago").tz_convert("UTC").as_unit("us")
    move = np.random.default_rng(seed).standard_normal(len(days))
    level, walk = 0.0, []
    for z in move: walk.append(level := 0.97 * level + 0.07 * z)
    return pd.DataFrame({"vix_close": np.round(20 * np.exp(walk), 2)}, pd.DatetimeIndex(known, name="ts"))


def synth(minutes=15, n_days=40, **options):
    return fnb.synth_bars(**dict(n_contracts=2, n_days=n_days, overlap=4, minutes=minutes, start="2022-01-24", seed=7) | options)


def session_of(bars): return pd.Series(fnb.trade_dates(bars.index.get_level_values("ts")), bars.index).rank(method="dense").astype(int).to_numpy()


def at_one_price(bars, price):
    """Every bar at its one price [points], on the grid."""
    tick = fnb.instrument(bars.index[0][0]).tick
    return bars.assign(**dict.fromkeys(PRICES, np.round(np.rint(np.asarray(price) / tick) * tick, 10)))


def is_valid(bars):
    """Every bar is one: finite, in its range, on the grid of its contract's instrument."""
    inside = (bars["low"] <= bars[["open", "close"]].min(axis=1)) & (bars["high"] >= bars[["open", "close"]].max(axis=1)) & (bars["volume"] >= 0)
    on_grid = [not fnb.instrument(name).off_tick(part[PRICES]).any() for name, part in bars.groupby(level="contract")]
    return bool(inside.all() and np.isfinite(bars).all(axis=None) and all(on_grid))


@nasty(reason="nothing moves", families=("memory", "garch"), allow=STILL)
def flat():
    """No price ever moves."""
    return at_one_price(synth(), np.full(len(synth()), 4000.0))


@nasty(reason="nothing moves, and without volume there is no profile", families=("vpoc", "memory", "garch"), allow=STILL)
def flat_without_volume():
    return flat().assign(volume=0.0)


@nasty(reason="without volume there is no profile", families=("vpoc",), allow=STILL)
def without_volume():
    """Prices move and nothing trades."""
    return synth().assign(volume=0.0)


@nasty(reason="for weeks nothing moves", families=("memory", "garch"), allow=STILL)
def flat_for_weeks():
    """Ten sessions stand still in the middle, at a price that no binary fraction holds."""
    bars = synth(symbol="MGC", level=1800.0)
    still = (session_of(bars) > 25) & (session_of(bars) <= 35)
    price = np.where(still, 1800.1, bars["close"])
    return at_one_price(bars, price).where(np.repeat(still[:, None], 5, axis=1), bars)


@nasty(allow=STILL)
def one_tick_sessions():
    """A market that goes up and down by one tick all day, at another price every day."""
    bars = synth()
    day, up = session_of(bars), np.random.default_rng(0).random(len(bars)) < 0.5
    low = 4000.0 + 0.25 * (day % 7)
    return bars.assign(low=low, high=low + 0.25, open=np.where(up, low, low + 0.25), close=np.where(up, low + 0.25, low))


@nasty(reason="one bar of a thousand moves", families=("memory", "garch"), allow=(*STILL, "residue"))     # the same number of ticks in every window: only their share of the price differs
def one_bar_moves():
    """All stands still but for one tick in one bar of a thousand."""
    bars = flat()
    moved = np.cumsum(np.arange(len(bars)) % 1000 == 500)
    return at_one_price(bars, 4000.0 + 0.25 * moved)


@nasty(allow=STILL)
def limit_moves():
    """Every third session is locked at seven percent above or below the one before."""
    bars = synth(level=400.0)
    day = session_of(bars)
    locked, factor = day % 3 == 0, np.cumprod(np.where(np.arange(day.max() + 1) % 3 == 0, np.where(np.arange(day.max() + 1) % 2 == 0, 1.07, 1 / 1.07), 1.0))
    scaled = bars.copy()
    for c in PRICES: scaled[c] = np.rint(bars[c] * factor[day] / 0.25) * 0.25
    opening = scaled.groupby([bars.index.get_level_values(0), day])["open"].transform("first")
    return at_one_price(scaled, opening).where(np.repeat(locked[:, None], 5, axis=1), scaled)


@nasty()
def five_decimals():
    """The euro: a price of 1.08 and a tick of 0.00005."""
    return synth(symbol="6E", level=1.08)


@nasty()
def one_sixty_fourth():
    """The ten-year note: ticks of a sixty-fourth."""
    return synth(symbol="ZN", level=110.0)


@nasty(reason="a price of a few ticks seldom moves", families=("memory", "garch"), allow=(*STILL, "residue"))
def near_zero():
    """A price of a few ticks."""
    return synth(symbol="CL", level=0.08)


@nasty(reason="more contracts than a profile takes: no market made them", families=("vpoc",), allow=STILL)
def huge_volumes():
    """A million million contracts in every bar."""
    bars = synth()
    return bars.assign(volume=np.round(1e12 * (1 + 0.1 * np.random.default_rng(0).random(len(bars)))))


@nasty(reason="a profile with such a bar inside has no point of control", families=("vpoc",), allow=STILL)
def one_huge_volume():
    bars = synth()
    bars.iloc[[900, 2500], 4] = 1e12
    return bars


@nasty(reason="a price that is not positive has no log", families=None, allow=STILL)
def negative_prices():
    """Crude oil that falls below zero and comes back."""
    bars = synth(symbol="CL", level=40.0)
    slide = 60 * np.sin(np.linspace(0, np.pi, session_of(bars).max() + 1))[session_of(bars)]
    for c in PRICES: bars[c] = np.round(np.round((bars[c] - slide) / 0.01) * 0.01, 10)
    return bars


@nasty()
def half_empty():
    """Every second minute without a trade."""
    return synth(missing=0.5)


@nasty()
def nearly_empty():
    """One bar in ten is there."""
    return synth(minutes=5, missing=0.9)


@nasty(allow=STILL)
def one_bar_a_session():
    return synth(minutes=1380, n_days=120, block_share=0.0)


@nasty()
def hour_bars():
    return synth(minutes=60, n_days=60)


@nasty()
def shortened_sessions():
    """From Thanksgiving to the new year: half days and days without a session."""
    return synth(start="2021-11-08", n_contracts=1, n_days=50, overlap=0)


@nasty()
def lost_sessions():
    """A week without data, twice, and half a session."""
    bars = synth()
    day = session_of(bars)
    return bars[~(np.isin(day, (26, 27, 28, 29, 30)) | ((day == 34) & (np.arange(len(bars)) % 92 < 40)))]


@nasty(allow=STILL)
def a_hundredfold():
    """One bar at a hundred times the price, and one at a hundredth: an error no check was asked to find."""
    bars = synth()
    bars.iloc[1500, :4] = np.rint(bars.iloc[1500, :4].to_numpy() * 100)
    bars.iloc[2700, :4] = np.rint(bars.iloc[2700, :4].to_numpy() / 100)
    return bars


@nasty(allow=STILL, reason="profiles of a million levels have no point of control", families=("vpoc",))
def all_extremes():
    """Every bar one of `EXTREMES`."""
    from futures_nb.testing import replace_future
    bars = synth(n_contracts=1, overlap=0)
    return replace_future(bars, bars.index[0][1], kind="extreme")


@nasty()
def strays():
    """Bars stamped while the market rests."""
    bars = synth()
    late = bars[np.arange(len(bars)) % 92 == 91]
    late = late.set_axis(fnb.make_index(late.index.get_level_values(0), late.index.get_level_values(1) + pd.Timedelta("20min")))
    return pd.concat([bars, late]).sort_index(level=["contract", "ts"], sort_remaining=False).loc[list(bars.index.unique(0))]


@nasty()
def uneven_bars():
    """Bars of so many ticks: several in one minute, none in the next hour."""
    bars = synth(minutes=1, n_days=30, n_contracts=1, overlap=0)
    part = bars[np.random.default_rng(0).random(len(bars)) < 0.1 + 0.2 * (np.arange(len(bars)) % 1380 > 930)]
    ts = part.index.get_level_values("ts") - pd.to_timedelta(np.random.default_rng(1).integers(0, 59_999, len(part)), unit="ms")
    return part.set_axis(fnb.make_index(part.index.get_level_values(0), ts.as_unit("us")))


# Real files. Each takes the folder of data.

def _read(path, **options): return fnb.read_bars(path, **options)


def _contracts(bars, *names): return bars[bars.index.get_level_values("contract").isin(names)].pipe(lambda x: x.set_axis(x.index.remove_unused_levels()))


@real()
def es_minutes(data): return _read(data / "es_ninjatrader" / "ES 03-25.Last.txt")


@real(allow=STILL)
def gold_thin_and_busy(data):
    """Two contracts from their first, thin days to their last ones."""
    return _contracts(_read(data / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start"), "MGCZ23", "MGCG24")


@real(allow=STILL)
def gold_all(data):
    """Every outright contract of three and a half years."""
    return _read(data / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start")


@real()
def es_5m(data): return _read(data / "tradingview" / "ES1_5m.parquet", contract="ES", stamp="start")


@real()
def es_15m(data): return _read(data / "tradingview" / "ES1_15m.parquet", contract="ES", stamp="start")


@real(reason="half of its volumes are missing, so that half of the sessions have no profile", families=None, allow=STILL)
def es_1h(data): return _read(data / "tradingview" / "ES1_1h.parquet", contract="ES", stamp="start", on_bad="keep")


@real(reason="half of its volumes are missing", families=None)
def es_1h_without_the_missing(data): return _read(data / "tradingview" / "ES1_1h.parquet", contract="ES", stamp="start", on_bad="drop")


@real()
def nq_5m(data): return _read(data / "tradingview" / "NQ1_5m.parquet", contract="NQ", stamp="start")


@real()
def nq_1h(data): return _read(data / "tradingview" / "NQ1_1h.parquet", contract="NQ", stamp="start")


@real(allow=STILL)
def es_1d(data):
    """Daily bars, stamped at the close of their session."""
    raw = pd.read_parquet(data / "tradingview" / "ES1_1D.parquet")
    raw = raw.reset_index()
    time = next(c for c in raw.columns if pd.api.types.is_datetime64_any_dtype(raw[c]))
    return _daily(raw.rename(columns=str.lower), fnb.trade_dates(pd.DatetimeIndex(raw[time]).tz_convert("UTC") + pd.Timedelta("6h")), "ES")


def _daily(raw, dates, symbol):
    """Bars of a day, known at the close of its session; days the calendar does not have are left out."""
    table = fnb.session_table(symbol, dates.min(), dates.max()).reindex(pd.DatetimeIndex(dates).tz_localize(None))
    keep = table["close"].notna().to_numpy() & ~pd.DatetimeIndex(dates).duplicated()
    bars = raw.loc[keep, [*PRICES, "volume"]].astype(float).set_axis(fnb.make_index(symbol, pd.DatetimeIndex(table["close"][keep])))
    return bars.assign(high=bars[PRICES].max(axis=1), low=bars[PRICES].min(axis=1)).dropna()


@real(allow=STILL)
def nq_minutes(data): return _read(data / "nq_firstrate" / "NQ_1min_sample.csv", contract="NQ", tz="America/New_York", stamp="start")


def _uneven(name):
    def read(data):
        raw = pd.read_csv(data / "ht_es_bars" / f"{name}_bars.csv.gz")
        ts = pd.DatetimeIndex(pd.to_datetime(raw["date_time"], format="ISO8601")).tz_localize("UTC")
        bars = raw.rename(columns={"cum_vol": "volume"})[[*PRICES, "volume"]].astype(float).set_axis(fnb.make_index("ES", ts))
        return bars[~bars.index.duplicated(keep="last")]
    read.__name__ = f"{name}_bars"
    return read


for _name in ("tick", "volume", "dollar"): real()(_uneven(_name))


def _future(symbol):
    def read(data):
        raw = pd.read_csv(data / "daily" / "futures.csv.gz")
        raw = raw[raw["symbol"].str.upper() == symbol].rename(columns={"settle": "close"}).dropna(subset=PRICES)
        name = {"EC": "6E", "TY": "ZN"}.get(symbol, symbol)
        return _daily(raw, pd.DatetimeIndex(raw["date"]), name)
    read.__name__ = f"daily_{symbol.lower()}"
    return read


for _name in ("ES", "NQ", "CL", "GC", "TY", "EC"): real(allow=STILL)(_future(_name))


@real(allow=STILL)
def fifty_minutes_of_trades(data):
    """Minute bars made of trades."""
    raw = pd.read_csv(data / "es_ticks" / "imbalance_sample_data.csv")
    ts = pd.DatetimeIndex(pd.to_datetime(raw["Date and Time"], format="mixed")).tz_localize("UTC")
    by = raw.set_index(ts).resample("1min", label="right", closed="right")
    bars = by["Price"].ohlc().assign(volume=by["Volume"].sum()).dropna().astype(float)
    return bars.set_axis(fnb.make_index("ES", bars.index))


@real()
def demo(data): return fnb.demo_bars("2016-01-04", "2016-06-30")
