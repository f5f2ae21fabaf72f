import sys; sys.path.insert(0, "/tmp/h/trainw")
import shim, time, torch, numpy as np, cProfile, pstats
sys.path.insert(0, "/tmp/h/trainw/base_bench")
from types import SimpleNamespace
import pandas as pd, futures_nb as fnb
from futures_nb.schema import make_index
def a_set(n, n_valid=4096):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n + n_valid, 54), dtype=np.float32)
    y = np.tanh(X[:, 0]) + 0.5 * X[:, 1] * X[:, 2] + rng.standard_normal(len(X), dtype=np.float32)
    ts = pd.date_range("2020-01-06", periods=len(X), freq="min", tz="UTC")
    rows = np.arange(len(X))
    return SimpleNamespace(X=X, y=y, weight=np.ones(len(X), np.float32), index=make_index("ESZ24", ts), t1=ts + pd.Timedelta("1min"), train=rows[:n], valid=rows[n:], test=rows[n:], columns=[f"f{j}" for j in range(54)], y_scale=1.0, fold=None, scaler=None)
torch.set_num_threads(1)
n = 200_000
d = a_set(n)
from futures_nb.nets import MLP
from futures_nb.train import fit
def go(): return fit(MLP(54, hidden=(128, 64), seed=1), d, epochs=1, batch_size=1024, progress=False, live=False, device="cpu")
def plain():
    net = torch.nn.Sequential(torch.nn.Linear(54,128), torch.nn.ReLU(), torch.nn.Linear(128,64), torch.nn.ReLU(), torch.nn.Linear(64,1), torch.nn.Flatten(0))
    opt = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True); loss = torch.nn.HuberLoss()
    X, y = torch.from_numpy(d.X[:n]), torch.from_numpy(d.y[:n]); o = torch.randperm(n); X, y = X[o], y[o]
    for a in range(0, n, 1024):
        opt.zero_grad(); loss(net(X[a:a+1024]), y[a:a+1024]).backward(); opt.step()
def bare():
    x = torch.randn(1024, 54); W = [torch.randn(54,128), torch.randn(128,64), torch.randn(64,1)]
    for _ in range(n // 1024):
        h1 = x @ W[0]; h2 = h1 @ W[1]; o = h2 @ W[2]
        g2 = h2.T @ o; d2 = o @ W[2].T; g1 = h1.T @ d2; d1 = d2 @ W[1].T; g0 = x.T @ d1
go(); plain(); bare()
ts = {"fit": [], "plain": [], "bare": []}
for _ in range(4):
    for name, f in (("fit", go), ("plain", plain), ("bare", bare)):
        t = time.perf_counter(); f(); ts[name].append(time.perf_counter() - t)
b = np.median(ts["bare"])
print({k: f"{n/np.median(v)/1e3:.0f}k rows/s, {np.median(v)/b:.2f} x bare" for k, v in ts.items()})
if "-p" in sys.argv:
    pr = cProfile.Profile(); pr.enable(); go(); pr.disable()
    pstats.Stats(pr).sort_stats("tottime").print_stats(28)
