"""The store against real data, other readers, killed writers, two writers at once, and damage."""
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import futures_nb as fnb
import futures_nb.store as store_module
from futures_nb.schema import DataError, make_index
from store_writer import states

SEED = 11


def same(a, b): pd.testing.assert_frame_equal(a, b, check_exact=True)


def by_polars(path):
    """`{contract: (rows, sum of closes, sum of volumes)}` as polars sees the files, knowing nothing of the manifest."""
    frame = pl.scan_parquet(f"{path}/**/*.parquet", hive_partitioning=True).group_by("contract").agg(pl.len(), pl.col("close").sum(), pl.col("volume").sum()).collect()
    return {row[0]: row[1:] for row in frame.iter_rows()}


def by_duckdb(path):
    rows = duckdb.sql(f"select contract, count(*), sum(close), sum(volume) from read_parquet('{path}/**/*.parquet', hive_partitioning=true) group by contract").fetchall()
    return {row[0]: row[1:] for row in rows}


def by_pandas(frame):
    return {name: (len(rows), rows["close"].sum(), rows["volume"].sum()) for name, rows in frame.groupby("contract")}


def agree(a, b):
    assert a.keys() == b.keys()
    for name in a: np.testing.assert_allclose(a[name], b[name], rtol=1e-12, err_msg=name)


class Writer:
    """A process with everything imported that writes in children of its own."""

    def __init__(self):
        env = dict(os.environ, OMP_NUM_THREADS="1")
        script = str(Path(__file__).with_name("store_writer.py"))
        self.process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout.readline() == "ready\n"

    def start(self, **told):
        self.process.stdin.write(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in told.items()}) + "\n")
        self.process.stdin.flush()

    def ended(self): return self.process.stdout.readline().strip()

    def run(self, **told):
        self.start(**told)
        return self.ended()


@pytest.fixture(scope="module")
def writer():
    one = Writer()
    yield one
    one.process.stdin.close()
    assert one.process.wait(timeout=10) == 0


@pytest.fixture(scope="module")
def old_new():
    old, new = states()
    return old, new, [by_pandas(f) for f in (old, new)]


@pytest.fixture(scope="module")
def old_store(tmp_path_factory, old_new):
    path = tmp_path_factory.mktemp("old") / "store"
    fnb.Store(path).write(old_new[0])
    return path


def judge(path, old_new, with_duckdb=True):
    """What a killed write left, `"old"` or `"new"`: by our reader over all contracts, by pattern in each. Then the next write recovers."""
    old, new, sums = old_new
    store = fnb.Store(path)
    frame = store.read()
    state = "new" if len(frame) == len(new) else "old"
    same(frame, new if state == "new" else old)
    report = store.verify()
    assert report.is_ok and report.rows == len(frame), report
    assert frame.attrs.get("read") == (new.attrs["read"] if state == "new" else None)
    for seen in [by_polars(path), by_duckdb(path)] if with_duckdb else [by_polars(path)]:
        assert set(sums[0]) <= set(seen) <= set(sums[1])
        for name, found in seen.items():
            fits = [s[name] for s in sums if name in s and np.allclose(found, s[name], rtol=1e-12)]
            assert fits, f"{name} is neither old nor new: {found}"
            if state == "old": assert fits == [sums[0][name]], "a reader by pattern saw what was not committed"
    store.write(new, on_conflict="new")
    same(store.read(), new)
    agree(by_polars(path), sums[1])
    report = store.verify()
    assert report.is_ok and not report.stray and not report.unfinished, report
    return state


@pytest.fixture
def quick_path(tmp_path):
    """A folder in memory where there is one: a kill leaves the same files there, and 80 writes need not wait for the disk."""
    if not os.access("/dev/shm", os.W_OK): yield tmp_path; return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder: yield Path(folder)


def fresh(old_store, tmp_path):
    path = tmp_path / "store"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(old_store, path)
    return path


