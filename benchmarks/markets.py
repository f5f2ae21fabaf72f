"""The whole line on four markets, asked for a direction and for a volatility: what the eight reports say at their tops, as it is.

    python benchmarks/markets.py [demo es_5min es_hourly mgc es_daily]     # writes benchmarks/results/markets.json, market by market

Real vendor data are found through FUTURES_NB_DATA (default ../shared/data). `demo`: daily S&P 500 and VIX of 2014 to 2018 bridged to minutes. `es_5min`: E-mini, five-minute bars of a year, back-adjusted.
`es_hourly`: the same since 2022, hours; about half of those before June 2025 have no volume and are dropped. `mgc`: Micro Gold, minute bars of 32 contracts through their rolls, no VIX. `es_daily`: E-mini days since 1997, back-adjusted by differences, so percentages of the early years are too small.
The direction of the next session is learned from all rows of minute and hourly bars and judged by what they share; volatility from one row a day. Runs are kept under runs/markets.
"""
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
from common import HERE, write_results

import futures_nb as fnb
from futures_nb.config import DataConfig, TargetConfig, TrainConfig

DATA = Path(os.environ.get("FUTURES_NB_DATA", HERE.parent.parent / "shared" / "data"))
VIX = str(DATA / "vix" / "vix-daily.csv")


def daily_file(folder) -> str:
    """The daily file with trade dates in place of its times, which are 18:00 in New York written as UTC and called New York: the session's open, on the evening before."""
    days = pd.read_parquet(DATA / "tradingview" / "ES1_1D.parquet")
    opens = days.index.tz_localize(None).tz_localize("UTC").tz_convert("America/New_York")
    assert set(opens.strftime("%H:%M")) == {"18:00"}
    days.index = pd.DatetimeIndex((opens + pd.Timedelta("6h")).tz_localize(None).normalize(), name="date")
    path = Path(folder) / "es_daily.csv"
    days[["open", "high", "low", "close", "volume"]].to_csv(path)
    return str(path)


def markets(folder) -> dict:
    """`{name: (data, epochs)}`"""
    view = DATA / "tradingview"
    return {
        "demo": (DataConfig(), 60),
        "es_5min": (DataConfig(path=str(view / "ES1_5m.parquet"), source="tradingview", contract="ES", vix=VIX), 20),
        "es_hourly": (DataConfig(path=str(view / "ES1_1h.parquet"), source="tradingview", contract="ES", vix=VIX, on_bad="drop"), 40),
        "mgc": (DataConfig(path=str(DATA / "mgc_databento" / "mgc_1m_2020-12_2024-06.parquet"), stamp="start"), 10),
        "es_daily": (DataConfig(path=daily_file(folder), contract="ES", stamp="date", vix=VIX), 60),
    }


def key_lines(name, kind, run_dir, seconds) -> dict:
    """What stands at the top of a report, and the facts behind it."""
    f = json.loads((run_dir / "run.json").read_text())
    told = {"market": name, "kind": kind, "seconds": round(seconds, 1), "bars": f["data"]["n_rows"], "contracts": len(f["data"]["contracts"]), "first": f["data"]["first"][:10], "last": f["data"]["last"][:10],
            "rows": f["rows"]["used"], "features": len(f["features"]), "page_mb": round((run_dir / "report.html").stat().st_size / 1e6, 2)}
    if kind == "realised_vol": return told | {"sentence": f["volatility"]["sentence"], "volatility": f["volatility"]}
    s, b = f["skill"], f["backtest"]
    told |= {k: s.get(k) for k in ("sentence", "accuracy", "base_rate", "edge", "interval", "detectable", "n_independent", "rank_corr", "r2")}
    told |= {"backtest": {k: b.get(k) for k in ("net", "gross", "cost", "sharpe", "sharpe_interval", "max_drawdown", "capital")}, "significance": f.get("significance"), "rivals": f.get("rivals"), "ranking": f.get("ranking")}
    leaks = run_dir / "leaks.json"
    return told | {"leaks": json.loads(leaks.read_text()).get("sentence") if leaks.is_file() else None}


def main():
    chosen, path = sys.argv[1:] or ["demo", "es_5min", "es_hourly", "mgc", "es_daily"], HERE / "results" / "markets.json"
    with tempfile.TemporaryDirectory() as folder:
        known = markets(folder)
        for name in chosen:
            data, epochs = known[name]
            rows = [row for row in json.loads(path.read_text())["rows"] if row["market"] != name] if path.is_file() else []
            for kind in ("return", "realised_vol"):
                config = fnb.RunConfig(out=f"runs/markets/{name}_{kind}", leaks=kind == "return", data=data, target=TargetConfig(kind=kind), train=TrainConfig(epochs=epochs if kind == "return" else 60))
                if name == "es_daily": config = replace(config, rows="daily")
                shutil.rmtree(config.out, ignore_errors=True)
                start = time.perf_counter()
                rows.append(key_lines(name, kind, fnb.run(config), time.perf_counter() - start))
                print(json.dumps({k: rows[-1][k] for k in ("market", "kind", "seconds", "rows", "sentence")}))
            write_results("markets", rows)


if __name__ == "__main__": main()
