"""Vendors' files, whole and damaged. Each damage is one clear line, and the intact file beside it still reads."""
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from futures_nb.bars import read_bars
from futures_nb.quality import check_bars
from futures_nb.schema import BAR_COLUMNS, DataError, check_schema, contract_runs
from futures_nb.sessions import session_table, to_sessions
from futures_nb.tables import frame_to_raw

NAME = "ES 03-25.Last.txt"
CSV = dict(contract="ES", tz="America/New_York", stamp="start")


@pytest.fixture(scope="module")
def real_lines(es_file):
    return es_file.read_bytes().split(b"\r\n")[:-1][10_000:16_000]  # 6,000 quiet bars of December


@pytest.fixture
def folder(tmp_path, real_lines):
    """A folder for the damaged copy, with the intact file beside it."""
    (tmp_path / "intact").mkdir()
    (tmp_path / "intact" / NAME).write_bytes(b"\r\n".join(real_lines) + b"\r\n")
    yield tmp_path
    assert len(read_bars(tmp_path / "intact")) == len(real_lines)


def damaged(folder, lines, end=b"\r\n"):
    path = folder / NAME
    path.write_bytes(b"\r\n".join(lines) + end)
    return path


def refusal(path, **options):
    """The one line with which a file is refused."""
    with pytest.raises(DataError) as caught:
        read_bars(path, **options)
    line = str(caught.value)
    assert "\n" not in line and line.startswith("read_bars: ")
    return line


def with_fields(lines, row, **changes):
    """A copy of `lines` in which some fields of 1-based `row` are others."""
    lines = list(lines)
    cells = lines[row - 1].decode().split(";")
    for name, value in changes.items():
        cells[["time", *BAR_COLUMNS].index(name)] = value
    lines[row - 1] = ";".join(cells).encode()
    return lines


# The real file ------------------------------------------------------------------------------------------------------------------


def test_the_real_contract(es_file, capsys):
    bars = read_bars(es_file)
    check_schema(bars, BAR_COLUMNS)
    assert len(bars) == 72_584 and set(bars.dtypes) == {np.dtype("float64")}
    assert bars.index[0] == ("ESH25", pd.Timestamp("2024-12-12 05:01", tz="UTC"))
    assert bars.index[-1] == ("ESH25", pd.Timestamp("2025-02-27 16:18", tz="UTC"))
    assert bars.iloc[0].tolist() == [6152.5, 6152.5, 6152.5, 6152.5, 9]
    read = bars.attrs["read"]
    assert read["off_session"] == 17 and read["off_session_kinds"] == {"closed": 16, "daily_break": 1}
    assert (read["rows"], read["kept"], read["dropped"], read["off_tick"], read["zero_volume"], read["duplicates"]) == (72_584, 72_584, {}, 0, 0, 0)
    assert (read["bar"], read["tz"], read["stamp"], read["source"]) == ("1 min", "UTC", "end", "ninjatrader")
    assert json.loads(json.dumps(read)) == read
    said = capsys.readouterr().out
    assert "17 stamped while the market is closed (16 weekend, holiday or early close, 1 daily break), kept" in said
    assert "1 min" in said and "UTC" in said and "bar's end" in said


def test_stray_bars_dropped_by_option(es_file, capsys):
    bars = read_bars(es_file, off_session="drop")
    assert len(bars) == 72_584 - 17
    assert bars.attrs["read"]["dropped"] == {"off_session": 17}
    assert "dropped: 17 off-session" in capsys.readouterr().out


def test_two_vendors_agree_bar_by_bar(es_file, data_dir):
    """README A3: only the right bar stamp makes the volumes of NinjaTrader and TradingView equal."""
    other = read_bars(data_dir / "tradingview" / "ES1_5m.parquet", contract="ES", stamp="start")
    assert other.attrs["read"]["bar"] == "5 min"

    def compared(stamp):
        ts = read_bars(es_file, stamp=stamp, off_session="drop")
        five = ts.droplevel("contract").resample("5min", closed="right", label="right").agg(
            {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}).dropna()
        both = five.join(other.droplevel("contract").add_suffix("_other"), how="inner")
        return both.loc["2024-12-20 05:05":"2025-02-27 05:00"]

    right = compared("end")
    assert len(right) == 12_355
    assert (right["volume"] == right["volume_other"]).mean() > 0.95
    assert (right["close_other"] - right["close"] == 160.75).mean() > 0.99
    assert (right["high_other"] - right["high"] == 160.75).mean() > 0.999
    wrong = compared("start")
    assert (wrong["volume"] == wrong["volume_other"]).mean() < 0.02


def test_nasdaq_sample_of_a_third_vendor(data_dir):
    path = data_dir / "nq_firstrate" / "NQ_1min_sample.csv"
    bars = read_bars(path, contract="NQ", tz="America/New_York", stamp="start")
    assert len(bars) == 14_714 and bars.attrs["read"]["off_session"] == 0
    assert bars.index[0] == ("NQ", pd.Timestamp("2023-11-19 23:01", tz="UTC"))
    # Read with the wrong stamp, the first bar of each session is stamped at its open, when nothing can have traded.
    assert read_bars(path, contract="NQ", tz="America/New_York", stamp="end").attrs["read"]["off_session"] > 5
    assert "a time without a zone (2023-11-19 18:00:00)" in refusal(path, contract="NQ", stamp="start")
    assert "stamp is None" in refusal(path, contract="NQ", tz="America/New_York")
    assert "pass contract=" in refusal(path, tz="America/New_York", stamp="start")


