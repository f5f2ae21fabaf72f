"""The page of measured results, written from the JSON files that benchmarks/ writes; no number is typed in."""
import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INTRO = """# Results

What was measured, on which machine, at which commit.
{ .subtitle }

Peers and ours run in turn in one process, A B A B, after a warm-up each; answers are compared before times. Seconds are
medians; a ratio is the median of a round's pairs, so that a busy machine disturbs both sides. Each table is drawn from the
file that the command above it writes.
"""


def about(script):
    """Title and command of a benchmark, from its docstring: the first line, and the first indented one."""
    lines = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem).splitlines()
    command = next((line.strip().split("  ")[0] for line in lines[1:] if line.startswith("    ")), f"python benchmarks/{script.name}")
    return lines[0].rstrip("."), command


def number(x):
    """Three digits that count, thousands apart; words as they are."""
    if isinstance(x, bool) or not isinstance(x, (int, float)): return str(x)
    if isinstance(x, int) or abs(x) >= 1000: return f"{x:,.0f}"
    return f"{x:.3g}"


def flat(row):
    """A row with its inner tables as columns: `{"median_s": {"ours": 1}}` is `{"ours [s]": 1}`."""
    units = {"median_s": "{} [s]", "ratio_to_ours": "{} / ours", "first_call_s": None}
    out = {}
    for key, value in row.items():
        if not isinstance(value, dict): out[key.replace("_", " ")] = number(value)
        elif units.get(key, key) is not None:
            name = units.get(key, key.replace("_", " ") + ": {}")
            out |= {name.format(inner): number(x) for inner, x in value.items()}
    return out


def table(rows):
    """Rows as a Markdown table, a column for each key that any row has."""
    rows = [flat(row) for row in rows]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [keys, ["---:"] * len(keys), *([row.get(key, "") for key in keys] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def results_page(folder=ROOT / "benchmarks"):
    """Markdown of all results of `folder`, one section a file, in order of their names."""
    page = INTRO
    for path in sorted((folder / "results").glob("*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        title, command = about(folder / f"{path.stem}.py")
        where = [told["machine"], *(f"{name} {v}" for name, v in told["versions"].items()), f"commit {told['commit']}", told["date"]]
        if told.get("threads"): where.insert(1, f"threads: {told['threads']}")
        page += f"\n## {title}\n\n```sh\n{command}\n```\n\n{table(told['rows'])}\n\n{', '.join(where)}.\n{{ .prints }}\n"
    return page
