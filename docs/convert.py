"""A chapter as Markdown: prose, code and stored outputs of a notebook that `nbdev.serve.proc_nbs` has processed.

Nothing is run. Where a cell is exported, the page shows its entry (signature, what it returns, parameters) with the source folded below.
"""
import ast
import base64
import html
import inspect
import io
import json
import os
import re
import tokenize
from pathlib import Path

DIRECTIVE = re.compile(r"^\s*#\|\s*([\w-]+):?[ \t]*(.*?)\s*$")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
NO_SOURCE = {"exec_doc", "hide", "default_exp"}


def page_name(notebook):
    """`00_foundations/01_schema.ipynb` -> `00_foundations/schema.md`: the name nbdev's links use."""
    notebook = Path(notebook)
    return notebook.with_name(re.sub(r"^\d+[a-z0-9]*_", "", notebook.stem.lower()) + ".md")


def text(source):
    return source if isinstance(source, str) else "".join(source or [])


def read_cells(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))["cells"]


def split_directives(source):
    """`({name: value}, the code without them)`."""
    lines, found = source.splitlines(), {}
    while lines and (match := DIRECTIVE.match(lines[0])):
        found[match[1]] = match[2].strip("\"'")
        lines.pop(0)
    return found, "\n".join(lines).strip("\n")


def fence(code, info="python"):
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`{3,}", code)), default=2))
    return f"{ticks}{info}\n{code}\n{ticks}"


def box(kind, title, body, marker="!!!"):
    title = title.replace('"', "'")
    return f'{marker} {kind} "{title}"\n\n' + "\n".join(f"    {line}" if line else "" for line in body.splitlines())


# ---- entries of what a cell exports -----------------------------------------------------------------------------------

def _comments(source):
    return {token.start[0]: token.string.lstrip("# ").rstrip() for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT}


def _parameters(node, comments):
    """`[(name as it is written, default and type included, its comment)]`, and the comment on what is returned."""
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    named = [*zip(plain, defaults), (a.vararg, None, "*"), *zip(a.kwonlyargs, a.kw_defaults), (a.kwarg, None, "**")]
    written = []
    for arg, default, *stars in named:
        if arg is None:
            if stars == ["*"] and a.kwonlyargs: written.append(("*", "*", ""))
            continue
        if arg.arg in ("self", "cls"): continue
        kind = f": {ast.unparse(arg.annotation)}" if arg.annotation else ""
        value = "" if default is None else (" = " if kind else "=") + ast.unparse(default)
        written.append((arg.arg, "".join(stars) + arg.arg + kind + value, (default or arg).end_lineno))
    last_on = {line: name for name, _, line in written if line}
    rows = [(name, shown, comments.get(line, "") if last_on.get(line) == name and node.body[0].lineno > line else "")
            for name, shown, line in written]
    used = {line for _, _, line in written}
    stop = min(node.body[0].lineno, max([node.returns.end_lineno if node.returns else 0, node.lineno, *(u for u in used if u)]) + 2)
    returned = [comments[line] for line in range(node.lineno, stop) if line in comments and line not in used]
    return rows, returned[-1] if returned else ""


def _fields(node, comments):
    """A dataclass says its parameters as fields."""
    rows = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not item.target.id.startswith("_"):
            value = "" if item.value is None else " = " + ast.unparse(item.value)
            rows.append((item.target.id, f"{item.target.id}: {ast.unparse(item.annotation)}{value}", comments.get(item.end_lineno, "")))
    return rows


def _signature(name, shown, returns):
    call = f"{name}({', '.join(shown)}){returns}"
    return fence(call if len(call) <= 88 else f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + f"){returns}")


def _row(*cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def entry(node, comments, link):
    """Heading, signature, docstring, parameters and public methods of a function or class."""
    is_class, name, returns, returned = isinstance(node, ast.ClassDef), node.name, "", ""
    if is_class:
        name = f"class {name}"
        methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
        init = next((m for m in methods if m.name == "__init__"), None)
        rows = _parameters(init, comments)[0] if init else _fields(node, comments)
        bases = [] if init else [ast.unparse(base) for base in node.bases]
    else:
        (rows, returned), bases = _parameters(node, comments), []
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    doc = inspect.cleandoc(ast.get_docstring(node) or "")
    parts = [f"### {node.name} {{ #{node.name} .api }}",
             _signature(name, [shown for _, shown, _ in rows] or bases, returns), for_markdown(link(doc))]
    table = [_row(f"`{name}`", link(comment)) for name, _, comment in rows if comment]
    if returned: table.append(_row("*returns*", link(returned)))
    if table: parts.append("\n".join(["| parameter | meaning |", "| --- | --- |", *table]))
    if is_class:
        public = [m for m in methods if not m.name.startswith("_") and ast.get_docstring(m)]
        listed = [_row(f"`{_method(m, comments)}`{{ #{node.name}.{m.name} }}", ast.get_docstring(m).split("\n\n")[0].replace("\n", " ")) for m in public]
        if listed: parts.append("\n".join(["| method | gives |", "| --- | --- |", *listed]))
    return "\n\n".join(part for part in parts if part)


def _method(node, comments):
    if any(getattr(d, "id", getattr(d, "attr", "")) in ("property", "cached_property") for d in node.decorator_list): return f".{node.name}"
    return f".{node.name}({', '.join(name for name, _, _ in _parameters(node, comments)[0])})"


def exported(code, module, link):
    """What a page shows for an exported cell: entries of its public names, then the source; constants stand open."""
    body = ast.parse(code).body
    if all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body): return ""
    comments = _comments(code)
    defined = [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    public = [entry(node, comments, link) for node in defined if not node.name.startswith("_")]
    if not defined: return fence(code)
    title = f"Source in futures_nb/{module}.py" if public else "Source: " + ", ".join(node.name for node in defined)
    is_open = not public and code.count("\n") < 30   # private helpers are part of the story
    return "\n\n".join([*public, box("source", title, fence(code), "???+" if is_open else "???")])


# ---- prose ------------------------------------------------------------------------------------------------------------

def outside_code(md, change):
    """`change` applied to the stretches of Markdown that are no fenced block."""
    parts = re.split(r"(^(?P<f>`{3,}|~{3,}).*?^(?P=f)[ \t]*$)", md, flags=re.M | re.S)
    out, i = [], 0
    while i < len(parts):
        out.append(change(parts[i]))
        if i + 1 < len(parts): out.append(parts[i + 1])
        i += 3
    return "".join(out)


