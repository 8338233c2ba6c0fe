"""A simulated shop: its items, people and visits, the events they leave, and the truth behind them."""
