"""The site: what the converter makes of each kind of cell, and that no page asks another host for anything."""
import ast
import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PNG = base64.b64encode(b"\x89PNG not a picture").decode()


@pytest.fixture(scope="module")
def convert():
    sys.path.insert(0, str(ROOT / "docs"))
    import convert
    yield convert
    sys.path.remove(str(ROOT / "docs"))


def cell(source, outputs=(), kind="code"):
    made = {"cell_type": kind, "source": source, "metadata": {}, "id": f"c{abs(hash(source)) % 10**8}"}
    return made | {"outputs": list(outputs), "execution_count": 1} if kind == "code" else made


@pytest.fixture
def page_of(convert, tmp_path):
    def page_of(*cells, name="01_data/02_x.ipynb"):
        path = tmp_path / "x.ipynb"
        path.write_text(json.dumps({"cells": [cell("# The title\n> One sentence.\n\nThe question.", kind="markdown"), *cells]}))
        page = convert.page_name(name)
        convert.convert(path, path, page, tmp_path)
        return (tmp_path / page).read_text()
    return page_of


def stream(words, name="stdout"):
    return {"output_type": "stream", "name": name, "text": words}


def display(**data):
    return {"output_type": "display_data", "data": {key.replace("_", "/"): value for key, value in data.items()}, "metadata": {}}


def test_title_subtitle_and_the_prose_after_them(page_of):
    page = page_of(cell("#| default_exp x"))
    assert page.startswith("# The title\n\nOne sentence.\n{ .subtitle }") and "futures_nb/x.py" in page and "The question." in page


def test_directives(page_of):
    page = page_of(cell("#| hide\nsecret = 1"), cell("#| include: false\nunseen = 1", [stream("unseen")]), cell("#| echo: false\nquiet = 1", [stream("heard")]),
                   cell("#| output: false\nloud = 1", [stream("unheard")]), cell("#| slow\nlong = 1"),
                   cell("#| code-fold: true\n#| code-summary: \"Look inside\"\ninside = 1"))
    for word in ("secret", "unseen", "quiet", "unheard", "#|"): assert word not in page
    for word in ("heard", "loud = 1", "long = 1", '??? source "Look inside"', "    inside = 1"): assert word in page


def test_picture_is_a_file_with_a_caption(page_of, tmp_path):
    page = page_of(cell("#| fig-cap: What to see\nax.plot()", [display(image_png=PNG, text_plain="<Figure>")]), cell('ax.set(title="Seen")', [display(image_png=PNG)]))
    assert "![What to see](x-1.png){ .plot }" in page and "<figcaption>What to see</figcaption>" in page and "![Seen](x-2.png)" in page
    assert (tmp_path / "01_data" / "x-1.png").read_bytes().startswith(b"\x89PNG") and "<Figure>" not in page


def test_picture_for_a_fine_screen_is_shown_at_its_size(convert):
    plt = pytest.importorskip("matplotlib.pyplot")
    for dpi in (72, 100, 200):
        figure, png = plt.figure(figsize=(3, 1)), io.BytesIO()
        figure.savefig(png, dpi=dpi)
        plt.close(figure)
        assert convert.css_width(png.getvalue()) == min(300, 3 * dpi)
    assert convert.css_width(b"\x89PNG torn") == 0


def test_outputs(page_of):
    page = page_of(cell("a", [stream("\x1b[31mred\x1b[0m\n"), stream("10 %\r90 %\rdone\n", "stderr")]),
                   cell("b", [display(text_html='<style>x</style><table border="1" class="dataframe">\n\n<td>7</td></table>', text_plain="7")]),
                   cell("c", [display(text_markdown="* one")]))
    for word in ("\nred\n", "\ndone\n", '<table class="dataframe">\n<td>7</td></table>', "* one"): assert word in page
    for word in ("\x1b", "90 %", "<style>"): assert word not in page


def test_entry_of_a_function(page_of):
    page = page_of(cell("#| default_exp x"), cell('#| export\nimport numpy as np\n\ndef f(\n    a:int, # Size [contracts]\n    *,\n    b:float|None=None, # Price [points]\n'
                        ') -> dict:         # [USD]\n    """What is made.\n\n    Raises `ValueError` if not.\n    """\n    return {}   # not this\n\ndef _g(): pass'))
    assert "### f { #f .api }" in page and "f(a: int, *, b: float | None = None) -> dict" in page
    assert "| `a` | Size [contracts] |" in page and "| `b` | Price [points] |" in page and "| *returns* | [USD] |" in page
    assert "Raises `ValueError` if not." in page and "### _g" not in page and "not this |" not in page
    assert '??? source "Source in futures_nb/x.py"' in page and "    def _g(): pass" in page and "#| export" not in page


