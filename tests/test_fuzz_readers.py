"""Whatever is in a file and whatever is asked for: a `DataError` in one line, or a frame that keeps the schema. Nothing else, and soon.

`SEEDS` are small valid files by name, of every format that `read_bars` knows.
FUTURES_NB_FUZZ=5000 runs more examples than the default.
"""
import contextlib
import gzip
import io
import os
import struct
import tempfile
import warnings
import zipfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from futures_nb.bars import SOURCES, read_bars
from futures_nb.schema import BAR_COLUMNS, DataError, check_schema

EXAMPLES = int(os.environ.get("FUTURES_NB_FUZZ", 300))
TIMES = pd.date_range("2024-12-16 14:31", periods=40, freq="min")


def table():
    """Forty minutes of a quiet market, in quarters."""
    rng = np.random.default_rng(0)
    close = 6000 + 0.25 * rng.integers(-3, 4, len(TIMES)).cumsum()
    open_ = np.r_[6000.0, close[:-1]]
    return pd.DataFrame({"time": TIMES, "open": open_, "high": np.maximum(open_, close) + 0.5, "low": np.minimum(open_, close) - 0.25, "close": close,
                         "volume": rng.integers(1, 900, len(TIMES))})


def seeds():
    bars = table()
    numbers = bars[BAR_COLUMNS].astype(str).agg(",".join, axis=1)
    apart = [f"{t:%m/%d/%Y},{t:%H:%M},{row}" for t, row in zip(TIMES, numbers)]
    csv = bars.to_csv(index=False).encode()
    unix = bars.assign(time=TIMES.as_unit("s").asi8).rename(columns={"volume": "Volume"}).to_csv(index=False).encode()
    two = pd.concat([bars.assign(symbol="ESH5"), bars.assign(symbol="ESZ4"), bars.assign(symbol="ESZ4-ESH5", low=-60.0)]).sort_values("time", kind="stable")
    head = '"Date","Time","Open","High","Low","Close","Up","Down"\r\n'
    return {
        "ESH25.csv": csv, "ESM25.csv": bars.assign(time=TIMES.tz_localize("America/New_York").astype(str)).to_csv(index=False, sep=";").encode(),
        "ES 03-25.Last.txt": "".join(f"{t:%Y%m%d %H%M%S};{row.replace(',', ';')}\r\n" for t, row in zip(TIMES, numbers)).encode(),
        "ESU25.txt": "\n".join(apart).encode(), "ESZ25.txt": (head + "".join(f"{row},7\r\n" for row in apart)).encode(),
        "tv.csv": unix, "symbols.csv": two.to_csv(index=False).encode(), "ESH26.csv.gz": gzip.compress(csv, mtime=0),
        "ESM26.parquet": bars.to_parquet(), "days.csv": daily().to_csv(index=False).encode(),
    }


def daily():
    """Forty days of dates alone."""
    return table().assign(time=pd.bdate_range("2024-01-02", periods=40)).rename(columns={"time": "date"})


def dbn():
    """A DBN file (version 1) of two contracts and their spread, by the published layout."""
    width, day = 22, [20241216, 20241217]
    head = struct.pack("<16sHQQQ8xBBB47x5I", b"GLBX.MDP3", 6, 0, 2**64 - 1, 0, 1, 0, 0, 0, 0, 0, 0, 3)
    for symbol, number in (("ESH5", "11"), ("ESM5", "12"), ("ESH5-ESM5", "13")): head += struct.pack(f"<{width}sIII{width}s", symbol.encode(), 1, *day, number.encode())
    rows = [(number, t.value, *[int(p * 10**9) * (-1) ** (number == 13) for p in row[1:5]], int(row[5])) for row, t in zip(table().itertuples(index=False), TIMES) for number in (11, 12)]
    rows += [(13, TIMES[0].value, *[-60 * 10**9] * 4, 1)]
    return b"DBN\1" + struct.pack("<I", len(head)) + head + b"".join(struct.pack("<BBHIQqqqqQ", 14, 0x21, 1, *row) for row in rows)


