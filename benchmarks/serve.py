"""Requests per second and latency over HTTP.

    python benchmarks/serve.py [BUNDLE] [--seconds 3]

Without a bundle: the overhead of the server with a recommender that does no work, compared with bare uvicorn, on 16
connections in a closed loop. With a bundle (for example from benchmarks/big.py), in addition:

- the highest rate of random arrivals (twelve items for known customers) with a p99 of at most 50 ms, and the latency at
  half that rate
- one connection compared with ranking in process
- the same bundle behind `mlflow models serve`, and behind BentoML's own batching
- with `--rules`, instead: the same bundle with 0, 20 and 200 rules, by turns on one connection
- the memory of two workers

The server has one process unless stated otherwise; the load generator runs on the same processors.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # type: ignore[import-untyped]  # noqa: E402
import rule_sets  # noqa: E402
import shop  # noqa: E402
from load import Load, Target, closed_loop, highest_rate, open_loop  # noqa: E402

from features.common.memory import keep_freed_memory  # noqa: E402
from models.bundle import Bundle  # noqa: E402
from models.interface import RankingRequest  # noqa: E402
from models.recommender import BundleRecommender  # noqa: E402
from serving.deploy.server import build_command, find_free_port, run_process, run_server  # noqa: E402
from serving.settings import open_environment  # noqa: E402

CONNECTIONS = 16
RULE_COUNTS = (0, 20, 200)
P99_MS = 50.0
PATH = "/v1/recommendations"


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
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # where it looks for uvicorn
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    with run_process([*command, "--port", str(port)], env, port, 300, ready="/ping") as url:
        yield url


def measure_overhead(seconds: float) -> None:
    """Measure the server without ranking, and bare uvicorn."""
    servers = {
        "constant on bare uvicorn": _uvicorn("benchmarks.bare:app"),
        "our API, constant recommender, plain uvicorn": _uvicorn("benchmarks.constant:app"),
        "our API, constant recommender, BentoML": _constant_service(),
    }
    rows, bare = [], 0.0
    for name, server in servers.items():
        with server as url:
            target = Target(_port(url), PATH, tuple(f"c{n}" for n in range(1000)))
            full_load, single = closed_loop(target, CONNECTIONS, seconds), closed_loop(target, 1, seconds)
        bare = bare or full_load.rate
        rows.append([name, f"{full_load.rate:,.0f}", *_ms(full_load), f"{full_load.rate / bare:.2f}", *_ms(single)])
    head = ("server", f"req/s, {CONNECTIONS} conn.", "p50 ms", "p99 ms", "of bare", "p50 ms, 1 conn.", "p99 ms")
    shop.print_table(head, rows)


def measure_bundle(bundle: Path, seconds: float, scratch: Path) -> None:
    """Measure the service with a bundle, and other servers with the same bundle."""
    keep_freed_memory()
    loaded = Bundle.load(bundle)
    s = loaded.snapshot
    sample = range(0, len(s.customers), max(1, len(s.customers) // 5000))
    customers = tuple(s.customers.values[n].as_py() for n in sample)
    print(f"\n{len(s.items):,} items, {len(s.customers):,} customers; one request of 12 products each\n")
    recommender, number = BundleRecommender(loaded), iter(range(10**9))

    def rank() -> object:
        return recommender.recommend([RankingRequest(12, customers[next(number) % len(customers)])])

    rows: list[list[str]] = []
    with run_server(bundle) as url:
        target = Target(_port(url), PATH, customers)
        # Before and after, because a shared machine changes its speed.
        before = shop.median_ms(rank, 200)
        one_connection = closed_loop(target, 1, seconds)
        in_process = (before + shop.median_ms(rank, 200)) / 2
        best = highest_rate(target, P99_MS, 40, seconds)
        half = open_loop(target, best.rate / 2, 2 * seconds)
        bulk = closed_loop(Target(_port(url), f"{PATH}/bulk", customers), CONNECTIONS, seconds)
        ours = closed_loop(target, CONNECTIONS, seconds)
    rows.append([f"ours, arrivals, p99 ≤ {P99_MS:.0f} ms", f"{best.rate:,.0f}", *_ms(best)])
    rows.append(["ours, half of that", f"{half.rate:,.0f}", *_ms(half)])
    rows.append(["ours, 1 connection", f"{one_connection.rate:,.0f}", *_ms(one_connection)])
    rows.append([f"ours, {CONNECTIONS} connections", f"{ours.rate:,.0f}", *_ms(ours)])
    rows.append([f"BentoML's batchable API, {CONNECTIONS} connections", f"{bulk.rate:,.0f}", *_ms(bulk)])
    with _mlflow(bundle, scratch) as url:
        target = Target(_port(url), "/invocations", customers, "mlflow")
        mlflow_load = closed_loop(target, CONNECTIONS, seconds)
        mlflow_one_connection = closed_loop(target, 1, seconds)
    rows.append([f"mlflow models serve, {CONNECTIONS} connections", f"{mlflow_load.rate:,.0f}", *_ms(mlflow_load)])
    rows.append(
        ["mlflow models serve, 1 connection", f"{mlflow_one_connection.rate:,.0f}", *_ms(mlflow_one_connection)]
    )
    shop.print_table(("server", "req/s", "p50 ms", "p99 ms"), rows)
    ratio = one_connection.p50_ms / in_process
    print(f"\nRanking one visitor takes {in_process:.2f} ms in process, and {ratio:.2f} times that over HTTP.")
    print(f"Compared with `mlflow models serve`: {ours.rate / mlflow_load.rate:.1f} times as many requests.")
    with run_server(bundle, workers=2) as url:
        target = Target(_port(url), PATH, customers)
        closed_loop(target, CONNECTIONS, seconds)
        print(f"Two workers hold {_proportional_gb():.2f} GB together (proportional set size).")


def measure_rules(bundle: Path, seconds: float, scratch: Path, rounds: int = 6) -> None:
    """Measure servers that follow 0, 20 and 200 rules by turns, as a shared machine changes its speed."""
    loaded = Bundle.load(bundle)
    s = loaded.snapshot
    customers = tuple(
        s.customers.values[n].as_py() for n in range(0, len(s.customers), max(1, len(s.customers) // 5000))
    )
    loads: dict[int, list[Load]] = {count: [] for count in RULE_COUNTS}
    with ExitStack() as stack:
        targets = {}
        for count in RULE_COUNTS:
            if count:
                os.environ["USUAL_RULES"] = str(rule_sets.write_rules(scratch / f"{count}.yml", loaded, count))
            targets[count] = Target(_port(stack.enter_context(run_server(bundle))), PATH, customers)
        os.environ.pop("USUAL_RULES", None)
        for number in range(rounds + 1):
            for count in RULE_COUNTS[number % 3 :] + RULE_COUNTS[: number % 3]:
                load = closed_loop(targets[count], 1, seconds / 4)
                if number:  # the first one warms up
                    loads[count].append(load)
    plain = statistics.median(load.p50_ms for load in loads[0])
    rows = []
    for count, measured in loads.items():
        p50, p99 = (statistics.median(values) for values in zip(*((m.p50_ms, m.p99_ms) for m in measured), strict=True))
        ratios = [m.p50_ms / base.p50_ms for m, base in zip(measured, loads[0], strict=True)]
        rows.append([f"{count} rules", f"{p50:.3f}", f"{p99:.2f}", f"{p50 - plain:+.3f}",
                     f"{statistics.median(ratios):.3f}"])  # fmt: skip
    shop.print_table(("1 connection", "p50 ms", "p99 ms", "ms more", "of p50 without, by round"), rows)


def _proportional_gb() -> float:
    """Return the proportional set size of all descendants: shared pages are divided among their processes."""
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
    parser.add_argument("--rules", action="store_true", help="with a bundle: only what rules cost")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["USUAL_HOME"] = scratch  # BentoML keeps its files there
        if args.rules and args.bundle:
            measure_rules(args.bundle.resolve(), args.seconds, Path(scratch))
            return
        measure_overhead(args.seconds)
        if args.bundle:
            measure_bundle(args.bundle.resolve(), args.seconds, Path(scratch))
    print(f"\n{len(os.sched_getaffinity(0))} processors, shared by server and load generator.")
    if not args.bundle:
        print("Give a bundle directory to measure the real service too.")


if __name__ == "__main__":
    main()
