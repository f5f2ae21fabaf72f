"""What the judgement of a run says of volatility on a real market, and that it sees no future."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.judgement import MODELS, front_variances, loss_apart, session_variances, volatility_facts, volatility_forecasts
from futures_nb.labels import row_dates


@pytest.fixture(scope="module")
def es(data_dir):
    """A year of real five-minute bars, continuous and back-adjusted by a difference."""
    bars = fnb.read_bars(data_dir / "tradingview" / "ES1_5m.parquet", source="tradingview", contract="ES")
    bars.attrs["read"] = bars.attrs.get("read", {}) | {"adjusted": "difference"}
    return bars


def test_session_variance_is_the_slow_sum(es):
    daily, dates = session_variances(es), row_dates(es.index)
    close = es["close"].to_numpy()
    for k in (1, 7, 100):
        end = es.index.get_loc(daily.index[k])
        rows = np.flatnonzero(dates == dates[end])
        assert rows[-1] == end
        moves = [np.log(close[i] / close[i - 1]) for i in rows]
        assert daily["rv"].iloc[k] == pytest.approx(sum(m * m for m in moves), rel=1e-12)
        assert daily["ret"].iloc[k] == pytest.approx(sum(moves), rel=1e-9)
    assert np.isnan(daily["rv"].iloc[0])


def test_on_a_real_year_har_beats_the_last_session_and_the_long_mean(es):
    daily = front_variances(es)
    rows = session_variances(es).index
    rows = rows[rows.get_level_values("ts").isin(daily.index[daily["rv"].notna()][100:-1])]
    models = volatility_forecasts(es, rows)
    assert set(models) == set(MODELS) - {"har_vix", "known", "ridge", "boosting"} and models.attrs["left_out"] == {"har_vix": "no VIX was given"}
    after = daily["rv"].shift(-1).reindex(rows.get_level_values("ts")).to_numpy()
    frame = pd.DataFrame({"y": np.sqrt(after), "t1": daily.index[daily.index.get_indexer(rows.get_level_values("ts")) + 1]}, rows)
    frame = frame[frame["y"] > 0]
    said = {m: frame.assign(y_hat=np.sqrt(models.loc[frame.index, m])) for m in ("har", *(m for m in models if m != "har"))}
    told = volatility_facts(said, judge="last")
    loss = {r["name"]: r["loss"] for r in told["table"]}
    assert loss["har"] < loss["last"] and loss["har"] < loss["mean"], loss
    assert loss_apart(said["har"], said["last"]).mean() == pytest.approx(loss["har"] - loss["last"], rel=1e-6)


def test_the_future_changes_no_forecast(es):
    daily = front_variances(es)
    rows = session_variances(es).index
    rows = rows[rows.get_level_values("ts").isin(daily.index[daily["rv"].notna()][110:140])]
    whole = volatility_forecasts(es, rows)
    rng, later = np.random.default_rng(0), es.index.get_level_values("ts") > rows[14][1]
    noisy = es.copy()
    noisy.loc[later, ["open", "high", "low", "close"]] *= np.exp(rng.normal(0, 0.2, (later.sum(), 1)))
    np.testing.assert_array_equal(volatility_forecasts(noisy, rows[:15]).to_numpy(), whole.iloc[:15].to_numpy())


def test_a_session_that_never_moved_gives_no_forecast_and_stops_nothing():
    days = fnb.session_table("ES", "2022-01-03", "2022-07-29").pipe(lambda t: t[t["rth_open"].notna()]).index[:120] + pd.Timedelta("17h")     # UTC: open on half days, too
    close = 4000 + 0.25 * np.random.default_rng(0).integers(-80, 80, 120).cumsum()
    close[100] = close[99]                                   # the day's close is that of the day before
    bars = pd.DataFrame({c: close for c in ("open", "high", "low", "close")} | {"volume": 1.0}, fnb.make_index("ES", days.tz_localize("UTC")))
    rows = bars.index[95:115]
    said = volatility_forecasts(bars, rows)
    assert said.loc[rows[5]].isna().all() and said["last"].drop(rows[5]).notna().all()
    with pytest.raises(fnb.DataError, match="is not the last bar of a trade date in front"):
        volatility_forecasts(bars, rows.set_levels(rows.levels[1] - pd.Timedelta("1h"), level=1))


def test_columns_that_daily_bars_cannot_have_are_named():
    from futures_nb.runner import never_known
    for minutes, expected in ((None, ["no_such_day"]), (60, [])):
        if minutes is None: bars = pd.DataFrame({"close": 4000.0}, fnb.make_index("ES", (pd.bdate_range("2022-01-03", periods=30) + pd.Timedelta("22h")).tz_localize("UTC")))
        else: bars = fnb.synth_bars(n_contracts=1, n_days=10, minutes=minutes)
        features = pd.DataFrame({"here": 1.0, "no_such_day": np.nan}, bars.index)
        assert never_known(bars, features) == expected


def test_power_counts_the_labels_of_the_rows_given():
    bars = fnb.synth_bars(n_contracts=1, n_days=30, minutes=30)
    target = fnb.make_target(bars)
    last = target[~pd.Series(row_dates(target.index)).duplicated(keep="last").to_numpy()].dropna()
    assert fnb.power_panel(last).facts["n_independent"] == pytest.approx(len(last))
    assert last["weight"].sum() < 2                          # the weights were made among all rows
