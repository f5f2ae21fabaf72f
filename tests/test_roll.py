"""The roll on 32 real gold contracts: decided at the close, never early, each minute once."""
import numpy as np
import pandas as pd
import pytest

from futures_nb.roll import daily_volume, front_rows, roll_schedule
from futures_nb.schema import instrument, make_index, parse_contract, sort_by_expiry
from futures_nb.sessions import to_sessions
from futures_nb.testing import cut_future, replace_future

MONTHS = "FGHJKMNQUVXZ"


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
