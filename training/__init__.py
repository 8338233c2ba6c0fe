"""Training: from an event log to a registered model.

`train.py` is the way through: boundaries, folds, candidate budgets, examples, rankers, a hold-out, a bundle. `run.py`
wraps it as the commands do. The settings are in `recipe.py` (what is trained) and `config.py` (MLflow and the gate).

Rooms, each importing only those before it: `dataset` (folds, queries, examples), `evaluation` and `customers` (metrics
of rankings, predictions of customers), `promotion` and `tuning`. `reports` and `tracking` stand beside them: `tracking`
may import `reports`, and neither is imported by `dataset`, `evaluation` or `customers`. From other packages, training
imports `features` and `models`, never `serving`.
"""

import features as features  # fixes thread counts before any library here starts its own
