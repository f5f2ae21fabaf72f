"""Expiries against published dates; the roll on 32 real gold contracts: decided at the close, never early, each minute once."""
import numpy as np
import pandas as pd
import pytest

from futures_nb.bars import read_bars
from futures_nb.roll import daily_volume, first_notice_date, front_rows, last_trade_date, roll_schedule
from futures_nb.schema import instrument, make_index, parse_contract, sort_by_expiry
from futures_nb.sessions import session_table, to_sessions, trade_dates
from futures_nb.synth import synth_bars
from futures_nb.testing import cut_future, replace_future

MONTHS = "FGHJKMNQUVXZ"

# contract: last trade, first notice. Source: CME Group's gold product calendar as it stood in April 2014
# (cmegroup.com/trading/metals/precious/gold_product_calendar_futures.html)
GOLD_CALENDAR = """
GCJ14 2014-04-28 2014-03-31   GCK14 2014-05-28 2014-04-30   GCM14 2014-06-26 2014-05-30   GCN14 2014-07-29 2014-06-30
GCQ14 2014-08-27 2014-07-31   GCV14 2014-10-29 2014-09-30   GCZ14 2014-12-29 2014-11-28   GCG15 2015-02-25 2015-01-30
GCJ15 2015-04-28 2015-03-31   GCM15 2015-06-26 2015-05-29   GCQ15 2015-08-27 2015-07-31   GCV15 2015-10-28 2015-09-30
GCZ15 2015-12-29 2015-11-30   GCG16 2016-02-25 2016-01-29
"""
# Source: expiries of CL in github.com/newmath/FuturesAndOptionsTradingSimulation, config/exchange_expiry_dates.csv
# without CLF22, which it has a day late: made in 2013, it takes the holiday of Friday 24 December 2021 for a business day
# (CLQ9, 22 July 2019, also as Interactive Brokers reports it: github.com/ranaroussi/ezibpy issue 31)
OIL_EXPIRIES = """
CLZ18 2018-11-19  CLF19 2018-12-19  CLG19 2019-01-22  CLH19 2019-02-20  CLJ19 2019-03-20  CLK19 2019-04-22  CLM19 2019-05-21  CLN19 2019-06-20
CLQ19 2019-07-22  CLU19 2019-08-20  CLV19 2019-09-20  CLX19 2019-10-22  CLZ19 2019-11-20  CLF20 2019-12-19  CLG20 2020-01-21  CLH20 2020-02-20
CLJ20 2020-03-20  CLK20 2020-04-21  CLM20 2020-05-19  CLN20 2020-06-22  CLQ20 2020-07-21  CLU20 2020-08-20  CLV20 2020-09-22  CLX20 2020-10-20
CLZ20 2020-11-20  CLF21 2020-12-21  CLG21 2021-01-20  CLH21 2021-02-22  CLJ21 2021-03-22  CLK21 2021-04-20  CLM21 2021-05-20  CLN21 2021-06-22
CLQ21 2021-07-20  CLU21 2021-08-20  CLV21 2021-09-21  CLX21 2021-10-20  CLZ21 2021-11-19  CLG22 2022-01-20  CLH22 2022-02-22
CLJ22 2022-03-22  CLK22 2022-04-20  CLM22 2022-05-20  CLN22 2022-06-21  CLQ22 2022-07-20  CLU22 2022-08-22  CLV22 2022-09-20  CLX22 2022-10-20
CLZ22 2022-11-21  CLF23 2022-12-20  CLG23 2023-01-20  CLH23 2023-02-21  CLJ23 2023-03-21  CLK23 2023-04-20  CLM23 2023-05-22  CLN23 2023-06-20
CLQ23 2023-07-20  CLU23 2023-08-22  CLV23 2023-09-20  CLX23 2023-10-20  CLZ23 2023-11-20
"""
OTHERS = {
    "ESH08": "2008-03-20",  # CME: Good Friday is the third Friday; mypivots.com/board/topic/2845
    "NQH08": "2008-03-20", "ESH13": "2013-03-15", "ESM13": "2013-06-21",  # CME's E-mini calendar, quoted in github.com/ishiyan/Mbdt CmeFutureUpdate
    "ESM26": "2026-06-18",  # the third Friday is Juneteenth: no opening quotation of the index
    "6EM23": "2023-06-16",  # Interactive Brokers, github.com/QuantConnect/Lean issue 7164: 19 June is Juneteenth
    # the Monday of the third Wednesday's week, as CME's calendar has it for the Eurodollar (cmegroup.com, eurodollar_product_calendar_futures.html)
    "6EZ14": "2014-12-15", "6EH15": "2015-03-16", "6EM15": "2015-06-15", "6EU15": "2015-09-14", "6EZ16": "2016-12-19", "6EM17": "2017-06-19", "6EZ19": "2019-12-16",
}
NOTES = {"ZNH09": "2009-02-27",   # elitetrader.com/et/threads/10-yr-note-rollover.154825: first notice of TYH09
         "ZNZ25": "2025-11-28"}   # m.markets.com/trade/expiration-dates: TNOTE10 rolls on 28/11/2025


