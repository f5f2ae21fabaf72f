"""The audit on the book's own catalogue: no danger in what the book makes, and each fault found that is planted in it."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.audits import Audit
from futures_nb.runner import still_columns


SHORT = ["return_5", "return_60", "momentum_5", "vol_60", "signed_volume_60", "vwap_distance", "minute_sin", "weekday", "cash_hours"]


@pytest.fixture(scope="module")
def market():
    bars = fnb.demo_bars("2017-01-03", "2017-03-01")
    return fnb.front_rows(bars), fnb.make_features(bars, features=SHORT, progress=False), fnb.make_target(bars)


@pytest.fixture(scope="module")
def dataset(market):
    front, features, target = market
    keep = front & features.notna().all(axis=1).to_numpy() & target["y"].notna().to_numpy()
    features, target = features[keep].iloc[::5], target[keep].iloc[::5]
    fold = fnb.WalkForward(n_folds=2).folds(target)[0]
    features = features.drop(columns=still_columns(features.iloc[fold.train]))
    return features, fnb.make_dataset(features, target, fold)


@pytest.mark.slow
def test_catalogue_on_the_embedded_market_has_no_danger():
    bars = fnb.demo_bars("2017-01-03", "2017-05-20")
    seen = fnb.audit(fnb.make_features(bars, fnb.read_vix(), progress=False), y=fnb.make_target(bars))
    assert seen.verdicts == {}, seen


def test_features_and_target_of_the_embedded_market_have_no_danger(market):
    _, features, target = market
    assert fnb.audit(features, y=target).verdicts == {}


def test_dataset_and_its_scaler_have_no_danger(dataset):
    features, data = dataset
    for seen in (fnb.audit(data), fnb.audit(data, raw=features), fnb.audit(features, data.scaler)):
        assert seen.verdicts == {}, seen


def test_auto_scaled_dataset_has_no_danger(market, dataset):
    features, data = dataset
    _, _, target = market
    auto = fnb.make_dataset(features, target.loc[features.index], data.fold, scaler="auto")
    assert fnb.audit(auto).verdicts == {} and fnb.audit(auto, raw=features).verdicts == {}


def test_planted_faults_are_named_in_a_dataset(dataset):
    import dataclasses
    features, data = dataset
    raw = features.loc[data.x_index].to_numpy(np.float32)
    swapped = data.X.copy()
    swapped[:, [0, 3]] = swapped[:, [3, 0]]
    hole = data.X.copy()
    hole[5, 2] = np.nan
    mixed = np.where((np.arange(len(raw)) // 64 % 5 == 0)[:, None], raw, data.X)
    cases = {"SCALER_COLUMNS": swapped, "RAW_NONFINITE": hole, "SCALER_BYPASS": mixed}
    for verdict, X in cases.items():
        seen = fnb.audit(dataclasses.replace(data, X=X), raw=features)
        assert set(seen.verdicts) == {verdict}, (verdict, seen)
        assert Audit.from_dict(seen.to_dict()).verdicts == seen.verdicts
    assert set(fnb.audit(dataclasses.replace(data, X=raw)).verdicts) >= {"SCALER_BYPASS"}   # without the raw columns
    y = data.y.copy()
    y[7] = np.inf
    assert fnb.audit(dataclasses.replace(data, y=y)).verdicts == {"TARGET_NONFINITE": ["y"]}


def test_page_escapes_names_and_colours_nothing_by_hand():
    frame = pd.DataFrame({"<script>": np.r_[np.random.default_rng(0).normal(size=500), 1e12]})
    page = fnb.audit(frame)._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "prefers-color-scheme:dark" in page
