"""The report is one offline file, says the uncomfortable things first, and lets no file put markup on the page."""
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from futures_nb.judgement import as_plain, direction_facts, regime_facts, trade_signals
from futures_nb.report import SECTIONS, make_report
from futures_nb.schema import DataError, make_index
from futures_nb.sections import REQUIRED
from futures_nb.sessions import session_table

EVIL = '<img src=x onerror="alert(1)"><script src="https://example.org/x.js"></script>'


class Page(HTMLParser):
    """Tags, attributes and text in the order they stand."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]

    def handle_data(self, data):
        if self.tags[-1] != "style":
            self.text.append(data)


def run_folder(folder, **more):
    rng = np.random.default_rng(0)
    closes = pd.DatetimeIndex(session_table("ES", "2023-01-03", "2023-06-30")["close"])
    price = np.rint(4000 * np.exp(0.01 * rng.normal(size=len(closes)).cumsum()) * 4) / 4
    bars = pd.DataFrame({"open": np.append(4000, price[:-1]), "close": price, "volume": 1.0}, make_index("ES", closes))
    y = np.log(price[1:] / price[:-1])
    p = pd.DataFrame({"y": y, "y_hat": rng.normal(0, 0.001, len(y)), "fold": 0, "t1": closes[1:]}, bars.index[:-1])
    result, money = trade_signals(p, bars, margin=9000.0, n_draws=100)
    facts = {"status": "finished", "n_trials": 12, "data": {"real": "Real words.", "simulated": "Simulated words."}, "target": {"kind": "return"},
             "backtest": as_plain(result.to_dict()), "money": money, "regimes": regime_facts(result.daily, bars, n_draws=500), "training": {"clip": 1.0},
             "folds": [{"n_train": 9, "train_from": "2022-01-01", "train_to": "2022-12-01", "test_from": "2023-01-03", "test_to": "2023-06-29"}]}
    facts |= direction_facts({"net": p, "zero": p.assign(y_hat=0.0), "up": p.assign(y_hat=0.001)}, n_draws=100) | more
    (folder / "folds" / "00").mkdir(parents=True)
    (folder / "folds" / "00" / "metrics.jsonl").write_text('{"kind": "step", "step": 1, "loss": 0.7, "grad_norm": 0.5}\n{"kind": "step", "step": 2, "loss": 0.6, "grad_norm": 2.5}\n{"torn')
    (folder / "run.json").write_text(json.dumps(facts))
    p.to_parquet(folder / "predictions.parquet")
    result.daily.to_frame("pnl").to_parquet(folder / "daily.parquet")
    return facts


@pytest.fixture
def folder(tmp_path):
    run_folder(tmp_path)
    return tmp_path


def test_nothing_is_loaded_from_outside(folder):
    page = make_report(folder).read_text(encoding="utf-8")
    parsed = Page(page)
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base"} & set(parsed.tags)
    assert not [a for a in parsed.attributes if a[1] in ("src", "xlink:href", "action", "srcset") or a[1].startswith("on")]
    places = {a[2] for a in parsed.attributes if a[1] == "id"}
    assert {a[2] for a in parsed.attributes if a[1] == "href"} == {f"#{place}" for place in places} and len(places) == len(SECTIONS)   # the list of sections, and nothing else
    assert not re.search(r"https?://|url\(|@import|//[a-z]+\.", page)
    assert "default-src 'none'" in page and "prefers-color-scheme:dark" in page and "width=device-width" in page
    assert {"svg", "polyline", "polygon", "rect", "circle"} <= set(parsed.tags)
    assert len(page) < 5_000_000


def test_first_lines(folder):
    facts = json.loads((folder / "run.json").read_text())
    text = "\n".join(Page(make_report(folder).read_text()).text)
    top = text[:text.index("\nSkill\n")]     # the list of sections ends what stands first
    for words in ("Real words.", "Simulated words.", "12 configurations", "95 % interval", "base rate", "costs",
                  f"{100 * facts['skill']['detectable']:.1f} points", facts["skill"]["sentence"].split(":")[0]):
        assert words in top, words
    assert top.index("Cannot tell") < top.index("Real words.") < top.index("12 configurations")


@pytest.mark.parametrize("path", REQUIRED)
def test_a_run_that_leaves_out_is_refused(folder, path):
    before = make_report(folder).read_text()
    facts = json.loads((folder / "run.json").read_text())
    section, _, key = path.partition(".")
    if key:
        facts[section][key] = None
    else:
        del facts[section]
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=re.escape(path)):
        make_report(folder)
    assert (folder / "report.html").read_text() == before


def test_free_of_charge_is_said(tmp_path):
    facts = run_folder(tmp_path)
    facts["backtest"]["cost"] = 0.0
    (tmp_path / "run.json").write_text(json.dumps(facts))
    page = make_report(tmp_path).read_text()
    assert page.count("No costs were charged") == 2     # in the three sentences, and in the line on money


def test_better_is_said_only_if_the_run_says_so(folder):
    facts = json.loads((folder / "run.json").read_text())
    for verdict, words in (("better than the base rate", "test and bootstrap agree"), ("worse than the base rate", "It is worse"), ("cannot tell", "Cannot tell whether it is better than random")):
        facts["skill"]["verdict"] = verdict
        (folder / "run.json").write_text(json.dumps(facts))
        page = make_report(folder).read_text()
        assert words in page and ("test and bootstrap agree" in page) == verdict.startswith("better")


def test_every_picture_and_part_is_there(folder):
    page = make_report(folder).read_text()
    parts = {name: page[page.index(f">{name}</h2>"):].split("<h2 ")[0] for name in SECTIONS}
    assert parts["Skill"].count("<svg") == 2 and parts["Money"].count("<svg") == 1 and parts["Regimes"].count("<svg") == 1 and parts["Health of the training"].count("<svg") == 1
    for words in ("made money", "9,000 USD a contract", "Lo 2002"): assert words in parts["Money"], words
    assert "gradients cut" in parts["Health of the training"] and "No fit left a black box" in parts["Health of the training"]


def test_a_black_box_is_pointed_at(folder):
    (folder / "folds" / "00" / "blackbox" / "17").mkdir(parents=True)
    assert "futures_nb diagnose folds/00" in make_report(folder).read_text()


def test_an_object_of_another_chapter_is_shown_or_refused(folder):
    from futures_nb.sections import EXTRAS
    for name, (file, heading, _) in EXTRAS.items():
        (folder / file).write_text(json.dumps({"x": EVIL}))
        try: page = make_report(folder).read_text()
        except DataError as error: assert "to_dict" in str(error) or "from_dict" in str(error), name
        else: assert heading in page and "cannot show it" in page and "script" not in Page(page).tags
        (folder / file).write_text("{")
        with pytest.raises(DataError, match="not JSON"): make_report(folder)
        (folder / file).unlink()


def poisoned(value):
    """Every string of the facts, and every key that is shown, made hostile."""
    if isinstance(value, dict):
        return {k: poisoned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v) for v in value]
    return value + EVIL if isinstance(value, str) and not re.match(r"\d{4}-", value) else value


def test_files_put_no_markup_on_the_page(tmp_path):
    facts = poisoned(run_folder(tmp_path, baselines=[{"name": "ridge", "verdict": "better than the base rate"}],
                                features=[{"name": "f", "family": "a", "formula": "b", "lookback": 2}], target={"kind": "return"},
                                rows={"mode": "all", "left_out": ["x"], "nan_by_column": {EVIL: 3}}, versions={EVIL: "1"}, seconds={EVIL: 2.0}))
    facts["data"] |= {"quality": [EVIL], "contracts": [EVIL], "source": EVIL, "first": EVIL, "last": EVIL}
    facts["skill"]["notes"], facts["backtest"]["notes"] = [EVIL], [EVIL]
    facts["backtest"]["charges"] = {"commission": EVIL, "slippage_ticks": EVIL, "per_side": {EVIL: 8.5}, "night_ticks": EVIL, "per_side_night": {EVIL: 9.5}}
    facts["net"] = {EVIL: EVIL}
    facts |= {"finished": EVIL, "status": EVIL}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    (tmp_path / "config.toml").write_text(f'path = "{EVIL}"')
    parsed = Page(make_report(tmp_path).read_text())
    assert "script" not in parsed.tags and "img" not in parsed.tags
    assert not [a for a in parsed.attributes if a[1].startswith("on") or a[1] == "src"]


def test_a_folder_with_a_hostile_name(tmp_path):
    odd = tmp_path / "a<b>&'\"c"
    odd.mkdir()
    run_folder(odd)
    parsed = Page(make_report(odd).read_text())
    assert "b" not in parsed.tags and "a<b>&'\"c" in "".join(parsed.text)


def test_the_report_needs_nothing_heavy(folder):
    code = ("import sys, futures_nb.report as r; r.make_report(sys.argv[1]); "
            "bad = {'torch', 'arch', 'matplotlib', 'statsmodels'} & set(sys.modules); assert not bad, bad")
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=dict(os.environ))
    assert (folder / "report.html").is_file() and not list(folder.glob("*.tmp"))


def test_the_price_of_each_leak_puts_no_markup_and_a_damaged_file_is_refused(folder):
    from futures_nb.daybook import synth_days
    from futures_nb.leaks import leak_prices
    assert "no leak was priced" in make_report(folder).read_text()
    told = leak_prices(synth_days("walk", 300, 0), leaks=["vix_joined_by_date", "no_embargo"], n_draws=100).to_dict()
    told["not_here"] = [{"leak": "x", "words": EVIL, "why": EVIL}]
    told["sentence"] += EVIL
    for row in told["rows"]: row["words"] = row["stage"] = EVIL
    (folder / "leaks.json").write_text(json.dumps(told))
    page = Page(make_report(folder).read_text())
    assert "img" not in page.tags and "script" not in page.tags and sum(EVIL in part for part in page.text) >= 4
    (folder / "leaks.json").write_text(json.dumps({"why": "too few days " + EVIL}))
    assert "img" not in Page(make_report(folder).read_text()).tags
    for broken, words in (('{"rows": ', "not JSON"), ('{"rows": [1]}', "not what LeakPrices.to_dict returns"), (json.dumps(told | {"rows": [{"stage": 1}]}), "not what LeakPrices")):
        (folder / "leaks.json").write_text(broken)
        with pytest.raises(DataError, match=words): make_report(folder)
