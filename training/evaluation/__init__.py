"""Evaluation: how well recommenders rank on a window whose outcome is known.

`evaluate.py` measures one recommender on queries (`training.dataset.queries`) against baselines and, for simulated
shops, an oracle: start there. `backtest.py` does so for a trained bundle on a later window of an event log.

- `metrics.py`: NDCG@10, recall@20, … for all queries at once; `bootstrap.py`: their 95% intervals
- `baselines.py`: simple methods to beat; `oracle.py`: the best ranking possible, where the truth is known
- `seen_items.py`: which items are no discovery; `breakdown.py`: metrics by segment, traffic and length of the visit
- `revenue_tradeoff.py`: quality against revenue, when prices count in a ranker's objective

May import `training.dataset`, `models` and `features`; never `reports`, `tracking`, `promotion` or `tuning`.
"""