def kill_at_random(writer, old_store, old_new, tmp_path, n):
    rng, states_seen, ends, whole = np.random.default_rng(SEED), [], [], []
    for _ in range(5):   # how long a write takes here and now
        path = fresh(old_store, tmp_path)
        begin = time.perf_counter()
        assert writer.run(path=path) == "exit 0"
        whole.append(time.perf_counter() - begin)
    span = float(np.median(whole))
    for _ in range(n):
        path = fresh(old_store, tmp_path)
        ends.append(writer.run(path=path, delay=rng.random() * span))
        states_seen.append(judge(path, old_new))
    return states_seen, ends


def test_killed_at_50_random_moments(writer, old_store, old_new, quick_path):
    seen, ends = kill_at_random(writer, old_store, old_new, quick_path, 50)
    assert ends.count("killed") >= 30 and set(ends) <= {"killed", "exit 0"}, ends
    assert {"old", "new"} == set(seen), seen


@pytest.mark.slow
def test_killed_at_500_random_moments(writer, old_store, old_new, quick_path):
    seen, ends = kill_at_random(writer, old_store, old_new, quick_path, 500)
    assert ends.count("killed") >= 300 and {"old", "new"} == set(seen)


def test_killed_at_every_file_operation(writer, old_store, old_new, quick_path):
    """In place of every rename, fsync, mkdir and unlink of a write in turn, until one write needs no more of them."""
    seen, step, end = [], 0, "killed"
    while end == "killed":
        path = fresh(old_store, quick_path)
        end = writer.run(path=path, step=step)
        seen.append(judge(path, old_new, with_duckdb=step % 4 == 0))
        step += 1
    assert end == "exit 0" and step > 25
    change = seen.index("new")
    assert change > 8 and set(seen[:change]) == {"old"} and set(seen[change:]) == {"new"}   # one moment of commit


def test_killed_first_write_leaves_no_store_or_all(writer, old_new, quick_path):
    for step in range(0, 60, 4):
        path = quick_path / f"s{step}"
        writer.run(path=path, step=step)
        store = fnb.Store(path)   # what a killed first write left is no folder of other things
        if (path / "manifest.json").exists(): same(store.read(), old_new[1])
        else:
            with pytest.raises(DataError, match="no store"): store.read()
            assert store.contracts() == [] and not list(path.glob("**/*.parquet"))
        store.write(old_new[1])
        same(store.read(), old_new[1])
        assert not store.verify().stray


def test_a_reader_beside_a_writer_sees_whole_commits(writer, old_new, tmp_path):
    path, new = tmp_path / "store", old_new[1]
    fnb.Store(path).write(new)
    first, second = new["close"].to_numpy(), (new + 1)["close"].to_numpy()
    writer.start(path=path, loop=30)
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (writer.ended(), done.set()))
    waiting.start()
    seen = []
    while not done.is_set() or not seen:
        close = fnb.Store(path).read(columns="close", threads=False)["close"].to_numpy()
        kind = [np.array_equal(close, known) for known in (first, second)]
        assert any(kind), "a read mixed two writes"
        seen.append(kind[1])
    waiting.join()
    assert len(seen) > 10 and {False, True} == set(seen)
    assert fnb.Store(path).verify().rows == len(new)


def test_a_reader_begins_again_when_a_writer_has_moved_on(old_store, old_new, tmp_path, monkeypatch):
    """A whole write happens after the reader took the manifest and before it opens the first part."""
    path, new, opened = fresh(old_store, tmp_path), old_new[1], []
    real = store_module.open_part
    def late(*args):
        opened.append(args)
        if len(opened) == 1: fnb.Store(path).write(new, on_conflict="new")
        return real(*args)
    monkeypatch.setattr(store_module, "open_part", late)
    same(fnb.Store(path).read(), new)


def test_two_processes_append_at_once(old_new, tmp_path):
    path, new = tmp_path / "store", old_new[1]
    program = ("import sys, futures_nb as fnb; from store_writer import states; new = states()[1]; k = int(sys.argv[2]);"
               "names = list(dict.fromkeys(new.index.get_level_values('contract')))[k::2];"
               "[fnb.Store(sys.argv[1]).write(new[new.index.get_level_values('contract') == name], wait=60) for name in names]")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""), str(Path(fnb.__file__).parents[1])]))
    both = [subprocess.Popen([sys.executable, "-c", program, str(path), str(k)], env=env) for k in (0, 1)]
    assert [p.wait(timeout=120) for p in both] == [0, 0]
    same(fnb.Store(path).read(), new)
    assert json.loads((path / "manifest.json").read_text())["n_writes"] == len(fnb.Store(path).contracts())


