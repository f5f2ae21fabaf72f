"""Binary formats and frames: equal to the vendors' own readers on real files, and an error of ours for whatever was cut, packed or bent."""
import io
import random
import stat
import struct
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from futures_nb import formats, tables
from futures_nb.formats import FORMAT_PRESETS, float32_decimals, read_dbn, read_lean, read_scid, sierra_symbol
from futures_nb.schema import BAR_COLUMNS, DataError, make_index
from futures_nb.tables import frame_to_raw, read_parquet
from futures_nb.textfiles import Raw

PRICES = BAR_COLUMNS[:4]
MEMBER = "20131006_es_minute_trade_201312.csv"
EXAMPLE = "79200000,1676.75,1677.25,1673.5,1675.25,1884\n"   # the row in Lean's documentation
MIDNIGHT = 1_609_113_600                                      # 2020-12-28, seconds since 1970


def dbn_bytes(rows, mappings=(("ESH1", 20201228, 20201229, "5482"),), schema=6, version=1, limit=0, end=2**64 - 1, sent=0, stypes=(1, 0)):
    """A DBN file by the published layout: rows of (id, ts [ns], open, high, low, close [1e-9], volume)."""
    head = struct.pack("<16sHQQQ", b"GLBX.MDP3", schema, 0, end, limit) + (bytes(8) if version == 1 else b"") + struct.pack("<BBB", *stypes, sent)
    width = 22 if version == 1 else 71
    head += (struct.pack("<H", width) + bytes(53) if version > 1 else bytes(47)) + struct.pack("<5I", 0, 0, 0, 0, len(mappings))
    for symbol, first, last, number in mappings:
        head += struct.pack(f"<{width}sIII{width}s", symbol.encode(), 1, first, last, number.encode())
    head += bytes(-len(head) % 8) if version == 3 else b""
    records = b"".join(struct.pack("<BBHIQqqqqQ", 14 + 2 * sent, 0x1b + schema, 1, *row) + bytes(8 * sent) for row in rows)
    return b"DBN" + bytes([version]) + struct.pack("<I", len(head)) + head + records


def dbn_rows(n=50, number=5482): return [(number, (MIDNIGHT + 60 * i) * 10**9, *[3_720_250_000_000] * 4, i) for i in range(n)]


def scid_bytes(rows):
    """A .scid file by the published layout: rows of (microseconds since 1899-12-30, open, high, low, close, trades, volume, bid and ask volume)."""
    return struct.pack("<4sIIHHI36x", b"SCID", 56, 40, 1, 0, 0) + b"".join(struct.pack("<qffffIIII", *row) for row in rows)


def scid_rows(n=30): return [((45_719 * 86_400 + 52_200 + 60 * i) * 10**6, 1.04005, 1.0402, 1.03995, 1.0401, 57, 112, 60, 52) for i in range(n)]


def zip_bytes(members=None, n=40):
    out = io.BytesIO()
    rows = "".join(f"{79_200_000 + 60_000 * i},1676.75,1677.25,1673.5,1675.25,{i}\n" for i in range(n))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (members or {MEMBER: rows, MEMBER.replace("201312", "201403"): rows}).items(): archive.writestr(name, text)
    return out.getvalue()


