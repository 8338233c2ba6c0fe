"""Fit and measure what is predicted of each customer."""