def test_entry_of_a_class(page_of):
    page = page_of(cell('#| export\n@dataclass\nclass Cost:\n    """What a trade costs."""\n    fee: float = 2.25 # [USD]\n    _x: int = 0\n\n'
                        '    @property\n    def all(self):\n        """The sum."""\n\n    def of(self, n):\n        """Of n."""'),
                   cell('#| export\nclass Wrong(ValueError):\n    """It is."""'))
    assert "class Cost(fee: float = 2.25)" in page and "| `fee` | [USD] |" in page and "| `.all`{ #Cost.all } | The sum. |" in page and "| `.of(n)`{ #Cost.of } | Of n. |" in page
    assert "class Wrong(ValueError)" in page and "_x: int" not in page.split("???")[0]


def test_constants_are_shown_and_imports_are_not(page_of):
    page = page_of(cell("#| export\nimport numpy as np"), cell("#| export\nONE = 1 << 20  # exact"))
    assert "import numpy" not in page and "```python\nONE = 1 << 20  # exact\n```" in page


def test_links(convert):
    page = Path("01_data/bars.md")
    for given, wanted in {
        "[`f`](/02_features/vpoc.html#f)": "[`f`](../02_features/vpoc.md#f)",
        "[`futures_nb.vpoc.Fit`](/02_features/vpoc.html#fit)": "[`futures_nb.vpoc.Fit`](../02_features/vpoc.md#Fit)",
        "[`fit()`](/02_features/vpoc.html#fit)": "[`fit()`](../02_features/vpoc.md#fit)",
        "[`Fit.at`](/02_features/vpoc.html#fit.at)": "[`Fit.at`](../02_features/vpoc.md#Fit.at)",
        "[`_g`](/02_features/vpoc.html#_g)": "`_g`",
        "[x](../02_features/02_vpoc.ipynb)": "[x](../02_features/vpoc.md)",
        "[x](04_roll.ipynb#a)": "[x](roll.md#a)",
        "[`first`](https://fastcore.fast.ai/basics.html#first)": "`first`",
        "[x](https://example.org/a.html)": "[x](https://example.org/a.html)",
        "```\n[x](04_roll.ipynb)\n```": "```\n[x](04_roll.ipynb)\n```",
    }.items():
        assert convert.links(given, page) == wanted


def test_markdown_of_notebooks_is_understood(convert):
    markdown = pytest.importorskip("markdown")
    html = markdown.markdown(convert.for_markdown("Three things:\n- one\n  - inner\n- two\n\nAnd:\n| a | b |\n| - | - |\n| 1 | 2 |"), extensions=["tables"])
    assert html.count("<ul>") == 2 and html.count("<li>") == 3 and "<td>1</td>" in html
    assert convert.for_markdown("so\n$$\nx = 1\n$$\n") == "so\n\n$$\nx = 1\n$$\n"
    assert convert.for_markdown("so\n$$x = 1$$\nand\n$$y\n= 2$$\non") == "so\n\n$$x = 1$$\n\nand\n\n$$y\n= 2$$\n\non"
    assert convert.callouts('::: {.callout-note title="Mind"}\nthe gap\n:::') == '!!! note "Mind"\n\n    the gap'
    assert convert.callouts('::: {.callout-tip collapse="true"}\n## Head\nbody\n:::') == '??? tip "Head"\n\n    body'


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    result = subprocess.run([sys.executable, str(ROOT / "docs" / "build.py"), "--out", str(out)], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    return out


def test_every_chapter_is_a_page_and_every_public_name_has_its_anchor(site, convert):
    for path in sorted((ROOT / "nbs").glob("*/[0-9]*.ipynb")):
        page = site / convert.page_name(path.relative_to(ROOT / "nbs")).with_suffix(".html")
        ids = set(re.findall(r'id="([^"]+)"', page.read_text(encoding="utf-8")))
        for cell in convert.read_cells(path):
            ask, source = convert.split_directives(convert.text(cell["source"]))
            if cell["cell_type"] == "code" and ask.keys() & {"export", "exports"}:
                names = [n.name for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name[0] != "_"]
                assert set(names) <= ids, f"{page.name}: no entry of {names}"


def test_no_page_asks_another_host(site):
    loads = re.compile(r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\bsrc\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
                       r"""|<link\b(?![^>]*rel=["']?(?:canonical|license))[^>]*\bhref\s*=\s*["']?(?:https?:)?//[^"'\s>]+""", re.I)
    from_css = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])(?:https?:)?//[^"')\s]+""", re.I)
    asked = [f"{path.name}: {m[0]}" for path in site.rglob("*.html") for m in loads.finditer(path.read_text(encoding="utf-8"))]
    asked += [f"{path.name}: {m[0]}" for path in [*site.rglob("*.html"), *site.rglob("*.css")] for m in from_css.finditer(path.read_text(encoding="utf-8"))]
    assert not asked
    assert loads.search('<script src="https://x/y.js">') and from_css.search("url(//x/y.woff2)") and not loads.search('<a href="https://x">')


