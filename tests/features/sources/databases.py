"""A MariaDB server of a test's own, from Debian's package."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

SERVER = shutil.which("mariadbd") or shutil.which("mysqld") or next(
    (str(path) for path in map(Path, ("/usr/sbin/mariadbd", "/usr/sbin/mysqld")) if path.exists()), None
)  # fmt: skip


@contextmanager
def run_mariadb(directory: Path) -> Iterator[str]:
    """Run a server with an empty database `shop` on a free port; yields its SQLAlchemy URL."""
    assert SERVER
    data = directory / "data"
    user = ["--user=root"] if os.geteuid() == 0 else []
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
    subprocess.run([*install, "--skip-test-db", *user], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        SERVER, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
        f"--socket={directory}/m.sock", f"--pid-file={directory}/m.pid", "--innodb-flush-log-at-trx-commit=0", *user,
    ]  # fmt: skip
    with (directory / "server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            engine = sa.create_engine(f"mysql+pymysql://root@127.0.0.1:{port}/", poolclass=sa.NullPool)
            _wait(engine, server)
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE DATABASE shop CHARACTER SET utf8mb4")
            yield f"mysql://root@127.0.0.1:{port}/shop"
        finally:
            server.terminate()


def _wait(engine: sa.Engine, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            engine.connect().close()
            return
        except sa.exc.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
