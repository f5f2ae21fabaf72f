"""Realised measures on real markets: the signature of the noise, both laws on an uneven file, and the time a row takes."""
import numpy as np
import pytest

import futures_nb as fnb
from futures_nb.plain import SHARED, shared_run, shared_state
from futures_nb.realized import REALIZED_FEATURES, REALIZED_INPUTS, realized_run, realized_state
from futures_nb.windows import session_rows
from nasty import REAL


def inputs_of(bars):
    """The kernel's inputs for the one contract of `bars`."""
    ((rows, minute, new),), tick = session_rows(bars.index), fnb.instrument(bars.index[0][0]).tick
    b, shared = bars.iloc[rows], np.empty((len(rows), len(SHARED)))
    prices = {c: b[c].to_numpy(dtype=np.float64).copy() for c in ("open", "high", "low", "close")}
    shared_run(shared_state(None), prices["close"], minute, new, tick, shared)
    return prices | dict(zip(SHARED, np.ascontiguousarray(shared.T), strict=True)) | dict(minute=minute, new=new)


def run(x, cuts=()):
    out, memory = np.empty((len(x["minute"]), len(REALIZED_FEATURES))), realized_state(None)
    for a, b in zip([0, *cuts], [*cuts, len(out)], strict=True): realized_run(memory, *(x[k][a:b] for k in REALIZED_INPUTS), out[a:b])
    return out


def test_the_signature_of_a_liquid_future_is_flat(data_dir):
    """ES, December 2024 to February 2025: one-minute returns see within 10 % of the variance of five-minute ones."""
    bars = REAL["es_minutes"].make(data_dir)
    one, five, thirty = (fnb.realized_measures(bars, minutes=k).rv.mean() for k in (1, 5, 30))
    assert 0.9 < one / five < 1.1 and 0.8 < thirty / five < 1.2


@pytest.mark.parametrize("name", ["es_5m", "tick_bars", "nq_1h"])
def test_both_laws_on_a_real_file(name, data_dir):
    bars = REAL[name].make(data_dir).iloc[:15_000]
    x, rng = inputs_of(bars), np.random.default_rng(0)
    whole, first = run(x), np.flatnonzero(x["new"])
    assert run(x, np.sort(rng.choice(np.arange(1, len(whole)), 300, replace=False))).tobytes() == whole.tobytes()
    sessions = [-(-(f["lookback"] - 2) // 1380) for f in REALIZED_FEATURES]
    for start in rng.integers(1, first[12], 3):
        late = {k: v[start:].copy() for k, v in x.items()}
        late["new"][0], late["returns"][0] = True, np.nan
        fed = run(late)
        for j, k in enumerate(sessions):
            at = first[first.searchsorted(start) + k + 1]
            assert fed[at - start:, j].tobytes() == whole[at:, j].tobytes(), REALIZED_FEATURES[j]["name"]
            assert np.isfinite(whole[at:, j]).mean() > 0.9
