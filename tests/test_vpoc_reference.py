"""Volume profiles against numbers from other programs: a published run over a real ES contract, and py-market-profile's own test."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb

COLUMNS = ["vpoc", "value_area_low", "value_area_high", "value_area_width", "total_volume"]


@pytest.fixture(scope="module")
def es_bars(es_file):
    return fnb.read_bars(es_file)


@pytest.fixture(scope="module")
def published(data_dir):
    table = pd.read_csv(data_dir / "es_vpoc_reference" / "ES 03-25_RTH_vpoc_data.csv", parse_dates=["date"])
    return table.set_index("date")[COLUMNS]


def _as_published(profiles):
    ours = profiles.droplevel("contract")
    width = ours["value_area_high"] - ours["value_area_low"]
    return pd.DataFrame({"vpoc": ours["poc"], "value_area_low": ours["value_area_low"], "value_area_high": ours["value_area_high"],
                         "value_area_width": width, "total_volume": ours["volume"]})


def _days_equal(profiles, published):
    ours = _as_published(profiles).reindex(published.index)
    return int((ours.to_numpy() == published.to_numpy()).all(axis=1).sum())


def test_all_54_days_in_all_five_columns(es_bars, published):
    ours = _as_published(fnb.session_profiles(es_bars, tz="UTC", start="09:30", end="15:59", method="rank"))
    assert list(ours.index) == list(published.index) and len(ours) == 54
    np.testing.assert_array_equal(ours.to_numpy(), published.to_numpy(dtype=float))


@pytest.mark.parametrize("options, n_equal", [
    (dict(tz="UTC", start="09:30", end="15:59", method="grow"), 5),             # the classical value area
    (dict(tz="America/New_York", start="09:30", end="15:59", method="rank"), 0),  # New York's clock, which the publisher meant
    (dict(tz="UTC", start="09:31", end="15:59", method="rank"), 0),               # the first minute belongs to the window
    (dict(session="rth", method="rank"), 0),
])
def test_another_definition_gives_other_days(es_bars, published, options, n_equal):
    assert _days_equal(fnb.session_profiles(es_bars, **options), published) == n_equal


def test_last_developing_value_is_the_session(es_bars):
    profiles = fnb.session_profiles(es_bars)
    developing = fnb.developing_profile(es_bars).dropna()
    last = developing.assign(trade_date=fnb.to_sessions(es_bars).trade_date).groupby(["contract", "trade_date"]).last()
    pd.testing.assert_frame_equal(last, profiles[last.columns], check_exact=True)
    assert profiles.attrs["profiles"]["n_off_session"] == 17   # 16 strays of the weekend and one of the daily break


def test_volume_is_conserved_on_real_sessions(es_bars):
    sessions = fnb.to_sessions(es_bars)
    inside = sessions[~fnb.off_session(es_bars)]
    expected = inside.groupby([inside.index.get_level_values(0), "trade_date"])["volume"].sum()
    np.testing.assert_array_equal(fnb.session_profiles(es_bars)["volume"].to_numpy(), expected.to_numpy())


def test_moves_of_the_point_of_control(es_bars, data_dir):
    """Runs of at least three moves in one direction: six of six (start, end, direction, count, both prices)."""
    poc = fnb.session_profiles(es_bars, tz="UTC", start="09:30", end="15:59", method="rank").droplevel("contract")["poc"]
    move = np.sign(poc.diff()).fillna(0)
    run = (move != move.shift()).cumsum()
    rows = []
    for _, part in move.groupby(run):
        if len(part) < 3 or part.iloc[0] == 0:
            continue
        first = poc.index[poc.index.get_loc(part.index[0]) - 1]
        rows.append((first, part.index[-1], "up" if part.iloc[0] > 0 else "down", len(part), poc[first], poc[part.index[-1]]))
    expected = pd.read_csv(data_dir / "es_vpoc_reference" / "ES 03-25_RTH_vpoc_trends.csv", parse_dates=["start_date", "end_date"])
    assert len(rows) == len(expected) == 6
    for row, want in zip(rows, expected.itertuples()):
        assert row[0] == want.start_date and row[1] == want.end_date and row[2] in want.direction.lower()
        assert row[3] == want.consecutive_count and row[4] == want.vpoc_start and row[5] == want.vpoc_end


def test_py_market_profile(data_dir):
    """Its profile is another one: all of a bar's volume on its close, rounded up to rows of 0.05.

    On that profile our point of control and grown value area are its published ones (of equal levels it takes the middle one,
    we the lowest; there are none here). Initial balance, open range and balanced target have no counterpart here.
    """
    bars = pd.read_csv(data_dir / "reference" / "google.csv")
    row = -(-(bars["Close"] * 100).round().astype(int) // 5)       # rounded up, in cents, so that the cut is exact
    closes = bars.groupby(row)["Volume"].sum()
    closes.index = closes.index * 0.05
    assert fnb.point_of_control(closes) == pytest.approx(944.50, abs=1e-9)
    assert fnb.value_area(closes, method="grow") == pytest.approx((944.20, 958.95), abs=1e-9)
    assert (closes.index[0], closes.index[-1]) == pytest.approx((927.75, 959.30), abs=1e-9)
    assert fnb.value_area(closes, method="rank") != pytest.approx((944.20, 958.95), abs=1e-9)
    spread = fnb.volume_profile(bars.rename(columns=str.lower), tick=0.05)
    assert spread.sum() == pytest.approx(bars["Volume"].sum(), abs=0)
    assert spread.index[0] <= bars["Low"].min() + 0.025 and spread.index[-1] >= bars["High"].max() - 0.025