def for_markdown(md):
    """A notebook's Markdown as Python-Markdown wants it: blank lines before lists and tables and around formulas, nested items by four."""
    item = re.compile(r"^(\s*)([-*+]|\d+[.)])\s+")

    def change(part):
        out, in_list, in_formula, had_formula = [], False, False, False
        for line in part.split("\n"):
            is_item, before = item.match(line), out[-1] if out else ""
            starts_table = line.lstrip().startswith("|") and not before.lstrip().startswith("|")
            starts_formula = line.startswith("$$") and not in_formula
            if before.strip() and ((is_item and not in_list) or starts_table or starts_formula or (had_formula and line.strip())): out.append("")
            had_formula = False
            if is_item and 2 <= len(is_item[1]) <= 3 and in_list: line = "    " + line.lstrip()
            if line.startswith("$$") or (in_formula and line.rstrip().endswith("$$")):
                in_formula = (not in_formula) if line.strip() == "$$" or not line.rstrip().endswith("$$") else False
                had_formula = not in_formula
            if is_item: in_list = True
            elif not line.strip() or not line.startswith(" "): in_list = in_list and (bool(line.strip()) and bool(before.strip()))
            out.append(line)
        return "\n".join(out)

    return outside_code(re.sub(r"([^\n])\n(`{3,})(\w|\{)", r"\1\n\n\2\3", md), change)


