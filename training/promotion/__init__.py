"""Promotion: whether the challenger becomes the champion, the version that is served.

`promote.py` moves the alias (`promote`, `rollback`): start there. `comparison.py` chooses the hold-out and measures
both models on it; `gate.py` applies the rules of `mlflow.yml` to the two results.

May import `evaluation`, `dataset`, `tracking`, `config` and `recipe`; never `reports`, `tuning` or `train`.
"""
