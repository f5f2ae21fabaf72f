"""check_bars on real feeds: what is in them, what was done to them on purpose, and no alarm where there is no fire."""
import json
import time

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.quality import QualityReport
from futures_nb.schema import DataError, make_index, sort_by_expiry
from futures_nb.suspicion import HOUR, SEVERITIES, read_feed

CLOCK = {"time_zone", "time_zone_changes", "bar_stamp"}


@pytest.fixture(scope="module")
def es(es_file):
    return fnb.read_bars(es_file)


@pytest.fixture(scope="module")
def nq(data_dir):
    return fnb.read_bars(data_dir / "nq_firstrate" / "NQ_1min_sample.csv", contract="NQ", tz="America/New_York", stamp="start")


@pytest.fixture(scope="module")
def gold(data_dir):
    return fnb.read_bars(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start")


def moved(bars, delta):
    index = bars.index
    return bars.set_axis(make_index(index.get_level_values(0).to_numpy(), index.get_level_values(1) + pd.Timedelta(delta)))


def clock(report):
    return {(c["hours_late"], c["bars_late"]) for c in report.contracts}


def tradingview(data_dir, name, market, step):
    bars = pd.read_parquet(data_dir / "tradingview" / f"{name}.parquet")[["open", "high", "low", "close", "volume"]]
    return bars.set_axis(make_index(market, bars.index + pd.Timedelta(step)))


def test_the_real_contract(es):
    report = fnb.check_bars(es)
    assert isinstance(report, QualityReport) and report.ok
    assert set(report.counts) == {"off_session_closed", "off_session_daily_break", "gap", "outlier"}
    assert (report.counts["off_session_closed"], report.counts["off_session_daily_break"]) == (16, 1)
    assert clock(report) == {(0.0, 0)}
    facts = report.contracts[0]
    assert (facts["contract"], facts["n_bars"], facts["n_sessions"], facts["bar_minutes"]) == ("ESH25", 72_584, 54, 1.0)
    where = {f.what: f.where for f in report.findings}
    assert where["off_session_closed"][0]["ts"] == "2024-12-14 18:12:00" and where["off_session_daily_break"][0]["ts"] == "2025-01-30 22:17:00"


def test_gaps_are_counted_as_by_hand(es):
    report = fnb.check_bars(es)
    s = fnb.to_sessions(es)[~fnb.off_session(es)]
    steps = s.groupby("trade_date")["minute"].diff()
    assert report.counts["gap"] == (steps > 1).sum()
    assert report.contracts[0]["missing"] == int((steps[steps > 1] - 1).sum()) and report.contracts[0]["longest_gap"] == int(steps.max() - 1)
    assert report.sessions["n_bars"].tolist() == s.groupby("trade_date").size().tolist()
    assert report.sessions["missing"].sum() == report.contracts[0]["missing"]


@pytest.mark.parametrize("hours", range(-12, 13))
def test_every_setting_of_the_clock_is_found(es, hours):
    for minutes in (-1, 0, 1) if hours in (-6, 0, 7) else (0,):
        report = fnb.check_bars(moved(es, f"{60 * hours + minutes}min"))
        assert clock(report) == {(float(hours), minutes)}
        assert (("time_zone" in report.counts), ("bar_stamp" in report.counts)) == (hours != 0, minutes != 0)
        assert report.ok == (hours == minutes == 0)


def test_no_alarm_on_feeds_that_are_read_rightly(es, nq, gold, data_dir):
    front = gold[fnb.front_rows(gold)]
    feeds = dict(es=es, nq=nq, front=front, gold=gold, synth=fnb.synth_bars(n_contracts=4), demo=fnb.demo_bars("2017-01-01", "2017-06-30"),
                 es5=tradingview(data_dir, "ES1_5m", "ES", "5min"), es60=tradingview(data_dir, "ES1_1h", "ES", "1h"), nq60=tradingview(data_dir, "NQ1_1h", "NQ", "1h"))
    for name, bars in feeds.items():
        report = fnb.check_bars(bars)
        assert not CLOCK & set(report.counts), name
        assert not {k for k in report.counts if k.startswith(("calendar", "stale", "off_tick", "filled"))}, (name, report.counts)
        assert report.ok or name == "es60", (name, report.counts)   # half of the hours of ES1_1h have no volume
    assert fnb.check_bars(feeds["es60"]).counts["no_volume"] == 8583


def test_wrong_stamp_of_other_vendors_is_found(nq, gold, data_dir):
    assert clock(fnb.check_bars(moved(nq, "-1min"))) == {(0.0, -1)}
    assert clock(fnb.check_bars(moved(tradingview(data_dir, "ES1_5m", "ES", "5min"), "-5min"))) == {(0.0, -1)}
    front = gold[fnb.front_rows(gold)].loc[["MGCJ22", "MGCM22", "MGCQ22"]]
    for delta, told in (("-1min", (0.0, -1)), ("1h", (1.0, 0)), ("-7h", (-7.0, 0))):
        assert clock(fnb.check_bars(moved(front, delta))) == {told}


def test_the_wrong_summer_time_is_found_to_the_week(data_dir):
    bars = pd.read_parquet(data_dir / "tradingview" / "ES1_5m.parquet")[["open", "high", "low", "close", "volume"]]
    wall = bars.index.tz_localize(None) + pd.Timedelta("5min")
    found = fnb.check_bars(bars.set_axis(make_index("ES", wall.tz_localize("Etc/GMT+5")))).findings   # winter time all year
    turns = next(f for f in found if f.what == "time_zone_changes").where
    assert [(w["ts"], w["value"]) for w in turns] == [("2024-11-30", "+0 h"), ("2025-03-08", "+1 h"), ("2025-11-01", "+0 h")]
    berlin = (bars.index + pd.Timedelta("5min")).tz_convert("Europe/Berlin").tz_localize(None) - pd.Timedelta("6h")
    found = fnb.check_bars(bars.set_axis(make_index("ES", berlin.tz_localize("America/New_York", ambiguous=True, nonexistent="shift_forward")))).findings
    turns = next(f for f in found if f.what == "time_zone_changes").where
    assert [w["ts"] for w in turns] == ["2024-11-30", "2025-03-08", "2025-03-29", "2025-10-25", "2025-11-01"]


def test_cash_hours_alone_are_judged_by_the_cash_hours(es):
    cash = es[fnb.to_sessions(es)["is_rth"].to_numpy()]
    for delta, told in (("0min", (0.0, 0)), ("-1min", (0.0, -1)), ("1min", (0.0, 1)), ("1h", (1.0, 0)), ("-5h", (-5.0, 0)), ("3h", (3.0, 0))):
        assert clock(fnb.check_bars(moved(cash, delta))) == {told}, delta
    noon = cash[cash.index.get_level_values("ts").hour == 17]
    report = fnb.check_bars(noon)
    assert clock(report) == {(None, None)} and report.counts["clock_unknown"] == 1


def test_back_adjustment_of_real_series(data_dir, es):
    def told(bars): return {f.what: f.words for f in fnb.check_bars(bars).findings if "adjust" in f.what}
    for name, market, step in (("ES1_5m", "ES", "5min"), ("NQ1_5m", "NQ", "5min"), ("ES1_1h", "ES", "1h"), ("NQ1_1h", "NQ", "1h")):
        assert set(told(tradingview(data_dir, name, market, step))) == {"adjusted"}, name
    for name, sure in (("tick", {"not_adjusted"}), ("volume", {"not_adjusted", "adjustment_unknown"}), ("dollar", {"not_adjusted", "adjustment_unknown"})):
        # two years of raw ES with eight rolls; long bars blur the jump, and then nothing is claimed
        bars = pd.read_csv(data_dir / "ht_es_bars" / f"{name}_bars.csv.gz").rename(columns={"cum_vol": "volume"})
        bars = bars.set_axis(make_index("ES", pd.to_datetime(bars["date_time"], utc=True, format="ISO8601")))
        assert set(told(bars)) <= sure, name
    assert told(es) == {}
    ts = es.index.get_level_values("ts")
    five = es.groupby(ts.ceil("5min")).agg(dict(open="first", high="max", low="min", close="last", volume="sum"))
    series = tradingview(data_dir, "ES1_5m", "ES", "5min").loc[(slice(None), slice("2024-12-20", "2025-02-26")), :]
    assert "+160.75 points from ESH25 in 99 %" in told(pd.concat([series, five.set_axis(make_index("ESH25", five.index))]))["adjusted"]
    one_roll = es.set_axis(make_index("ES", ts))
    assert set(told(one_roll)) == {"adjustment_unknown"}
    prices = ["open", "high", "low", "close"]
    assert "off the grid" in told(one_roll.assign(**{c: one_roll[c] * 1.01234 for c in prices}))["adjusted"]


def test_what_was_done_to_the_feed_is_found(es):
    """Each kind of damage on the real contract, counted to the row, and nothing else is counted."""
    clean, rng = es[~fnb.off_session(es)], np.random.default_rng(0)
    rows = np.sort(rng.choice(np.arange(20_000, 70_000, 37), 25, replace=False))
    base = fnb.check_bars(clean).counts
    def diff(bars): return {k: n - base.get(k, 0) for k, n in fnb.check_bars(bars).counts.items() if n != base.get(k, 0) and k not in ("outlier", "gap")}
    def damaged(column, change):
        bars = clean.copy()
        bars.iloc[rows, bars.columns.get_loc(column)] = change(bars[column].iloc[rows].to_numpy())
        return bars
    assert diff(damaged("close", lambda x: np.nan * x)) == {"not_finite": 25}
    assert diff(damaged("volume", lambda x: -x)) == {"negative_volume": 25}
    assert diff(damaged("volume", lambda x: 0 * x)) == {"zero_volume": 25}
    assert diff(damaged("volume", lambda x: x + 0.5)) == {"part_volume": 25}
    assert diff(damaged("volume", lambda x: np.nan * x)) == {"no_volume": 25}
    assert diff(damaged("high", lambda x: x * 1.03 // 0.25 * 0.25)) == {"bad_print": 25}
    assert diff(damaged("low", lambda x: -x)) == {"not_positive": 25}
    assert diff(pd.concat([clean, clean.iloc[rows]]).pipe(sort_by_expiry)) == {"duplicate": 25}
    assert diff(pd.concat([clean, clean.iloc[rows] + 1]).pipe(sort_by_expiry)) == {"conflict": 25}
    frozen = clean.copy()
    frozen.iloc[30_001:30_011] = frozen.iloc[30_000].to_numpy()
    assert diff(frozen) == {"stale": 10}
    swapped = np.arange(len(clean))
    swapped[[40_000, 40_001]] = [40_001, 40_000]
    assert diff(clean.iloc[swapped]) == {"disorder": 1}
    day = fnb.to_sessions(clean)["trade_date"].to_numpy()
    assert diff(clean[day != np.datetime64("2025-01-15")]) == {"missing_session": 1}
    half = (day == np.datetime64("2025-01-15")) & (clean.index.get_level_values("ts") > pd.Timestamp("2025-01-15 12:00", tz="UTC"))
    assert diff(clean[~half]) == {"calendar_ends_early": 1}
    late = moved(clean.iloc[-60:], "2D")
    assert diff(pd.concat([clean, late]))["calendar_trades_while_closed"] == 1


def test_moves_are_not_bad_prints(es):
    jump = es.copy()
    jump.iloc[50_000:, :4] += 300.0   # 5 % and it stays
    report = fnb.check_bars(jump)
    assert "bad_print" not in report.counts
    assert next(f for f in report.findings if f.what == "outlier").where[0]["ts"] == f"{es.index[50_000][1]:%Y-%m-%d %H:%M:%S}"


def test_several_markets_in_one_frame(es, nq, gold):
    mixed = pd.concat([nq, es, gold.loc[["MGCG24", "MGCJ24"]]])
    report = fnb.check_bars(mixed)
    assert [c["contract"] for c in report.contracts] == ["NQ", "MGCG24", "MGCJ24", "ESH25"]
    alone = {k: sum(fnb.check_bars(b).counts.get(k, 0) for b in (nq, es, gold.loc[["MGCG24", "MGCJ24"]])) for k in ("off_session_closed", "gap", "bad_print")}
    assert {k: report.counts.get(k, 0) for k in alone} == alone


def test_the_calendar_says_what_the_vendor_lost(data_dir):
    report = fnb.check_bars(tradingview(data_dir, "NQ1_5m", "NQ", "5min"))
    lost = next(f for f in report.findings if f.what == "calendar_ends_early")
    assert [w["ts"] for w in lost.where] == ["2025-07-03"]


def test_any_damaged_frame_gives_a_report_or_one_line():
    base, gold = fnb.synth_bars(n_contracts=2, n_days=4, overlap=1, seed=0), fnb.synth_bars(n_contracts=1, n_days=3, overlap=0, symbol="GC", level=2000.0)
    rng = np.random.default_rng(1)
    for _ in range(40):
        bars = base
        for kind in rng.integers(0, 9, rng.integers(1, 5)):
            if len(bars) == 0: break
            rows = rng.integers(0, len(bars), rng.integers(1, 30))
            names, ts = bars.index.get_level_values(0).to_numpy(), bars.index.get_level_values(1)
            if kind == 0: bars = bars.sample(frac=rng.uniform(0.05, 0.9), random_state=int(rng.integers(1000)))
            if kind == 1: bars = pd.concat([bars, bars.iloc[rows]])
            if kind == 2: bars = bars.mask(np.isin(np.arange(len(bars)), rows)[:, None] & (rng.random((1, 5)) < 0.3), rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300, 0, -1]))
            if kind == 3: bars = bars.iloc[::-1]
            if kind == 4: bars = bars.iloc[:rng.integers(0, 40)]
            if kind == 5: bars = pd.concat([bars, gold])
            if kind == 6: bars = bars.set_axis(make_index(names, ts + pd.to_timedelta(rng.integers(-5000, 5000, len(ts)) * rng.integers(0, 2), unit="min")))
            if kind == 7: bars = bars.set_axis(make_index(rng.choice(["ESH22", "FOO", "ES", "GCJ22", "ESH22-ESM22", ""], len(bars)), ts))
            if kind == 8: bars = bars.set_axis(make_index(names, ts + pd.to_timedelta(rng.choice([0, -40 * 365, 400, 60 * 365], len(ts)), unit="D")))
        before = bars.copy()
        report = fnb.check_bars(bars)
        pd.testing.assert_frame_equal(bars, before)
        assert report.n_rows == len(bars) and json.loads(json.dumps(report.to_dict(), allow_nan=False))["counts"] == report.counts
        assert set(report.to_frame()["severity"]) <= set(SEVERITIES) and report._repr_html_().startswith("<p>") and repr(report)


def test_a_frame_as_the_schema_wants_it_is_read_as_it_is(es):
    feed = read_feed(es)
    assert feed.findings == [] and feed.names == ["ESH25"] and (feed.row == np.arange(len(es))).all()
    assert (feed.values["close"] == es["close"].to_numpy()).all()
    with pytest.raises(DataError, match="no times found"): fnb.check_bars(es.reset_index(drop=True))


def test_html_has_no_colours_of_its_own(es):
    html = fnb.check_bars(moved(es, "1h"))._repr_html_()
    assert "color" not in html and "background" not in html and html.count("<tr>") == len(fnb.check_bars(moved(es, "1h")).findings) + 1


def test_the_picture(es):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes = fnb.check_bars(moved(es, "1h")).plot()
    assert len(axes) == 2 and "lack bars" in axes[0].get_title() and "while closed" in axes[1].get_title()
    closed = float(axes[1].get_title().split(" %")[0])
    assert closed > 0.5   # the evening hour in the daily break
    right = fnb.check_bars(es).plot(plt.subplots(1, 2)[1])
    assert right[1].get_title().startswith("0.0 %")
    plt.close("all")


def test_a_million_rows_take_about_a_second(gold):
    bars = gold[fnb.front_rows(gold)].iloc[:1_140_000]
    fnb.check_bars(bars)
    start = time.perf_counter()
    fnb.check_bars(bars)
    seconds = time.perf_counter() - start
    assert seconds < 4, f"{seconds:.1f} s for {len(bars):,} rows"   # 0.7 s alone on one core; room for a busy machine


def test_half_hours_are_found_too(nq):
    assert clock(fnb.check_bars(moved(nq, "330min"))) == {(5.5, 0)}
    assert HOUR == 3_600_000_000
