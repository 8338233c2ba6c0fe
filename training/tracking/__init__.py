"""Runs, metrics and models in MLflow."""