def test_expiries_as_published():
    gold = [line.split() for line in GOLD_CALENDAR.replace("   ", "\n").strip().splitlines() if line.strip()]
    assert len(gold) == 14
    for name, last, notice in gold:
        for contract in (name, "M" + name):
            assert (str(last_trade_date(contract).date()), str(first_notice_date(contract).date())) == (last, notice), contract
    oil = OIL_EXPIRIES.split()
    want = dict(zip(oil[::2], oil[1::2])) | OTHERS
    assert {name: str(last_trade_date(name).date()) for name in want} == want
    assert {name: str(first_notice_date(name).date()) for name in NOTES} == NOTES


def test_note_expiry_by_another_calendar():
    """ZN by pandas' federal holidays and Good Friday instead of the exchange's sessions."""
    from pandas.tseries.holiday import GoodFriday, USFederalHolidayCalendar
    from pandas.tseries.offsets import CustomBusinessDay
    off = USFederalHolidayCalendar().holidays("2009-01-01", "2031-12-31").union(GoodFriday.dates("2009-01-01", "2031-12-31"))
    off = off[~off.strftime("%m-%d").isin(["06-18", "06-19"]) | (off.year > 2021)]       # Juneteenth is a market holiday since 2022
    off = off[~((off.month == 12) & (off.day == 31))]                                     # New Year on a Saturday is kept by nobody here
    day = CustomBusinessDay(holidays=off)
    for year in range(10, 31):
        for letter, month in zip("HMUZ", (3, 6, 9, 12)):
            last = pd.Timestamp(2000 + year, month, 1) + pd.offsets.MonthEnd(0) + day - day
            assert last_trade_date(f"ZN{letter}{year:02d}") == last - 7 * day, (year, letter)


@pytest.fixture(scope="module")
def gold(data_dir):
    """Outright MGC contracts as the vendor sends them: start stamps, one-digit years, spreads among them."""
    raw = pd.read_parquet(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet",
                          columns=["open", "high", "low", "close", "volume", "symbol"])
    raw = raw[~raw["symbol"].str.contains("-")]
    symbol = raw["symbol"].astype(str)
    names = {s: f"{s[:4]}2{s[4]}" for s in symbol.unique()}
    index = make_index(symbol.map(names).to_numpy(dtype=object), raw.index + pd.Timedelta("1min"))
    return sort_by_expiry(raw.drop(columns="symbol").astype(float).set_axis(index))


@pytest.fixture(scope="module")
def schedule(gold):
    return roll_schedule(gold)


def test_gold_rolls_through_its_own_months(gold, schedule):
    letters = [name[3] for name in schedule["contract"]]
    assert len(schedule) >= 18
    assert set(letters) <= set(instrument("MGC").roll_months)
    months = [parse_contract(name)[1] for name in schedule["contract"]]
    assert months == sorted(months) and len(set(months)) == len(months)
    assert (schedule["first"][1:] > schedule["decided"][1:]).all()


def test_each_gold_minute_is_in_front_once(gold, schedule):
    rows = to_sessions(gold)[front_rows(gold, schedule)]
    assert not rows.duplicated(["trade_date", "minute"]).any()
    assert rows.groupby("trade_date")["volume"].count().size == daily_volume(gold).shape[0]


def test_gold_schedule_by_a_loop(gold, schedule):
    daily, front, found = daily_volume(gold), None, []
    for date, row in daily.iterrows():
        if front is None:
            front = next(c for c in daily if row[c] > 0)
        later = row[list(daily)[list(daily).index(front) + 1:]]
        if len(later) and later.max() > row[front]:
            front = later.idxmax()
            found.append((date, front))
    decided = schedule["decided"][1:].dt.tz_convert("America/New_York").dt.tz_localize(None).dt.normalize()
    assert list(zip(decided, schedule["contract"][1:])) == found


def test_cutting_the_future_changes_no_decision(gold, schedule):
    ts = gold.index.get_level_values("ts")
    rng = np.random.default_rng(0)
    decisions = schedule["decided"].iloc[rng.integers(1, len(schedule), 2)]
    for cut in [*ts[rng.integers(len(gold), size=2)], *decisions, decisions.iloc[0] - pd.Timedelta("3h")]:
        want = schedule.loc[~(schedule["decided"] > cut), ["contract", "decided", "first"]].reset_index(drop=True)
        for past in (cut_future(gold, cut), replace_future(gold, cut, seed=1)):
            got = roll_schedule(past)
            got = got.loc[~(got["decided"] > cut), ["contract", "decided", "first"]].reset_index(drop=True)
            pd.testing.assert_frame_equal(got, want)


def test_no_gold_contract_trades_after_its_last_trade_date(gold):
    """Real evidence: 22 contracts end inside the data; none has a bar later, three trade on the very day (until noon), most on the day before."""
    ts = gold.index.get_level_values("ts")
    ends = pd.Series(trade_dates(ts, calendar="MGC"), gold.index.get_level_values("contract")).groupby(level=0).max()
    due = pd.Series({name: last_trade_date(name) for name in ends.index})
    over = ends[due < pd.Timestamp("2024-06-28")]
    assert len(over) >= 20
    late = over[over > due[over.index]]
    assert not len(late), late
    assert (over == due[over.index]).sum() == 3
    assert ((due[over.index] - over) <= pd.Timedelta(days=4)).sum() >= len(over) - 2


