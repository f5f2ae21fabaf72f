"""The book as a whole: order of reading, names, words and outputs that every chapter keeps to."""
import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import futures_nb as fnb

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT / "nbs", ROOT / "futures_nb"
BY_HAND = {"__init__", "all", "_modidx"}
EXPORTS = re.compile(r"^\s*#\|\s*exports?\s*$", re.M)
DEFAULT_EXP = re.compile(r"^#\|\s*default_exp\s+(\S+)", re.M)
NOTEBOOKS = sorted(p.relative_to(NBS).as_posix() for p in NBS.rglob("*.ipynb") if not any(part[0] in "._" for part in p.relative_to(NBS).parts))
CHAPTERS = [name for name in NOTEBOOKS if re.match(r"\d", name)]


def sidebar():
    contents = yaml.safe_load((NBS / "sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    return [name for item in contents for name in (item["contents"] if isinstance(item, dict) else [item])]


def cells(name):
    return json.loads((NBS / name).read_text(encoding="utf-8"))["cells"]


def code(name):
    return ["".join(cell["source"]) for cell in cells(name) if cell["cell_type"] == "code"]


def parsed(source):
    return ast.parse("\n".join("" if re.match(r"\s*[%!]", line) else line for line in source.splitlines()))


def module_of(name):
    return next((match[1] for source in code(name) if (match := DEFAULT_EXP.search(source))), None)


def futures_imports(tree):
    """Chapters' modules that `tree` imports; `""` is the package itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").split(".")[0] == "futures_nb"):
            inner = (node.module or "").removeprefix("futures_nb").strip(".")
            yield from [inner] if inner else [a.name if (LIB / f"{a.name}.py").exists() else "" for a in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "futures_nb")


def public_definitions(name):
    for source in code(name):
        if EXPORTS.search(source):
            for node in parsed(source).body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"): yield node


def test_sidebar_names_every_notebook_and_no_other():
    listed = sidebar()
    assert sorted(listed) == NOTEBOOKS
    assert listed[0] == "index.ipynb"


def test_sidebar_is_in_order_of_numbers():
    numbered = [name for name in sidebar() if re.match(r"\d", name)]
    assert numbered == sorted(numbered)


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_imports_only_earlier_chapters(name):
    earlier = [module_of(other) for other in CHAPTERS[:CHAPTERS.index(name)]]
    late = {module for source in code(name) for module in futures_imports(parsed(source)) if module not in earlier}
    assert not late, f"{name} imports {sorted(late)}: not in an earlier chapter"


@pytest.mark.parametrize("name", CHAPTERS)
def test_module_has_the_name_of_its_chapter(name):
    assert module_of(name) == re.sub(r"^\d+_", "", Path(name).stem)
    assert re.match(r"\d\d_", Path(name).parts[0]) and re.match(r"\d\d_", Path(name).name)


def test_every_module_is_printed_by_a_chapter():
    modules = {path.stem for path in LIB.glob("*.py")} - BY_HAND
    assert modules == {module_of(name) for name in CHAPTERS}


@pytest.mark.parametrize("name", CHAPTERS)
def test_first_cell_is_title_and_one_sentence(name):
    first = cells(name)[0]
    assert first["cell_type"] == "markdown" and re.match(r"# \S.*\n+> \S.*(\n\s*\n|\n?$)", "".join(first["source"]))


def names_in(trees):
    return {getattr(node, "id", getattr(node, "attr", None)) for tree in trees for node in ast.walk(tree)}


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_public_name_has_a_docstring_and_is_run_by_a_test(name):
    """The package's own names at work in their chapter; a helper there, in tests/, or inside an exported function that is."""
    public = {node.name: node for node in public_definitions(name)}
    silent = [known for known, node in public.items() if not ast.get_docstring(node)]
    assert not silent, f"{name}: without docstring: {silent}"
    shown = names_in(parsed(source) for source in code(name) if not EXPORTS.search(source))
    run = shown | {word for path in (ROOT / "tests").glob("test_*.py") if path.name != "test_book.py"
                   for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    body = [node for source in code(name) if EXPORTS.search(source) for node in parsed(source).body]
    defined = {node.name: node for node in body if hasattr(node, "name")}
    run |= names_in(node for node in body if isinstance(node, ast.Assign) and names_in(node.targets) & run)   # Dataset.save = save_dataset
    todo = [known for known in defined if known in run]
    while todo:
        inside = names_in([defined[todo.pop()]]) & defined.keys() - run
        run |= inside
        todo += inside
    idle = [known for known in public if known not in run]
    assert not idle, f"{name}: exported and run by no test: {idle}"
    unseen = [known for known, node in public.items() if known in fnb.__all__ and isinstance(node, ast.FunctionDef) and known not in shown]
    assert not unseen, f"{name}: names of the package without a line at work in their own chapter: {unseen}"


def test_chapters_have_tests():
    claims = ("assert", "test_", "assert_")
    silent = [name for name in CHAPTERS if not any(word in source for source in code(name) if not EXPORTS.search(source) for word in claims)]
    assert not silent


def test_no_public_name_is_the_name_of_a_module():
    modules = {path.stem for path in LIB.glob("*.py")}
    taken = [f"{name}: {node.name}" for name in CHAPTERS for node in public_definitions(name) if node.name in modules]
    assert not taken
    assert not modules & set(fnb.__all__)


def test_no_star_imports():
    sources = {name: "\n".join(code(name)) for name in NOTEBOOKS}
    sources |= {path.name: path.read_text(encoding="utf-8") for path in LIB.glob("*.py") if path.name != "all.py"}
    starred = [name for name, source in sources.items() for node in ast.walk(parsed(source))
               if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert not starred


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_fit_on_a_screen(name):
    long = {i: source.count("\n") + 1 for i, source in enumerate(code(name)) if source.count("\n") >= 50}
    assert not long, f"{name}: code cells with their lines {long}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_stored_outputs_have_no_errors(name):
    wrong = [out.get("ename") for cell in cells(name) for out in cell.get("outputs", []) if out["output_type"] == "error"]
    assert not wrong


@pytest.mark.parametrize("name", CHAPTERS)
def test_last_cell_prints_the_package(name):
    last = cells(name)[-1]
    assert "nbdev_export()" in "".join(last["source"]) and "#| hide" in "".join(last["source"])


@pytest.mark.parametrize("module", sorted(path.stem for path in LIB.glob("*.py") if path.stem not in BY_HAND))
def test_all_names_of_a_module_resolve(module):
    loaded = importlib.import_module(f"futures_nb.{module}")
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []


def test_all_names_of_the_package_resolve():
    for name in fnb.__all__: assert getattr(fnb, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"): fnb.no_such_name
    assert set(fnb.__all__) <= set(dir(fnb))


def loaded_by(imports, heavy):
    names = [name.strip() for name in imports.split(",")]
    program = f"import sys, {', '.join(names)}; print(*sorted(set({heavy!r}) & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_import_is_light():
    assert loaded_by("futures_nb", ["torch", "arch", "matplotlib", "statsmodels", "pandas_market_calendars", "numba"]) == []
    assert loaded_by("futures_nb.schema", ["pandas", "torch"]) == ["pandas"]   # the probe sees what is loaded


def test_torch_is_for_training_only():
    modules = [module_of(name) for name in CHAPTERS if name[:2] in ("00", "01", "02", "03", "05")]
    assert loaded_by(", ".join(f"futures_nb.{module}" for module in modules), ["torch", "arch", "matplotlib", "statsmodels"]) == []


def test_readme_is_the_printed_index():
    result = subprocess.run([sys.executable, str(ROOT / "docs" / "readme.py"), "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_nothing_reads_a_pickle():
    wrong = []
    for path in sorted(LIB.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                if names & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "read_pickle"}: wrong.append(f"{path.name}:{node.lineno}")
            if isinstance(node, ast.Call):
                given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                called = ast.unparse(node.func)
                if called.endswith("read_pickle") or called == "joblib.load" or given.get("allow_pickle"): wrong.append(f"{path.name}:{node.lineno}")
                if called == "torch.load" and given.get("weights_only") is not True: wrong.append(f"{path.name}:{node.lineno}")
    assert not wrong


def test_tracked_files_name_no_place_but_the_project():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode: pytest.skip("not a git checkout: no list of tracked files")
    places = re.compile("|".join([r"(?<![\w.])/(work|home|root)/\w", r"pypi\.o" + "rg", r"registry\.np" + "mjs", r"deb\.deb" + "ian", r"pythonho" + "sted"]))
    wrong = []
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if not name or path.suffix in (".woff2", ".png") or not path.is_file(): continue
        text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
        wrong += [f"{name}: {match[0]}" for match in places.finditer(text)]
    assert not wrong