def test_second_writer_is_told_who_holds_the_lock(old_store, tmp_path, old_new):
    path = fresh(old_store, tmp_path)
    with open(path / "lock", "w") as held:
        held.write("process 1234 since yesterday"); held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"is being written by process 1234 since yesterday; try again later, or pass wait="):
            fnb.Store(path).write(old_new[1], wait=0.1)
        same(fnb.Store(path).read(), old_new[0])
        assert fnb.Store(path).verify().writing
    fnb.Store(path).write(old_new[1], on_conflict="new")   # the file stays, the lock does not


@pytest.mark.parametrize("bars", [lambda: fnb.demo_bars("2018-03-01", "2018-03-29"), lambda: fnb.synth_bars(n_contracts=6, n_days=4, overlap=2, symbol="6E", level=1.08)],
                         ids=["demo", "synth"])
def test_round_trip_and_other_readers(bars, tmp_path):
    bars, store = bars(), fnb.Store(tmp_path / "store")
    store.write(bars)
    got = store.read()
    same(got, bars)
    assert [level.dtype for level in got.index.levels] == [level.dtype for level in bars.index.levels]
    for key in ("read", "real", "simulated"): assert got.attrs.get(key) == bars.attrs.get(key)
    assert store._repr_html_().count("<tr") == 1 + len(store.contracts()) and f"{len(bars):,} rows" in repr(store)
    agree(by_polars(store.path), by_pandas(bars))
    agree(by_duckdb(store.path), by_pandas(bars))
    assert pl.scan_parquet(store.path / "bars", hive_partitioning=True).select(pl.len()).collect().item() == len(bars)   # the folder itself
    assert pl.read_parquet(f"{store.path}/**/*.parquet").schema["ts"] == pl.Datetime("us", "UTC")


def test_real_gold_comes_back_bit_for_bit(data_dir, tmp_path, capsys):
    bars = fnb.read_bars(data_dir / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet", stamp="start", on_bad="drop")
    store = fnb.Store(tmp_path / "mgc")
    done = store.write(bars)
    assert (done.new, len(done.contracts), len(bars)) == (1_776_387, 32, 1_776_387)
    for threads in (True, False):
        got = store.read(threads=threads)
        same(got, bars)
        assert all(np.array_equal(got[c].to_numpy().view("u8"), bars[c].to_numpy().view("u8")) for c in bars)
    assert got.attrs["read"] == json.loads(json.dumps(bars.attrs["read"]))
    assert store.contracts() == list(dict.fromkeys(bars.index.get_level_values("contract")))
    again = store.write(bars)
    assert (again.new, again.same, again.contracts) == (0, len(bars), ())
    agree(by_polars(store.path), by_pandas(bars))
    agree(by_duckdb(store.path), by_pandas(bars))
    ts = bars.index.get_level_values("ts")
    month = store.read(start="2022-03", end="2022-03")
    same(month, bars[(ts >= "2022-03-01") & (ts < "2022-04-01")])
    assert month.attrs["store"]["bytes"] < 0.25 * month.attrs["store"]["bytes_there"]


NAMES = ["ESH24", "NQH24", "ESM24", "6EU24", "ES"]   # two of one month: the order of arrival stays

@st.composite
def frames(draw):
    """A frame of any shape and dtypes the store takes, contracts by expiry."""
    names = sorted(draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)), key=fnb.contract_month)
    times = [sorted(draw(st.sets(st.integers(-10**15, 4 * 10**15), min_size=1, max_size=12))) for _ in names]
    n = sum(map(len, times))
    index = make_index(np.repeat(np.array(names, object), [len(t) for t in times]), pd.to_datetime(np.concatenate(times), unit="us", utc=True))
    bits = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, 2**64, n, dtype=np.uint64)
    special = np.array([2**63, 0x7FF8000000000001, 0xFFF8000000000ABC, 0x7FF0000000000000], np.uint64)   # -0.0, two NaN, infinity
    some = np.where(bits % 3 == 0, special[bits % 4], bits)
    kinds = {"f8": lambda: some.view("f8"), "f4": lambda: (some >> 32).astype("u4").view("f4"), "i8": lambda: bits.view("i8"), "u1": lambda: bits.astype("u1"), "u8": lambda: bits,
             "b1": lambda: bits % 3 == 0, "str": lambda: pd.array([None if b % 5 == 0 else f"é{b % 97}" for b in bits], dtype="str"),
             "date": lambda: pd.array((bits % 2**50).astype("M8[us]"), dtype="datetime64[us]"), "Int32": lambda: pd.array([None if b % 4 == 0 else int(b % 1000) for b in bits], dtype="Int32"),
             "zone": lambda: pd.DatetimeIndex((bits % 2**50).astype("M8[us]"), tz="UTC").tz_convert("America/Chicago").as_unit("ns")}
    columns = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=5))
    with np.errstate(invalid="ignore"): return pd.DataFrame({f"{kind} {i}.x": kinds[kind]() for i, kind in enumerate(columns)}, index)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(frame=frames(), cuts=st.lists(st.integers(0, 2**20 - 1), max_size=3), data=st.data())
