"""The calendar against real bars: where trading really stopped, and what it costs to ask."""
import time

import numpy as np
import pandas as pd
import pytest

from futures_nb.schema import INSTRUMENTS, Instrument, add_instrument, instrument, make_index
from futures_nb.sessions import (bar_length, check_calendar, closed_kinds, find_sessions, judge_calendar, off_session, session_table, to_sessions,
                                 trade_dates)


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
    last, table = _last_bars(es_5m, "ES")
    missed = (last != table["close"].reindex(last.index))
    assert list(last.index[missed]) == [pd.Timestamp("2025-01-09")]
    assert list(table.index.difference(last.index)) == [pd.Timestamp("2025-04-18")]
    told = judge_calendar(es_5m.asi8, instrument("ES"), 5 * 60_000_000)["verdict"]
    assert told[["2025-01-09", "2025-04-18"]].tolist() == ["ends early", "missing"]


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


def _judged(ts, market):
    ts = pd.DatetimeIndex(ts).tz_convert("UTC").as_unit("us").sort_values()
    told = judge_calendar(ts.asi8, instrument(market), bar_length(ts.asi8))
    return told[told["verdict"] != "agrees"]["verdict"], told


def test_calendar_agrees_with_every_real_day(data_dir, es_file):
    """All vendors, 2015 to 2025: what does not agree is named here, and is the feed's fault or its beginning or end."""
    from futures_nb.bars import read_bars

    ends = {}
    for name, market, step in (("NQ1_1h", "NQ", "1h"), ("ES1_1h", "ES", "1h"), ("ES1_5m", "ES", "5min"), ("NQ1_5m", "NQ", "5min"), ("ES1_15m", "ES", "15min")):
        odd, told = _judged(pd.read_parquet(data_dir / "tradingview" / f"{name}.parquet", columns=[]).index + pd.Timedelta(step), market)
        assert told["n_closed"].sum() == 0
        ends |= {(name, str(date.date())): verdict for date, verdict in odd.items()}
    bars = pd.read_csv(data_dir / "ht_es_bars" / "tick_bars.csv.gz", usecols=["date_time"])
    odd, told = _judged(pd.to_datetime(bars["date_time"], utc=True, format="ISO8601"), "ES")
    assert len(odd) == 0 and len(told) == 517
    told = check_calendar(read_bars(es_file)).loc["CME Globex Equity"]
    odd = told[told["verdict"] != "agrees"]["verdict"]
    ends |= {("ES 03-25", str(date.date())): verdict for date, verdict in odd.items()}
    assert told["n_closed"].sum() == 17
    assert ends == {("ES1_5m", "2024-12-03"): "data begin", ("NQ1_5m", "2024-12-03"): "data begin",
                    ("NQ1_5m", "2025-07-03"): "ends early",  # the vendor lost it after 23:00 Chicago; his ES goes on until 12:15
                    ("ES 03-25", "2024-12-12"): "data begin", ("ES 03-25", "2025-02-27"): "data end"}


