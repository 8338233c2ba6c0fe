"""What each customer is expected to do next: propensity, churn risk, lifetime value, next category."""