def test_every_file_a_page_loads_is_there(site):
    for path in site.rglob("*.html"):
        if path.name == "404.html": continue   # its links are absolute
        source = path.read_text(encoding="utf-8")
        for target in re.findall(r'<(?:script|img|link)\b[^>]*(?:src|href)="([^"#]+)"', source):
            if not target.startswith("data:"): assert (path.parent / target.split("?")[0]).exists(), f"{path.name}: {target}"


@pytest.fixture
def results_of(tmp_path):
    """The page of one made-up benchmark, race.py, of these rows."""
    sys.path.insert(0, str(ROOT / "docs"))
    try: from results import results_page
    finally: sys.path.remove(str(ROOT / "docs"))
    (tmp_path / "results").mkdir()
    (tmp_path / "race.py").write_text('"""A race: ours beside a peer.\n\n    python benchmarks/race.py   # writes\n\nBoth do the same work.\n"""\n')
    def results_of(rows, **told):
        told = {"machine": "a box", "threads": "1", "date": "2026-01-01", "commit": "abc", "versions": {"numpy": "2"}, "rows": rows} | told
        (tmp_path / "results" / "race.json").write_text(json.dumps(told))
        return results_page(tmp_path)
    return results_of


def test_results_have_a_row_for_each_peer_and_a_column_for_each_size(results_of):
    def run(n, kb): return {"files": n, "rows": n * 5000, "kind": "one", "peak_mb": kb, "median_s": {"peer": 2.0 * n, "ours": 0.01234 * n}, "ratio_to_ours": {"peer": 162.1}, "first_call_s": {"ours": 99}}
    page = results_of([run(1, 7), run(2, 8)], load_before=0.5)
    for words in ("## A race\n\nOurs beside a peer.\n", "```sh\npython benchmarks/race.py\n```\n\nBoth do the same work.", "kind: one\n{ .same }",
                  "|  | 5,000 rows | 10,000 rows |\n| :--- | ---: | ---: |\n| ours | 12.3 ms | 24.7 ms |\n| peer | 2 s <small>× 162</small> | 4 s <small>× 162</small> |\n",
                  "| memory, peak | 7 MB | 8 MB |\n| *files* | 1 | 2 |\n", "a box, load 0.5 before, OMP_NUM_THREADS 1, numpy 2, commit abc, 2026-01-01."):
        assert words in page
    assert "99" not in page and "≈ 2" not in page


def test_results_say_which_numbers_are_extrapolated(results_of):
    run = {"rows": 5, "median_s_extrapolated": {"a peer": 2.0, "ours": 0.001}, "ratio_to_ours": {"a peer": 2000.0}, "sample": {"a peer": 12}, "step": {"a peer": 40}, "answers_equal": {"a peer": 1.0}}
    page = results_of([run, run | {"rows": 50, "step": {"a peer": 400}}])
    assert "| ours | 1 ms | 1 ms |\n| a peer | ≈ 2 s <small>× 2,000</small> | ≈ 2 s" in page
    assert "≈ extrapolated from a sample to all windows, size by size. a peer: 12 of them, one in 40, 400." in page and "answers equal, a peer: 100\u00a0%" in page


def test_results_of_steps_of_repeated_sizes_and_of_runs_inside_a_run(results_of):
    page = results_of([{"mode": "parquet", "rows": 9, "with_profile": [9, 8], "seconds": {"read_bars": 2.5, "roll": 0.08}, "seconds_in_all": 2.6, "peak_gb": 0.79}])
    assert "| mode | parquet |" in page and "| read_bars | 2.5 s |\n| roll | 80 ms |\n| in all | 2.6 s |\n| memory, peak | 0.79 GB |\n| *rows* | 9 |\n| *with profile* | 9<br>8 |" in page
    page = results_of([{"rows": n, "threads": t, "median_s": {"ours": 1}} for t in ("1", "all") for n in (5, 6)])
    assert page.count("|  | 5 rows | 6 rows |") == 2 and "threads: 1\n" in page and "threads: all\n" in page
    page = results_of([{"rows": 7, "peak_memory": [{"window": w, "peak_mb": w + 1, "seconds": 0.5} for w in (1, 10)]}])
    assert "Peak memory, 7 rows:" in page and "|  | window 1 | window 10 |" in page and "| memory, peak | 2 MB | 11 MB |" in page


def test_results_of_the_benchmarks_lose_no_number_of_a_peer():
    sys.path.insert(0, str(ROOT / "docs"))
    try: from results import CHAPTERS, results_page, seconds
    finally: sys.path.remove(str(ROOT / "docs"))
    page = results_page()
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        if path.stem in CHAPTERS: continue                   # a chapter draws it
        for row in json.loads(path.read_text())["rows"]:
            for key in ("median_s", "median_s_extrapolated", "seconds"):
                for name, s in (row.get(key) or {}).items(): assert re.search(rf"^\| {re.escape(name)} \|.*{re.escape(seconds(s))}", page, re.M), f"{path.name}: {name} of {s} s"