def test_gold_calendar_agrees_and_its_thin_months_are_not_accused(data_dir):
    bars = pd.read_parquet(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", columns=["symbol"])
    bars = bars[~bars["symbol"].str.contains("-")]
    odd, told = _judged(bars.index.unique() + pd.Timedelta("1min"), "MGC")
    assert odd.to_dict() == {pd.Timestamp("2024-07-01"): "data end"} and len(told) == 910
    odd, told = _judged(bars.index[bars["symbol"] == "MGCZ3"] + pd.Timedelta("1min"), "MGC")
    assert set(odd) == {"too thin"}


def test_no_settlement_carries_the_date_of_a_holiday_that_clears_later(data_dir):
    daily = pd.read_csv(data_dir / "daily" / "futures.csv.gz", parse_dates=["date"])
    settled = daily[daily["symbol"] == "ES"].set_index("date")["volume"]
    table = session_table("ES", "2015-11-16", "2019-11-08")
    assert sorted(set(table["clearing_date"])) == sorted(settled.index)
    assert len(table) - table["clearing_date"].nunique() == 24
    # Thanksgiving 2016: what two vendors count differs by 1 % when Thursday is booked with Friday, by 21 % when not
    ticks = pd.read_csv(data_dir / "ht_es_bars" / "tick_bars.csv.gz", usecols=["date_time", "cum_vol"])
    date = trade_dates(pd.to_datetime(ticks["date_time"], utc=True, format="ISO8601"), "ES")
    booked = ticks["cum_vol"].groupby(pd.Index(table["clearing_date"].reindex(date))).sum()["2016-11-25"]
    alone = ticks["cum_vol"].groupby(np.asarray(date)).sum()["2016-11-25"]
    assert abs(booked / settled["2016-11-25"] - 1) < 0.02 and alone / settled["2016-11-25"] < 0.8


@pytest.mark.parametrize("sunday, hours", [("2024-03-10", 23), ("2024-11-03", 25), ("2025-03-09", 23), ("2025-11-02", 25)])
def test_days_of_23_and_25_hours(sunday, hours):
    """Chicago's change falls on a closed Sunday: the calendar day is short or long, every session and its minutes are not."""
    midnight = pd.Timestamp(sunday, tz="America/Chicago")
    following = pd.Timestamp(sunday) + pd.Timedelta("1D")
    ts = pd.date_range(midnight.tz_convert("UTC"), following.tz_localize("America/Chicago").tz_convert("UTC"), freq="min", inclusive="right").as_unit("us")
    assert len(ts) == hours * 60
    opened = ~off_session(ts, "ES")
    assert opened.sum() == 7 * 60 and (trade_dates(ts, "ES") == following).all()  # 17:00 to midnight
    week = pd.date_range(midnight - pd.Timedelta("3D"), midnight + pd.Timedelta("3D"), freq="min").tz_convert("UTC").as_unit("us")
    bars = to_sessions(pd.DataFrame({"close": 1.0}, make_index("ESZ24", week[~off_session(week, "ES")])))
    full = bars[bars["trade_date"].isin([following - pd.Timedelta("3D"), following])].groupby("trade_date")["minute"].agg(["min", "max", "size"])
    assert full.to_numpy().tolist() == [[1, 1380, 1380]] * 2


def test_a_day_that_changes_its_clock_while_it_trades():
    """A user's market that never closes: the session of the change is 23 or 25 hours long, and minute goes on counting."""
    add_instrument(Instrument("XBT", 0.5, 1, calendar="24/7", tz="America/New_York", session_open="00:00", session_close="23:59",
                              rth_open="09:30", rth_close="16:00"))
    try:
        table = session_table("XBT", "2024-03-08", "2024-03-12")
        ts = pd.date_range("2024-03-09", "2024-03-12", freq="min", tz="UTC", inclusive="right").as_unit("us")
        bars = to_sessions(pd.DataFrame({"close": 1.0}, make_index("XBTH24", ts)))
        assert not off_session(bars).any() and (table["open"].iloc[1:].to_numpy() == table["close"].iloc[:-1].to_numpy()).all()
        cash = bars[bars["is_rth"]].groupby("trade_date").size()
        assert cash.tolist() == [390, 390, 390]
        wall = bars.index.get_level_values("ts").tz_convert("America/New_York")
        first = wall[bars["is_rth"]].to_series().groupby(bars["trade_date"][bars["is_rth"]].to_numpy()).min()
        assert set(first.dt.strftime("%H:%M")) == {"09:31"}
    finally:
        del INSTRUMENTS["XBT"]


def test_a_users_instrument_works_everywhere():
    import futures_nb as fnb

    mine = add_instrument(Instrument("QQZ", 0.02, 7, "EUR", tz="Europe/Berlin", session_open="08:00", session_close="22:00", rth_open="09:00",
                                     rth_close="17:30", calendar="EUREX"))
    try:
        bars = fnb.synth_bars(n_contracts=2, n_days=8, overlap=4, symbol="QQZ", level=100.0, seed=1)
        s = to_sessions(bars)
        assert s["is_rth"].groupby([s.index.get_level_values("contract"), s["trade_date"]]).sum().max() <= 510 and not off_session(bars).any()
        assert not mine.off_tick(bars["close"]).any()
        assert len(fnb.roll_schedule(bars)) == 2
        profiles = fnb.session_profiles(bars)
        assert not mine.off_tick(profiles["poc"]).any()
        assert set(check_calendar(bars)["verdict"]) <= {"agrees", "data begin", "data end"}
    finally:
        del INSTRUMENTS["QQZ"]


def test_fast_search_is_the_slow_one_for_any_order():
    rng = np.random.default_rng(0)
    lo, hi = (pd.Timestamp(x).value // 1000 for x in ("2010-01-05", "2025-12-20"))
    for market in ("ES", "MGC", "ZN"):
        table = session_table(market, "2009-12-20", "2026-01-20")
        opens, closes = (table[c].dt.as_unit("us").astype("int64").to_numpy() for c in ("open", "close"))
        t = np.concatenate([rng.integers(lo, hi, 50_000), rng.choice(closes[10:-10], 500), rng.choice(opens[10:-10], 500) + 1])
        for times in (t, np.sort(t), np.sort(t)[::-1].copy()):
            row = np.searchsorted(closes, times)
            assert (find_sessions(times, closes) == row).all()
            kinds = closed_kinds(times, opens, closes, np.zeros((0, 2, len(closes)), np.int64))
            assert ((kinds > 0) == (times <= opens[row])).all()
            ts = pd.DatetimeIndex(times.view("datetime64[us]")).tz_localize("UTC")
            assert (trade_dates(ts, market) == table.index[row]).all()


def test_halts_are_those_of_the_wall_clock():
    """Against the definition in words: 15:15 to 15:30 Chicago on every day up to 25 June 2021, gold never."""
    ts = pd.date_range("2021-06-14", "2021-07-10", freq="5min", tz="UTC").as_unit("us")
    wall = ts.tz_convert("America/Chicago")
    resting = (wall.strftime("%H:%M") > "15:15") & (wall.strftime("%H:%M") <= "15:30") & (wall.tz_localize(None) < pd.Timestamp("2021-06-26"))
    table = session_table("ES", "2021-06-10", "2021-07-15")
    at = table.index.get_indexer(trade_dates(ts, "ES"))
    assert (off_session(ts, "ES") == (resting | (ts <= pd.DatetimeIndex(table["open"])[at]))).all()


def test_half_days_and_holidays_of_2024():
    table = session_table("ES", "2024-11-25", "2024-12-31")
    ends = table["close"].dt.tz_convert("America/Chicago").dt.strftime("%H:%M")
    assert ends[["2024-11-28", "2024-11-29", "2024-12-24", "2024-12-26"]].tolist() == ["12:00", "12:15", "12:15", "16:00"]
    assert pd.Timestamp("2024-12-25") not in table.index
    assert pd.Timestamp("2024-03-29") not in session_table("ES", "2024-03-25", "2024-04-02").index
    assert session_table("GC", "2024-11-28", "2024-11-28")["close"].dt.tz_convert("America/Chicago").dt.hour.tolist() == [13]