def test_any_frame_in_any_pieces_comes_back(frame, cuts, data, quick_path):
    store = fnb.Store(Path(tempfile.mkdtemp(dir=quick_path)) / "store")
    for mask in cuts:   # some rows, perhaps none
        rows = (mask >> (np.arange(len(frame)) % 20)) % 2 == 1
        store.write(frame[rows])
    store.write(frame)
    got, names = store.read(), store.contracts()
    assert sorted(names) == sorted(set(frame.index.get_level_values("contract"))) and [fnb.contract_month(n) for n in names] == sorted(map(fnb.contract_month, names))
    same(got.loc[frame.index] if list(got.index) != list(frame.index) else got, frame)
    for c in frame:
        if isinstance(frame[c].dtype, np.dtype) and frame[c].dtype.kind == "f" and list(got.index) == list(frame.index):
            assert got[c].to_numpy().tobytes() == frame[c].to_numpy().tobytes()   # the payload of each NaN too
    assert store.write(frame).contracts == () and store.verify().is_ok
    some = data.draw(st.lists(st.sampled_from(list(frame.columns)), unique=True))
    a, b = sorted(data.draw(st.tuples(st.sampled_from(list(frame.index)), st.sampled_from(list(frame.index)))), key=lambda key: key[1])
    ts = got.index.get_level_values("ts")
    same(store.read(names[::-1], a[1], b[1], some), got.loc[(ts >= a[1]) & (ts <= b[1]), some])


def test_odd_names_stay_in_the_folder(tmp_path):
    for name in ("../../up", "a/b c", "..", "=%2F?"): fnb.add_instrument(fnb.Instrument(name, 0.25, 50))
    try:
        stamps = pd.to_datetime(["2025-01-02", "2025-01-03"], utc=True)
        frame = pd.concat([pd.DataFrame({"close": [1.0, k], "volume": [1.0, 2.0]}, make_index(name, stamps)) for k, name in enumerate(("../../up", "a/b c", "..", "=%2F?"))])
        store = fnb.Store(tmp_path / "deep" / "er" / "store")
        store.write(frame)
        same(store.read(), frame)
        assert [p.name for p in tmp_path.iterdir()] == ["deep"] and [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["store"]
        agree(by_polars(store.path), by_pandas(frame))
        agree(by_duckdb(store.path), by_pandas(frame))
    finally:
        from futures_nb.schema import INSTRUMENTS
        for name in ("../../up", "a/b c", "..", "=%2F?"): del INSTRUMENTS[name]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small store, its frame, and the bytes of its one part and its manifest."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"close": rng.normal(size=40).round(2), "n": rng.integers(0, 99, 40), "note": pd.array(["a", None] * 20, dtype="str")},
                         make_index("ESH25", pd.to_datetime(np.arange(40) * 60_000_000, unit="us", utc=True)))
    path = tmp_path_factory.mktemp("small") / "store"
    fnb.Store(path).write(frame)
    return path, frame, {name: (path / name).read_bytes() for name in ("bars/root=ES/contract=ESH25/bars.parquet", "manifest.json")}


