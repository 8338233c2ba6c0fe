"""What it costs to prove a visitor: processor time per request, side by side in one run.

    python benchmarks/identity.py [--bundle DIR] [--before CHECKOUT] [--rounds 20]

A request of twelve products for a customer, sent with the secret key, is compared with the same request with a
publishable key and a visitor token: one that was seen before, as every page of a visit sends it, and one that was not.
With `--before` also with the server of another checkout of this repository. All variants take turns, a block of
requests each on one connection, so that a busy machine slows all of them; the processor time of the server counts, not
the clock. Once with a recommender that does no work, where HTTP is all there is, and once with a bundle: `--bundle`, or
a small one that is trained for it.
"""

import argparse
import http.client
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

BUNDLE = "USUAL_BENCHMARK_BUNDLE"  # the bundle that `build_app` serves
SECRET, PUBLISHABLE, VISITORS = (f"{name}-{'0123456789abcdef' * 2}" for name in ("secret", "publishable", "visitors"))
CUSTOMERS = 200


def build_app() -> object:
    """Build the server's application, in the checkout that comes first on `sys.path`; for uvicorn."""
    from models.recommender import load
    from serving.api.app import create_app
    from serving.settings import Settings

    return create_app(load(Path(os.environ[BUNDLE])), Settings(), version="1")


@dataclass
class Variant:
    """Requests of one kind to one server, and what they took of its processor."""

    name: str
    port: int
    pid: int
    requests: Iterator[tuple[bytes, dict[str, str]]]
    cpu_us: list[float] = field(default_factory=list)  # per request, by block
    ms: list[float] = field(default_factory=list)

    def run(self, connection: http.client.HTTPConnection, count: int) -> None:
        """Send a block of requests and note what it took."""
        block = list(itertools.islice(self.requests, count))
        before = _cpu_s(self.pid)
        for body, headers in block:
            start = time.perf_counter()
            connection.request("POST", "/v1/recommendations", body, headers)
            response = connection.getresponse()
            content = response.read()
            self.ms.append((time.perf_counter() - start) * 1e3)
            if response.status != 200 or b'"identity":"unproven"' in content:
                raise RuntimeError(f"{self.name}: {response.status} {content[:300]!r}")
        self.cpu_us.append((_cpu_s(self.pid) - before) / count * 1e6)


def _cpu_s(pid: int) -> float:
    """Return the processor seconds of all threads of a process, in nanoseconds' resolution (Linux)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


@contextmanager
def _server(checkout: Path, app: tuple[str, ...], environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Run an application of `checkout`; yields its port and process id."""
    import psutil  # type: ignore[import-untyped]

    from serving.deploy.server import find_free_port, run_process

    port = find_free_port()
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", *app, *options, "--port", str(port), "--app-dir", str(checkout)]
    env = {**os.environ, **environment, "PYTHONPATH": str(HERE), "USUAL_THREADS": "1"}
    env = {name: value for name, value in env.items() if name != "USUAL_OPEN"}
    with run_process(command, env, port) as url:
        (process,) = (p for p in psutil.Process().children() if str(port) in p.cmdline())
        yield int(urlsplit(url).port or 0), process.pid


