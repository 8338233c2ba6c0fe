"""Tuning: `usual tune` tries many recipes on one hold-out and writes the best.

- `tune.py`, to read first: the loop over trials, and the comparison of the best with the initial recipe.
- `study.py`: the trials in Optuna's storage, and the choice of the next settings from `recipe_space.py`.
- `trial_data.py`: what trials share, so that most only grow trees; `holdout_metric.py` measures them.
- `study_result.py`, `study_text.py`, `study_plots.py`, `recipe_yaml.py`: the result, as text, plots and a recipe file.
- `log_study.py`: the study in MLflow.

Imports `training.dataset`, `training.evaluation` and `training.tracking`.
"""
