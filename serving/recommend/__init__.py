"""From a request to a slate: plan, rank in batches, apply availability, arrange, answer."""
