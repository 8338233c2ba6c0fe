"""Requests per second and latency over HTTP: `python benchmarks/serve.py [BUNDLE] [--seconds 3]`.

Without a bundle: what the way to a recommender and back costs, with one that does no work, against bare uvicorn; 16
connections, closed loop. With one (such as benchmarks/big.py makes): how many requests of twelve products for known
customers that come at random times are answered with a p99 of 50 ms, the latency at half of that, one connection
against ranking in process, the same bundle behind `mlflow models serve` and BentoML's own batching, and what memory
two workers hold. One server process unless said; the load generator runs on the same processors.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # type: ignore[import-untyped]  # noqa: E402
import shop  # noqa: E402
from load import Load, Target, arriving, closed, most_within  # noqa: E402

from models.bundle import Bundle  # noqa: E402
from models.interface import RankingRequest  # noqa: E402
from models.recommender import BundleRecommender  # noqa: E402
from serving.deploy.server import build_command, find_free_port, run_process, run_server  # noqa: E402
from serving.settings import open_environment  # noqa: E402

CONNECTIONS = 16
P99_MS = 50.0
ASKED = "/v1/recommendations"


@contextmanager
def _uvicorn(app: str) -> Iterator[str]:
    port = find_free_port()
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", app, *options, "--port", str(port), "--app-dir", str(ROOT)]
    with run_process(command, open_environment(os.environ), port) as url:
        yield url


@contextmanager
def _constant_service() -> Iterator[str]:
    port = find_free_port()
    with tempfile.TemporaryDirectory() as bundle:
        (Path(bundle) / "manifest.json").write_text("{}")
        command, env = build_command(bundle, "127.0.0.1", port, 1, own_keys=False)
        with run_process([*command[:-1], "benchmarks.constant:Usual"], env, port) as url:
            yield url


@contextmanager
def _mlflow(bundle: Path, scratch: Path) -> Iterator[str]:
    import mlflow

    model = scratch / "pyfunc"
    mlflow.pyfunc.save_model(
        str(model),
        python_model=str(ROOT / "models" / "pyfunc.py"),
        artifacts={"bundle": str(bundle)},
        code_paths=[str(ROOT / name) for name in ("features", "models")],
        pip_requirements=["numpy"],
    )
    port = find_free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it looks for uvicorn there
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    with run_process([*command, "--port", str(port)], env, port, 300, ready="/ping") as url:
        yield url


def constants(seconds: float) -> None:
    """Our stack without ranking, against bare uvicorn."""
    servers = {
        "constant on bare uvicorn": _uvicorn("benchmarks.bare:app"),
        "our API, constant recommender, plain uvicorn": _uvicorn("benchmarks.constant:app"),
        "our API, constant recommender, BentoML": _constant_service(),
    }
    rows, bare = [], 0.0
    for name, server in servers.items():
        with server as url:
            target = Target(_port(url), ASKED, tuple(f"c{n}" for n in range(1000)))
            many, one = closed(target, CONNECTIONS, seconds), closed(target, 1, seconds)
        bare = bare or many.rate
        rows.append([name, f"{many.rate:,.0f}", *_ms(many), f"{many.rate / bare:.2f}", *_ms(one)])
    head = ("server", f"req/s, {CONNECTIONS} conn.", "p50 ms", "p99 ms", "of bare", "p50 ms, 1 conn.", "p99 ms")
    shop.table(head, rows)


def whole(bundle: Path, seconds: float, scratch: Path) -> None:
    """The service with a bundle, and others with the same one."""
    loaded = Bundle.load(bundle)
    s = loaded.snapshot
    some = range(0, len(s.customers), max(1, len(s.customers) // 5000))
    customers = tuple(s.customers.values[n].as_py() for n in some)
    print(f"\n{len(s.items):,} items, {len(s.customers):,} customers; one request of 12 products each\n")
    recommender, number = BundleRecommender(loaded), iter(range(10**9))

    def rank() -> object:
        return recommender.recommend([RankingRequest(12, customers[next(number) % len(customers)])])

    rows: list[list[str]] = []
    with run_server(bundle) as url:
        target = Target(_port(url), ASKED, customers)
        # Before and after: a machine that others share changes its pace.
        before = shop.median_ms(rank, 200)
        alone = closed(target, 1, seconds)
        in_process = (before + shop.median_ms(rank, 200)) / 2
        best = most_within(target, P99_MS, 40, seconds)
        half = arriving(target, best.rate / 2, 2 * seconds)
        bulk = closed(Target(_port(url), f"{ASKED}/bulk", customers), CONNECTIONS, seconds)
        ours = closed(target, CONNECTIONS, seconds)
    rows.append([f"ours, arrivals, p99 ≤ {P99_MS:.0f} ms", f"{best.rate:,.0f}", *_ms(best)])
    rows.append(["ours, half of that", f"{half.rate:,.0f}", *_ms(half)])
    rows.append(["ours, 1 connection", f"{alone.rate:,.0f}", *_ms(alone)])
    rows.append([f"ours, {CONNECTIONS} connections", f"{ours.rate:,.0f}", *_ms(ours)])
    rows.append([f"BentoML's batchable API, {CONNECTIONS} connections", f"{bulk.rate:,.0f}", *_ms(bulk)])
    with _mlflow(bundle, scratch) as url:
        target = Target(_port(url), "/invocations", customers, "mlflow")
        theirs = closed(target, CONNECTIONS, seconds)
        theirs_alone = closed(target, 1, seconds)
    rows.append([f"mlflow models serve, {CONNECTIONS} connections", f"{theirs.rate:,.0f}", *_ms(theirs)])
    rows.append(["mlflow models serve, 1 connection", f"{theirs_alone.rate:,.0f}", *_ms(theirs_alone)])
    shop.table(("server", "req/s", "p50 ms", "p99 ms"), rows)
    print(
        f"\nIn process one visitor is ranked in {in_process:.2f} ms; over HTTP it takes {alone.p50_ms / in_process:.2f}"
    )
    print(f"times that. Against `mlflow models serve`: {ours.rate / theirs.rate:.1f} times as many requests.")
    with run_server(bundle, workers=2) as url:
        target = Target(_port(url), ASKED, customers)
        closed(target, CONNECTIONS, seconds)
        print(f"Two workers hold {_proportional_gb():.2f} GB together (proportional set size).")


def _proportional_gb() -> float:
    """Of all descendants of this process; shared pages are divided among those that map them."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1e6


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _ms(load: Load) -> tuple[str, str]:
    return f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}" + (f" ({load.failed} failed)" if load.failed else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["USUAL_HOME"] = scratch  # BentoML keeps its files there
        constants(args.seconds)
        if args.bundle:
            whole(args.bundle.resolve(), args.seconds, Path(scratch))
    print(f"\n{len(os.sched_getaffinity(0))} processors, shared by server and load generator.")
    if not args.bundle:
        print("Give a bundle directory to measure the real service too.")


if __name__ == "__main__":
    main()