def test_calendar_roll_of_gold_is_near_the_one_by_volume(gold, schedule):
    by_date = roll_schedule(gold, rule="calendar")
    both = schedule[1:].merge(by_date[1:], on="contract", suffixes=("", "_calendar"))
    assert list(both["contract"]) == list(by_date["contract"][1:]) and len(both) >= 18
    opens = pd.DatetimeIndex(session_table("MGC", "2020-12-01", "2024-07-31")["open"])
    apart = opens.searchsorted(both["first"]) - opens.searchsorted(both["first_calendar"])
    assert set(apart) == {0, 1}                                 # the same session, or the one before
    notice = pd.Series([first_notice_date(name) for name in by_date["contract"][:-1]])
    left = pd.Series(trade_dates(pd.DatetimeIndex(by_date["last"][:-1]), calendar="MGC"))
    assert (left < notice).all()                                # nobody is delivered to
    assert {name[3] for name in by_date["contract"]} <= set(instrument("MGC").roll_months)


def test_calendar_roll_of_gold_knows_no_future(gold):
    full, ts = roll_schedule(gold, rule="calendar"), gold.index.get_level_values("ts")
    rng = np.random.default_rng(1)
    for cut in [*full["decided"].iloc[[3, 9]], *(full["decided"].iloc[[5, 12]] - pd.Timedelta("1min")), *ts[rng.integers(len(gold), size=3)]]:
        got = roll_schedule(cut_future(gold, cut), rule="calendar")
        want = full.loc[~(full["decided"] > cut)]
        pd.testing.assert_frame_equal(got[["contract", "decided", "first"]], want[["contract", "decided", "first"]])


def test_sums_by_session_are_those_of_a_group(gold):
    part = gold.loc[["MGCM22", "MGCQ22"]]
    day = pd.Index(trade_dates(part.index.get_level_values("ts"), calendar="MGC"), name="trade_date")
    want = part["volume"].groupby([day, part.index.get_level_values("contract")]).sum().unstack(fill_value=0.0)
    pd.testing.assert_frame_equal(daily_volume(part), want, check_names=False, check_column_type=False)


def test_open_interest_by_a_loop(gold):
    """Numbers on a tenth of the rows; the last of each date counts, and the walk never goes back."""
    part = gold.loc[["MGCG22", "MGCJ22", "MGCM22", "MGCQ22"]]
    part = part[part.index.get_level_values("ts") > pd.Timestamp("2021-12-01", tz="UTC")]
    rng, ts = np.random.default_rng(4), part.index.get_level_values("ts")
    contract, day = part.index.get_level_values("contract"), trade_dates(ts, calendar="MGC")
    volume = daily_volume(part).rolling(5, min_periods=1).mean()
    stock = pd.Series(volume.stack()).reindex(pd.MultiIndex.from_arrays([day, contract])).to_numpy() * rng.uniform(0.9, 1.1, len(part))
    part = part.assign(open_interest=np.where(rng.random(len(part)) < 0.1, np.floor(stock), np.nan))
    daily = part["open_interest"].groupby([pd.Index(day), contract]).last().unstack().reindex(columns=volume.columns)
    names, front, absent, found = list(daily.columns), None, 0, []
    for date, row in daily.iterrows():
        if front is None: front = next((c for c in names if row[c] > 0), names[0])
        absent = absent + 1 if np.isnan(row[front]) else 0
        later = row[names[names.index(front) + 1:]].dropna()
        if not len(later) or not later.max() > np.nan_to_num(row[front]): continue
        if 0 < absent < 3 and date <= last_trade_date(front): continue
        front, absent = later.idxmax(), 0
        found.append((date, front))
    got = roll_schedule(part, rule="open_interest")
    assert [name for _, name in found] == ["MGCJ22", "MGCM22", "MGCQ22"]
    assert list(zip(trade_dates(pd.DatetimeIndex(got["decided"][1:]), calendar="MGC"), got["contract"][1:])) == found


def test_the_index_rolls_on_a_monday_since_june_2022(es_file):
    """Volume of the contract that takes over, on the Thursday of the old rule and on the Monday of the new one, in a real file."""
    volume = daily_volume(read_bars(es_file))["ESH25"]
    assert volume["2024-12-12"] < 80_000 and volume["2024-12-16"] > 750_000
    bars = synth_bars(n_contracts=2, n_days=30, overlap=15, minutes=240, start="2024-11-20")
    for days_before, day in ((None, "2024-12-16"), (6, "2024-12-12")):
        took = roll_schedule(bars, "calendar", days_before=days_before)
        assert list(took["contract"]) == ["ESZ24", "ESH25"]
        assert str(trade_dates(took["first"] + pd.Timedelta("1min"))[1].date()) == day
