import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["FUTURES_NB_LEDGER"] = "off"    # what tests try is nobody's trial; those of the ledger say their own file


@pytest.fixture(scope="session")
def data_dir():
    """Real vendor data: FUTURES_NB_DATA, or ../shared/data beside the project. In CI it must be there."""
    path = Path(os.environ.get("FUTURES_NB_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_absolute():
        path = ROOT / path
    if not path.is_dir():
        message = f"real data not found at {path}; set FUTURES_NB_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def es_file(data_dir):
    return data_dir / "es_ninjatrader" / "ES 03-25.Last.txt"