def scid():
    epoch = pd.Timestamp("1899-12-30")
    rows = [((t - epoch) // pd.Timedelta("1us"), *row[1:5], 9, int(row[5]), 0, 0) for row, t in zip(table().itertuples(index=False), TIMES)]
    return struct.pack("<4sIIHHI36x", b"SCID", 56, 40, 1, 0, 0) + b"".join(struct.pack("<qffffIIII", *row) for row in rows)


def lean():
    out = io.BytesIO()
    rows = "".join(f"{52_260_000 + 60_000 * i},{','.join(map(str, row[1:5]))},{row[5]}\n" for i, row in enumerate(table().itertuples(index=False)))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for month in ("202503", "202506"): archive.writestr(zipfile.ZipInfo(f"20241216_es_minute_trade_{month}.csv"), rows)
    return out.getvalue()


def binary_seeds():
    """A file of every format that is not text; the parquet has two contracts and their spread, and an index that is no time."""
    two = pd.concat([table().assign(symbol=pd.Categorical([s] * 40)) for s in ("ESH5", "ESM5")]).reset_index(drop=True).iloc[1:]
    zst = pa.compress(dbn(), codec="zstd", asbytes=True)
    return {"es.dbn": dbn(), "es.dbn.zst": zst, "ESH25-CME.scid": scid(), "20241216_trade.zip": lean(), "two.parquet": two.to_parquet()}


SEEDS = seeds() | binary_seeds()
NEEDS = {"ESM25.csv": dict(tz=None), "ESU25.txt": dict(source="kibot"), "tv.csv": dict(contract="ES", tz=None), "days.csv": dict(contract="ES", stamp="date"), "ES 03-25.Last.txt": dict(tz=None, stamp="end")}  # what must be said of a seed
TOKENS = [b"", b"NaN", b"inf", b"-", b"1e300", b"-37.63", b"9" * 30, b"0", b"2024-02-30 25:61", b"1969-12-31 23:59", b"20350101 000000", b"1e5", b"6,150.25", b'"', b"\0",
          b"\r", b"\n\n", b"\xef\xbb\xbf", b"\xff\xfe", b";", b"ESH5", b"XXZ9", b"ESH5:ESM5", b"2024-11-03 01:30:00", b"2024-12-16T14:31:00+05:30", b"\xc3\xa9", "٣".encode(),
          b"1734359460", b"a" * 200_000, b"12/31/2024", b"PAR1", b"\x1f\x8b", b"1_000", b" 5 ", b"+5", b"0x10", b"5.", b".5", b"-0"]

edit = st.one_of(
    st.tuples(st.just("token"), st.floats(0, 1), st.sampled_from(TOKENS)), st.tuples(st.just("bytes"), st.floats(0, 1), st.binary(max_size=12)),
    st.tuples(st.just("cut"), st.floats(0, 1), st.integers(1, 400)), st.tuples(st.just("keep"), st.floats(0, 1), st.none()),
    st.tuples(st.just("twice"), st.floats(0, 1), st.integers(1, 400)), st.tuples(st.just("swap"), st.floats(0, 1), st.integers(1, 200)),
    st.tuples(st.just("all"), st.sampled_from([b",", b";", b"\n", b"\r\n", b".", b"-", b":", b" ", b"0"]), st.sampled_from([b",", b";", b"\n", b"\r", b"\r\n", b"\t", b"|", b"", b"9", b"-"])),
)


def edited(data, edits):
    """The file after some accidents."""
    for kind, where, what in edits:
        if kind == "all": data = data.replace(where, what); continue
        at = int(where * len(data))
        if kind == "token":   # in the place of a cell
            end = min((k for k in (data.find(c, at) for c in (b",", b";", b"\n")) if k >= 0), default=len(data))
            data = data[:at] + what + data[end:]
        elif kind == "bytes": data = data[:at] + what + data[at + len(what):]
        elif kind == "cut": data = data[:at] + data[at + what:]
        elif kind == "keep": data = data[:at]
        elif kind == "twice": data = data[:at] + data[at:at + what] + data[at:]
        else: data = data[:at] + data[at + what:at + 2 * what] + data[at:at + what] + data[at + 2 * what:]
    return data


options = st.fixed_dictionaries({}, optional=dict(
    source=st.sampled_from([*SOURCES, "ninja", None]), contract=st.sampled_from(["ESH25", "ES", "CLK20", "YM", "XX", "", None, 5]),
    tz=st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe", "Etc/GMT+12", "Mars", "", None, 5]), stamp=st.sampled_from(["start", "end", "date", "middle", None]),
    columns=st.sampled_from([None, {"close": "open"}, {"time": "volume"}, {"symbol": "time"}, {"x": "y"}, ["time", *BAR_COLUMNS], ["a"], [], {}, "time", 5, {"volume": "close", "open": "time"}]),
    bar=st.sampled_from([None, "1min", "5min", "1s", "0min", "x", "200 days", 7]), on_bad=st.sampled_from(["raise", "drop", "keep", "no"]),
    off_session=st.sampled_from(["keep", "drop", "no"]), adjusted=st.sampled_from([None, True, False, "yes"]), n_jobs=st.sampled_from([None, 1, 2, 0])))
likely = st.fixed_dictionaries(dict(tz=st.sampled_from(["UTC", "America/New_York"]), stamp=st.sampled_from(["start", "end"]), on_bad=st.sampled_from(["raise", "drop", "keep"])),
                               optional=dict(contract=st.sampled_from(["ESH25", "CL"]), off_session=st.just("drop"), bar=st.just("1min")))


asked = st.one_of(st.tuples(likely, st.just(True)), st.tuples(likely, st.just(True)), st.tuples(options, st.just(False)))


def judged(files, wanted):
    """Read the files; what comes back must be an error of ours or a frame that keeps its promises."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for name, data in files.items(): (Path(folder) / name).write_bytes(data)
        try: bars = read_bars([Path(folder) / name for name in files], progress=False, **wanted)
        except DataError as error:
            line = str(error)
            assert "\n" not in line and "\r" not in line and len(line) < 2000, line[:3000]
            return None
    check_schema(bars, BAR_COLUMNS)
    assert len(bars) and bars.index.is_unique and set(bars.dtypes) == {np.dtype("float64")} and said.getvalue().startswith("read_bars: ")
    read = bars.attrs["read"]
    assert len(bars) == read["kept"] == read["rows"] - sum(read["left_out"].values()) - sum(read["dropped"].values())
    if wanted.get("on_bad", "raise") != "keep":
        assert np.isfinite(bars).all(axis=None) and (bars["low"] <= bars[["open", "close"]].min(axis=1)).all() and (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
        assert (bars["volume"] >= 0).all()
    return bars


slow = settings(max_examples=EXAMPLES, deadline=timedelta(seconds=20), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], derandomize=EXAMPLES == 300)


def test_every_reader_has_a_seed():
    read = {judged({name: data}, dict(tz="UTC", stamp="end") | NEEDS.get(name, {})).attrs["read"]["source"] for name, data in SEEDS.items()}
    assert read >= {*SOURCES} - {"auto", "firstrate"}   # firstrate is a preset of csv


@pytest.mark.parametrize("name", SEEDS)
def test_the_seeds_are_read(name):
    assert judged({name: SEEDS[name]}, dict(tz="UTC", stamp="end") | NEEDS.get(name, {})) is not None


@slow
@given(st.sampled_from(sorted(SEEDS)), st.lists(edit, min_size=1, max_size=4), asked)
def test_damaged_files(name, edits, wanted):
    options, is_told = wanted
    judged({name: edited(SEEDS[name], edits)}, options | NEEDS.get(name, {}) if is_told else options)


@slow
@given(st.sampled_from(sorted(SEEDS)), st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode), st.text("0123456789,;.:-/ \n\r\"eTZ", max_size=300).map(str.encode)), options)
def test_files_of_anything(name, data, wanted):
    judged({name: data}, wanted)


@settings(slow, max_examples=max(50, EXAMPLES // 6))
@given(st.lists(st.tuples(st.sampled_from(sorted(SEEDS)), st.lists(edit, max_size=1)), min_size=2, max_size=4), st.one_of(likely, options))
def test_several_damaged_files(files, wanted):
    judged({f"{i} {name}" if i and name == files[0][0] else name: edited(SEEDS[name], edits) for i, (name, edits) in enumerate(files)}, wanted)
