"""read_vix on the real file and on damaged copies of it: each refusal names the file, the row and the cause, and the intact file still reads."""
import pytest

import futures_nb as fnb


@pytest.fixture
def real(data_dir):
    return data_dir / "vix" / "vix-daily.csv"


@pytest.fixture
def damaged(real, tmp_path):
    def make(change):
        path = tmp_path / "damaged.csv"
        path.write_text(change(real.read_text()))
        return path
    return make


def test_the_real_file(real):
    vix = fnb.read_vix(real)
    assert len(vix) == 9235 and list(vix.columns) == ["vix_open", "vix_high", "vix_low", "vix_close"]
    assert vix.attrs["vix"]["n_outside_range"] == 47 and vix.attrs["vix"]["n_dropped"] == 0
    clock = vix.index.tz_convert("America/Chicago").strftime("%H:%M").value_counts()
    assert set(clock.index) == {"15:15", "12:15"} and clock["12:15"] < 0.02 * len(vix)


def _line(text, k, new):
    lines = text.splitlines(keepends=True)
    lines[k - 1] = new(lines[k - 1])
    return "".join(lines)


@pytest.mark.parametrize("change, words", [
    (lambda t: "", ["is empty"]),
    (lambda t: t.splitlines()[0] + "\n", ["is empty"]),
    (lambda t: t[:t.rstrip().rindex(",")], ["row 9236", "4 cells"]),                          # cut in mid-line
    (lambda t: _line(t, 500, lambda x: x.replace(",", ",?", 1)), ["row 500", "OPEN"]),
    (lambda t: _line(t, 500, lambda x: "yesterday" + x[10:]), ["row 500", "date"]),
    (lambda t: _line(t, 500, lambda x: x + x), ["row 501", "repeats"]),
    (lambda t: _line(t, 500, lambda x: x.rsplit(",", 1)[0] + ",-3\n"), ["row 500", "CLOSE", "positive"]),
    (lambda t: t.replace("CLOSE", "LAST", 1), ["no column CLOSE"]),
])
def test_damage_is_named(change, words, damaged, real):
    path = damaged(change)
    with pytest.raises(fnb.DataError) as error:
        fnb.read_vix(path)
    assert all(w in str(error.value) for w in ["damaged.csv", *words]), str(error.value)
    assert "\n" not in str(error.value) and len(fnb.read_vix(real)) == 9235


def test_a_missing_file_and_a_file_that_ends_too_early(real, damaged, tmp_path, es_file):
    with pytest.raises(fnb.DataError, match="there is no file"):
        fnb.read_vix(tmp_path / "nothing.csv")
    bars = fnb.read_bars(es_file)
    old = fnb.read_vix(damaged(lambda t: "".join(x for x in t.splitlines(keepends=True) if x < "2024-12-01" or x.startswith("DATE"))))
    with pytest.raises(fnb.DataError, match="ends at 2024-11-29 18:15 UTC, before the bars begin at 2024-12-12 05:01 UTC"):
        fnb.make_features(bars, old, progress=False)
    assert fnb.join_asof(bars, fnb.read_vix(real))["vix_close"].notna().all()


def test_columns_in_another_order_newest_first_and_lower_case(real, damaged):
    def turn(text):
        rows = [line.split(",") for line in text.split()]
        return "\n".join(",".join(r[::-1]).lower() for r in [rows[0], *rows[:0:-1]])
    there, here = fnb.read_vix(real), fnb.read_vix(damaged(turn))
    assert here.index.equals(there.index) and (here[there.columns] == there).all(axis=None)
