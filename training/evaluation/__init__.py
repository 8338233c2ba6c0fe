"""How well a recommender ranks: metrics, baselines, bootstrap intervals, backtests."""