def bar_frame(n=300):
    price = 5000 + 0.25 * np.arange(n)
    ts = pd.date_range("2024-12-16 14:31", periods=n, freq="min", tz="UTC", name="ts_event")
    return pd.DataFrame({c: price for c in PRICES} | {"volume": np.arange(n), "symbol": pd.Categorical(["ESH5", "ESM5"] * (n // 2))}, ts)


def parquet_bytes(frame=None, **how):
    out = io.BytesIO()
    (bar_frame() if frame is None else frame).to_parquet(out, **how)
    return out.getvalue()


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


# Databento: the vendor's decoder is the reference

@pytest.fixture(scope="module")
def dbn_files(data_dir): return sorted((data_dir / "mgc_databento").glob("*.dbn.zst"))


def test_dbn_months_equal_the_parquet_row_for_row(data_dir, dbn_files):
    months = [read_dbn(path) for path in dbn_files]
    assert len(months) == 6 and all(raw.unreadable == raw.notes == [] for raw in months)
    ours = pd.concat([raw.frame.assign(symbol=raw.frame["symbol"].astype("str")) for raw in months], ignore_index=True)
    theirs = pd.read_parquet(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet")
    theirs = theirs[(theirs.index >= "2021-12-01") & (theirs.index < "2022-06-01")]
    assert len(ours) == len(theirs) == 300_322
    assert (pd.DatetimeIndex(ours["time"]) == theirs.index).all()
    assert (ours["symbol"].to_numpy() == theirs["symbol"].astype("str").to_numpy()).all()
    for column in BAR_COLUMNS: assert (ours[column].to_numpy() == theirs[column].to_numpy()).all(), column


def reference(path):
    import databento
    return databento.DBNStore.from_file(path).to_df()


def test_dbn_equals_databento_on_its_own_test_files(data_dir, dbn_files):
    paths = sorted((data_dir / "dbn_test").glob("*ohlcv*")) + dbn_files[:1]
    assert len(paths) == 7
    for path in paths:
        raw, theirs = read_dbn(path), reference(path)
        assert (pd.DatetimeIndex(raw.frame["time"]) == theirs.index).all() and (raw.frame["symbol"].to_numpy() == theirs["symbol"].to_numpy()).all()
        assert (raw.frame[BAR_COLUMNS].to_numpy() == theirs[BAR_COLUMNS].to_numpy()).all()


def test_dbn_header_equals_databento(data_dir, dbn_files):
    import databento_dbn
    for version in (1, 2, 3):
        head = dbn_bytes([], mappings=[("ESH1", 20201228, 20210315, "5482"), ("ESM1", 20210101, 20210601, "77")], version=version, limit=9)
        theirs = databento_dbn.Metadata.decode(head)
        ours = formats._dbn_header(head[8:], version, "x")
        assert (ours["schema"], ours["limit"], ours["size"]) == (str(theirs.schema), theirs.limit, 56)
        assert {symbol for symbol, _ in ours["mappings"]} == set(theirs.mappings)
        assert ours["mappings"][0][1]["end"].tolist() == [int(f"{x['end_date']:%Y%m%d}") for x in theirs.mappings["ESH1"]]
    assert formats.DBN_SCHEMAS[:9] == [str(databento_dbn.Schema.from_int(i)) if hasattr(databento_dbn.Schema, "from_int") else s for i, s in enumerate(formats.DBN_SCHEMAS[:9])]


@pytest.mark.parametrize("schema", ["trades", "tbbo", "statistics"])
def test_dbn_other_schemas_are_refused_by_name(data_dir, schema):
    for path in sorted((data_dir / "dbn_test").glob(f"*.{schema}.*")):
        with pytest.raises(DataError, match=f"holds {schema}, not bars; ask the vendor for schema ohlcv-1s"): read_dbn(path)


def test_dbn_needs_no_library(data_dir, monkeypatch):
    for name in ("databento", "databento_dbn", "zstandard"): monkeypatch.setitem(sys.modules, name, None)
    assert len(read_dbn(data_dir / "dbn_test" / "test_data.ohlcv-1m.v3.dbn.zst").frame) == 2


def test_dbn_number_is_reused_by_another_contract(tmp_path):
    mappings = [("ESH1", 20201228, 20201229, "7"), ("ESM1", 20201229, 20201231, "7"), ("NQH1", 20201228, 20210101, "8")]
    rows = [dbn_rows(1, 7)[0], (7, (MIDNIGHT + 86400) * 10**9, *dbn_rows(1)[0][2:]), (8, (MIDNIGHT + 2 * 86400) * 10**9, *dbn_rows(1)[0][2:])]
    for stypes, table in (((1, 0), mappings), ((0, 1), [(n, a, b, s) for s, a, b, n in mappings])):
        raw = read_dbn(written(tmp_path, "x.dbn", dbn_bytes(rows, table, stypes=stypes)))
        assert raw.frame["symbol"].tolist() == ["ESH1", "ESM1", "NQH1"]
    strangers = rows + [(7, (MIDNIGHT + 3 * 86400) * 10**9, *rows[0][2:]), (9, *rows[0][1:]), (7, (MIDNIGHT - 60) * 10**9, *rows[0][2:])]
    assert read_dbn(written(tmp_path, "x.dbn", dbn_bytes(strangers, mappings))).unreadable == [
        (4, "has instrument 7 on 2020-12-31, for which the header has no symbol"), (5, "has instrument 9 on 2020-12-28, for which the header has no symbol"),
        (6, "has instrument 7 on 2020-12-27, for which the header has no symbol")]
    with pytest.raises(DataError, match="maps instrument 7 to ESH1 and ES.c.0 on the same day"):
        read_dbn(written(tmp_path, "x.dbn", dbn_bytes(rows, mappings + [("ES.c.0", 20201228, 20201229, "7")])))
    with pytest.raises(DataError, match="several instruments .7, 8, ...."): read_dbn(written(tmp_path, "x.dbn", dbn_bytes(rows, [])))
    assert "symbol" not in read_dbn(written(tmp_path, "x.dbn", dbn_bytes(dbn_rows(), []))).frame


def test_dbn_records_carry_their_oddities(tmp_path):
    row, undefined = dbn_rows(1)[0], 2**63 - 1
    rows = [row, (*row[:2], undefined, *row[3:]), (row[0], row[1] + 10**9, *row[2:]), (row[0], 2**64 - 1, *row[2:]), (*row[:6], 2**60)]
    raw = read_dbn(written(tmp_path, "x.dbn", dbn_bytes(rows)))
    assert np.isnan(raw.frame["open"][1]) and raw.frame["high"][1] == 3720.25
    assert [line for line, _ in raw.unreadable] == [3, 4, 5] and raw.frame["line"].tolist() == [1, 2]
    assert [words.split(" (")[0] for _, words in raw.unreadable] == ["has time 1609113601000000000 ns, which is not on a whole 1m", "has a time that cannot be meant", "has volume 1152921504606846976, beyond 2^53"]
    sent = read_dbn(written(tmp_path, "x.dbn", dbn_bytes(dbn_rows(), sent=1)))
    assert len(sent.frame) == 50 and sent.frame["volume"].tolist() == list(range(50))


def test_dbn_records_of_another_kind_are_refused(tmp_path):
    data = dbn_bytes(dbn_rows())
    start = len(data) - 50 * 56
    for at, value, words in ((1, 0x22, "record 3 is of type 0x22, not ohlcv-1m"), (0, 20, "record 3 is of type 0x21"), (1, 0x15, "record 3 is of type 0x15")):
        bad = bytearray(data)
        bad[start + 2 * 56 + at] = value
        with pytest.raises(DataError, match=words): read_dbn(written(tmp_path, "x.dbn", bytes(bad)))


def test_dbn_notes_say_when_more_was_asked_for(tmp_path):
    end = (MIDNIGHT + 20 * 86400) * 10**9
    assert "limit of 50 records" in read_dbn(written(tmp_path, "x.dbn", dbn_bytes(dbn_rows(), limit=50))).notes[0]
    assert read_dbn(written(tmp_path, "x.dbn", dbn_bytes(dbn_rows(), limit=51))).notes == []
    assert "479 h before the end" in read_dbn(written(tmp_path, "x.dbn", dbn_bytes(dbn_rows(), end=end))).notes[0]


def test_dbn_cut_between_blocks_is_said(tmp_path, dbn_files):
    data = dbn_files[0].read_bytes()
    starts = [i for i in range(len(data)) if data.startswith(b"\x28\xb5\x2f\xfd", i)]
    raw = read_dbn(written(tmp_path, "x.dbn.zst", data[:starts[-1]]))   # valid by every byte of it
    assert len(raw.frame) == 40_000 and "before the end that was asked for" in raw.notes[0]


def test_nano_prices_are_the_nearest_floats():
    units = np.r_[np.random.default_rng(0).integers(-2**63 + 1, 2**63 - 1, 500), np.arange(-500, 500) * 50_000, 2**53 + np.arange(-3, 4)]
    assert formats._nano_prices(units).tolist() == [float(Decimal(int(u)) / 10**9) for u in units]


def test_dbn_bomb_is_not_unpacked(tmp_path):
    import zstandard
    bomb = zstandard.compress(dbn_bytes([dbn_rows(1)[0]] * 2_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match="no bars shrink so far"): read_dbn(written(tmp_path, "x.dbn.zst", bomb))


def test_a_file_larger_than_memory_is_refused(tmp_path, monkeypatch):
    import zstandard
    for module in (formats, tables): monkeypatch.setattr(module, "UNPACKED_LIMIT", 3000)
    with pytest.raises(DataError, match="unpacks to more than 3,000 bytes; split it by month"): read_dbn(written(tmp_path, "x.dbn.zst", zstandard.compress(dbn_bytes(dbn_rows(60)))))
    with pytest.raises(DataError, match="has 300 rows, more than 3,000 bytes; split it by year"): read_parquet(written(tmp_path, "x.parquet", parquet_bytes()))
    with pytest.raises(DataError, match="claims .* bytes in all, more than 3,000"): read_lean(written(tmp_path, "x_trade.zip", zip_bytes()))


# Sierra Chart: no real file at hand; written by the published layout

def test_scid_by_the_published_layout(tmp_path):
    raw = read_scid(written(tmp_path, "6EH25-CME.scid", scid_bytes(scid_rows())))
    assert raw.frame["time"][0] == pd.Timestamp("2025-03-03 14:30", tz="UTC") and raw.frame["time"].diff()[1] == pd.Timedelta("1min")
    assert raw.frame[BAR_COLUMNS].drop_duplicates().to_numpy().tolist() == [[1.04005, 1.0402, 1.03995, 1.0401, 112.0]]
    assert set(raw.frame["symbol"]) == {"6EH25"} and raw.source == "sierra"
    assert "symbol" not in read_scid(written(tmp_path, "euro.scid", scid_bytes(scid_rows()))).frame


@pytest.mark.parametrize("name, symbol", [("ESH25-CME.scid", "ESH25"), ("ESH5.CME.scid", "ESH5"), ("MESH25_FUT_CME.scid", "MESH25"), ("6EZ24.scid", "6EZ24"),
                                          ("ES.scid", None), ("XAUUSD.scid", None), ("ESH2025.scid", None)])
def test_sierra_names(name, symbol): assert sierra_symbol(name) == symbol


@pytest.mark.parametrize("change, words", [
    (lambda r: (r[0], 0.0, 1.0402, 1.0401, 1.0401, 1, *r[6:]), "record 3 is a single trade .open 0, 1 trade, .* as are 1 of 30"),
    (lambda r: (r[0], -1.99900095e37, *r[2:]), "record 3 is a single trade"), (lambda r: (r[0], -1.99900197e37, *r[2:]), "record 3 is a single trade"),
    (lambda r: (r[0] + 17, *r[1:]), "record 3 is a single trade")])
def test_scid_trades_are_refused(tmp_path, change, words):
    rows = scid_rows()
    rows[2] = change(rows[2])
    with pytest.raises(DataError, match=words): read_scid(written(tmp_path, "x.scid", scid_bytes(rows)))


def test_scid_price_of_zero_is_a_price(tmp_path):
    rows = [(t, -0.01, 0.02, -0.02, 0.0, *rest) for t, _, _, _, _, *rest in scid_rows()] + [(scid_rows(31)[30][0], 0.0, 0.01, -0.01, -0.01, 9, 12, 6, 6)]
    assert read_scid(written(tmp_path, "CLK20.scid", scid_bytes(rows))).frame["open"].tolist() == [-0.01] * 30 + [0.0]


@pytest.mark.parametrize("tick, low, high", [(0.25, 500, 60000), (1, 10000, 200000), (0.1, 1000, 5000), (0.01, -50, 200), (0.005, 1, 60), (0.0005, 0.5, 8), (0.00005, 0.4, 2),
                                             (0.0000005, 0.003, 0.02), (1 / 8, 100, 2000), (1 / 32, 80, 250), (1 / 64, 80, 250), (1 / 128, 80, 250), (1 / 256, 80, 250)])
def test_float32_prices_lie_on_their_tick(tick, low, high):
    ticks = np.arange(round(low / tick), round(high / tick))
    meant = ticks / round(1 / tick)
    assert (float32_decimals(meant.astype(np.float32)) == meant).all()


def test_float32_decimals_are_python_s_shortest_where_no_grid_is_binary():
    price = np.random.default_rng(0).uniform(1024, 70000, 3000).astype(np.float32)
    assert (float32_decimals(price).astype(np.float32) == price).all()
    assert [len(repr(x)) for x in float32_decimals(price).tolist()] <= [len(np.format_float_positional(x, unique=True)) + 1 for x in price]
    assert np.isnan(float32_decimals([np.nan]))[0] and float32_decimals([np.inf])[0] == np.inf


# Lean: written as its documentation says

def test_lean_folder_names_its_market(tmp_path):
    for market, source in (("cme", "lean"), ("comex", "lean"), ("hkfe", "lean of hkfe")):
        day = tmp_path / "future" / market / "minute" / "es"
        day.mkdir(parents=True)
        raw = read_lean(written(day, "20131006_trade.zip", zip_bytes({MEMBER: EXAMPLE, MEMBER.replace("201312", "201403_20140321"): EXAMPLE})))
        assert raw.source == source
    assert raw.frame["symbol"].tolist() == ["ESZ13", "ESH14"] and raw.frame["line"].tolist() == [1, 2]
    assert raw.frame["time"].tolist() == [pd.Timestamp("2013-10-06 22:00")] * 2
    assert raw.frame[BAR_COLUMNS].iloc[0].tolist() == [1676.75, 1677.25, 1673.5, 1675.25, 1884.0]


def test_lean_bad_lines_are_named(tmp_path):
    text = EXAMPLE + "79260000,1676,1677\n" + EXAMPLE.replace("79200000", "79320001") + EXAMPLE.replace("79200000", "86400000") + EXAMPLE.replace("1884", "x") + EXAMPLE.replace("1677.25", "")
    raw = read_lean(written(tmp_path, "x_trade.zip", zip_bytes({MEMBER: EXAMPLE, MEMBER.replace("201312", "201403"): text})))
    assert [line for line, _ in raw.unreadable] == [3, 4, 5, 6] and raw.frame["line"].tolist() == [1, 2, 7]
    assert raw.unreadable[0][1] == f"has 3 of 6 columns ('79260000,1676,1677') in {MEMBER.replace('201312', '201403')}"
    assert np.isnan(raw.frame["high"].iloc[-1])
    for odd, lines, wrong in ((EXAMPLE.replace("79200000", ""), [1], [2]), ("\n" + EXAMPLE, [1, 3], [])):
        raw = read_lean(written(tmp_path, "x_trade.zip", zip_bytes({MEMBER: EXAMPLE + odd})))
        assert raw.frame["line"].tolist() == lines and [line for line, _ in raw.unreadable] == wrong


def refused(folder, data, words):
    (folder / "in").mkdir(exist_ok=True)
    with pytest.raises(DataError, match=words): read_lean(written(folder / "in", "x_trade.zip", data))
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == ["x_trade.zip"]   # nothing was unpacked


@pytest.mark.parametrize("name", ["../" + MEMBER, "/etc/" + MEMBER, "a/../../" + MEMBER, "C:\\" + MEMBER, "..\\" + MEMBER, "C:/" + MEMBER])
def test_zip_paths_out_of_the_folder_are_refused(tmp_path, name):
    data = zip_bytes({name.replace("\\", "|"): EXAMPLE}).replace(b"|", b"\\")   # zipfile turns no backslash, but be sure
    refused(tmp_path, data, "is refused: its path leaves")


def test_zip_links_locks_and_nests_are_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo(MEMBER)
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path, out.getvalue(), "it is a link")
    locked = bytearray(zip_bytes({MEMBER: EXAMPLE}))
    for mark, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)): locked[locked.index(mark) + at] |= 1
    refused(tmp_path, bytes(locked), "it is encrypted")
    refused(tmp_path, zip_bytes({"day.zip": zip_bytes()}), "it is packed again")
    refused(tmp_path, zip_bytes({MEMBER: zip_bytes()}), "it is packed again")
    refused(tmp_path, zip_bytes({"folder/": ""}), "it is not a plain file")
    nameless = zip_bytes({"nameless": EXAMPLE}).replace(b"nameless", b"", 2)   # a short name may also stand in the time of day
    nameless = nameless[:26] + bytes(2) + nameless[28:]
    at = nameless.index(b"PK\1\2")
    nameless = nameless[:at + 28] + bytes(2) + nameless[at + 30:-10] + struct.pack("<II", 46, at) + nameless[-2:]
    refused(tmp_path, nameless, "it has no name")
    strange = io.BytesIO()
    with zipfile.ZipFile(strange, "w", zipfile.ZIP_LZMA) as archive: archive.writestr(MEMBER, EXAMPLE)
    refused(tmp_path, strange.getvalue(), "it is packed by method 14")


def test_zip_bombs_are_refused_before_they_are_read(tmp_path):
    refused(tmp_path, zip_bytes({MEMBER: b"0" * 30_000_000}), "it claims 30,000,000 bytes from")
    lying = bytearray(zip_bytes({MEMBER: b"0" * 30_000_000}))
    at = lying.index(b"PK\1\2")
    lying[at + 24:at + 28] = struct.pack("<I", 1000)                       # claims to be small: read no further than it claims
    refused(tmp_path, bytes(lying), "Bad CRC-32|claims 1,000")
    data = zip_bytes({MEMBER: EXAMPLE * 200, MEMBER.replace("201312", "201403"): "x"})
    first, second = (i for i in range(len(data)) if data[i:i + 4] == b"PK\1\2")
    entry = data[first:second]
    twins = b"".join(entry.replace(b"201312", b"%06d" % (201401 + 100 * i)) for i in range(30))      # thirty more names for the bytes of one
    twin = bytearray(data[:second] + twins + data[second:])
    end = twin.rindex(b"PK\5\6")
    twin[end + 8:end + 16] = struct.pack("<HHI", 32, 32, struct.unpack("<I", data[-10:-6])[0] + 30 * len(entry))
    refused(tmp_path, bytes(twin), "its bytes overlap those after it")
    twin = data[:second] + entry * 30 + data[second:]
    refused(tmp_path, twin[:-14] + struct.pack("<HHI", 32, 32, struct.unpack("<I", data[-10:-6])[0] + 30 * len(entry)) + twin[-6:], "two members named")
    refused(tmp_path, zip_bytes({f"{i}.csv": "" for i in range(formats.MEMBERS_LIMIT + 1)}), "has 2,001 members")


def test_zip_member_shorter_than_it_claims_is_refused(tmp_path):
    data = bytearray(zip_bytes({MEMBER: EXAMPLE * 30}))
    at = data.index(b"PK\1\2")
    data[at + 24:at + 28] = struct.pack("<I", 30 * len(EXAMPLE) + 1)
    refused(tmp_path, bytes(data), "has 1,350 bytes and claims 1,351")


def test_zip_bad_checksum_and_foreign_files_are_refused(tmp_path):
    data = bytearray(zip_bytes())
    at = data.index(b"PK\1\2")
    data[at + 16] ^= 1
    refused(tmp_path, bytes(data), "Bad CRC-32")
    refused(tmp_path, zip_bytes({MEMBER.replace("trade", "quote"): EXAMPLE}), "it holds quote")
    refused(tmp_path, zip_bytes({"20131007_spy_minute_trade.csv": EXAMPLE}), "equities are stored times 10,000")
    refused(tmp_path, zip_bytes({MEMBER.replace("20131006", "20131306"): EXAMPLE}), "names no day")
    refused(tmp_path, zip_bytes({MEMBER: ""}), "has no rows")
    refused(tmp_path, zip_bytes({MEMBER: "time,open\n" * 300}), "not in Lean's format")


# Parquet and frames

def test_parquet_reads_only_what_bars_need(data_dir, monkeypatch):
    path = data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet"
    asked = []
    read = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, columns: asked.append(columns) or read(self, columns=columns))
    raw = read_parquet(path)
    theirs = pd.read_parquet(path)
    assert sorted(asked[0]) == ["close", "high", "low", "open", "symbol", "ts_event", "volume"]
    assert len(raw.frame) == 2_228_211 and (pd.DatetimeIndex(raw.frame["time"]) == theirs.index).all()
    assert (raw.frame["symbol"].astype("str").to_numpy() == theirs["symbol"].astype("str").to_numpy()).all()
    assert (raw.frame[BAR_COLUMNS].to_numpy() == theirs[BAR_COLUMNS].to_numpy()).all()


NUMBER_TYPES = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(),
                pa.large_string(), pa.string_view(), pa.decimal128(12, 3), pa.decimal256(40, 3), pa.dictionary(pa.int8(), pa.float64()), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", NUMBER_TYPES, ids=str)
def test_numbers_of_every_type(kind):
    values = [3, 7, None]
    whole = pa.array(values, pa.int64())
    column = whole.cast(pa.string()).dictionary_encode() if str(kind).startswith("dictionary<values=string") else \
        whole.cast(pa.float64()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values, pa.int8()).cast(kind)
    table = pa.table({"ts": pd.date_range("2024-12-16", periods=3, freq="min", tz="UTC")} | {c: column for c in BAR_COLUMNS})
    for frame in (table, pq_round(table) if kind != pa.string_view() else table):
        got = frame_to_raw(frame).frame["close"]
        assert got.dtype == np.float64 and got[:2].tolist() == [3.0, 7.0] and np.isnan(got[2])


def pq_round(table):
    out = io.BytesIO()
    pq.write_table(table, out)
    return pq.read_table(io.BytesIO(out.getvalue()))


def test_decimals_become_the_nearest_float():
    prices = [Decimal(f"1.{i:05d}") for i in range(3, 99999, 501)]
    table = pa.table({"ts": pd.date_range("2024-12-16", periods=len(prices), freq="min", tz="UTC")} | {c: pa.array(prices, pa.decimal128(20, 9)) for c in BAR_COLUMNS})
    assert frame_to_raw(table).frame["close"].tolist() == [float(p) for p in prices]


TIMES = {
    **{f"timestamp {unit} {tz}": (pa.timestamp(unit, tz), "2024-12-16 14:30") for unit in ("s", "ms", "us", "ns") for tz in (None, "UTC", "America/New_York", "+02:00")},
    "date32": (pa.date32(), "2024-12-16"), "date64": (pa.date64(), "2024-12-16")}


@pytest.mark.parametrize("kind, first", TIMES.values(), ids=TIMES)
def test_times_of_every_unit(kind, first):
    column = pa.array([pd.Timestamp(first), None], pa.timestamp("us")).cast(kind)
    raw = frame_to_raw(pa.table({"ts": column} | {c: pa.array([1.0, 2.0]) for c in BAR_COLUMNS}))
    expected = pd.Timestamp(first) if getattr(kind, "tz", None) is None else pd.Timestamp(first, tz="UTC")
    assert raw.frame["time"][0] == expected and str(raw.frame["time"].dt.tz or None) != "" and raw.unreadable == [(2, "has no time")]


def test_times_that_cannot_be_are_refused_or_listed():
    def table(times): return pa.table({"ts": times} | {c: pa.array([1.0] * len(times)) for c in BAR_COLUMNS})
    good = [1_734_359_400 + 60 * i for i in range(300)]
    with pytest.raises(DataError, match="ts|time cannot be read as times"): frame_to_raw(table(pa.array([2**62], pa.int64()).cast(pa.timestamp("s"))))
    with pytest.raises(DataError, match="type bool, which is not a time"): frame_to_raw(table(pa.array([True])))
    with pytest.raises(DataError, match="row 1 has a time that cannot be meant"): frame_to_raw(table(pa.array([2**61] * 300, pa.int64()).cast(pa.timestamp("us"))))
    assert frame_to_raw(table(pa.array([*good, None, -5], pa.int64()))).unreadable == [(301, "has time -1, which is no count since 1970"), (302, "has time -5, which is no count since 1970")]
    assert frame_to_raw(table(pa.array([*good, 0.5, np.nan]))).unreadable[0] == (301, "has time 0.5, which is no count since 1970")
    assert frame_to_raw(table(pa.array([*good, 2**64 - 1], pa.uint64()))).unreadable[0][0] == 301


def test_parquet_checksums_are_used_where_there_are_some(tmp_path):
    data = bytearray(parquet_bytes(use_dictionary=False, compression=None, write_page_checksum=True))
    at = data.index(struct.pack("<d", 5000.25))
    data[at] ^= 1
    with pytest.raises(DataError, match="CRC"): read_parquet(written(tmp_path, "x.parquet", bytes(data)))


def test_columns_that_are_no_bars_are_refused(tmp_path):
    frame = bar_frame(10)
    for bad, words in ((frame.assign(close=[[1.0]] * 10), "holds list"), (frame.assign(close=True), "type bool, which is not a number"), (frame.assign(close=[b"x"] * 10), "binary"),
                       (frame.assign(close=["1"] * 9 + ["1,5"]), "row 10 has close '1,5'"), (frame.assign(volume=2**53 + 1), "row 1 has volume '9007199254740993'"),
                       (frame.assign(symbol=1.5), "symbol column holds double"), (frame.assign(symbol=[["a"]] * 10), "symbol column holds list")):
        with pytest.raises(DataError, match=words): frame_to_raw(bad)
        with pytest.raises(DataError, match=words): read_parquet(written(tmp_path, "x.parquet", parquet_bytes(bad)))
    with pytest.raises(DataError, match="has 5,007 columns"): read_parquet(written(tmp_path, "x.parquet", parquet_bytes(pd.concat([frame, pd.DataFrame(np.zeros((10, 5000)), frame.index).add_prefix("c")], axis=1))))
    with pytest.raises(DataError, match="two columns named 'close'"): frame_to_raw(pd.concat([frame, frame[["close"]]], axis=1))
    with pytest.raises(DataError, match="names its own columns"): read_parquet(written(tmp_path, "x.parquet", parquet_bytes()), ["time"])
    with pytest.raises(DataError, match="has no rows"): read_parquet(written(tmp_path, "x.parquet", parquet_bytes(frame[:0])))
    missing = frame.assign(symbol=["ESH5"] * 9 + [None])
    assert frame_to_raw(missing).unreadable == [(10, "has no symbol")]


def test_arrow_that_points_outside_itself_is_refused():
    good = {"ts": pd.date_range("2024-12-16", periods=2, freq="min", tz="UTC")} | {c: [1.0, 2.0] for c in BAR_COLUMNS}
    far = pa.DictionaryArray.from_arrays(pa.array([0, 50_000_000], pa.int32()), pa.array(["ESH25"]), safe=False)
    latin = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(struct.pack("<iii", 0, 1, 2)), pa.py_buffer(b"\xff\xfe")])
    for symbol in (far, latin):
        with pytest.raises(DataError, match="<frame> is damaged"): frame_to_raw(pa.table(good | {"symbol": symbol}))


