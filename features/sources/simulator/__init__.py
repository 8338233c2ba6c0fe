"""A simulated shop: its items, people and visits, the events they leave, and the true probabilities behind them.

Open `shop.py` first: it draws everything in order and yields the log. `config.py` has every setting and the presets;
`items`, `calendar`, `people`, `choice`, `visits` and `habits` are what happens in the shop, `events` and `frames`
what its log records of it. `truth.py` computes from the same tables what a perfect recommender would know.

May import `features.common` and `features.event_log`; `simulated.py` in the room above is its source.
"""
