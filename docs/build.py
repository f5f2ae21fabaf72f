"""Build the site: `python docs/build.py`; read it on this machine: `python docs/build.py --serve`.

The notebooks' stored outputs are shown, nothing is run: nbs/ -> nbdev's proc_nbs -> docs/convert.py -> Material for MkDocs.
"""
import argparse
import functools
import http.server
import logging
import shutil
import time
from pathlib import Path

import yaml
from convert import convert, page_name
from mkdocs.commands.build import build as mkdocs_build
from mkdocs.config import load_config
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.serve import proc_nbs
from results import results_page

ROOT = Path(__file__).resolve().parent.parent
DOCS, NBS = ROOT / "docs", ROOT / "nbs"


def sidebar():
    """The book's order from nbs/sidebar.yml: `[notebook or (section, [notebook])]`."""
    contents = yaml.safe_load((NBS / "sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    return [(item["section"], item["contents"]) if isinstance(item, dict) else item for item in contents]


def write_pages(processed, pages):
    """All chapters as Markdown into `pages`; returns mkdocs' navigation."""
    lookup = NbdevLookup()

    def chapter(name):
        if not (NBS / name).exists():
            print(f"docs: nbs/{name} is in the sidebar and not there; left out")
            return []
        page = page_name(name)
        return [{convert(NBS / name, processed / name, page, pages, lambda md: lookup.linkify(md) or ""): str(page)}]

    nav = []
    for item in sidebar():
        if isinstance(item, str): nav += chapter(item)
        elif inside := [entry for name in item[1] for entry in chapter(name)]: nav.append({item[0]: inside})
    if not (pages / "index.md").exists():
        (pages / "index.md").write_text("# futures_nb\n", encoding="utf-8")
        nav.insert(0, {"futures_nb": "index.md"})
    (pages / "results.md").write_text(results_page(), encoding="utf-8")
    nav.append({"Results": [{"Benchmarks": "results.md"}]})
    shutil.copytree(DOCS / "assets", pages / "assets", ignore=shutil.ignore_patterns("README.md"))
    return nav


def build_site(site=None):
    """Builds the site into the folder `site` (default: doc_path of settings.ini) and returns it."""
    config = get_config()
    config.d["skip_procs"] = "exec_show_docs"   # entries are read from the source: no kernel, no import of torch
    processed = proc_nbs(n_workers=0, force=True)
    pages, site = processed / "_pages", Path(site or ROOT / config.doc_path.name).resolve()
    nav = write_pages(processed, pages)
    mkdocs = load_config(str(DOCS / "mkdocs.yml"), nav=nav, docs_dir=str(pages), site_dir=str(site))
    mkdocs.plugins.on_startup(command="build", dirty=False)
    try:
        mkdocs_build(mkdocs)
    finally:
        mkdocs.plugins.on_shutdown()
    return site


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", action="store_true", help="then serve the site on this machine")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--out", help="folder of the site; default: doc_path of settings.ini")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="docs: %(message)s")   # what mkdocs --strict complains of
    start = time.perf_counter()
    site = build_site(args.out)
    print(f"docs: {len(list(site.rglob('*.html')))} pages in {site} ({time.perf_counter() - start:.1f} s)")
    if args.serve:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
        with http.server.ThreadingHTTPServer(("127.0.0.1", args.port), handler) as server:
            print(f"docs: http://127.0.0.1:{args.port}/ (Ctrl-C ends it)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()


if __name__ == "__main__":
    main()
