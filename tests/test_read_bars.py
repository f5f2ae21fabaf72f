"""Vendors' files, whole and damaged. Each damage is one clear line, and the intact file beside it still reads."""
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from futures_nb.bars import read_bars
from futures_nb.schema import BAR_COLUMNS, DataError, check_schema, contract_runs

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