class OnlyInterchange:
    def __init__(self, frame): self.frame = frame
    def __dataframe__(self, *args, **kwargs): return self.frame.__dataframe__(*args, **kwargs)


def test_frames_of_every_library_are_the_same():
    frame = bar_frame()
    flat = frame.reset_index()
    table = pa.Table.from_pandas(flat)
    lazy = pl.from_arrow(table).lazy()
    like = {"pandas": frame, "pandas flat": flat, "arrow": table, "batch": table.to_batches()[0], "reader": table.to_reader(), "polars": pl.from_arrow(table),
            "polars categorical": pl.from_arrow(table).with_columns(pl.col("symbol").cast(pl.String).cast(pl.Categorical)), "duckdb": duckdb.from_df(flat),
            "interchange": OnlyInterchange(table)}
    expected = read_from(frame_to_raw(table))
    for name, other in like.items():
        raw = frame_to_raw(other)
        assert str(raw.path) == "<frame>" and raw.source == "frame", name
        pd.testing.assert_frame_equal(read_from(raw), expected, obj=name)
    with pytest.raises(DataError, match="LazyFrame is neither a path nor a frame.*collect"): frame_to_raw(lazy)
    for other in (None, 5, {"open": [1]}, frame["close"], np.zeros(3)):
        with pytest.raises(DataError, match="neither a path nor a frame"): frame_to_raw(other)


