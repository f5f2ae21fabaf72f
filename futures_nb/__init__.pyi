# Written by docs/stub.py from the table in __init__.py; do not edit.
from .schema import (
    DataError as DataError,
    Instrument as Instrument,
    add_instrument as add_instrument,
    contract_month as contract_month,
    instrument as instrument,
    make_index as make_index,
    parse_contract as parse_contract,
    sort_by_expiry as sort_by_expiry,
)
from .sessions import (
    check_calendar as check_calendar,
    off_session as off_session,
    session_table as session_table,
    to_sessions as to_sessions,
    trade_dates as trade_dates,
)
from .synth import (
    synth_bars as synth_bars,
)
from .testing import (
    assert_causal as assert_causal,
    assert_local as assert_local,
)
from .health import (
    assert_healthy as assert_healthy,
    assert_scale_free as assert_scale_free,
    assert_window as assert_window,
    check_feature as check_feature,
    health_table as health_table,
)
from .bars import (
    read_bars as read_bars,
)
from .quality import (
    QualityReport as QualityReport,
    check_bars as check_bars,
)
from .roll import (
    first_notice_date as first_notice_date,
    front_rows as front_rows,
    last_trade_date as last_trade_date,
    roll_schedule as roll_schedule,
)
from .series import (
    continuous as continuous,
)
from .asof import (
    join_asof as join_asof,
    read_vix as read_vix,
)
from .store import (
    Store as Store,
)
from .demo import (
    demo_bars as demo_bars,
)
from .vpoc import (
    point_of_control as point_of_control,
    session_profiles as session_profiles,
    value_area as value_area,
    volume_profile as volume_profile,
)
from .developing import (
    developing_profile as developing_profile,
    poc_migration as poc_migration,
)
from .shape import (
    explore_profile as explore_profile,
    plot_profile as plot_profile,
    poc_runs as poc_runs,
    profile_shape as profile_shape,
    untouched_pocs as untouched_pocs,
)
from .composite import (
    composite_profile as composite_profile,
    naked_poc as naked_poc,
)
from .windows import (
    rolling_session_sum as rolling_session_sum,
)
from .realized import (
    bipower_variation as bipower_variation,
    garman_klass_variance as garman_klass_variance,
    jump_share as jump_share,
    parkinson_variance as parkinson_variance,
    realized_measures as realized_measures,
    realized_semivariances as realized_semivariances,
    realized_variance as realized_variance,
    rogers_satchell_variance as rogers_satchell_variance,
)
from .garch import (
    GarchFit as GarchFit,
    fit_garch as fit_garch,
)
from .garchvol import (
    garch_fits as garch_fits,
    garch_vol as garch_vol,
)
from .har import (
    combine_forecasts as combine_forecasts,
    diebold_mariano as diebold_mariano,
    forecast_losses as forecast_losses,
    garch_forecasts as garch_forecasts,
    har_forecast as har_forecast,
    model_confidence_set as model_confidence_set,
    naive_forecasts as naive_forecasts,
    qlike as qlike,
)
from .hurst import (
    fractional_noise as fractional_noise,
    hurst_curve as hurst_curve,
    hurst_exponent as hurst_exponent,
    hurst_null as hurst_null,
    plot_hurst as plot_hurst,
)
from .memory import (
    rolling_hurst as rolling_hurst,
)
from .wavelet import (
    modwt as modwt,
    wavelet_energy as wavelet_energy,
    wavelet_trend as wavelet_trend,
    wavelet_variance as wavelet_variance,
)
from .coint import (
    cointegration as cointegration,
    next_contract as next_contract,
)
from .features import (
    FEATURES as FEATURES,
    Feature as Feature,
    FeatureError as FeatureError,
    feature as feature,
    make_features as make_features,
)
from .stream import (
    Stream as Stream,
)
from .labels import (
    label_uniqueness as label_uniqueness,
)
from .barriers import (
    known_volatility as known_volatility,
    touch_barriers as touch_barriers,
)
from .targets import (
    check_fitted as check_fitted,
    describe_target as describe_target,
    inverse_target as inverse_target,
    make_target as make_target,
)
from .splits import (
    Fold as Fold,
    WalkForward as WalkForward,
    plot_folds as plot_folds,
)
from .kfold import (
    CombinatorialPurged as CombinatorialPurged,
    Nested as Nested,
    PurgedKFold as PurgedKFold,
    assemble_paths as assemble_paths,
    inner_split as inner_split,
    lookback_of as lookback_of,
    plot_paths as plot_paths,
)
from .scaling import (
    RobustScaler as RobustScaler,
    StandardScaler as StandardScaler,
)
from .scalers import (
    Log1pScaler as Log1pScaler,
    PowerScaler as PowerScaler,
    QuantileScaler as QuantileScaler,
    WinsorScaler as WinsorScaler,
)
from .rolling import (
    RollingScaler as RollingScaler,
)
from .autoscale import (
    AutoScaler as AutoScaler,
    make_scaler as make_scaler,
)
from .dataset import (
    Dataset as Dataset,
    make_dataset as make_dataset,
)
from .distributions import (
    clip_table as clip_table,
    column_facts as column_facts,
    distribution_fits as distribution_fits,
    drift_between as drift_between,
    tail_table as tail_table,
)
from .series_tests import (
    arch_lm as arch_lm,
    ljung_box as ljung_box,
    rows_apart as rows_apart,
    unit_root_tests as unit_root_tests,
)
from .exploration import (
    Exploration as Exploration,
)
from .exploring import (
    explore as explore,
)
from .trials import (
    one_trial as one_trial,
    use_ledger as use_ledger,
)
from .heads import (
    Head as Head,
)
from .nets import (
    MLP as MLP,
    ResidualMLP as ResidualMLP,
)
from .sequence import (
    AttentionNet as AttentionNet,
    ConvNet as ConvNet,
)
from .ensemble import (
    Ensemble as Ensemble,
)
from .losses import (
    cross_entropy as cross_entropy,
    direction as direction,
    huber as huber,
    pinball as pinball,
    student as student,
)
from .optim import (
    WeightAverage as WeightAverage,
    lr_at as lr_at,
    make_optimizer as make_optimizer,
)
from .step import (
    Fuse as Fuse,
    train_step as train_step,
)
from .step_by_hand import (
    StepByHand as StepByHand,
    why_autograd as why_autograd,
)
from .distributed import (
    check_replicas as check_replicas,
    launch as launch,
    shard_net as shard_net,
)
from .checkpoint import (
    Checkpoints as Checkpoints,
)
from .train import (
    Fit as Fit,
    Interrupted as Interrupted,
    fit as fit,
    interrupted_fit as interrupted_fit,
    predict as predict,
)
from .baselines import (
    Baseline as Baseline,
    fit_baseline as fit_baseline,
    predict_baseline as predict_baseline,
)
from .certificate import (
    output_bound as output_bound,
)
from .audits import (
    audit as audit,
)
from .devices import (
    preflight as preflight,
)
from .recorder import (
    Contract as Contract,
    Recorder as Recorder,
)
from .diagnosing import (
    Diagnosis as Diagnosis,
    diagnose as diagnose,
)
from .losslog import (
    diagnose_log as diagnose_log,
)
from .scores import (
    skill as skill,
)
from .backtest import (
    Cost as Cost,
    run_backtest as run_backtest,
)
from .daybook import (
    DayBook as DayBook,
    day_book as day_book,
    synth_days as synth_days,
)
from .leaks import (
    LEAKS as LEAKS,
    LeakPrices as LeakPrices,
    leak_prices as leak_prices,
)
from .power import (
    PowerPanel as PowerPanel,
    power_panel as power_panel,
)
from .significance import (
    deflated_sharpe as deflated_sharpe,
    effective_trials as effective_trials,
    minimum_track_record as minimum_track_record,
    pbo as pbo,
    probabilistic_sharpe as probabilistic_sharpe,
    superior_ability as superior_ability,
)
from .ledger import (
    Ledger as Ledger,
)
from .ratios import (
    sharpe_test as sharpe_test,
)
from .probability import (
    judge_probabilities as judge_probabilities,
    judge_quantiles as judge_quantiles,
    student_quantiles as student_quantiles,
)
from .comparison import (
    equal_loss as equal_loss,
    rank_forecasts as rank_forecasts,
)
from .sizing import (
    capital_needed as capital_needed,
    margin_account as margin_account,
    session_volatility as session_volatility,
    size_positions as size_positions,
)
from .regimes import (
    past_regimes as past_regimes,
    plot_regimes as plot_regimes,
    regime_table as regime_table,
)
from .versus import (
    beat_table as beat_table,
    compare_forecasts as compare_forecasts,
    compare_with_baselines as compare_with_baselines,
)
from .coverage import (
    CoverageTable as CoverageTable,
    coverage_table as coverage_table,
    plot_intervals as plot_intervals,
)
from .conformal import (
    Conformal as Conformal,
    conformal_intervals as conformal_intervals,
    conformal_quantiles as conformal_quantiles,
)
from .moves import (
    noise_columns as noise_columns,
)
from .importance import (
    Importance as Importance,
    fit_each as fit_each,
    permutation_importance as permutation_importance,
)
from .ablation import (
    Ablation as Ablation,
    ablate as ablate,
    families_of as families_of,
)
from .response import (
    Dependence as Dependence,
    Response as Response,
    gradient_importance as gradient_importance,
    partial_dependence as partial_dependence,
)
from .report import (
    make_report as make_report,
)
from .beside import (
    Beside as Beside,
    compare as compare,
    compare_command as compare_command,
)
from .continuing import (
    report_notebook as report_notebook,
)
from .config import (
    RunConfig as RunConfig,
    load_config as load_config,
)
from .exporting import (
    export_net as export_net,
)
from .runner import (
    run as run,
)
from .artifact import (
    Pipeline as Pipeline,
    load_pipeline as load_pipeline,
    save_pipeline as save_pipeline,
)
from .searching import (
    Search as Search,
    open_test as open_test,
    search as search,
)

__version__: str
__all__: list[str]
