"""A book that runs: from raw futures contracts to an honestly judged model.

`import futures_nb as fnb` costs next to nothing: each name is loaded from its chapter on first use (PEP 562), so torch,
arch and matplotlib wait until something needs them.
"""

__version__ = "0.1.0"

from importlib import import_module as _import_module

_CHAPTERS = {
    "schema": "DataError Instrument add_instrument contract_month instrument make_index parse_contract sort_by_expiry",
    "sessions": "check_calendar off_session session_table to_sessions trade_dates",
    "synth": "synth_bars",
    "testing": "assert_causal assert_local",
    "health": "assert_healthy assert_scale_free assert_window check_feature health_table",
    "bars": "read_bars",
    "quality": "QualityReport check_bars",
    "roll": "first_notice_date front_rows last_trade_date roll_schedule",
    "series": "continuous",
    "asof": "join_asof read_vix",
    "store": "Store",
    "demo": "demo_bars",
    "vpoc": "point_of_control session_profiles value_area volume_profile",
    "developing": "developing_profile poc_migration",
    "shape": "explore_profile plot_profile poc_runs profile_shape untouched_pocs",
    "composite": "composite_profile naked_poc",
    "windows": "rolling_session_sum",
    "realized": "bipower_variation garman_klass_variance jump_share parkinson_variance realized_measures realized_semivariances realized_variance rogers_satchell_variance",
    "garch": "GarchFit fit_garch",
    "garchvol": "garch_fits garch_vol",
    "har": "combine_forecasts diebold_mariano forecast_losses garch_forecasts har_forecast model_confidence_set naive_forecasts qlike",
    "hurst": "fractional_noise hurst_curve hurst_exponent hurst_null plot_hurst",
    "memory": "rolling_hurst",
    "wavelet": "modwt wavelet_energy wavelet_trend wavelet_variance",
    "coint": "cointegration next_contract",
    "features": "FEATURES Feature FeatureError feature make_features",
    "stream": "Stream",
    "labels": "label_uniqueness",
    "barriers": "known_volatility touch_barriers",
    "targets": "check_fitted describe_target inverse_target make_target",
    "splits": "Fold WalkForward plot_folds",
    "kfold": "CombinatorialPurged Nested PurgedKFold assemble_paths inner_split lookback_of plot_paths",
    "scaling": "RobustScaler StandardScaler",
    "scalers": "Log1pScaler PowerScaler QuantileScaler WinsorScaler",
    "rolling": "RollingScaler",
    "autoscale": "AutoScaler make_scaler",
    "dataset": "Dataset make_dataset",
    "distributions": "clip_table column_facts distribution_fits drift_between tail_table",
    "series_tests": "arch_lm ljung_box rows_apart unit_root_tests",
    "exploration": "Exploration",
    "exploring": "explore",
    "trials": "one_trial use_ledger",
    "heads": "Head",
    "nets": "MLP ResidualMLP",
    "sequence": "AttentionNet ConvNet",
    "ensemble": "Ensemble",
    "losses": "cross_entropy direction huber pinball student",
    "optim": "WeightAverage lr_at make_optimizer",
    "step": "Fuse train_step",
    "step_by_hand": "StepByHand why_autograd",
    "distributed": "check_replicas launch shard_net",
    "checkpoint": "Checkpoints",
    "fitted": "Fit predict",
    "train": "Fit Interrupted fit interrupted_fit predict",
    "baselines": "Baseline fit_baseline predict_baseline",
    "certificate": "output_bound",
    "audits": "audit",
    "devices": "preflight",
    "recorder": "Contract Recorder",
    "diagnosing": "Diagnosis diagnose",
    "losslog": "diagnose_log",
    "scores": "skill",
    "backtest": "Cost run_backtest",
    "daybook": "DayBook day_book synth_days",
    "leaks": "LEAKS LeakPrices leak_prices",
    "power": "PowerPanel power_panel",
    "significance": "deflated_sharpe effective_trials minimum_track_record pbo probabilistic_sharpe superior_ability",
    "ledger": "Ledger",
    "ratios": "sharpe_test",
    "probability": "judge_probabilities judge_quantiles student_quantiles",
    "comparison": "equal_loss rank_forecasts",
    "sizing": "capital_needed margin_account session_volatility size_positions",
    "regimes": "past_regimes plot_regimes regime_table",
    "versus": "beat_table compare_forecasts compare_with_baselines",
    "coverage": "CoverageTable coverage_table plot_intervals",
    "conformal": "Conformal conformal_intervals conformal_quantiles",
    "moves": "noise_columns",
    "importance": "Importance fit_each permutation_importance",
    "ablation": "Ablation ablate families_of",
    "response": "Dependence Response gradient_importance partial_dependence",
    "report": "make_report",
    "beside": "Beside compare compare_command",
    "continuing": "report_notebook",
    "config": "RunConfig load_config",
    "exporting": "export_net",
    "runner": "run",
    "artifact": "Pipeline load_pipeline save_pipeline",
    "searching": "Search open_test search",
}
_HOME = {name: module for module, names in _CHAPTERS.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"futures_nb has no {name!r}")
    value = getattr(_import_module(f"futures_nb.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(set(globals()) | set(__all__))