def _requests(customers: list[str], key: str, tokens: Iterator[str] | None) -> Iterator[tuple[bytes, dict[str, str]]]:
    for customer in itertools.cycle(customers):
        body = json.dumps({"requests": [{"customer_id": customer}]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        yield body, headers if tokens is None else headers | {"X-Visitor-Token": next(tokens)}


def _sign(customer: str, number: int, key: Any, algorithm: str) -> str:
    import jwt

    claims = {"aud": "usual", "exp": int(time.time()) + 3600, "sub": customer, "jti": str(number)}
    return jwt.encode(claims, key, algorithm)


def measure(
    name: str, app: tuple[str, ...], customers: list[str], before: Path | None, rounds: int, block: int
) -> None:
    """Measure all variants against the same application, and print each beside the one without a token."""
    import shop

    from serving.identity.signing import new_key_pair, read_private_key

    private, public = new_key_pair()
    keys = {"HS256": VISITORS, "EdDSA": read_private_key(private)}
    environment = {
        "USUAL_SECRET_KEYS": SECRET,
        "USUAL_PUBLISHABLE_KEYS": PUBLISHABLE,
        "USUAL_VISITOR_SECRETS": VISITORS,
        "USUAL_VISITOR_PUBLIC_KEYS": public,
        "USUAL_SERVER_SECRET": f"server-{VISITORS}",
    }
    print(f"\n{name}; {rounds} blocks of {block} requests of each kind\n")
    rows: list[list[str]] = []

    def compare(*variants: Variant) -> None:
        """Let variants take turns, and add a row for each, relative to the first."""
        for n in range(-1, rounds):  # the first round warms up
            for variant in variants[:: 1 if n % 2 else -1]:
                with _connection(variant.port) as connection:
                    variant.run(connection, max(block, len(customers)) if n < 0 else block)
        for variant in variants:
            pairs = [own / first for own, first in zip(variant.cpu_us[1:], variants[0].cpu_us[1:], strict=True)]
            more = "" if variant is variants[0] else f"{100 * (statistics.median(pairs) - 1):+.1f}%"
            cpu_us = statistics.median(variant.cpu_us[1:])
            rows.append([variant.name, f"{cpu_us:,.0f}", more, f"{statistics.median(variant.ms):.2f}"])

    plain = _requests(customers, SECRET, None)
    if before is not None:  # each on a server of its own that does nothing else
        with _server(before, app, environment) as one, _server(ROOT, app, environment) as two:
            compare(Variant("the other checkout", *one, plain), Variant("this one", *two, plain))
    with _server(ROOT, app, environment) as server:
        first = [Variant("without a token", *server, plain)]
        for algorithm, key in keys.items():
            tokens = itertools.cycle([_sign(c, 0, key, algorithm) for c in customers])
            first.append(Variant(f"{algorithm}, seen before", *server, _requests(customers, PUBLISHABLE, tokens)))
        compare(*first)
        new = [Variant("without a token", *server, plain)]
        for algorithm, key in keys.items():
            fresh = (_sign(c, n, key, algorithm) for n, c in enumerate(itertools.cycle(customers), 1))
            new.append(Variant(f"{algorithm}, new each time", *server, _requests(customers, PUBLISHABLE, fresh)))
        compare(*new)
    shop.print_table(("variant", "CPU µs/request", "more", "p50 ms"), rows)


@contextmanager
def _connection(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def main() -> None:
    """Measure the variants without and with ranking."""
    import shop

    from features.event_log.ingestion.ingest import ingest
    from features.sources import SimulatorConfig, read
    from models.bundle import Bundle

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--before", type=Path, help="another checkout, to compare requests without a token with")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--block", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["USUAL_HOME"] = f"{scratch}/home"
        path = options.bundle
        if path is None:
            config = SimulatorConfig(customers=1500, days=120)
            path = shop.train_bundle(ingest(read("simulated", config=config), Path(scratch) / "log").log).save(
                Path(scratch) / "bundle"
            )
        os.environ[BUNDLE] = str(Path(path).resolve())
        ids = Bundle.load(path).snapshot.customers.values[:CUSTOMERS].to_pylist()
        constant = [f"c{n}" for n in range(CUSTOMERS)]
        measure("No ranking", ("benchmarks.constant:app",), constant, options.before, options.rounds, options.block)
        measure(
            f"Bundle of {len(Bundle.load(path).snapshot.items):,} items",
            ("--factory", "identity:build_app"),
            [str(c) for c in ids],
            options.before,
            options.rounds,
            options.block,
        )


if __name__ == "__main__":
    main()