def read_from(raw): return raw.frame.assign(symbol=raw.frame["symbol"].astype("str"), time=raw.frame["time"].dt.as_unit("us").dt.tz_convert("UTC"))[["time", "symbol", *BAR_COLUMNS, "line"]]


def test_the_book_s_own_frame_is_known():
    frame = bar_frame(10)
    bars = frame[BAR_COLUMNS].set_axis(make_index(np.repeat(["ESH25", "ESM25"], 5), frame.index))
    raw = frame_to_raw(bars)
    assert raw.source == "futures_nb" and raw.frame["symbol"].tolist() == ["ESH25"] * 5 + ["ESM25"] * 5 and (pd.DatetimeIndex(raw.frame["time"]) == frame.index).all()
    assert frame_to_raw(frame.rename_axis("Time")).frame["time"].dt.tz is not None
    assert frame_to_raw(frame.rename_axis(None)).frame["time"].dt.tz is not None


# Whatever is cut or bent: an error of ours or a valid Raw

SEEDS = {
    "x.dbn": (read_dbn, [dbn_bytes(dbn_rows(), version=v) for v in (1, 2, 3)]),
    "ESH25-CME.scid": (read_scid, [scid_bytes(scid_rows())]),
    "20131006_trade.zip": (read_lean, [zip_bytes()]),
    "x.parquet": (read_parquet, [parquet_bytes(), parquet_bytes(compression=None), parquet_bytes(use_dictionary=False, compression="zstd"), parquet_bytes(write_page_checksum=True)]),
}


