"""Editors and type checkers see the public names, where they come from and what they take."""
import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import futures_nb as fnb

ROOT = Path(__file__).resolve().parent.parent


def test_stub_is_the_one_that_the_table_makes():
    done = subprocess.run([sys.executable, "-c", "import stub; print(stub.FILE.read_text() == stub.stub())"], cwd=ROOT / "docs", env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout == "True\n", f"run python docs/stub.py {done.stderr}"


def test_stub_names_what_can_be_imported():
    tree = ast.parse((ROOT / "futures_nb" / "__init__.pyi").read_text())
    told = {alias.asname: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(told) == fnb.__all__
    missing = [f"{module}.{name}" for name, module in told.items() if not hasattr(importlib.import_module(f"futures_nb.{module}"), name)]
    assert not missing


@pytest.mark.slow
def test_a_typed_script_is_accepted(tmp_path):
    """By mypy in its strict mode; and a wrong use is refused, so the types are seen."""
    pytest.importorskip("mypy")
    check = [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-calls", "--ignore-missing-imports", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*check, "tests/typed_use.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import futures_nb as fnb\nfnb.Cost(commission='two')\nfnb.read_bar('x')\nx: int = fnb.make_features(fnb.demo_bars())\n")
    done = subprocess.run([*check, str(wrong)], cwd=ROOT, capture_output=True, text=True)
    assert [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line] == [2, 3, 4], done.stdout