@pytest.mark.parametrize("which", [0, 1], ids=["part", "manifest"])
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_is_an_error_or_harmless(small, which, data):
    """Flipped bits, cuts, and pieces that were repeated: `read` gives the frame or a DataError, `verify` always a report."""
    path, frame, files = small
    name = list(files)[which]
    whole = bytearray(files[name])
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "repeat", "byte"]))
    if kind == "flip": whole[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "byte": whole[at] = data.draw(st.sampled_from(list(b'{}[]",:-0.9e\x00\xff')))
    elif kind == "cut": del whole[at:]
    else: whole[at:at] = whole[at:at + 40]
    (path / name).write_bytes(whole)
    try:
        got = fnb.Store(path).read(threads=False)
        same(got, frame)
    except DataError: assert bytes(whole) != files[name]
    finally:
        report = fnb.Store(path).verify()
        (path / name).write_bytes(files[name])
    assert which == 1 or report.is_ok == (bytes(whole) == files[name])
    assert repr(report) and report._repr_html_()


@pytest.mark.parametrize("change, message", [
    (lambda m: m | {"format": 2}, "newer than 1; update futures_nb"),
    (lambda m: m | {"format": "1"}, "no format"),
    (lambda m: m | {"parts": [m["parts"][0] | {"path": "../../other.parquet"}]}, "lies at '../../other.parquet' and not at"),
    (lambda m: m | {"parts": [m["parts"][0] | {"id": "../" + m["parts"][0]["id"][3:]}]}, "has a hash that is none"),
    (lambda m: m | {"parts": m["parts"] * 2}, "names a part twice"),
    (lambda m: m | {"gone": ["bars/../../x/bars.parquet"]}, "would remove"),
    (lambda m: m | {"columns": {"close": "float32"} | {k: v for k, v in m["columns"].items() if k != "close"}}, "the manifest says"),
    (lambda m: m | {"columns": {"close": "no dtype"}}, "has a column without a dtype"),
    (lambda m: [m], "no format"),
])
def test_manifest_that_was_tampered_with_is_refused(small, change, message):
    path, _, files = small
    (path / "manifest.json").write_text(json.dumps(change(json.loads(files["manifest.json"]))))
    try:
        for call in (fnb.Store(path).read, fnb.Store(path).contracts):
            if call.__name__ == "_contracts" and "manifest says" in message: continue   # no part is opened for the names
            with pytest.raises(DataError, match=message): call()
        assert not fnb.Store(path).verify().is_ok
    finally: (path / "manifest.json").write_bytes(files["manifest.json"])


def test_frames_that_cannot_be_kept_are_refused(tmp_path):
    frame = pd.DataFrame({"close": [1.0, 2.0]}, make_index("ESH25", pd.to_datetime(["2025-01-02", "2025-01-03"], utc=True)))
    nanos = frame.set_axis(pd.MultiIndex.from_arrays([["ESH25"] * 2, pd.to_datetime([1, 1001], utc=True)], names=["contract", "ts"]))
    for wrong, message in [(frame.iloc[::-1], "repeated or earlier"), (frame.rename(columns={"close": "ts"}), "a column is named 'ts'"), (frame.rename(columns={"close": 7}), "a column is named 7"),
                           (frame[[]], "at least one column"), (frame["close"], "must be a DataFrame"), (nanos, "finer than a microsecond"), (frame.astype(complex), "cannot be restored"),
                           (frame.astype(object).assign(close=[{"a": 1}, 2]), "cannot be restored"), (pd.concat([frame, frame], axis=1), "two columns are named 'close'"),
                           (frame.astype("float16"), "cannot be restored")]:
        with pytest.raises(DataError, match=message): fnb.Store(tmp_path / "no").write(wrong)
    bad = frame.copy()
    bad.attrs["read"] = {"when": pd.Timestamp("2025-01-01")}
    with pytest.raises(DataError, match="not all of it JSON"): fnb.Store(tmp_path / "no").write(bad)
    assert not list((tmp_path / "no").glob("**/*.parquet"))
    assert fnb.Store(tmp_path / "empty").write(frame.iloc[:0]).new == 0 and not (tmp_path / "empty").exists()
