"""Leaks, planted: small broken features, each with what it sees too early, and honest twins that must pass.

Every function takes bars and a daily VIX and returns one number per bar. `SEEN_BY` says which check is strong enough: `causal` is
`assert_causal` as it is called by default, `window` is `assert_window`, for what happens too seldom to lie at one of its cuts.
"""
import numpy as np
import pandas as pd

import futures_nb as fnb

LEAKS, TWINS, SEEN_BY = {}, {}, {}


def leak(function=None, *, seen_by="causal"):
    """Decorator: put a broken feature into `LEAKS`."""
    def add(f):
        LEAKS[f.__name__], SEEN_BY[f.__name__] = f, seen_by
        return f
    return add if function is None else add(function)


def twin(function):
    """Decorator: put an honest feature into `TWINS`."""
    TWINS[function.__name__] = function
    return function


def market():
    """Three contracts of five-minute bars with two rolls, fourteen sessions with a change of the clocks inside, and a daily VIX."""
    bars = fnb.synth_bars(n_contracts=3, n_days=6, overlap=2, minutes=5, start="2022-03-07")
    days = pd.bdate_range("2022-02-21", "2022-03-25")
    known = (days + pd.Timedelta("15:15:00")).tz_localize("America/Chicago").tz_convert("UTC").as_unit("us")
    close = 20 * np.exp(np.cumsum(0.05 * np.random.default_rng(0).standard_normal(len(days))))
    return bars, pd.DataFrame({"vix_close": close}, pd.DatetimeIndex(known, name="ts"))


# What the functions below share.

def ts_of(bars): return bars.index.get_level_values("ts")


def by_contract(x, f): return x.groupby(level="contract", sort=False).transform(f)


def days_of(bars): return pd.Series(fnb.trade_dates(ts_of(bars)), bars.index)


def by_session(bars, column, f): return bars.groupby([bars.index.get_level_values("contract"), days_of(bars)], sort=False)[column].transform(f)


def log_return(bars): return by_contract(np.log(bars["close"]), lambda c: c.diff())


def array(f):
    """A function of one contract's numbers, without NaN, as a transform of `close`."""
    return lambda bars: by_contract(bars["close"], lambda c: f(np.array(c, dtype=float)))


def next_row(x): return x.groupby(level="contract", sort=False).shift(-1)


def minute_of(bars): return fnb.to_sessions(bars)["minute"]


def as_known(bars, other): return fnb.join_asof(bars, other)[other.columns[0]]


# The next bar.

@leak
def next_close(bars, vix):
    """The close of the next bar."""
    return next_row(bars["close"]) / bars["close"]


@leak
def next_return(bars, vix):
    """The percent change of the next bar."""
    return next_row(by_contract(bars["close"], lambda c: c.pct_change()))


@leak
def lagging_span(bars, vix):
    """The close of 26 bars later, as a chart draws it 26 bars back."""
    return by_contract(bars["close"], lambda c: c.shift(-26)) / bars["close"]


@leak
def stamped_a_bar_early(bars, vix):
    """Its own bars, stamped at their start instead of their end, joined by time."""
    early = bars[["close"]].set_axis(fnb.make_index(bars.index.get_level_values("contract"), ts_of(bars) - pd.Timedelta("5min")))
    return fnb.join_asof(bars[["open"]], early)["close"] / bars["close"]


@leak
def label(bars, vix):
    """The target: the return to the close of the next session."""
    return fnb.make_target(bars)["y"]


@leak
def swing_high(bars, vix):
    """Whether a bar's high is the highest of the five bars before and the five after it."""
    return by_contract(bars["high"], lambda h: h.rolling(11, center=True).max()).eq(bars["high"]).astype(float)


@leak
def next_row_of_any_contract(bars, vix):
    """The volume of the next row in order of time, whichever contract it is of."""
    order = np.argsort(ts_of(bars).asi8, kind="stable")
    return bars["volume"].iloc[order].shift(-1).reindex(bars.index)


# The whole file.

@leak
def z_score(bars, vix):
    """A z-score by the mean and deviation of the whole file."""
    return (bars["volume"] - bars["volume"].mean()) / bars["volume"].std()


@leak
def rank(bars, vix):
    """The rank of the return among all returns of the file."""
    return log_return(bars).rank(pct=True)