def zst_seeds(data_dir): return [path.read_bytes() for path in sorted((data_dir / "dbn_test").glob("*ohlcv*.zst"))]


def valid_or_ours(read, path):
    try: raw = read(path)
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return None
    assert isinstance(raw, Raw) and len(raw.frame) + len(raw.unreadable) > 0 and {"time", "line", *BAR_COLUMNS} <= set(raw.frame)
    assert all(raw.frame[c].dtype == np.float64 for c in BAR_COLUMNS) and raw.frame["line"].is_monotonic_increasing
    return raw


@pytest.mark.parametrize("name", [*SEEDS, "x.dbn.zst"])
def test_a_cut_file_is_never_a_short_frame(name, tmp_path, data_dir):
    """At 60 random places and near both ends. Files of fixed records may be cut between two; there the first record is left or a header."""
    read, seeds = SEEDS.get(name) or (read_dbn, zst_seeds(data_dir))
    chance = random.Random(0)
    for data in seeds:
        places = {*range(9), *(len(data) - k for k in range(1, 9)), *(chance.randrange(len(data)) for _ in range(60))}
        for cut in sorted(places):
            raw = valid_or_ours(read, written(tmp_path, name, data[:cut]))
            if raw is None: continue
            size = {"x.dbn": 56, "ESH25-CME.scid": 40}.get(name)
            assert size and (len(data) - cut) % size == 0, f"{name} cut at {cut} of {len(data)} passed for {len(raw.frame)} rows"


