"""A script as a user would write it, to be read by a type checker and never run."""
from pathlib import Path

import numpy as np
import pandas as pd

import futures_nb as fnb

es: fnb.Instrument = fnb.instrument("ES")
tick: float = es.tick
bars: pd.DataFrame = fnb.read_bars("ES 03-25.Last.txt", source="ninjatrader", on_bad="drop")
vix: pd.DataFrame = fnb.read_vix("vix-daily.csv")
both: pd.DataFrame = fnb.join_asof(bars, vix)
report: fnb.QualityReport = fnb.check_bars(bars)
sessions: pd.DataFrame = fnb.to_sessions(bars)
schedule = fnb.roll_schedule(bars, rule="volume")
series = fnb.continuous(bars, schedule, adjust="ratio")
store = fnb.Store("bars")
store.write(bars)
again: pd.DataFrame = store.read(contracts=["ESH25"])

profile: pd.Series = fnb.volume_profile(bars, tick=tick)
poc: float = fnb.point_of_control(profile)
low, high = fnb.value_area(profile, share=0.7)
daily = fnb.session_profiles(bars, tick=tick)
found: fnb.GarchFit = fnb.fit_garch(bars["close"], model="gjr", dist="t")
sigma: pd.Series = fnb.garch_vol(bars["close"], model="garch", refit=20)
hurst = fnb.hurst_exponent(np.zeros(1000), method="dfa")

features: pd.DataFrame = fnb.make_features(bars, vix=vix, features=["return_1"], n_jobs=1, progress=False)
target: pd.DataFrame = fnb.make_target(bars, kind="return", horizon="1D")
folds: list[fnb.Fold] = fnb.WalkForward(n_folds=5).folds(target)
dataset: fnb.Dataset = fnb.make_dataset(features, target, folds[0], scaler="robust")
done: fnb.Fit = fnb.fit(fnb.ResidualMLP, dataset, epochs=2)
predictions: pd.DataFrame = fnb.predict(done, dataset)
skill = fnb.skill(predictions)
result = fnb.run_backtest(predictions, bars, cost=fnb.Cost(commission=2.0))
money: pd.Series = result.daily

config = fnb.RunConfig(out="runs/es")
folder: Path = fnb.run(config)
verdict: fnb.Diagnosis = fnb.diagnose(folder)
pipeline: fnb.Pipeline = fnb.load_pipeline(fnb.save_pipeline(folder, "es-pipeline"))
forecasts: pd.DataFrame = pipeline.predict(bars, vix)  # type: ignore[attr-defined]  # given to the class in a later cell, which no checker sees
searched: fnb.Search = fnb.search(config, {"train.learning_rate": (1e-4, 1e-2, "log")}, study="runs/study")
best: fnb.RunConfig = searched.best
ledger: fnb.Ledger = fnb.Ledger("runs/ledger.jsonl")
n_trials: int = ledger.n_trials("ES")  # type: ignore[attr-defined]
