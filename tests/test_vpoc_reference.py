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
    """Runs of at least three moves in one direction: six of six (start, end, direction, count, both prices, change)."""
    profiles = fnb.session_profiles(es_bars, tz="UTC", start="09:30", end="15:59", method="rank")
    expected = pd.read_csv(data_dir / "es_vpoc_reference" / "ES 03-25_RTH_vpoc_trends.csv", parse_dates=["start_date", "end_date"])
    expected = expected.rename(columns=lambda name: name.replace("vpoc", "poc"))
    runs = fnb.poc_runs(profiles)
    assert len(runs) == 6 and list(runs.index) == ["ESH25"] * 6
    pd.testing.assert_frame_equal(runs.reset_index(drop=True), expected, check_dtype=False, check_exact=True)
    assert len(fnb.poc_runs(profiles, min_moves=2)) > 6 > len(fnb.poc_runs(fnb.session_profiles(es_bars, session="rth")))


@pytest.fixture(scope="module")
def google(data_dir):
    return pd.read_csv(data_dir / "reference" / "google.csv").rename(columns=str.lower)


def _closes_rounded_up(google):
    rows = -(-(google["close"] * 100).round().astype(int) // 5)    # in cents, so that the cut is exact
    return fnb.volume_profile(pd.DataFrame(dict(price=rows * 0.05, volume=google["volume"])), tick=0.05)


@pytest.mark.parametrize("definition, poc, area, ends", [
    (lambda g: _closes_rounded_up(g)[lambda p: p > 0], 944.50, (944.20, 958.95), (927.75, 959.30)),     # the published numbers
    (lambda g: _closes_rounded_up(g), 944.50, (944.50, 959.10), (927.75, 959.30)),
    (lambda g: fnb.volume_profile(g, 0.05, allocation="close"), 959.10, (945.55, 959.25), (927.75, 959.25)),
    (lambda g: fnb.volume_profile(g, 0.05), 952.00, (946.15, 960.00), (927.75, 962.55)),
])
def test_py_market_profile(google, definition, poc, area, ends):
    """Its profile: volume on the close, rounded up to rows of 0.05, and rows without volume do not exist. What each other choice gives.

    Of equal levels it takes the middle one, we the lowest; the published profile has no equal ones at the top.
    """
    profile = definition(google)
    assert fnb.point_of_control(profile) == pytest.approx(poc, abs=1e-9)
    assert fnb.value_area(profile) == pytest.approx(area, abs=1e-9)
    assert (profile.index[0], profile.index[-1]) == pytest.approx(ends, abs=1e-9)
    assert profile.sum() == google["volume"].sum()


def test_the_rest_of_py_market_profile(google):
    """Initial balance, open range and balanced target need no functions of ours: the range of the first hour, of the first ten minutes, and the point
    of control mirrored by its longer tail. (First hour, both ends included: three half-hour bars.)"""
    profile = _closes_rounded_up(google)[lambda p: p > 0]
    time = pd.to_datetime(google["timestamp"])
    for minutes, low, high in ((60, 927.74, 935.53), (10, 927.74, 927.74)):
        first = google[time <= time[0] + pd.Timedelta(minutes, "min")]
        assert (first["low"].min(), first["high"].max()) == pytest.approx((low, high), abs=1e-9)
    poc, above, below = fnb.point_of_control(profile), profile.index[-1] - 944.50, 944.50 - profile.index[0]
    assert (poc - above if above >= below else poc + below) == pytest.approx(961.25, abs=1e-9)


@pytest.fixture(scope="module")
def trades(data_dir):
    """11,101 trades of ES; identical rows are separate fills and stay."""
    table = pd.read_csv(data_dir / "es_ticks" / "imbalance_sample_data.csv").set_axis(["ts", "price", "volume"], axis=1)
    return table.set_index(pd.to_datetime(table.pop("ts"), format="%Y/%m/%d %H:%M:%S.%f", utc=True))


def _bars_of(trades, length):
    group = trades.resample(length)
    return pd.DataFrame(dict(low=group["price"].min(), high=group["price"].max(), close=group["price"].last(), volume=group["volume"].sum())).dropna()


def test_profile_of_trades_is_exact(trades):
    profile = fnb.volume_profile(trades)
    by_price = trades.groupby("price")["volume"].sum()
    assert len(trades) == 11_101 and profile.sum() == trades["volume"].sum() == 41_809 and len(profile) == 29
    assert profile[profile > 0].to_dict() == by_price.to_dict() and fnb.point_of_control(profile) == by_price.idxmax() == 1306.00
    assert fnb.volume_profile(trades.rename(columns={"volume": "size"})).equals(profile)
    assert fnb.volume_profile(trades.sample(frac=1, random_state=0)).equals(profile)


@pytest.mark.parametrize("length, ticks_away, on_a_wrong_level", [
    ("1s", (0, 0, -4), (0.09, 0.11, 0.15)), ("10s", (0, 0, -6), (0.14, 0.14, 0.22)),
    ("1min", (-1, -6, -9), (0.15, 0.15, 0.37)), ("5min", (-10, -7, 0), (0.21, 0.20, 0.58)),
])
def test_bars_of_trades_agree_where_they_must(trades, length, ticks_away, on_a_wrong_level):
    """Total and range; bounds at each price; the point of control within them. And the table of the chapter: uniform, triangular, close."""
    bars, true = _bars_of(trades, length), fnb.volume_profile(trades)
    least = bars[bars["low"] == bars["high"]].groupby("low")["volume"].sum().reindex(true.index, fill_value=0)
    most = pd.Series([bars["volume"][(bars["low"] <= p) & (bars["high"] >= p)].sum() for p in true.index], true.index)
    assert (least <= true).all() and (true <= most).all() and most[fnb.point_of_control(true)] >= least.max()
    for allocation, ticks, share in zip(("uniform", "triangular", "close"), ticks_away, on_a_wrong_level):
        profile = fnb.volume_profile(bars, allocation=allocation)
        assert profile.sum() == true.sum() and (allocation == "close" or profile.index.equals(true.index))
        profile = profile.reindex(true.index, fill_value=0.0)
        assert (least - 1e-3 <= profile).all() and (profile <= most + 1e-3).all()
        assert (fnb.point_of_control(profile) - fnb.point_of_control(true)) * 4 == ticks
        assert round((profile - true).abs().sum() / 2 / true.sum(), 2) == share
    one = bars[bars["low"] == bars["high"]]                   # of bars that span one tick, bars and trades are the same
    inside = trades[trades.index.floor(length).isin(one.index)]
    assert len(one) == 0 or fnb.volume_profile(one).equals(fnb.volume_profile(inside))
