"""Training data: what rankers are fitted and evaluated on.

- `folds.py`, to read first: boundaries, and everything that is refitted at one.
- `queries.py`: the visitors that are ranked for after a boundary, with the items relevant to each.
- `examples.py`: the labelled candidates of queries, as a ranker learns from them.
- `candidate_budgets.py`: how many candidates each generator may contribute.

Imports `features`, `models` and `training.recipe`; no other room of training.
"""
