"""The Spark engine, for logs that outgrow one machine. Needs the extra `spark` and Java 17 or later."""

import os
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import polars as pl

from features.common.clock import micros
from features.common.errors import InputError
from features.common.threads import THREADS
from features.event_log.log import EventLog
from features.event_log.schema import EVENT_SCHEMA, LATER_COLUMNS
from features.tables.engine import Lazy

LOCAL = f"local[{THREADS}]"


class SparkEngine:
    """An `Engine` on a Spark session: a cluster's (`spark://host:port`), or this machine's cores.

    Aggregation runs on the cluster; the finished tables come to this process as Arrow. On a cluster the log's path
    must be one that every worker can read.
    """

    def __init__(self, master: str = LOCAL) -> None:
        """Raises `InputError` without pyspark or without Java, or where the master cannot be reached."""
        try:
            from pyspark.errors import PySparkException
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise InputError(
                "the engine spark needs pyspark; install the extra: pip install 'the-usual[spark]'"
            ) from error
        settings = {
            "spark.ui.enabled": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            "spark.log.level": "ERROR",
            "spark.ui.showConsoleProgress": "false",
            # On few cores a thousand tiny tasks cost more than the work in them.
            **({"spark.sql.shuffle.partitions": str(2 * THREADS)} if master.startswith("local") else {}),
        }
        builder = SparkSession.builder.master(master).appName("the-usual")
        for key, value in settings.items():
            builder = builder.config(key, value)
        if master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # a server binds to loopback unless told otherwise
        try:
            self.session = builder.getOrCreate()
        except (PySparkException, RuntimeError) as error:
            raise InputError(
                f"Spark did not start on {master}: {str(error).splitlines()[0]}. It needs Java 17 or later on the PATH "
                "or in JAVA_HOME, and a master that can be reached"
            ) from error

    def scan(self, log: EventLog) -> Lazy:
        from pyspark.sql import functions

        files = [str(log.path.resolve() / "events" / partition.file) for partition in log.partitions]
        if not files:
            return self.frame(pl.DataFrame(schema=EVENT_SCHEMA))
        events = self.session.read.option("mergeSchema", "true").parquet(*files)
        for column in LATER_COLUMNS:
            if column not in events.columns:
                events = events.withColumn(column, functions.lit(None).cast("string"))
        events = events.select(*EVENT_SCHEMA)
        if log.span:
            first, last = map(micros, log.span)
            events = events.where(f"unix_micros(timestamp) BETWEEN {first} AND {last}")
        return self._lazy(events)

    def frame(self, table: pl.DataFrame) -> Lazy:
        plain = table.with_columns(pl.col(pl.Categorical).cast(pl.String))
        return self._lazy(self.session.createDataFrame(plain.to_arrow(compat_level=pl.CompatLevel.oldest())))

    def with_micros(self, frame: Lazy, column: str, name: str) -> Lazy:
        from pyspark.sql import functions

        return self._lazy(frame.to_native().withColumn(name, functions.unix_micros(column)))

    def materialize(self, frame: Lazy) -> Lazy:
        return self._lazy(frame.to_native().localCheckpoint())

    def collect(self, frames: Sequence[Lazy]) -> list[pl.DataFrame]:
        return [pl.DataFrame(pl.from_arrow(f.to_native().toArrow())) for f in frames]

    def close(self) -> None:
        """Stop the Spark session."""
        self.session.stop()

    @staticmethod
    def _lazy(native: Any) -> Lazy:
        return nw.from_native(native)
