"""README.md is nbs/index.ipynb, printed: `python docs/readme.py`; with `--check` it only says whether it still is (exit status 1 if not).

Stored outputs are printed, nothing is run; pictures go to docs/img.
"""
import argparse
import base64
import re
import sys
from pathlib import Path

from convert import fence, printed, read_cells, split_directives, text

ROOT = Path(__file__).resolve().parent.parent
INDEX, README, PICTURES = ROOT / "nbs" / "index.ipynb", ROOT / "README.md", ROOT / "docs" / "img"


def _prose(md):
    """Links to chapters lead to their notebooks; Quarto's callouts become quotations."""
    md = re.sub(r"\]\((?!https?:|mailto:|#|/)([^)]+\.ipynb(?:#[^)]*)?)\)", r"](nbs/\1)", md)
    return re.sub(r"^:::+\s*\{.*?\}\s*\n(.*?)^:::+\s*$", lambda m: re.sub(r"^", "> ", m[1].strip(), flags=re.M), md, flags=re.M | re.S).strip()


def _outputs(cell, pictures):
    for out in cell.get("outputs", []):
        data = out.get("data", {})
        if "image/png" in data:
            name = f"index-{len(pictures) + 1}.png"
            pictures[name] = base64.b64decode(text(data["image/png"]))
            title = re.search(r"""title=f?(["'])(.*?)\1""", text(cell["source"]))
            yield f"![{title[2] if title else 'What the lines above draw'}](docs/img/{name})"
        elif "text/markdown" in data:
            yield text(data["text/markdown"]).strip()
        elif "application/vnd.jupyter.widget-view+json" not in data:
            words = printed(text(out.get("text") or data.get("text/plain", "")))
            if words: yield fence(words, "text")


def readme():
    """`(the text of README.md, {picture's name: its bytes})`."""
    parts, pictures = [], {}
    for cell in read_cells(INDEX):
        ask, source = split_directives(text(cell["source"]))
        if cell["cell_type"] == "markdown":
            parts.append(_prose(source))
        elif cell["cell_type"] == "code" and "hide" not in ask and ask.get("include") != "false":
            if source and ask.get("echo") != "false": parts.append(fence(source))
            if ask.get("output") != "false": parts += _outputs(cell, pictures)
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if README.md or a picture differs")
    args = parser.parse_args()
    words, pictures = readme()
    wanted = {README: words.encode()} | {PICTURES / name: content for name, content in pictures.items()}
    there = {path: path.read_bytes() for path in [README, *PICTURES.glob("index-*.png")] if path.exists()}
    changed = sorted(path.relative_to(ROOT).as_posix() for path in wanted | there if wanted.get(path) != there.get(path))
    if args.check:
        if changed: sys.exit(f"readme: {', '.join(changed)} is not what nbs/index.ipynb prints; run python docs/readme.py")
        print("readme: README.md is what nbs/index.ipynb prints")
        return
    for path in there.keys() - wanted.keys(): path.unlink()
    for path, content in wanted.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    print("readme: " + (f"wrote {', '.join(changed)}" if changed else "nothing changed"))


if __name__ == "__main__":
    main()
