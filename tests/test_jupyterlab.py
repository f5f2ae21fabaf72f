"""A chapter opened in JupyterLab in a browser, run from top to bottom, saved and read back."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ["nbs/00_foundations/01_schema.ipynb", "nbs/01_data/06_quality.ipynb", "nbs/02_features/02_vpoc.ipynb", "nbs/02_features/04_shape.ipynb",
            "nbs/04_training/13_train.ipynb", "nbs/index.ipynb"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path):
    """A copy: the chapter's last cell prints the package of the folder it lives in."""
    copy = tmp_path / "project"
    for name in ("nbs", "futures_nb"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "pyproject.toml", "README.md"): shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def lab(project, tmp_path):
    """JupyterLab on loopback with folders of its own: a workspace from somewhere else is not restored."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR",
                                                          "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")}
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
         "--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None"],
        cwd=project, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/api/status", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "lab.log").read_text()
                time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def code_cells(project, chapter):
    cells = json.loads((project / chapter).read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code" and cell["source"]]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: Path(c).stem)
def test_run_all_in_the_browser(project, lab, chapter):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None: pytest.skip("no chromium on this machine")
    path = project / chapter
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code": cell |= {"execution_count": None, "outputs": []}
    path.write_text(json.dumps(notebook), encoding="utf-8")
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{lab}/lab/tree/{chapter}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=90_000)   # before that, Run asks which kernel
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            page.wait_for_timeout(2_000)
            page.locator(".jp-NotebookPanel-toolbar [data-jp-item-name='save']").first.click()
            page.wait_for_timeout(1_000)
            if all(cell["execution_count"] for cell in code_cells(project, chapter)): break
        page.screenshot(path=project.parent / "lab.png")
        browser.close()
    ran = code_cells(project, chapter)
    assert [cell["execution_count"] for cell in ran] == list(range(1, len(ran) + 1))
    assert not [out["ename"] for cell in ran for out in cell["outputs"] if out["output_type"] == "error"]
    assert any("image/png" in out.get("data", {}) for cell in ran for out in cell["outputs"])
