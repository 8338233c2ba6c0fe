"""Engines by name: what the command line's `--engine` accepts."""

from features.common.errors import InputError
from features.tables.engine import Engine, PolarsEngine
from features.tables.spark import SparkEngine


def open_engine(name: str) -> Engine:
    """Open `polars`, `spark` (this machine's cores), or Spark at `spark://host:port` or another master URL.

    Raises `InputError` for other names, and where Spark does not start.
    """
    if name == "polars":
        return PolarsEngine()
    if name == "spark":
        return SparkEngine()
    if name.startswith(("spark://", "local[", "yarn", "k8s://")):
        return SparkEngine(name)
    raise InputError(f"unknown engine {name!r}; there are polars, spark and spark://host:port")
