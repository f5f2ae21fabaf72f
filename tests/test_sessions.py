"""The calendar against real bars: where trading really stopped, and what it costs to ask."""
import time

import numpy as np
import pandas as pd
import pytest

from futures_nb.schema import make_index
from futures_nb.sessions import off_session, session_table, to_sessions, trade_dates


def _ends(index, step):
    return pd.DatetimeIndex(index).tz_convert("UTC").as_unit("us") + pd.Timedelta(step)


def _last_bars(ts, market):
    """Last bar's end and the close of each session that has bars."""
    ts = ts[~off_session(ts, market)]
    last = pd.Series(ts, trade_dates(ts, market)).groupby(level=0).max()
    table = session_table(market, last.index[0], last.index[-1])
    return last, table


@pytest.fixture(scope="module")
def es_5m(data_dir):
    return _ends(pd.read_parquet(data_dir / "tradingview" / "ES1_5m.parquet", columns=[]).index, "5min")


def test_a_year_of_es_stops_where_the_calendar_says(es_5m):
    assert not off_session(es_5m, "ES").any()
    last, table = _last_bars(es_5m, "ES")
    assert list(table.index.difference(last.index)) == []
    assert (last == table["close"].reindex(last.index)).all()
    assert table["is_early"].sum() == 11  # 24 Dec 2024, 9 Jan, ..., 28 Nov 2025


def test_dated_rules_are_needed(es_5m, monkeypatch):
    from futures_nb import sessions

    monkeypatch.setattr(sessions, "DATED_RULES", ())
    sessions._table.cache_clear()
    try:
        last, table = _last_bars(es_5m, "ES")
        missed = (last != table["close"].reindex(last.index))
        assert list(last.index[missed]) == [pd.Timestamp("2025-01-09")]
        assert list(table.index.difference(last.index)) == [pd.Timestamp("2025-04-18")]
    finally:
        sessions._table.cache_clear()


def test_gold_stops_where_the_calendar_says(data_dir):
    ts = _ends(pd.read_parquet(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", columns=[]).index.unique().sort_values(), "1min")
    assert not off_session(ts, "MGC").any()
    last, table = _last_bars(ts, "MGC")
    late = (table["close"].reindex(last.index) - last)[:-1]  # the file ends in the evening of its last day
    assert late.max() <= pd.Timedelta("15min")
    assert len(table) == len(last)


def test_nasdaq_since_2017_has_no_bar_on_a_closed_day(data_dir):
    start = pd.DatetimeIndex(pd.read_parquet(data_dir / "tradingview" / "NQ1_1h.parquet", columns=[]).index).tz_convert("UTC").as_unit("us")
    assert not off_session(start + pd.Timedelta("1min"), "NQ").any()  # an hour's end may lie after a half day's close
    last, table = _last_bars(start + pd.Timedelta("1min"), "NQ")
    assert list(table.index.difference(last.index)) == []


def test_es_halt_until_2021(data_dir):
    bars = pd.read_csv(data_dir / "ht_es_bars" / "tick_bars.csv.gz", usecols=["date_time"])
    ts = pd.DatetimeIndex(pd.to_datetime(bars["date_time"], utc=True, format="ISO8601")).as_unit("us")
    off = off_session(ts, "ES")
    # a tick bar is stamped by its last trade: none between 15:15 and 15:30, some until 16:15 before 21 September 2015
    assert off.sum() == 0
    chicago = ts.tz_convert("America/Chicago")
    late = chicago[(chicago.hour == 16) & (chicago.minute < 60)]
    assert len(late) == 25 and late.max() < pd.Timestamp("2015-09-21", tz="America/Chicago")
    assert off_session(pd.to_datetime(["2021-06-25 20:16", "2021-06-28 20:16"], utc=True), "ES").tolist() == [True, False]


def test_sessions_of_the_real_contract(es_file):
    from futures_nb.bars import read_bars

    bars = to_sessions(read_bars(es_file))
    assert bars["trade_date"].nunique() == 54  # 12 Dec .. 27 Feb, without Christmas and New Year
    inside = ~off_session(bars)
    assert bars["minute"][inside].between(1, 1380).all() and (bars["minute"][~inside] <= 0).all()
    assert bars.index[~inside].get_level_values("ts").min() == pd.Timestamp("2024-12-14 18:12", tz="UTC")
    by_hand = bars.index.get_level_values("ts").tz_convert("America/Chicago").tz_localize(None) + pd.Timedelta("7h") - pd.Timedelta("1us")
    assert (by_hand.normalize() == bars["trade_date"])[inside].all()


def test_two_and_a_half_million_rows_take_seconds():
    ts = pd.date_range("2015-01-01", periods=2_500_000, freq="min", tz="UTC").as_unit("us")
    half = len(ts) // 2
    bars = pd.DataFrame({"close": np.ones(len(ts))}, make_index(np.repeat(["ESZ20", "GCZ22"], half), ts))
    session_table("ES", "2010-01-01", "2029-12-31"), session_table("GC", "2010-01-01", "2029-12-31")
    start = time.perf_counter()
    to_sessions(bars)
    seconds = time.perf_counter() - start
    assert seconds < 5, f"{seconds:.1f} s for 2.5 million rows"  # 0.6 s alone on one core; room for a busy machine
