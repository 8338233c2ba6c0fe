"""Training data: queries at boundaries, their candidates with labels, and candidate budgets."""