@leak
def min_max(bars, vix):
    """The place of the close between the lowest and the highest of the file."""
    return (bars["close"] - bars["close"].min()) / (bars["close"].max() - bars["close"].min())


@leak
def quantile_bins(bars, vix):
    """The decile of the volume among all volumes."""
    return pd.Series(pd.qcut(bars["volume"], 10, labels=False, duplicates="drop"), bars.index).astype(float)


@leak
def winsorised(bars, vix):
    """Returns clipped at the quantiles of the whole file."""
    r = log_return(bars)
    return r.clip(r.quantile(0.01), r.quantile(0.99))


@leak
def outliers_removed(bars, vix):
    """Returns without those beyond three deviations of the whole file."""
    r = log_return(bars)
    return r.where(r.abs() < 3 * r.std())


@leak
def filled_with_the_median(bars, vix):
    """A moving average whose warm-up holds the median of the file."""
    x = by_contract(bars["volume"], lambda v: v.rolling(20).mean())
    return x.fillna(x.median())


@leak
def detrended(bars, vix):
    """The close without the straight line through all of the file."""
    from scipy.signal import detrend
    return array(detrend)(bars)


@leak
def hedge_ratio(bars, vix):
    """The spread of returns and volume changes, by one regression over the whole file."""
    x, y = by_contract(np.log(bars["volume"] + 1), lambda v: v.diff()), log_return(bars)
    return (y - y.cov(x) / x.var() * x if len(bars) > 30 else y * np.nan).rename("spread")


@leak
def principal_component(bars, vix):
    """The first principal component of the five columns, fitted on the whole file."""
    from sklearn.decomposition import PCA
    if len(bars) < 30: return pd.Series(np.nan, bars.index)
    return pd.Series(PCA(1, svd_solver="full").fit_transform(np.log(bars + 1))[:, 0], bars.index)


@leak
def regimes(bars, vix):
    """The regime of each bar, by clusters fitted on the whole file."""
    from sklearn.cluster import KMeans
    if len(bars) < 30: return pd.Series(np.nan, bars.index)
    x = np.column_stack([np.log(bars["high"] / bars["low"]), np.log(bars["volume"] + 1)])
    return pd.Series(KMeans(3, n_init=1, max_iter=20, random_state=0).fit_predict(x), bars.index).astype(float)


@leak
def garch_volatility(bars, vix):
    """The conditional volatility of a GARCH whose parameters are fitted on the whole file."""
    from arch import arch_model
    r = 100 * log_return(bars).fillna(0.0)
    if len(r) < 30: return pd.Series(np.nan, bars.index)
    fit = arch_model(r.to_numpy(), mean="Zero", rescale=False).fit(disp="off", show_warning=False, options=dict(maxiter=30))
    return pd.Series(np.asarray(fit.conditional_volatility), bars.index)


@leak
def seasonal_factor(bars, vix):
    """Volume over the mean of its minute in all sessions, later ones too."""
    return bars["volume"] / bars["volume"].groupby(minute_of(bars)).transform("mean")


