"""A stream gives the bits of the batch: on every row of a real contract, wherever it began, after its declared lookback, saved and resumed."""
import math

import numpy as np
import pandas as pd
import pytest

import futures_nb as fnb
from futures_nb.features import FAMILIES


@pytest.fixture(scope="module")
def market(es_file, data_dir):
    """The real contract with its stray bars, the real VIX, and the Nasdaq future as the other market."""
    vix = fnb.read_vix(data_dir / "vix" / "vix-daily.csv")
    nq = fnb.read_bars(data_dir / "tradingview" / "NQ1_5m.parquet", source="tradingview", contract="NQ")
    return fnb.read_bars(es_file), vix[vix.index > "2023-06-01"], nq[nq.index.get_level_values("ts") < "2025-03-01"][["close"]]


@pytest.fixture(scope="module")
def batch(market):
    bars, vix, other = market
    return fnb.make_features(bars, vix, other=other, progress=False)


def rows_of(bars):
    for (contract, ts), row in zip(bars.index, bars[["open", "high", "low", "close", "volume"]].to_dict("records")):
        yield dict(contract=contract, ts=ts, **row)


def same_bits(got, want):
    """True where two frames have the same bits."""
    return (got.to_numpy().copy().view(np.int64) == want.to_numpy().copy().view(np.int64)) | (got.isna() & want.isna()).to_numpy()


def differing(got, want):
    same = same_bits(got, want)
    return {c: int((~same[:, j]).sum()) for j, c in enumerate(want.columns) if not same[:, j].all()}


def test_every_row_of_the_real_contract(market, batch):
    bars, vix, other = market
    stream = fnb.Stream().warm(bars.iloc[:1], vix, other=other)
    assert [f.name for f in stream.features] == list(fnb.FEATURES)
    live = pd.DataFrame([stream.update(bar) for bar in rows_of(bars.iloc[1:])], bars.index[1:])
    assert list(live) == list(batch) and differing(live, batch.iloc[1:]) == {}
    assert (live.notna().mean() > 0.3).all()      # it is not NaN that was compared


@pytest.mark.parametrize("lookback", sorted({f.lookback for f in fnb.FEATURES.values()}))
def test_the_declared_lookback_is_enough(lookback, market, batch):
    bars, vix, other = market
    bars = bars[~fnb.off_session(bars)]
    names = [name for name, f in fnb.FEATURES.items() if f.lookback == lookback]
    rng, n_finite = np.random.default_rng(lookback), 0
    for start in rng.integers(0, len(bars) - lookback - 40, 3):
        stop = start + lookback - 1               # the next bar is the last of `lookback` bars
        stream = fnb.Stream(names)
        if stop > start: stream.warm(bars.iloc[start:stop], vix, other=other)
        else: stream.warm(bars.iloc[:1], vix, other=other)
        rows = bars.iloc[max(stop, 1):stop + 40]
        live = pd.DataFrame([stream.update(bar) for bar in rows_of(rows)], rows.index)
        want = batch.loc[rows.index, names]
        assert differing(live, want) == {}, f"warmed with bars {start} to {stop}"
        n_finite += live.notna().to_numpy().sum()
    assert n_finite > 0


def test_chunks_do_not_matter(market):
    """Any pieces, with the memories carried on: the same bits."""
    from futures_nb.features import feed, join_known, make_memories, make_tape
    bars, vix, other = market
    part = join_known(fnb.to_sessions(bars[~fnb.off_session(bars)]), vix, other)
    whole_tape = make_tape(part, "ESH25")
    whole = feed(FAMILIES, make_memories(FAMILIES, fnb.instrument("ES")), dict(whole_tape))
    rng = np.random.default_rng(0)
    for _ in range(2):
        memories, pieces = make_memories(FAMILIES, fnb.instrument("ES")), []
        cuts = [0, *np.sort(rng.choice(np.arange(1, len(part)), 60, replace=False)), len(part)]
        for a, b in zip(cuts, cuts[1:]): pieces.append(feed(FAMILIES, memories, {k: v if k == "tick" else v[a:b].copy() for k, v in whole_tape.items()}))
        for name in FAMILIES:
            got = np.concatenate([piece[name] for piece in pieces])
            assert got.tobytes() == whole[name].tobytes() or (same_bits(pd.DataFrame(got), pd.DataFrame(whole[name]))).all(), name


