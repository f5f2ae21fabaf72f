"""The price of each leak: declarations over many seeds, intervals that hold what they promise, and real markets."""
import json

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed

import futures_nb as fnb
from futures_nb.daybook import day_book, known_columns, synth_days
from futures_nb.leaks import LEAKS, MEASURES, Lab, accuracy_interval, block_length, declared_moves, honest, measure, pair_of, seen_means, simulated_moves
from futures_nb.schema import DataError

SEEDS = range(2000)
DECLARED = dict(   # accuracy, rank correlation, Sharpe
    vix_joined_by_date=(1, 1, 1), bar_stamped_at_open=(1, 1, 1), poc_of_whole_session=(1, 1, 1), centred_window=(1, 1, 1), denoised_both_ways=(1, 1, 1),
    garch_on_all=(0, 0, 0), back_adjusted_level=(0, 0, 0), backward_fill=(1, 1, 1), calendar_of_all_rows=(1, 1, 1), rank_over_all_rows=(-1, -1, -1),
    scaled_by_later_vol=(0, 0, 0), rows_chosen_by_outcome=(1, 1, 1), scaler_before_split=(0, 0, 0), columns_chosen_on_all_rows=(1, 1, 1), no_purge=(1, 1, None),
    no_embargo=(0, 0, 0), random_split=(1, 1, 1), judged_on_train_rows=(1, 1, 1), same_days_of_next_contract=(1, 1, 1), early_stopping_on_test=(1, 1, 1),
    best_seed_on_test=(1, 1, 1), same_bar_fill=(0, 0, 1), best_price_of_bar=(0, 0, 1))


@pytest.fixture(scope="module")
def nq(data_dir):
    return fnb.read_bars(data_dir / "tradingview" / "NQ1_1h.parquet", contract="NQ", stamp="start")


@pytest.fixture(scope="module")
def vix(data_dir): return fnb.read_vix(data_dir / "vix" / "vix-daily.csv")


@pytest.mark.slow
def test_each_leak_moves_what_it_declares():
    told = declared_moves(simulated_moves(SEEDS, n_jobs=2))
    assert set(told.index.get_level_values("leak")) == set(LEAKS)
    assert told["holds"].all(), told[~told["holds"]].to_string()


def _held(seed):
    value, low, high = accuracy_interval(honest(Lab(synth_days("walk", 504, seed), seed=seed)), n_draws=400)
    return value, low <= 0 <= high


@pytest.mark.slow
def test_the_clean_line_is_right_one_time_in_two():
    value, held = np.array(Parallel(n_jobs=2)(delayed(_held)(seed) for seed in SEEDS)).T
    room = 1.96 * np.sqrt(0.95 * 0.05 / len(SEEDS))
    assert abs(held.mean() - 0.95) <= room, held.mean()
    assert abs(value.mean()) < 3.5 * value.std() / np.sqrt(len(SEEDS)), value.mean()


def test_a_leaky_column_in_the_honest_line_is_seen(monkeypatch):
    import futures_nb.leaks as leaks

    def careless(book): return known_columns(book) | {"vix_1": book.vix_close - book.vix}
    monkeypatch.setattr(leaks, "known_columns", careless)
    value, held = np.array([_held(seed) for seed in range(40)]).T
    assert held.mean() < 0.85 and value.mean() > 0.03, (held.mean(), value.mean())


def test_every_leak_differs_from_its_honest_line_in_one_thing():
    lab = Lab(synth_days("walk", 504, 3), seed=3)
    for leak in LEAKS.values():
        fair, leaky = pair_of(leak, lab)
        assert np.array_equal(fair.y, leaky.y, equal_nan=True), leak.name
        assert not (np.isfinite(leaky.y_hat) & ~np.isfinite(fair.y_hat)).any(), leak.name
        assert fair.horizon == leaky.horizon


def test_declarations_are_those_of_this_list():
    assert {name: tuple(leak.moves.get(m) for m in MEASURES) for name, leak in LEAKS.items()} == DECLARED


def test_means_of_the_past_hold_no_label_that_is_not_known():
    rng = np.random.default_rng(0)
    ts = np.cumsum(rng.integers(1, 5, 300))
    t1, y, group = ts + 7, np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300)), rng.integers(0, 6, 300)
    for row, value in enumerate(seen_means(y, t1, ts, group)):
        known = y[(group == group[row]) & (t1 <= ts[row]) & np.isfinite(y)]
        assert value == pytest.approx(known.mean() if len(known) else 0.0, abs=1e-12)


@pytest.mark.parametrize("line", {leak.honest: None for leak in LEAKS.values()}, ids=lambda f: str(getattr(f, "keywords", "") or f.__name__))
def test_honest_lines_do_not_know_the_future(line):
    """Everything after a test block is changed, labels that reach into it as well: what was forecast up to there stays, to the last bit."""
    book, changed = synth_days("walk", 504, 4), synth_days("walk", 504, 4)
    whole = line(Lab(book, seed=4))
    stop = int(Lab(book).folds(whole.horizon, 8 if whole.horizon > 1 else 4)[1].test[-1])
    for name in ("move", "night", "price", "poc_before", "vix", "gap"):
        x = getattr(changed, name).copy()
        x[stop + 1:] = 3 * x[stop + 1:] + 0.01
        setattr(changed, name, x)
    for target in changed.targets.values(): target.loc[(target["t1"] > book.ts[stop]).to_numpy(), "y"] = 0.5
    assert np.array_equal(line(Lab(changed, seed=4)).y_hat[:stop + 1], whole.y_hat[:stop + 1], equal_nan=True)