@leak
def hour_encoded(bars, vix):
    """The mean next return of each hour of the day."""
    return next_row(log_return(bars)).groupby(minute_of(bars) // 60).transform("mean")


@leak
def sign_chosen(bars, vix):
    """Momentum, turned so that it agrees with what followed over the whole file."""
    x = by_contract(bars["close"], lambda c: c.pct_change(12))
    return x * np.sign(x.corr(next_row(log_return(bars))) if len(bars) > 30 else np.nan)


@leak
def in_millions_if_large(bars, vix):
    """Volume, in another unit if any volume of the file is huge."""
    return bars["volume"] / (1e6 if bars["volume"].max() > 1e9 else 1.0)


@leak
def log_if_never_zero(bars, vix):
    """The log of volume, of one more if any volume of the file is zero."""
    return np.log(bars["volume"] + (bars["volume"].min() == 0))


@leak
def number_of_rows(bars, vix):
    """A span of a tenth of the file."""
    return by_contract(bars["close"], lambda c: c.rolling(len(bars) // 100).mean())


@leak
def one_part_in_a_billion(bars, vix):
    """The close, and in its twelfth digit the number of bars."""
    return bars["close"] * (1 + 1e-12 * (len(bars) % 100))


@leak
def told_in_attrs(bars, vix):
    """The price of most volume of the session, from what the frame carries in its attributes."""
    poc = bars.attrs.get("truth", {}).get("poc", {})
    names, days = bars.index.get_level_values("contract"), days_of(bars).dt.strftime("%Y-%m-%d")
    return pd.Series([poc.get(c, {}).get(d, np.nan) for c, d in zip(names, days)], bars.index)


# Filters that look both ways.

@leak
def centred_mean(bars, vix):
    """A mean of 21 bars, the bar in their middle."""
    return by_contract(bars["close"], lambda c: c.rolling(21, center=True).mean())


@leak
def ewm_both_ways(bars, vix):
    """An exponential mean forwards, then backwards."""
    return by_contract(bars["close"], lambda c: c.ewm(span=10).mean()[::-1].ewm(span=10).mean()[::-1])


@leak
def filtfilt(bars, vix):
    """A filter without delay: scipy's, run both ways."""
    from scipy.signal import butter, filtfilt
    return array(lambda x: filtfilt(*butter(2, 0.1), x, padlen=min(9, len(x) - 1)))(bars)


@leak
def savitzky_golay(bars, vix):
    """A local polynomial around each bar."""
    from scipy.signal import savgol_filter
    return array(lambda x: savgol_filter(x, 11, 2) if len(x) > 11 else x * np.nan)(bars)


@leak
def wavelet_denoised(bars, vix):
    """Wavelet coefficients of the whole contract, the small ones set to zero, and back."""
    import pywt
    def denoise(x):
        parts = pywt.wavedec(x, "db4", level=3)
        return pywt.waverec([parts[0], *(pywt.threshold(p, 1.0) for p in parts[1:])], "db4")[:len(x)]
    return array(lambda x: denoise(x) if len(x) > 64 else x * np.nan)(bars)


@leak
def stationary_wavelet(bars, vix):
    """The detail of a stationary wavelet transform, which is circular."""
    import pywt
    return array(lambda x: pywt.swt(np.append(x, np.repeat(x[-1:], -len(x) % 4)), "haar", level=2)[0][1][:len(x)])(bars)


@leak
def fourier_low_pass(bars, vix):
    """The slow part of the whole contract's spectrum."""
    def low(x):
        spectrum = np.fft.rfft(x)
        spectrum[len(spectrum) // 10:] = 0
        return np.fft.irfft(spectrum, len(x))
    return array(lambda x: low(x) if len(x) > 20 else x * np.nan)(bars)


@leak
def spline(bars, vix):
    """A cubic spline through every twelfth close."""
    from scipy.interpolate import CubicSpline
    return array(lambda x: CubicSpline(np.arange(len(x))[::12], x[::12])(np.arange(len(x))) if len(x) > 48 else x * np.nan)(bars)


@leak
def smoothed_state(bars, vix):
    """A local level, filtered forwards and smoothed backwards (Rauch, Tung, Striebel)."""
    def smooth(x, gain=0.2):
        level = pd.Series(x).ewm(alpha=gain, adjust=False).mean().to_numpy()
        return pd.Series(level[::-1]).ewm(alpha=gain, adjust=False).mean().to_numpy()[::-1]
    return array(smooth)(bars)


@leak
def highest_still_to_come(bars, vix):
    """A running maximum, from the end."""
    return by_contract(bars["high"], lambda h: h[::-1].cummax()[::-1]) / bars["close"]


# Holes.

@leak
def filled_from_behind(bars, vix):
    """A warm-up filled from behind."""
    return by_contract(bars["close"], lambda c: c.rolling(20).mean().bfill())


@leak
def interpolated(bars, vix):
    """Gaps, drawn straight to the next value."""
    return by_contract(bars["close"], lambda c: c.where(bars["volume"].loc[c.index] % 7 != 0).interpolate())


# Days.

@leak
def close_of_the_day(bars, vix):
    """The close of the session, at each of its minutes."""
    return by_session(bars, "close", "last") / bars["close"]


@leak
def daily_resample(bars, vix):
    """Daily bars of the calendar date, joined by date."""
    daily = bars.groupby([bars.index.get_level_values("contract"), ts_of(bars).normalize()])["close"].last()
    return pd.Series(daily.reindex(pd.MultiIndex.from_arrays([bars.index.get_level_values("contract"), ts_of(bars).normalize()])).to_numpy(), bars.index)


@leak
def high_of_the_day(bars, vix):
    """The high of the whole session."""
    return by_session(bars, "high", "max") / bars["close"]


@leak
def low_of_the_day(bars, vix):
    """The low of the whole session."""
    return by_session(bars, "low", "min") / bars["close"]


@leak
def share_of_the_day(bars, vix):
    """Volume so far over the volume of the whole session."""
    return by_session(bars, "volume", "cumsum") / by_session(bars, "volume", "sum")


def _profiles(bars): return fnb.session_profiles(bars)


def _at_date(bars, profiles, column, shift=0):
    """A session's value at every bar of the session (0) or of the next (1)."""
    x = profiles[column].groupby(level="contract", sort=False).shift(shift)
    return pd.Series(x.reindex(pd.MultiIndex.from_arrays([bars.index.get_level_values("contract"), days_of(bars)])).to_numpy(), bars.index)


@leak
def poc_of_the_day(bars, vix):
    """The session's point of control as it will be at its end."""
    return bars["close"] - _at_date(bars, _profiles(bars), "poc")


@leak
def value_area_of_the_day(bars, vix):
    """Whether the close is above the value area that the session will end with."""
    return (bars["close"] > _at_date(bars, _profiles(bars), "value_area_high")).astype(float)


@leak
def merge_off_by_one(bars, vix):
    """The profile of the session before, merged a session too early at its last bar."""
    profiles, last = _profiles(bars), ts_of(bars).tz_convert("America/Chicago").hour == 16
    return _at_date(bars, profiles, "poc", 1).where(~last, _at_date(bars, profiles, "poc", -1))


@leak
def last_of_the_day(bars, vix):
    """Only the last bar of a session knows something: the open of the next one."""
    return next_row(bars["open"]).where(ts_of(bars).tz_convert("America/Chicago").hour == 16, 0.0)


@leak
def open_of_the_day_early(bars, vix):
    """Only at the cash open: the close of the bar after it."""
    local = ts_of(bars).tz_convert("America/Chicago")
    return next_row(bars["close"]).where((local.hour == 8) & (local.minute == 30), 0.0)


@leak
def first_of_the_day(bars, vix):
    """Only at the first bar of a session: the close of the bar after it."""
    day = days_of(bars)
    return next_row(bars["close"]).where(day.groupby(level="contract").shift(1) != day, 0.0)


# Seldom.

@leak
def on_fridays(bars, vix):
    """The next close, on Fridays only."""
    return next_row(bars["close"]).where(days_of(bars).dt.day_of_week == 4, 0.0)


@leak(seen_by="window")
def one_bar_in_500(bars, vix):
    """The next close, in one bar of 500."""
    honest = by_contract(bars["close"], lambda c: c.rolling(2).mean())
    return honest.where(bars.groupby(level="contract").cumcount() % 500 != 250, next_row(bars["close"])) / bars["close"]


@leak
def clock_of_winter(bars, vix):
    """The close of the same hour on the wall clock of winter, which in summer is an hour ahead."""
    local = ts_of(bars).tz_convert("America/Chicago").tz_localize(None)
    summer = (local - (ts_of(bars).tz_localize(None) - pd.Timedelta("6h"))) > pd.Timedelta(0)
    ahead = bars["close"].groupby(level="contract").shift(-12)
    return bars["close"].where(~summer, ahead) / bars["close"]


@leak
def at_the_change_of_clocks(bars, vix):
    """Only in the hour after a change of the clocks: the close an hour later."""
    at = pd.Timestamp("2022-03-13 22:00", tz="UTC")
    hour = (ts_of(bars) > at) & (ts_of(bars) <= at + pd.Timedelta("1h"))
    return bars["close"].where(~hour, bars["close"].groupby(level="contract").shift(-12)) / bars["close"]


# Contracts.

@leak
def back_adjusted(bars, vix):
    """The level of a series whose past is moved by every later roll."""
    return fnb.continuous(bars, adjust="difference")["close"].droplevel("contract").reindex(ts_of(bars)).set_axis(bars.index)


@leak
def front_by_the_day(bars, vix):
    """Whether the contract is the one that trades most on this day, the day's end included."""
    total = by_session(bars, "volume", "sum")
    return total.eq(total.groupby(level="ts").transform("max")).astype(float)


@leak
def at_rolls(bars, vix):
    """Only on the day on which the next contract overtakes: the share of the day that has traded."""
    total, share = by_session(bars, "volume", "sum"), share_of_the_day(bars, vix)
    daily = total.groupby([bars.index.get_level_values("contract"), days_of(bars)]).last()
    front = daily.groupby(level=1).idxmax().map(lambda key: key[0])
    rolls = front.index[(front != front.shift(1)) & front.shift(1).notna()]
    return share.where(days_of(bars).isin(rolls), 0.0)


@leak
def days_to_the_last_bar(bars, vix):
    """Days to the contract's last bar in the file."""
    t = pd.Series(ts_of(bars), bars.index)
    return (t.groupby(level="contract").transform("max") - t) / pd.Timedelta("1D")


@leak
def volume_of_the_contract(bars, vix):
    """The share of the contract's whole volume."""
    return by_contract(bars["volume"], "cumsum") / by_contract(bars["volume"], "sum")


@leak
def rows_left(bars, vix):
    """How many rows the contract still has."""
    return bars.groupby(level="contract").cumcount(ascending=False).astype(float)


# The VIX.

@leak
def vix_by_date(bars, vix):
    """The VIX close of the day, by date."""
    close = vix["vix_close"].set_axis(vix.index.tz_convert("America/Chicago").normalize().tz_localize(None))
    return pd.Series(close.reindex(days_of(bars)).to_numpy(), bars.index)


@leak
def vix_a_bar_early(bars, vix):
    """The VIX close one bar before it is known."""
    return as_known(bars, vix.set_axis((vix.index - pd.Timedelta("5min")).rename("ts")))


@leak
def vix_filled_from_behind(bars, vix):
    """The next VIX close that will be known."""
    place = np.minimum(vix.index.searchsorted(ts_of(bars)), len(vix) - 1)
    return pd.Series(vix["vix_close"].to_numpy()[place], bars.index)


@leak
def vix_rank(bars, vix):
    """The rank of the VIX close among all closes of the file."""
    return as_known(bars, vix.rank(pct=True))


# Honest twins.

@twin
def trailing_mean(bars, vix): return by_contract(bars["close"], lambda c: c.rolling(21).mean()) / bars["close"]


@twin
def last_return(bars, vix): return log_return(bars)


@twin
def z_score_so_far(bars, vix): return by_contract(bars["volume"], lambda v: (v - v.rolling(100).mean()) / v.rolling(100).std().clip(lower=1.0))


@twin
def ewm_forwards(bars, vix): return by_contract(bars["close"], lambda c: c.ewm(span=10).mean()) / bars["close"]


@twin
def filled_from_before(bars, vix): return by_contract(bars["close"], lambda c: c.where(bars["volume"].loc[c.index] % 7 != 0).ffill())


@twin
def high_so_far(bars, vix): return by_session(bars, "high", "cummax") / bars["close"]


@twin
def volume_so_far(bars, vix): return by_session(bars, "volume", "cumsum")


@twin
def profile_of_the_day_before(bars, vix): return bars["close"] - fnb.join_asof(bars[["close"]], _profiles(bars)[["poc", "ts"]])["poc"]


@twin
def close_of_a_bar_ago(bars, vix):
    late = bars[["close"]].set_axis(fnb.make_index(bars.index.get_level_values("contract"), ts_of(bars) + pd.Timedelta("5min")))
    return fnb.join_asof(bars[["open"]], late)["close"] / bars["close"]


@twin
def spread_to_the_first(bars, vix):
    close = bars["close"].unstack("contract")
    return bars["close"] / close.iloc[:, 0].reindex(ts_of(bars)).to_numpy() - 1


@twin
def front_as_decided(bars, vix): return pd.Series(fnb.front_rows(bars), bars.index).astype(float)


@twin
def haar_detail(bars, vix): return by_contract(bars["close"], lambda c: (c - c.shift(1)) / 2**0.5)


@twin
def vix_as_known(bars, vix): return as_known(bars, vix)


@twin
def minute_and_weekday(bars, vix): return minute_of(bars) + 10_000.0 * days_of(bars).dt.day_of_week


@twin
def rows_so_far(bars, vix): return bars.groupby(level="contract").cumcount().astype(float)