def test_real_dbn_cut_anywhere_is_refused(dbn_files, tmp_path):
    data, chance = dbn_files[0].read_bytes(), random.Random(1)
    for cut in [chance.randrange(1, len(data)) for _ in range(60)]:
        with pytest.raises(DataError, match="cut|not a DBN file"): read_dbn(written(tmp_path, "x.dbn.zst", data[:cut]))


@st.composite
def bent(draw, seeds):
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        if not data: break
        at = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()): at = min(at, len(data) - 1 - at) if draw(st.booleans()) else max(at, len(data) - 1 - at)   # the ends hold the structure
        kind, piece = draw(st.sampled_from(["set", "large", "cut", "insert", "end"])), draw(st.binary(min_size=1, max_size=9))
        if kind == "set": data[at:at + len(piece)] = piece
        elif kind == "large": data[at:at + 4] = b"\xff\xff\xff\x7f"
        elif kind == "cut": del data[at:at + 7 * len(piece)]
        elif kind == "insert": data[at:at] = piece
        else: del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", [*SEEDS, "x.dbn.zst"])
def test_fuzz(name, tmp_path_factory, data_dir):
    read, seeds = SEEDS.get(name) or (read_dbn, zst_seeds(data_dir))
    path = tmp_path_factory.mktemp("fuzz") / name

    @settings(max_examples=800, deadline=2000, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(bent(seeds))
    def law(data):
        path.write_bytes(data)
        valid_or_ours(read, path)
    law()


def test_a_wrong_length_does_not_end_the_process(tmp_path):
    """databento 0.87 asks for 4 GiB for the first of these, and aborts where there are not so many; the last it reads as 26 rows."""
    data = dbn_bytes(dbn_rows())
    for bad in (data[:4] + b"\xff\xff\xff\xff" + data[8:], data[:4] + struct.pack("<I", 20) + data[8:28], data[:4] + struct.pack("<I", len(data) // 2) + data[8:]):
        with pytest.raises(DataError, match="cut or damaged|is damaged"): read_dbn(written(tmp_path, "x.dbn", bad))


# The contract with read_bars

def test_presets_state_what_read_bars_needs():
    for name, preset in FORMAT_PRESETS.items():
        assert set(preset) == {"tz", "stamp", "adjusted", "suffixes", "read", "source"} and callable(preset["read"]) and isinstance(preset["suffixes"], tuple), name
        assert preset["stamp"] in ("start", "end", None)


@pytest.mark.parametrize("read", [p["read"] for p in FORMAT_PRESETS.values()], ids=FORMAT_PRESETS)
def test_missing_empty_and_foreign_files(read, tmp_path):
    for data in (b"", b"x", b"time,open,high,low,close,volume\n" * 20, bytes(500)):
        with pytest.raises(DataError): read(written(tmp_path, "x.bin", data))
    with pytest.raises(DataError): read(Path(tmp_path / "no.such.file"))
    with pytest.raises(DataError): read(tmp_path)
