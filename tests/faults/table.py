"""Plant, record, diagnose, and count."""
import tempfile
import time
from collections import Counter

from futures_nb.diagnosing import diagnose

from .kinds import FAULTS
from .world import healthy


def try_fault(kind, seed):
    """`(diagnosis, seconds of the diagnosis)` of one planted fault."""
    with tempfile.TemporaryDirectory() as folder:
        FAULTS[kind][2](seed, folder).run()
        start = time.perf_counter()
        return diagnose(folder), time.perf_counter() - start


def score(kind, found):
    """`"right"`, `"stage"` (right stage, other cause of it), `"unknown"`, `"missed"` (called healthy) or `"wrong"`."""
    stage, names = FAULTS[kind][:2]
    if found.name in names: return "right"
    if found.name == "UNKNOWN": return "unknown"
    if found.name == "HEALTHY": return "missed"
    return "stage" if found.verdicts[0].stage == stage else "wrong"


def healthy_worlds(n):
    """`(seed, options)` of healthy runs: heavy tails, rates ten times as high, batches of four, dropout, bfloat16, both norms."""
    for seed in range(n):
        k = seed % 8
        yield 1000 + seed, [dict(tail=2.1), dict(lr=1e-2 if seed % 16 < 8 else None, opt_kind="adamw"), dict(batch_size=4), dict(dropout=0.3, net_kind="layernorm"), dict(autocast=True, loop="plain"),
                            dict(net_kind="layernorm"), dict(net_kind="batchnorm"), dict(tail=2.1, with_scaler=True, with_raw=True)][k]


def try_healthy(seed, options):
    with tempfile.TemporaryDirectory() as folder:
        healthy(seed, folder, **options).run()
        return diagnose(folder)


def full_table(n_seeds=5, n_healthy=300):
    """Prints one line per kind and the totals; returns the counts."""
    total, slowest = Counter(), 0.0
    print(f"{'kind':28} {'stage':>5}  {'right of':>8}  named")
    for kind, (stage, names, _, silent) in FAULTS.items():
        results = [try_fault(kind, seed) for seed in range(n_seeds)]
        slowest = max([slowest, *(t for _, t in results)])
        counts = Counter(score(kind, d) for d, _ in results)
        total += counts
        named = Counter(f"{d.name}{'' if d.name in names else ' (!)'}" for d, _ in results)
        print(f"{kind:28} {stage:5}  {counts['right']:3} of {n_seeds}  {', '.join(f'{k} x{v}' for k, v in named.items())}{'  [silent]' if silent else ''}", flush=True)
    n = sum(total.values())
    print(f"{len(FAULTS)} kinds x {n_seeds} seeds: cause right {total['right'] / n:.1%}, stage right {(total['right'] + total['stage']) / n:.1%}, "
          f"wrong name {(total['wrong'] + total['stage']) / n:.1%}, unknown {total['unknown'] / n:.1%}, called healthy {total['missed'] / n:.1%}; slowest diagnosis {slowest:.1f} s")
    alarms = [(seed, options, d.name) for seed, options in healthy_worlds(n_healthy) if not (d := try_healthy(seed, options)).is_healthy]
    print(f"{n_healthy} healthy runs: {len(alarms)} alarms {alarms[:5]}")
    return total, alarms