def test_every_gold_contract(data_dir, capsys):
    bars = read_bars(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start")
    read = bars.attrs["read"]
    assert len(bars) == 1_776_387 and read["left_out"] == {"spread": 451_824} and read["rows"] == 2_228_211
    assert "left out: 451,824 calendar spreads" in capsys.readouterr().out
    names = [name for name, _, _ in contract_runs(bars.index)]
    assert len(names) == 32 and names[:3] == ["MGCZ20", "MGCG21", "MGCJ21"] and names[-1] == "MGCG26"
    assert (bars[["open", "high", "low", "close"]] > 0).all(axis=None)
    one = read_bars(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start", contract="MGCQ24")
    pd.testing.assert_frame_equal(one, bars.loc[["MGCQ24"]], check_flags=False)
    assert "carries its own zone" in refusal(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start", tz="America/New_York")


# Damaged copies of the real file ------------------------------------------------------------------------------------------------


def test_missing_file(folder):
    assert f"there is no file {folder / 'ES 06-25.Last.txt'}" in refusal(folder / "ES 06-25.Last.txt")
    (folder / "nothing").mkdir()
    assert "holds no file ending in" in refusal(folder / "nothing")


def test_empty_file(folder):
    path = folder / NAME
    for content in (b"", b"\r\n \r\n"):
        path.write_bytes(content)
        assert f"{NAME} is empty" in refusal(path)
    (folder / "ESH25.parquet").write_bytes(b"")
    assert "ESH25.parquet is empty" in refusal(folder / "ESH25.parquet", stamp="end")
    (folder / "ESH25.csv").write_text("time,open,high,low,close,volume\n")
    assert "has no rows" in refusal(folder / "ESH25.csv", tz="UTC", stamp="end")


@pytest.mark.parametrize("cut", [2, 3, 8, 12, 20, 33, 37, 44])
def test_file_cut_in_mid_line(folder, real_lines, cut):
    """Wherever the last line is cut, also inside its last number."""
    whole = b"\r\n".join(real_lines) + b"\r\n"
    path = folder / NAME
    path.write_bytes(whole[:-cut])
    n = len(real_lines)
    assert f"{NAME} row {n} " in refusal(path) and "cut" in refusal(path)
    bars = read_bars(path, on_bad="drop")
    assert len(bars) == n - 1 and bars.attrs["read"]["dropped"] == {"unreadable": 1} and bars.attrs["read"]["rows"] == n


def test_line_cut_in_the_middle_of_the_file(folder, real_lines):
    lines = list(real_lines)
    lines[4999] = lines[4999][:25]
    path = damaged(folder, lines)
    assert f"{NAME} row 5000 has 3 of 6 columns" in refusal(path)
    assert len(read_bars(path, on_bad="drop")) == 5999


def test_number_that_is_none(folder, real_lines):
    path = damaged(folder, with_fields(real_lines, 77, close="6O34.25"))
    assert f"{NAME} row 77 has '6O34.25' for close" in refusal(path)


def test_blank_lines_do_not_shift_row_numbers(folder, real_lines):
    lines = with_fields(real_lines, 100, high="1.00")
    path = damaged(folder, lines[:50] + [b""] + lines[50:])
    assert f"{NAME} row 101 " in refusal(path)


def test_high_below_low(folder, real_lines):
    time = real_lines[99].decode().split(";")[0]
    stamp = f"{pd.Timestamp(time):%Y-%m-%d %H:%M:%S}"
    path = damaged(folder, with_fields(real_lines, 100, high="5000.25", low="5000.50"))
    assert f"{NAME} row 100 (ESH25 {stamp} UTC) has high 5000.25 below low 5000.50" in refusal(path)
    dropped = read_bars(path, on_bad="drop")
    assert len(dropped) == 5999 and dropped.attrs["read"]["dropped"] == {"high_below_low": 1}
    kept = read_bars(path, on_bad="keep")
    assert len(kept) == 6000 and kept.attrs["read"]["bad_kept"] == {"high_below_low": 1} and kept["low"].iloc[99] == 5000.5


def test_close_outside_the_range(folder, real_lines):
    path = damaged(folder, with_fields(real_lines, 100, close="7000.25"))
    assert "row 100 " in refusal(path) and "has close 7000.25 outside its range" in refusal(path)


def test_duplicate_times(folder, real_lines):
    path = damaged(folder, real_lines[:2000] + [real_lines[1999]] + real_lines[2000:])
    line = refusal(path)
    assert f"{NAME} row 2001 repeats (ESH25 " in line and "row 2000" in line
    for on_bad in ("drop", "keep"):  # an index holds a row once
        bars = read_bars(path, on_bad=on_bad)
        assert len(bars) == 6000 and bars.attrs["read"]["duplicates"] == 1 and bars.attrs["read"]["dropped"] == {"duplicate": 1}


def test_the_same_file_twice(folder, real_lines):
    damaged(folder, real_lines[5000:])
    assert "row 5001 repeats" in refusal([folder / "intact", folder]) or "row 1 repeats" in refusal([folder / "intact", folder])
    assert len(read_bars([folder / "intact", folder], on_bad="drop")) == 6000


def test_times_out_of_order(folder, real_lines):
    lines = list(real_lines)
    lines[1000], lines[1001] = lines[1001], lines[1000]
    path = damaged(folder, lines)
    line = refusal(path)
    assert f"{NAME} row 1001 (ESH25 " in line and "is out of time order" in line
    assert len(read_bars(path, on_bad="drop")) == 5999
    kept = read_bars(path, on_bad="keep")
    assert len(kept) == 6000 and kept.attrs["read"]["bad_kept"] == {"disorder": 1}
    check_schema(kept)


def test_one_absurd_time_costs_one_row(folder, real_lines):
    path = damaged(folder, with_fields(real_lines, 3000, time="20350101 000000"))
    assert f"{NAME} row 3000 (ESH25 2035-01-01 00:00:00 UTC) is out of time order" in refusal(path)
    assert len(read_bars(path, on_bad="drop")) == 5999
    assert "row 3000 has a time that cannot be read" in refusal(damaged(folder, with_fields(real_lines, 3000, time="20241399 000000")))


@pytest.mark.parametrize("text", ["NaN", "", "inf"])
def test_prices_that_are_no_numbers(folder, real_lines, text):
    path = damaged(folder, with_fields(real_lines, 42, close=text))
    line = refusal(path)
    assert f"{NAME} row 42 (ESH25 " in line and "not a price" in line
    assert len(read_bars(path, on_bad="drop")) == 5999
    kept = read_bars(path, on_bad="keep")
    assert len(kept) == 6000 and not np.isfinite(kept["close"].iloc[41]) and kept.attrs["read"]["bad_kept"] == {"not_finite": 1}


def test_volume_missing_or_negative(folder, real_lines):
    for text in ("", "-5"):
        assert "row 42 (ESH25 " in refusal(damaged(folder, with_fields(real_lines, 42, volume=text)))


def test_negative_price_on_es_but_not_on_crude_oil(folder, real_lines):
    prices = dict(open="-37.75", high="-37.50", low="-38.00", close="-37.63")
    path = damaged(folder, with_fields(real_lines, 42, **prices))
    assert "row 42 (ESH25 " in refusal(path) and "has low -38; ESH25 cannot trade at or below zero" in refusal(path)
    assert len(read_bars(path, on_bad="drop")) == 5999
    oil = read_bars(path, contract="CLK20")
    assert oil["low"].min() == -38


@pytest.mark.parametrize("order", ["ohlcv->hloc", "volume first", "open and close"])
def test_columns_in_another_order(folder, real_lines, order):
    """Without a header only the numbers can tell, and they do."""
    pick = {"ohlcv->hloc": [0, 2, 3, 1, 4, 5], "volume first": [0, 5, 1, 2, 3, 4], "open and close": [0, 4, 2, 3, 1, 5]}[order]
    lines = [b";".join(line.split(b";")[i] for i in pick) for line in real_lines]
    line = refusal(damaged(folder, lines))
    assert NAME in line and ("look swapped" in line or "columns are in another order" in line)


# Generic files ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(real_lines):
    cells = [line.decode().split(";") for line in real_lines]
    out = pd.DataFrame(cells, columns=["Time", "Open", "HIGH", "low", "Close", "Volume"])
    out["Time"] = pd.to_datetime(out["Time"], format="%Y%m%d %H%M%S")
    return out.astype({c: float for c in out.columns[1:]})


@pytest.fixture
def intact(folder):
    return read_bars(folder / "intact")


def same(bars, intact):
    pd.testing.assert_frame_equal(bars.droplevel("contract"), intact.droplevel("contract"), check_flags=False)


def test_csv_with_its_columns_in_another_order(folder, table, intact):
    table[["Volume", "low", "Close", "Time", "HIGH", "Open"]].to_csv(folder / "a.csv", index=False)
    same(read_bars(folder / "a.csv", contract="ESH25", tz="UTC", stamp="end"), intact)
    assert "a time without a zone" in refusal(folder / "a.csv", contract="ESH25", stamp="end")
    assert "a.csv row 2 " in refusal(folder / "a.csv", contract="ESH25", stamp="end")


def test_date_and_time_apart_other_names_and_gzip(folder, table, intact):
    table["Date"] = table["Time"].dt.strftime("%Y-%m-%d")
    table["Time"] = table["Time"].dt.strftime("%H:%M")
    with gzip.open(folder / "ESH25.csv.gz", "wt") as file: table.rename(columns={"Close": "Last"}).to_csv(file, index=False, sep=";")
    options = dict(tz="UTC", stamp="end")
    same(read_bars(folder / "ESH25.csv.gz", columns={"close": "Last"}, **options), intact)
    assert "has no column for 'close'" in refusal(folder / "ESH25.csv.gz", **options)
    assert 'no meaning for \'clse\'; did you mean "close"?' in refusal(folder / "ESH25.csv.gz", columns={"clse": "Last"}, **options)
    whole = (folder / "ESH25.csv.gz").read_bytes()
    (folder / "ESH25.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "ESH25.csv.gz cannot be read" in refusal(folder / "ESH25.csv.gz", **options)


def test_stamp_start_adds_the_bar(folder, table, intact):
    table["Time"] -= pd.Timedelta("1min")
    table.to_csv(folder / "ESH25.csv", index=False)
    same(read_bars(folder / "ESH25.csv", tz="UTC", stamp="start"), intact)


def test_times_that_carry_their_zone(folder, table, intact):
    local = table["Time"].dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    table.assign(Time=local.astype(str)).to_csv(folder / "ESH25.csv", index=False)
    same(read_bars(folder / "ESH25.csv", stamp="end"), intact)
    same(read_bars(folder / "ESH25.csv", stamp="end", tz="America/New_York"), intact)
    assert "row 2 carries its own zone (-5.0 h from UTC) and tz='UTC' says +0.0 h" in refusal(folder / "ESH25.csv", stamp="end", tz="UTC")
    assert "is not a time zone" in refusal(folder / "ESH25.csv", stamp="end", tz="Chicago")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_seconds_since_1970(folder, table, intact, unit):
    table.assign(Time=table["Time"].astype(f"datetime64[{unit}]").astype("int64")).to_csv(folder / "ESH25.csv", index=False)
    same(read_bars(folder / "ESH25.csv", stamp="end"), intact)


def test_parquet_with_times_in_its_index(folder, table, intact):
    table.assign(Time=table["Time"].dt.tz_localize("UTC")).set_index("Time").rename_axis(None).to_parquet(folder / "ESH25.parquet")
    same(read_bars(folder / "ESH25.parquet", stamp="end"), intact)
    table.to_parquet(folder / "ESH25.parquet")
    same(read_bars(folder / "ESH25.parquet", stamp="end", tz="UTC"), intact)
    assert "a time without a zone" in refusal(folder / "ESH25.parquet", stamp="end")
    whole = (folder / "ESH25.parquet").read_bytes()
    (folder / "ESH25.parquet").write_bytes(whole[: len(whole) // 2])
    assert "ESH25.parquet is not a readable Parquet file, perhaps cut" in refusal(folder / "ESH25.parquet", stamp="end")


def test_headerless_csv(folder, table, intact):
    table.to_csv(folder / "ESH25.csv", index=False, header=False)
    assert "has no header" in refusal(folder / "ESH25.csv", tz="UTC", stamp="end")
    same(read_bars(folder / "ESH25.csv", tz="UTC", stamp="end", columns=["time", *BAR_COLUMNS]), intact)


def test_clock_change(tmp_path):
    """01:30 happens twice on 3 November 2024 in New York, and 02:30 never on 10 March."""
    head = "time,open,high,low,close,volume\n"
    for when in ("2024-11-03 01:30", "2024-03-10 02:30"):
        (tmp_path / "ES.csv").write_text(head + f"{when},1,1,1,1,1\n2024-12-02 10:00,1,1,1,1,1\n2024-12-02 10:01,1,1,1,1,1\n")
        assert f"row 2 has time {when}:00, which happens twice or never" in refusal(tmp_path / "ES.csv", **CSV)


def test_several_contracts_by_symbol_and_by_file(folder, table):
    two = pd.concat([table.assign(symbol="ESH5"), table.assign(symbol="ESZ4"), table.assign(symbol="ESZ4-ESH5", low=-60.0)])
    two.sort_values("Time", kind="stable").to_csv(folder / "es.csv", index=False)
    bars = read_bars(folder / "es.csv", tz="UTC", stamp="end")
    assert [name for name, _, _ in contract_runs(bars.index)] == ["ESZ24", "ESH25"] and len(bars) == 12_000
    assert bars.attrs["read"]["left_out"] == {"spread": 6000}
    for name in ("ESZ24", "ESH25"): table.to_csv(folder / f"{name}_1min.csv", index=False)
    same_bars = read_bars(str(folder / "ES*_1min.csv"), tz="UTC", stamp="end")
    pd.testing.assert_frame_equal(same_bars, bars, check_flags=False)
    assert [f["kept"] for f in same_bars.attrs["read"]["files"]] == [6000, 6000]


def test_bar_length_is_checked(folder, table):
    table.to_csv(folder / "ESH25.csv", index=False)
    assert "has bars 1 min apart and bar says 5 min" in refusal(folder / "ESH25.csv", tz="UTC", stamp="end", bar="5min")
    table.iloc[::5].to_csv(folder / "ESZ24.csv", index=False)
    assert "bars of 5 min" in refusal([folder / "ESZ24.csv", folder / "ESH25.csv"], tz="UTC", stamp="end")


def test_options_are_checked(folder):
    assert 'on_bad is \'drp\'; did you mean "drop"?' in refusal(folder / "intact", on_bad="drp")
    assert "off_session is 'maybe'" in refusal(folder / "intact", off_session="maybe")
    assert "instrument: 'XX' is not known" in str(pytest.raises(DataError, read_bars, folder / "intact", contract="XX").value)


def test_text_in_a_parquet_price_is_named(tmp_path):
    times = pd.date_range("2024-03-01 14:31", periods=3, freq="min", tz="UTC")
    frame = pd.DataFrame({"time": times, "open": ["5100", "5100", "x"], "high": 5101.0, "low": 5099.0, "close": 5100.0, "volume": 7})
    frame.to_parquet(tmp_path / "ESH24.parquet")
    with pytest.raises(DataError, match="ESH24.parquet row 3 has open 'x'"):
        read_bars(tmp_path / "ESH24.parquet", stamp="end", contract="ESH24")


def test_a_bar_length_that_is_none_is_named(tmp_path):
    times = pd.date_range("2024-03-01 14:31", periods=3, freq="min", tz="UTC")
    pd.DataFrame({"time": times, "open": 5100.0, "high": 5101.0, "low": 5099.0, "close": 5100.0, "volume": 7}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match="bar is 'abc'"):
        read_bars(tmp_path / "b.parquet", stamp="end", contract="ESH24", bar="abc")


# Vendors ------------------------------------------------------------------------------------------------------------------------


def test_firstrate_preset_on_the_real_sample(data_dir, capsys):
    path = data_dir / "nq_firstrate" / "NQ_1min_sample.csv"
    bars = read_bars(path, source="firstrate", contract="NQ", adjusted=False)
    pd.testing.assert_frame_equal(bars, read_bars(path, contract="NQ", tz="America/New_York", stamp="start"), check_flags=False)
    read = bars.attrs["read"]
    assert (read["source"], read["tz"], read["stamp"], read["adjusted"], read["off_session"]) == ("firstrate", "America/New_York", "start", False, 0)
    assert "source firstrate; its times are in America/New_York and stamp the bar's start" in capsys.readouterr().out


@pytest.fixture
def nq(data_dir):
    """The real Nasdaq sample: its lines, and its bars."""
    path = data_dir / "nq_firstrate" / "NQ_1min_sample.csv"
    return pd.read_csv(path, dtype=str), read_bars(path, source="firstrate", contract="NQ")


def test_kibot_lines_of_real_bars(nq, tmp_path):
    """No Kibot file is at hand: the real sample, which has Kibot's clock and stamp, in Kibot's layout."""
    table, bars = nq
    when = pd.to_datetime(table.pop("timestamp"))
    table.insert(0, "d", when.dt.strftime("%m/%d/%Y"))
    table.insert(1, "t", when.dt.strftime("%H:%M"))
    table.to_csv(tmp_path / "NQZ23.txt", header=False, index=False)
    kibot = read_bars(tmp_path / "NQZ23.txt", source="kibot")
    same(kibot, bars)
    assert kibot.attrs["read"]["adjusted"] == "unknown" and kibot.index[0][0] == "NQZ23"
    assert "source='kibot'" in refusal(tmp_path / "NQZ23.txt")
    table.assign(d=when.dt.strftime("%d/%m/%Y")).to_csv(tmp_path / "NQZ23.txt", header=False, index=False)
    assert "row 1 has a time that cannot be read ('19/11/2023 18:00')" in refusal(tmp_path / "NQZ23.txt", source="kibot")


def test_tradestation_lines_of_real_bars(nq, tmp_path):
    """The same in TradeStation's layout: the bar's end, Chicago's clock, volume in two columns."""
    table, bars = nq
    when = (pd.to_datetime(table.pop("timestamp")) + pd.Timedelta("1min")).dt.tz_localize("America/New_York").dt.tz_convert("America/Chicago")
    volume = table.pop("volume").astype(int)
    up = volume // 3
    rows = zip(when.dt.strftime("%m/%d/%Y"), when.dt.strftime("%H:%M"), *(table[c] for c in table), up, volume - up)
    head = '"Date","Time","Open","High","Low","Close","Up","Down"\r\n'
    (tmp_path / "NQZ23.txt").write_bytes((head + "".join(f"{','.join(map(str, row))}\r\n" for row in rows)).encode())
    told = read_bars(tmp_path / "NQZ23.txt", tz="America/Chicago")
    same(told, bars)
    assert (told.attrs["read"]["source"], told.attrs["read"]["stamp"]) == ("tradestation", "end")
    assert "say whose clock it is" in refusal(tmp_path / "NQZ23.txt")   # exchange or local time: nothing in the file says


def test_tradingview_preset(data_dir, tmp_path):
    path = data_dir / "tradingview" / "ES1_5m.parquet"
    bars = read_bars(path, source="tradingview", contract="ES", adjusted=True)
    read = bars.attrs["read"]
    assert (read["source"], read["stamp"], read["adjusted"], read["bar"], len(bars)) == ("tradingview", "start", True, "5 min", 69_606)
    table = pd.read_parquet(path).rename(columns={"volume": "Volume"})
    seconds = table.set_axis(pd.Index(table.index.as_unit("s").asi8, name="time"))
    seconds.to_csv(tmp_path / "CME_MINI_ES1!, 5.csv")
    iso = table.set_axis(pd.Index(table.index.strftime("%Y-%m-%dT%H:%M:%S%z").str.replace(r"(\d\d)$", r":\1", regex=True), name="time"))
    iso.to_csv(tmp_path / "iso.csv")
    for name in ("CME_MINI_ES1!, 5.csv", "iso.csv"):
        told = read_bars(tmp_path / name, contract="ES")
        same(told, bars)
        assert told.attrs["read"]["source"] == "tradingview" and told.attrs["read"]["adjusted"] == "unknown"


def test_one_digit_years_across_a_decade(tmp_path):
    """MGCG1 is February 2011 in a file of 2011 and February 2021 in a file of 2021; its spread is left out of both."""
    for year in (2011, 2021):
        rows = "".join(f"{year}-01-20 15:{m:02d},{s},{p},{p},{p},{p},3\n" for m in range(5) for s, p in (("MGCG1", 1345.5), ("MGCG1-MGCJ1", -0.7)))
        (tmp_path / f"{year}.csv").write_text("time,symbol,open,high,low,close,volume\n" + rows)
    bars = read_bars(tmp_path, tz="UTC", stamp="end")
    assert [name for name, _, _ in contract_runs(bars.index)] == ["MGCG11", "MGCG21"]
    assert len(bars) == 10 and bars.attrs["read"]["left_out"] == {"spread": 10}


def test_adjusted_is_kept_and_checked(folder, capsys):
    assert read_bars(folder / "intact").attrs["read"]["adjusted"] == "unknown"
    assert "adjusted at rolls: unknown" in capsys.readouterr().out
    assert read_bars(folder / "intact", adjusted=True).attrs["read"]["adjusted"] is True
    assert "adjusted is 'yes'" in refusal(folder / "intact", adjusted="yes")
    assert "source is 'ninja'; did you mean \"ninjatrader\"?" in refusal(folder / "intact", source="ninja")
    assert "source says kibot" not in refusal(folder / "intact", source="kibot")


# Many files, frames -------------------------------------------------------------------------------------------------------------


def test_the_number_of_threads_changes_nothing(folder, table, capsys):
    for i, name in enumerate(["ESZ24", "ESH25", "ESM25", "ESU25", "ESZ25"]):
        table.iloc[i * 500:i * 500 + 3000].to_csv(folder / f"{name}.csv", index=False)
    said, frames = [], []
    capsys.readouterr()
    for n_jobs in (1, 2, 7, None):
        frames.append(read_bars(str(folder / "ES???.csv"), tz="UTC", stamp="end", n_jobs=n_jobs))
        said.append(capsys.readouterr())
    for other, words in zip(frames[1:], said[1:]):
        assert other.to_numpy().tobytes() == frames[0].to_numpy().tobytes() and other.index.equals(frames[0].index)
        assert other.attrs == frames[0].attrs and words.out == said[0].out
    assert "5/5" in said[0].err and "file/s" in said[0].err
    read_bars(str(folder / "ES???.csv"), tz="UTC", stamp="end", progress=False)
    read_bars(folder / "ESH25.csv", tz="UTC", stamp="end")
    assert capsys.readouterr().err == ""
    table.assign(High=1).to_csv(folder / "ESM25.csv", index=False)
    (folder / "ESU25.csv").write_text("nothing\n")
    assert len({refusal(str(folder / "ES???.csv"), tz="UTC", stamp="end", n_jobs=n) for n in (1, 2, 7)}) == 1
    assert "n_jobs is 0" in refusal(folder / "intact", n_jobs=0)


def test_frames_of_three_libraries(table, intact):
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    options = dict(contract="ESH25", tz="UTC", stamp="end")
    for frame in (table, pl.DataFrame(table), pa.table(table)):
        same(read_bars(frame, **options), intact)
        assert frame_to_raw(frame).source == "frame"
        with pytest.raises(DataError, match="without a zone"): read_bars(frame, contract="ESH25", stamp="end")
    aware = table.assign(Time=table["Time"].dt.tz_localize("UTC"))
    same(read_bars(aware, contract="ESH25", stamp="end"), intact)


# Bad input ----------------------------------------------------------------------------------------------------------------------


def test_files_of_one_name_are_told_apart(folder, real_lines):
    for name, lines in (("a", real_lines[:3000]), ("b", with_fields(real_lines[2900:], 50, high="1.00"))):
        (folder / name).mkdir()
        (folder / name / NAME).write_bytes(b"\r\n".join(lines) + b"\r\n")
    assert f"read_bars: b/{NAME} row 50 (ESH25 " in refusal([folder / "a", folder / "b"])
    (folder / "b" / NAME).write_bytes(b"20241216\r\n" * 3)
    assert f"read_bars: b/{NAME} " in refusal([folder / "a", folder / "b"], source="ninjatrader")


def test_contracts_that_overlap_with_other_prices(folder, real_lines):
    for name, lines in (("a", real_lines[:3000]), ("b", with_fields(real_lines[2900:], 50, high="7000.00", close="6999.75"))):
        (folder / name).mkdir()
        (folder / name / NAME).write_bytes(b"\r\n".join(lines) + b"\r\n")
    line = refusal([folder / "a", folder / "b"])
    assert f"b/{NAME} row 50 repeats (ESH25 " in line and f"of a/{NAME} row 2950 with other prices (close 6999.75 here, 60" in line and "100 such rows" in line
    bars = read_bars([folder / "a", folder / "b"], on_bad="drop")
    assert len(bars) == 6000 and bars.attrs["read"]["conflicts"] == 1 and bars["close"].max() < 6999
    assert any("tell other prices" in sentence for sentence in bars.attrs["read"]["sentences"])


@pytest.mark.parametrize("price", ["1e300", "9007199254740992"])
def test_absurd_prices(folder, real_lines, price):
    path = damaged(folder, with_fields(real_lines, 42, high=price))
    assert "row 42 (ESH25 " in refusal(path) and "beyond 2^53 ticks of 0.25" in refusal(path)
    assert read_bars(path, on_bad="drop").attrs["read"]["dropped"] == {"absurd": 1}
    assert read_bars(path, on_bad="keep").attrs["read"]["bad_kept"] == {"absurd": 1}


def test_volume_beyond_exact_numbers(folder, real_lines):
    assert "row 42 (ESH25 " in (line := refusal(damaged(folder, with_fields(real_lines, 42, volume="9007199254740994")))) and "more than 2^53" in line
    assert len(read_bars(damaged(folder, with_fields(real_lines, 42, volume="9007199254740992")))) == 6000


def test_a_tick_that_does_not_divide_the_prices(folder, real_lines):
    line = refusal(folder / "intact", contract="YMH25")
    assert "bars lie off the grid of YMH25, 1 points (row 1: close 5994.5)" in line and "is it another instrument" in line
    kept = read_bars(folder / "intact", contract="YMH25", on_bad="keep")
    assert kept.attrs["read"]["off_tick"] > 3000
    assert len(read_bars(folder / "intact", contract="YMH25", adjusted=True)) == 6000
    some = list(real_lines)
    for row in range(1, 2001): some = with_fields(some, row, close="6150.26", high="9000") if row % 20 == 0 else some
    assert read_bars(damaged(folder, some)).attrs["read"]["off_tick"] == 100   # odd, not wrong


def test_text_that_is_none(folder, real_lines, table):
    options = dict(tz="UTC", stamp="end")
    path = folder / "ESH25.csv"
    text = table.to_csv(index=False)
    for data, words in [
        (text.encode("utf-16"), "UTF-16"), (text.encode("utf-16-be"), "UTF-16"), (text[:900].encode() + b"\0" + text[900:].encode(), "NUL byte"),
        (text.replace(",", " ").encode(), "is not separated by"), (text.encode()[:-40] + b"\xff\xfe,\n", "not text in UTF-8"),
        (b",".join(b"c%d" % i for i in range(1_000_000)) + b"\n1\n", "more than 1,000 columns"), (b"\n".join([b"a,b"] * 5), "no column for 'open'"),
    ]:
        path.write_bytes(data)
        assert f"ESH25.csv {words}" in refusal(path, **options) or words in refusal(path, **options)
    wide = table.astype(str).iloc[:100].to_csv(index=False) + "1," * 1_000_000 + "\n"
    path.write_text(wide)
    assert "row 102 has 1000001 of 6 columns" in refusal(path, **options)


@pytest.mark.parametrize("layout", ["csv", "ninja"])
def test_line_ends_and_marks(folder, real_lines, table, intact, layout):
    path, options = (folder / "ESH25.csv", dict(tz="UTC", stamp="end")) if layout == "csv" else (folder / NAME, {})
    text = table.to_csv(index=False).encode() if layout == "csv" else b"\n".join(real_lines) + b"\n"
    for end in (b"\n", b"\r\n", b"\r"):
        for mark in (b"", b"\xef\xbb\xbf"):
            path.write_bytes(mark + text.replace(b"\n", end))
            same(read_bars(path, **options), intact)
    half = len(text) // 2
    path.write_bytes(text[:half].replace(b"\n", b"\r") + text[half:].replace(b"\n", b"\r\n") + b"\n")
    mixed = read_bars(path, **options)
    same(mixed, intact)
    assert any("line ends are mixed" in note for note in mixed.attrs["read"]["files"][0]["notes"])


def test_packed_files_that_are_cut_or_bombs(folder, table):
    path, options = folder / "ESH25.csv.gz", dict(tz="UTC", stamp="end")
    path.write_bytes(gzip.compress(table.to_csv(index=False).encode())[:-7])
    assert "ESH25.csv.gz cannot be read" in refusal(path, **options)
    path.write_bytes(gzip.compress(b"time,open,high,low,close,volume\n" + b"0" * (200 << 20)))
    assert "unpacks to more than 67,108,864 bytes" in refusal(path, **options)


def test_times_outside_the_calendar(folder, table):
    table["Time"] = table["Time"].astype(str)
    for text in ("1969-12-31 23:59:00", "2070-01-01 00:00:00", "9999-12-31 23:59:00"):
        table.loc[5999, "Time"] = text
        table.to_csv(folder / "ESH25.csv", index=False)
        assert f"row 6001 has time {text}, outside 1970 to 2069" in refusal(folder / "ESH25.csv", tz="UTC", stamp="end")


def test_options_of_another_kind(folder):
    path = folder / "intact"
    for options, words in [(dict(contract=["ESH25"]), "contract is ['ESH25']"), (dict(tz=5), "tz 5 is not"), (dict(tz="America"), "tz 'America' is not"),
                           (dict(bar=[]), "which is no length"), (dict(bar="NaT"), "pass a length"), (dict(bar="-1min"), "pass a length"), (dict(n_jobs="2"), "n_jobs is '2'")]:
        assert words in refusal(path, **options), options
    assert "columns is 'time'" in refusal(folder / "intact" / NAME, source="csv", columns="time")


# Numbers that would be wrong in silence -------------------------------------------------------------------------------------------


def test_one_digit_years_of_two_decades_in_one_file(tmp_path):
    rows = "".join(f"{year}-01-20 15:{m:02d},MGCG1,1345.5,1345.5,1345.5,1345.5,3\n" for year in (2011, 2021) for m in range(5))
    (tmp_path / "all.csv").write_text("time,symbol,open,high,low,close,volume\n" + rows)
    bars = read_bars(tmp_path / "all.csv", tz="UTC", stamp="end")
    assert [(name, bars.index[a][1].year, b - a) for name, a, b in contract_runs(bars.index)] == [("MGCG11", 2011, 5), ("MGCG21", 2021, 5)]


def test_daily_bars_end_with_their_session(data_dir, tmp_path):
    """Four years of real daily bars: every date is its trade date, and none is known before its session closes."""
    table = pd.read_csv(data_dir / "daily" / "futures.csv.gz")
    table = table.loc[table["symbol"] == "ES", ["date", "open", "high", "low", "settle", "volume"]]
    table.to_csv(tmp_path / "daily.csv", index=False)
    options = dict(contract="ES", columns={"close": "settle"}, on_bad="drop")
    bars = read_bars(tmp_path / "daily.csv", stamp="date", **options)
    assert len(bars) == 1004 and bars.attrs["read"]["off_session"] == 0 and bars.attrs["read"]["bar"] == "1 day"
    assert (to_sessions(bars)["trade_date"].to_numpy() == pd.to_datetime(table["date"]).to_numpy()).all()
    close = session_table("ES", "2015-11-16", "2019-11-08")["close"].reindex(pd.to_datetime(table["date"]))
    assert (bars.index.get_level_values("ts") == pd.DatetimeIndex(close)).all()
    assert check_bars(bars).ok and not any(w.startswith("off_session") for w in check_bars(bars).counts)
    assert "a day's bar is not known when its date begins" in refusal(tmp_path / "daily.csv", stamp="end", tz="UTC", **options)
    midnight = read_bars(tmp_path / "daily.csv", stamp="start", tz="America/New_York", **options)
    assert "stamp='date' says that they are trade dates" in midnight.attrs["read"]["sentences"][-1]


@pytest.mark.parametrize("every", [20, 60])
def test_minutes_of_a_thin_contract_stay_minutes(data_dir, every):
    """A real contract that hardly trades: taken for bars of 51 minutes, it would be known 50 minutes late, or early if they were ends."""
    gold = pd.read_parquet(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet")
    thin = gold[gold["symbol"] == "MGCZ4"].iloc[::every]
    bars = read_bars(thin, stamp="start")
    assert bars.attrs["read"]["bar"] == "1 min" and (bars.index.get_level_values("ts") == thin.index + pd.Timedelta("1min")).all()


@pytest.mark.parametrize("length", ["5min", "30min", "1h", "2h"])
def test_long_bars_count_alike_when_read_and_when_checked(folder, real_lines, length):
    bars = read_bars(folder / "intact")
    table = bars.droplevel(0).resample(length, closed="right", label="left").agg(dict(open="first", high="max", low="min", close="last", volume="sum")).dropna()
    told = read_bars(table.reset_index(), contract="ESH25", stamp="start")
    report = check_bars(told)
    assert told.attrs["read"]["off_session"] == sum(n for what, n in report.counts.items() if what.startswith("off_session"))
    assert report.ok


@pytest.mark.parametrize("unit", [100, 10**9])
def test_prices_in_another_unit(table, unit):
    prices = {c: (table[c] * unit).round().astype("int64") for c in ("Open", "HIGH", "low", "Close")}
    line = refusal(table.assign(**prices), contract="ESH25", tz="UTC", stamp="end")
    assert f"every close is a multiple of {unit:,} ticks of ESH25" in line and "are the prices in cents, or counts of 1e-9?" in line
    assert len(read_bars(table.assign(**prices), contract="ESH25", tz="UTC", stamp="end", on_bad="keep")) == 6000


def test_dates_written_as_numbers(table):
    for form in ("%Y%m%d", "%Y%m%d%H%M"):
        frame = table.assign(Time=table["Time"].dt.strftime(form).astype("int64"))
        assert "a date written as a number must be text" in refusal(frame, contract="ESH25", stamp="end")


def test_names_that_contradict(folder, table):
    for symbol in ("ESH5.CME", "CME_MINI:ESH2025", "esh5", " ESH25 "):
        assert read_bars(table.assign(symbol=symbol), tz="UTC", stamp="end").index[0][0] == "ESH25"
    assert "has symbol 'ESH5', which is ESH25, and contract says NQH25" in refusal(table.assign(symbol="ESH5"), contract="NQH25", tz="UTC", stamp="end")
    assert "no row is left (6,000 calendar spreads; it holds calendar spreads only" in refusal(table.assign(symbol="ESH5-ESM5"), tz="UTC", stamp="end")
    told = read_bars(folder / "intact", contract="MESH25")
    assert "its name says ESH25 and contract says MESH25" in told.attrs["read"]["sentences"][-1]
    assert "whose ts is the bar's end" in refusal(told, stamp="start")
    assert "names have capitals and two digits" in refusal(folder / "intact", contract="ESH5")
    table.to_csv(folder / "ESH25-ESM25.csv", index=False)
    assert "does not say which contract" in refusal(folder / "ESH25-ESM25.csv", tz="UTC", stamp="end")