@pytest.mark.parametrize("name", [n for n, leak in LEAKS.items() if leak.stage == "choice"])
def test_an_honest_choice_does_not_see_the_labels_it_is_judged_by(name):
    """The labels of the last test block are turned round: an honest choice forecasts the same there, the leak another thing."""
    def there(line, is_turned):
        lab = Lab(synth_days("walk", 504, 4), seed=4)
        whole = line(Lab(synth_days("walk", 504, 4), seed=4))
        last = lab.folds(whole.horizon)[-1].test
        if is_turned:
            for target in lab.book.targets.values(): target.iloc[last, target.columns.get_loc("y")] *= -1
        return line(lab).y_hat[last]
    assert np.array_equal(there(LEAKS[name].honest, True), there(LEAKS[name].honest, False), equal_nan=True)
    assert not np.array_equal(there(LEAKS[name].run, True), there(LEAKS[name].run, False), equal_nan=True)


def test_nq_prices(nq, vix):
    prices = fnb.leak_prices(nq, vix)
    t = prices.table["low"].unstack()
    assert (t.loc[["vix_joined_by_date", "bar_stamped_at_open", "poc_of_whole_session", "centred_window", "random_split"], "rank_corr"] > 0.1).all()
    nothing = prices.table.loc[[("scaler_before_split", m) for m in MEASURES]]
    assert (nothing["low"] <= 0).all() and (nothing["high"] >= 0).all()
    assert list(prices.not_here) == ["same_days_of_next_contract"]
    told = json.loads(json.dumps(prices.to_dict()))
    assert len(told["rows"]) == len(LEAKS) - 1 and told["info"]["n_days"] > 1000
    assert "joined by date" in prices._repr_html_() and "points" in prices.sentence


def test_the_vix_that_is_known_pays_nothing(nq, vix):
    """Stamped honestly, the same closes are worth little; joined by date, much: the stamp is the whole price."""
    lab = Lab(day_book(nq, vix))
    late = vix.copy()
    late.index = late.index - pd.Timedelta(12, "h")    # the same closes, known at dawn of their day
    early = Lab(day_book(nq, late))
    assert measure(honest(early))[1] > measure(honest(lab))[1] + 0.1


def test_columns_of_the_user_join_the_line(nq, vix):
    features = fnb.make_features(nq, features=["weekday"], progress=False)
    prices = fnb.leak_prices(nq, vix, features=features, leaks="vix_joined_by_date")
    assert prices.info["columns"][-1] == "weekday"
    with pytest.raises(DataError, match="features have no row"):
        fnb.leak_prices(nq, vix, features=features.iloc[5000:], leaks="vix_joined_by_date")


def test_too_few_days_are_refused():
    with pytest.raises(DataError, match="trade dates in one run"): fnb.leak_prices(fnb.synth_bars(n_contracts=1, n_days=40, seed=0))


def test_the_honest_line_pays_from_fill_to_fill_behind_purge_and_embargo():
    lab = Lab(synth_days("bounce", 504, 6))
    fair = honest(lab)
    assert np.array_equal(fair.pnl, np.sign(fair.y_hat) * lab.book.hold, equal_nan=True) and not np.array_equal(lab.book.hold, lab.book.hold_same, equal_nan=True)
    assert all(f.info["n_embargoed"] > 0 and f.info["n_purged"] > 0 for f in lab.folds())
    assert all(f.info["n_embargoed"] == 0 and f.info["n_purged"] > 0 for f in lab.folds(embargo="0D"))
    purged, kept = lab.folds(20, 8), lab.folds(20, 8, ends_at_once=True)
    assert all(a.info["n_purged"] >= 15 and b.info["n_purged"] == 0 and len(b.train) > len(a.train) and np.array_equal(a.test, b.test) for a, b in zip(purged, kept))


def test_blocks_are_five_labels_and_at_most_a_third():
    assert [block_length(1, 300), block_length(20, 1000), block_length(20, 240)] == [10, 105, 80]


def test_a_hole_ends_a_run_and_the_longest_is_the_book():
    bars = fnb.synth_bars(n_contracts=1, n_days=200, overlap=0, minutes=30, seed=8)
    date = fnb.to_sessions(bars)["trade_date"]
    days = date.unique()
    book = day_book(bars[~date.isin(days[60:66]).to_numpy()])
    assert str(book.date[0]) == str(days[66])[:10] and book.info["n_outside_run"] + len(book) == book.info["n_front"]
    assert np.isnan(book.move[0]) and np.isfinite(book.move[1:]).all()
