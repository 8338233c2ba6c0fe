"""Point-in-time tables from the event log: customers, items, histories, interactions, as of one instant."""
