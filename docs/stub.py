"""Write futures_nb/__init__.pyi: each name is loaded on first use, so editors and type checkers are told here where it comes from."""
from pathlib import Path

import futures_nb

FILE = Path(__file__).resolve().parent.parent / "futures_nb" / "__init__.pyi"


def stub() -> str:
    """The text of the file, made from the table of chapters."""
    lines = ["# Written by docs/stub.py from the table in __init__.py; do not edit."]
    seen = {}
    for module, names in futures_nb._CHAPTERS.items():
        for name in names.split():
            if futures_nb._HOME[name] == module: seen.setdefault(module, []).append(name)      # a name of two chapters is the later one's
    for module, names in seen.items():
        lines += [f"from .{module} import (", *(f"    {name} as {name}," for name in names), ")"]
    return "\n".join([*lines, "", "__version__: str", "__all__: list[str]", ""])


if __name__ == "__main__":
    FILE.write_text(stub(), encoding="utf-8")
    print(f"{FILE.name}: {len(futures_nb.__all__)} names")
