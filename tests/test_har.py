"""HAR on real realised variances of futures with the real VIX: the table of the chapter, and what must hold in it."""
import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.har import forecast_losses, garch_forecasts, har_regressors, naive_forecasts, next_variance
from nasty import REAL


def the_ring(bars, vix, min_obs):
    """Forecasts of every model for the sessions of `bars`, and the variances: of the bars, and of the move from the session before to the open."""
    m = fnb.realized_measures(bars).iloc[1:].set_index("ts")
    rv = m.rv + m.overnight
    close = bars["close"].groupby(fnb.trade_dates(bars.index.get_level_values("ts"))).last()
    returns = pd.Series(np.log(close).diff().to_numpy()[1:], rv.index)
    out = naive_forecasts(rv).join(garch_forecasts(returns, rv, refit=63, min_obs=min_obs))
    out = out.assign(har=fnb.har_forecast(rv, log=False, min_obs=min_obs), har_log=fnb.har_forecast(rv, min_obs=min_obs), har_vix=fnb.har_forecast(rv, vix=vix, min_obs=min_obs))
    return out.assign(equal=fnb.combine_forecasts(out), inverse_loss=fnb.combine_forecasts(out, rv, weights="qlike")), rv


def table_of(bars, vix, min_obs):
    forecasts, rv = the_ring(bars, vix, min_obs)
    q, mse = (forecast_losses(forecasts, rv, loss) for loss in ("qlike", "mse"))
    best, best_mse = fnb.model_confidence_set(q, 0.1), fnb.model_confidence_set(mse, 0.1)
    dm = {c: fnb.diebold_mariano(q[c], q["har_log"]).statistic for c in q if c != "har_log"}
    table = pd.DataFrame({"QLIKE": best.mean_loss, "p": best.p_value, "in set": best.is_in_set, "MSE 1e-8": 1e8 * best_mse.mean_loss, "p ": best_mse.p_value, "in set ": best_mse.is_in_set, "DM": pd.Series(dm)})
    return table.loc[best.index].round(4), q, forecasts, rv


MARKETS = {"es_5m": 120, "nq_1h": 250}     # sessions before the first fit

@pytest.fixture(scope="module", params=MARKETS)
def found(request, data_dir):
    vix = fnb.read_vix(data_dir / "vix" / "vix-daily.csv")
    return request.param, *table_of(REAL[request.param].make(data_dir), vix, MARKETS[request.param])


def test_table(found):
    """`pytest tests/test_har.py -k table -s` prints the table of the chapter."""
    name, table, q, _, _ = found
    print(f"\n{name}: {len(q)} sessions, {q.index[0]:%Y-%m-%d} to {q.index[-1]:%Y-%m-%d}\n{table.to_string()}")
    assert table["in set"].any()


def test_har_with_the_vix_is_the_best_by_qlike(found):
    name, table, q, _, _ = found
    assert table.index[0] == "har_vix"
    assert set(table.index[table["in set"]]) == {"es_5m": {"har_vix"}, "nq_1h": {"har_vix", "inverse_loss"}}[name]
    assert table.loc["har_vix", "DM"] < -1.9 < 0 < table.loc[["gjr", "garch", "ewma", "mean_22", "random_walk"], "DM"].min()
    assert table["in set "].sum() == {"es_5m": 6, "nq_1h": 10}[name]


def test_forecasts_against_statsmodels(found, data_dir):
    """At some sessions, from the rows whose target was known, with the last VIX known at the session's end."""
    import statsmodels.api as sm
    name, _, _, forecasts, rv = found
    vix = fnb.read_vix(data_dir / "vix" / "vix-daily.csv")["vix_close"]
    x = har_regressors(rv)
    x["vix"] = [np.log((vix[:ts].iloc[-1] / 100) ** 2 / 252) for ts in rv.index]
    y = np.log(next_variance(rv))
    for t in np.linspace(MARKETS[name] + 30, len(rv) - 1, 5).astype(int):
        past = x.iloc[:t].dropna().index
        fitted = sm.OLS(y[past], sm.add_constant(x.loc[past])).fit()
        want = np.exp(fitted.params.to_numpy() @ np.append(1, x.iloc[t]) + fitted.scale / 2)
        np.testing.assert_allclose(forecasts["har_vix"].iloc[t], np.clip(want, np.exp(y[past].min()), np.exp(y[past].max())), rtol=1e-8)


def test_no_forecast_knows_what_comes_after(found, data_dir):
    name, _, _, forecasts, rv = found
    vix = fnb.read_vix(data_dir / "vix" / "vix-daily.csv")
    k = len(rv) - 40
    spoiled, later = rv.copy(), vix.copy()
    spoiled.iloc[k + 1:], later.loc[later.index > rv.index[k]] = 1.0, 99.0
    got = fnb.har_forecast(spoiled, vix=later, min_obs=MARKETS[name])
    assert got[:k + 1].to_numpy().tobytes() == forecasts["har_vix"][:k + 1].to_numpy().tobytes()
    assert (got[k + 1:] != forecasts["har_vix"][k + 1:]).all()


def test_a_vix_by_dates_leaks_on_holidays_and_nowhere_else(found, data_dir):
    """Since 2022 the VIX is published on holidays too, after the futures' early close: dates give it away, moments do not."""
    name, _, _, forecasts, rv = found
    dates, vix = fnb.trade_dates(rv.index), fnb.read_vix(data_dir / "vix" / "vix-daily.csv")["vix_close"]
    known, by_date = vix.index, vix.set_axis(vix.index.tz_convert("America/Chicago").tz_localize(None).normalize())
    end = pd.Series(rv.index, dates).reindex(by_date.index)
    late = (known > pd.DatetimeIndex(end)) & end.notna().to_numpy()
    assert late.sum() == {"es_5m": 8, "nq_1h": 27}[name] and by_date.index[late].min() >= pd.Timestamp("2022-01-01")
    leaking, clean = (fnb.har_forecast(rv.set_axis(dates), vix=x, min_obs=MARKETS[name]).to_numpy() for x in (by_date, by_date[~late]))
    np.testing.assert_array_equal(clean, forecasts["har_vix"].to_numpy())
    assert (leaking != clean).any()


def test_the_set_is_that_of_arch(found):
    from arch.bootstrap import MCS
    q = found[2]
    ours = fnb.model_confidence_set(q, 0.1, reps=500, block=10, seed=3)
    theirs = MCS(q, 0.1, reps=500, block_size=10, method="R", seed=3)
    theirs.compute()
    assert sorted(ours.index[ours["is_in_set"]]) == sorted(theirs.included)
    assert (ours["p_value"] == theirs.pvalues["Pvalue"].reindex(ours.index)).all()
