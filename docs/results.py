"""The page of measured results, written from the JSON files that benchmarks/ writes; no number is typed in."""
import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INTRO = """# Results

What was measured, on which machine, at which commit.
{ .subtitle }

A table has a column for each size (or kind of file) and a row for each peer (or step). Peers and ours run in turn in one process, A B A B, after a
warm-up each; answers are compared before times. Times are medians. The number below a time says how many times as long as
ours it is: above 1 the peer is slower, below 1 it is faster. It is the median of a round's pairs, so that a busy machine
disturbs both sides. **A time with ≈ was not run to its end: it is extrapolated from a sample, and the line below says from how
many.** Each table is drawn from the file that the command above it writes.
"""
RACES, LEFT_OUT = ("median_s", "median_s_extrapolated"), ("ratio_to_ours", "sample", "step", "first_call_s")
SIZES = {"mb": "MB", "gb": "GB", "megabytes": "MB"}
CHAPTERS = ("markets",)   # results that a chapter shows


def about(script):
    """Title, command and prose of a benchmark, from its docstring: the first line, the first indented one, the lines that are not."""
    lines = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem).splitlines()
    command = next((line.strip().split("  ")[0] for line in lines[1:] if line.startswith("    ")), f"python benchmarks/{script.name}")
    prose = "\n".join(line for line in lines[1:] if not line.startswith("    ")).strip()
    return lines[0].rstrip("."), command, prose


def number(x):
    """Three digits that count, thousands apart; words as they are, lists one below another."""
    if isinstance(x, list): return "<br>".join(map(number, x))
    if isinstance(x, bool) or not isinstance(x, (int, float)): return str(x)
    if isinstance(x, int) or abs(x) >= 1000: return f"{x:,.0f}"
    return f"{x:.3g}"


def seconds(x):
    """A time in the unit it reads best in."""
    return f"{number(x)} s" if x >= 1 or x == 0 else f"{number(x * 1000)} ms"


def line_of(key, value):
    """Name and value of a row that is no peer's: the unit goes from the name to the value, `peak_gb` to `memory, peak`."""
    words = key.split("_")
    size = next((w for w in words if w.lower() in SIZES), None)
    timed = [w for w in words if w in ("s", "seconds")]
    left = " ".join(w for w in words if w != size and w not in timed)
    if size: return f"memory, {left}" if left else "size of files", f"{number(value)} {SIZES[size.lower()]}"
    if timed: return left or "time", seconds(value)
    return left, f"{value:.0%}".replace("%", "\u00a0%") if key.startswith("answers") and isinstance(value, float) else number(value)


def race(row):
    """Lines of the peers of one run: `{name: "time, and how many times ours below it"}`."""
    times = next((row[key] for key in RACES if key in row), {})
    ours = sorted(times, key=lambda name: name != "ours")   # ours on top, wherever it was written
    guessed, ratio = row.get("sample", {}), row.get("ratio_to_ours", {})
    return {name: ("≈ " if name in guessed else "") + seconds(times[name]) + (f" <small>× {number(ratio[name])}</small>" if name in ratio else "") for name in ours}


def column(row):
    """One run as a column: `(its head, {line: words})`; the peers first, then steps and what they took, then what else was told."""
    head = next(iter(row))
    if not isinstance(row[head], str) and "rows" in row: head = "rows"
    lines, facts = race(row), {}
    for key, value in row.items():
        if key == head or key in RACES or key in LEFT_OUT: continue
        into = lines if key.split("_")[0] in ("seconds", "peak") else facts
        if isinstance(value, dict):
            for name, inner in value.items():
                line, words = line_of(key, inner)
                into[f"{line}, {name}" if into is facts else name] = words
        else: into.__setitem__(*line_of(key, value))
    return f"{number(row[head])} rows" if head == "rows" else number(row[head]) if isinstance(row[head], str) else f"{head} {number(row[head])}", lines, facts


def groups(rows):
    """Runs that belong in one table: the same things told of each, no size twice, in the order in which they stand."""
    out = []
    for row in rows:
        fits = out and out[-1][0].keys() == row.keys() and column(row)[0] not in [column(r)[0] for r in out[-1]]
        if fits: out[-1].append(row)
        else: out.append([row])
    return out


def table(rows):
    """Runs side by side as Markdown: what is the same in all stands in one line above the table, where the sample is from in one below."""
    heads, lines, facts = zip(*map(column, rows), strict=True)
    same = {name: words for name, words in facts[0].items() if len(rows) > 1 and all(f.get(name) == words for f in facts)}
    names = list(dict.fromkeys(name for f in lines for name in f)) + [f"*{name}*" for name in dict.fromkeys(n for f in facts for n in f) if name not in same]
    kind = next((key for key, value in list(rows[0].items())[:1] if isinstance(value, str)), "")   # "mode" or "packing", where the heads are no sizes
    page = f"{'; '.join(f'{name}: {words}' for name, words in same.items())}\n{{ .same }}\n\n" if same else ""
    page += f"<div class=\"measured\" markdown>\n\n| {kind} | {' | '.join(heads)} |\n| :--- |{' ---: |' * len(rows)}\n"
    for name in names: page += f"| {name} | {' | '.join(line.get(name, fact.get(name.strip('*'), '')) for line, fact in zip(lines, facts, strict=True))} |\n"
    page += "\n</div>\n"
    if sample := rows[0].get("sample"):
        told = "; ".join(f"{name}: {n} of them, one in {', '.join(number(row['step'][name]) for row in rows)}" for name, n in sample.items())
        page += f"\n≈ extrapolated from a sample to all windows, size by size. {told}.\n{{ .same }}\n"
    return page


def tables(rows):
    """All tables of a file; a run that holds a list of runs is a table of its own, under its name."""
    page = ""
    for group in groups(rows):
        inner = {key: value for key, value in group[0].items() if isinstance(value, list) and value and isinstance(value[0], dict)}
        for key, value in inner.items(): page += f"{key.replace('_', ' ').capitalize()}, {column(group[0] | dict.fromkeys(inner, ''))[0]}:\n\n{table(value)}\n"
        if not inner: page += table(group) + "\n"
    return page.rstrip()


def results_page(folder=ROOT / "benchmarks"):
    """Markdown of all results of `folder`, one section a file, in order of their names."""
    page = INTRO
    for path in sorted((folder / "results").glob("*.json")):
        if path.stem in CHAPTERS: continue
        told, script, part = json.loads(path.read_text(encoding="utf-8")), folder / f"{path.stem}.py", ""
        if not script.is_file():                             # a part of a benchmark, in a file of its own: training_ranks.json
            name, part = path.stem.rsplit("_", 1)
            script = folder / f"{name}.py"
        title, command, prose = about(script)
        title, _, what = title.partition(": ")
        if part: title, what, command, prose = f"{title}, {part}", "", f"{command.split('  ')[0].strip()} --parts {part}", ""
        where = [told["machine"], *(f"{name} {v}" for name, v in told["versions"].items()), f"commit {told['commit']}", told["date"]]
        if told.get("threads"): where.insert(1, f"OMP_NUM_THREADS {told['threads']}")
        if "load_before" in told: where.insert(1, f"load {told['load_before']} before")
        page += f"\n## {title}\n\n" + (f"{what[0].upper()}{what[1:]}.\n\n" if what else "") + f"```sh\n{command}\n```\n\n{prose}\n\n{tables(told['rows'])}\n\n{', '.join(where)}.\n{{ .prints }}\n"
    return page
