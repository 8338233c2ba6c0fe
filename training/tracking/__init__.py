"""Tracking: training runs in MLflow, and the registered model with its versions.

`log_run.py` logs a run and registers its bundle as challenger: start there. `registry.py` finds the bundle behind a
model URI and publishes the champion for running servers.

- `mlflow_client.py`: connection, experiment and UI; import it before `mlflow`; `relocate.py`: addresses of a moved home
- `metric_names.py`: how metrics are named and grouped in MLflow; `event_log_dataset.py`: the log as a data set

May import `training.result`, `config`, `recipe`, `evaluation` and `reports`; never `promotion`, `tuning` or `train`.
"""