def callouts(md):
    """Quarto's `::: {.callout-note title="..."}` blocks."""
    def change(match):
        attrs, body = match[2], match[3].strip("\n")
        title = re.search(r'title="([^"]*)"', attrs)
        heading = re.match(r"#+\s+(.*)\n", body)
        if not title and heading: body = body[heading.end():]
        name = title[1] if title else heading[1] if heading else match[1].capitalize()
        kind = {"caution": "warning", "important": "danger"}.get(match[1], match[1])
        return box(kind, name, body.strip("\n"), "???" if 'collapse="true"' in attrs else "!!!")
    md = re.sub(r"^:::+\s*\{\.callout-(\w+)(.*?)\}\s*\n(.*?)^:::+\s*$", change, md, flags=re.M | re.S)
    return re.sub(r"^:::+.*$\n?", "", md, flags=re.M)


def links(md, page):
    """nbdev's absolute links and links to notebooks, as relative links between pages; links into nbdev's own libraries are dropped."""
    def change(match):
        label, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target): return f"[{label}]({target}{anchor})"
        if target.startswith("/") and re.search(r"[#.]_", anchor): return label   # a private name has no entry
        if target.startswith("/"):   # nbdev writes anchors small, and `Fit` is not `fit`
            name = label.strip("`").removesuffix("()")[1 - len(anchor):] if anchor else ""
            if name.lower() == anchor[1:]: anchor = f"#{name}"
            where = Path(target.lstrip("/")).with_suffix(".md")
        elif target.endswith((".ipynb", ".html")):
            where = page_name(os.path.normpath(page.parent / target))
        else: return match[0]
        return f"[{label}]({os.path.relpath(where, page.parent)}{anchor})"

    def part(md):
        md = re.sub(r"\[(`[^`\]]+`)\]\(https://(?:nbdev|fastcore|execnb|fastgit|ghapi)\.[^)]*\)", r"\1", md)
        return re.sub(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)\s]*)?\)", change, md)

    return outside_code(md, part)


# ---- outputs ----------------------------------------------------------------------------------------------------------

def printed(words):
    """Text as a terminal would leave it: no colours, and of a line that was written over, its last state."""
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in ANSI.sub("", words).split("\n"))
    return "\n".join(lines).strip("\n")


def _html_output(source):
    source = re.sub(r"<(script|style)\b.*?</\1>", "", source, flags=re.S)
    source = re.sub(r' (border="\d+"|style="text-align: right;")', "", source)
    return '<div class="frame">\n' + "\n".join(line for line in source.splitlines() if line.strip()) + "\n</div>"


def output(out, pictures, alt):
    kind = out["output_type"]
    if kind == "stream":
        words = printed(text(out["text"]))
        return f'<div class="output" markdown>\n\n{fence(words, "text")}\n\n</div>' if words else ""
    if kind == "error":
        return box("danger", out["ename"], fence(printed("\n".join(out["traceback"])), "text"))
    data = out.get("data", {})
    if "image/svg+xml" in data: return picture(text(data["image/svg+xml"]).encode(), ".svg", pictures, alt)
    if "image/png" in data: return picture(base64.b64decode(text(data["image/png"])), ".png", pictures, alt)
    if "application/vnd.jupyter.widget-view+json" in data: return ""   # a progress bar at its end
    if "text/html" in data: return _html_output(text(data["text/html"]))
    if "text/markdown" in data: return for_markdown(text(data["text/markdown"]))
    if "text/latex" in data: return text(data["text/latex"])
    words = printed(text(data.get("text/plain", "")))
    return f'<div class="output" markdown>\n\n{fence(words, "text")}\n\n</div>' if words else ""


def picture(content, suffix, pictures, alt):
    folder, stem, taken = pictures
    name = f"{stem}-{len(taken) + 1}{suffix}"
    (folder / name).write_bytes(content)
    taken.append(name)
    width = css_width(content)
    return f"![{html.escape(alt)}]({name}){{ .plot{f' width={width}' if width else ''} }}"