def test_saved_in_the_middle_of_a_session_and_resumed(market, batch, tmp_path):
    bars, vix, other = market
    stream = fnb.Stream().warm(bars.iloc[:40_000], vix, other=other)
    for k in (40_000, 40_777, 41_300):
        stream.save(tmp_path / "es.safetensors")
        stream = fnb.Stream.load(tmp_path / "es.safetensors")
        rows = bars.iloc[k:k + 777] if k == 40_000 else bars.iloc[k:k + 523]
        got = [stream.update(bar) for bar in rows_of(rows)]
        assert differing(pd.DataFrame(got, rows.index), batch.loc[rows.index]) == {}


def test_news_as_they_come(market, batch):
    """Closes of the VIX and of the other market, handed over when they become known."""
    bars, vix, other = market
    begin, names = bars.index[60_000][1], [name for name, f in fnb.FEATURES.items() if f.needs_vix or f.needs_other]
    stream = fnb.Stream(names).warm(bars.iloc[:60_000], vix[vix.index <= begin], other=other[other.index.get_level_values("ts") <= begin])
    later = other[other.index.get_level_values("ts") > begin].droplevel("contract")["close"]
    news, got, rows = [iter(frame.items()) for frame in (vix["vix_close"][vix.index > begin], later)], [], bars.iloc[60_000:66_000]
    ahead = [next(one, None) for one in news]
    for bar in rows_of(rows):
        told = [None, None]
        for k in (0, 1):
            if ahead[k] and ahead[k][0] <= bar["ts"]: told[k], ahead[k] = ahead[k], next(news[k], None)
        got.append(stream.update(bar, vix=told[0], other=told[1]))
    got = pd.DataFrame(got, rows.index)
    assert differing(got, batch.loc[rows.index, list(got)]) == {} and got["vix_level"].nunique() > 3


def test_several_contracts_at_once():
    bars = fnb.synth_bars(n_contracts=3, n_days=8, overlap=4, seed=5, minutes=5)
    want = fnb.make_features(bars, progress=False)
    stream, got = fnb.Stream(), {}
    for (contract, ts), row in bars.sort_index(level="ts", kind="stable").iterrows(): got[contract, ts] = stream.update(dict(row, contract=contract, ts=ts))
    live = pd.DataFrame([got[key] for key in bars.index], bars.index)
    assert differing(live, want) == {}


def test_the_other_market_has_the_same_logs():
    """The logs of numpy and of math differ in the last bit for a few prices in ten thousand: here the other market trades at such prices only."""
    ticks = np.arange(4 * 2000, 4 * 9000) / 4
    odd = ticks[np.log(ticks) != [math.log(x) for x in ticks]]
    bars = fnb.synth_bars(n_contracts=1, n_days=12, seed=2, minutes=15)
    prices = odd if len(odd) else ticks            # where there are none, any price will do
    other = pd.DataFrame({"close": np.random.default_rng(0).choice(np.sort(prices)[:20], len(bars))}, bars.index)
    names = ["spread_z", "spread_change", "hedge_ratio"]
    want = fnb.make_features(bars, features=names, other=other, progress=False)
    stream = fnb.Stream(names).warm(bars.iloc[:1], other=other)
    live = pd.DataFrame([stream.update(bar) for bar in rows_of(bars.iloc[1:])], bars.index[1:])
    assert live.notna().all(axis=1).sum() > 100 and differing(live, want.iloc[1:]) == {}


@pytest.mark.slow
def test_every_row_of_a_million():
    """1.14 million rows, twelve contracts, one bar at a time."""
    bars = fnb.synth_bars(n_contracts=12, n_days=69, overlap=4, seed=0)
    days = pd.date_range(bars.index.levels[1][0] - pd.Timedelta("400D"), bars.index.levels[1][-1], freq="1D", name="ts")
    vix = pd.DataFrame({"vix_close": 15 + 10 * np.random.default_rng(0).random(len(days))}, days)
    want = fnb.make_features(bars, vix, progress=False)
    n_values = 0
    for contract in bars.index.get_level_values("contract").unique():
        one = bars.loc[[contract]]
        stream = fnb.Stream().warm(one.iloc[:1], vix)
        live = pd.DataFrame([stream.update(bar) for bar in rows_of(one.iloc[1:])], one.index[1:])
        assert differing(live, want.loc[[contract]].iloc[1:]) == {}, contract
        n_values += int(live.notna().sum().sum())
    assert n_values > 40_000_000 and len(bars) > 1_100_000