def css_width(png):
    """Width of a PNG at 100 dots per inch, so that one drawn for a fine screen (200) is not shown at twice its size; 0 if it does not say."""
    at = png.find(b"pHYs")
    if not png.startswith(b"\x89PNG") or at < 0: return 0
    pixels, per_metre = int.from_bytes(png[16:20], "big"), int.from_bytes(png[at + 4:at + 8], "big")
    return round(pixels * 100 / max(100, per_metre * 0.0254))


def code_cell(source, outputs, pictures, heading):
    """A cell as Quarto's directives ask: echo, output, include, code-fold, code-summary, fig-cap."""
    ask, code = split_directives(source)
    if ask.get("include") == "false": return ""
    parts = []
    if code and ask.get("echo") != "false":
        block = fence(code)
        fold = ask.get("code-fold", "false")
        if fold != "false":
            block = box("source", ask.get("code-summary", "Code"), block, "???+" if fold == "show" else "???")
        parts.append(block)
    if ask.get("output") != "false":
        title = re.search(r"""title=f?(["'])(.*?)\1""", code)
        alt = ask.get("fig-cap") or ask.get("fig-alt") or (title[2] if title else heading)
        shown = [o for o in (output(out, pictures, alt) for out in outputs) if o]
        if shown and ask.get("fig-cap"):
            shown = ["<figure markdown>\n\n" + "\n\n".join(shown) + f"\n\n<figcaption>{ask['fig-cap']}</figcaption>\n</figure>"]
        parts += shown
    return "\n\n".join(parts)


# ---- the page ---------------------------------------------------------------------------------------------------------

def convert(notebook, processed, page, pages, link=lambda md: md):
    """Write `pages/page` and its pictures from the notebook and what proc_nbs made of it; returns the page's title.

    `link` turns code names into links, as proc_nbs did in all cells but the first, whose prose it drops.
    """
    original, done = read_cells(notebook), {cell.get("id"): cell for cell in read_cells(processed)}
    codes = [text(cell["source"]) for cell in original if cell["cell_type"] == "code"]
    module = next((m[1] for m in (re.search(r"^#\|\s*default_exp\s+(\S+)", code, re.M) for code in codes) if m), None)
    (pages / page).parent.mkdir(parents=True, exist_ok=True)
    pictures, parts, title, heading = ((pages / page).parent, page.stem, []), [], None, ""
    for cell in original:
        source, kept = text(cell["source"]), done.get(cell["id"])
        asked = {match[1] for line in source.splitlines() if (match := DIRECTIVE.match(line))}
        if cell["cell_type"] == "markdown" and title is None and (match := re.match(r"#\s+(.*)\n*(?:>\s*(.*)\n*)?", source)):
            title, rest = match[1].strip(), source[match.end():].strip()
            parts.append(f"# {title}")
            if match[2]: parts.append(f"{link(match[2].strip())}\n{{ .subtitle }}")
            if module: parts.append(f"This chapter prints `futures_nb/{module}.py`.\n{{ .prints }}")
            parts.append(callouts(for_markdown(link(rest))))
        elif cell["cell_type"] == "code" and asked & {"export", "exports"} and "hide" not in asked:
            parts.append(exported(split_directives(source)[1], module, link))
        elif cell["cell_type"] == "markdown" and kept:
            source = text(kept["source"])
            heading = next((line.lstrip("# ") for line in reversed(source.splitlines()) if line.startswith("#")), heading)
            parts.append(callouts(for_markdown(source)))
        elif cell["cell_type"] == "code" and kept and not asked & NO_SOURCE and not source.startswith("show_doc"):
            parts.append(code_cell(text(kept["source"]), cell.get("outputs", []), pictures, heading or title or page.stem))
    body = "\n\n".join(part for part in parts if part.strip())
    (pages / page).write_text(links(body, page) + "\n", encoding="utf-8")
    return title or page.stem
