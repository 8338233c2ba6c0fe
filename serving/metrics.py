"""What the server counts, for Prometheus: `GET /metrics`.

Labels come from lists that the code or placements.yml fixes, never from what a caller sent. Worker processes share
their numbers through the directory that PROMETHEUS_MULTIPROC_DIR names, where it is set, so any worker answers for
all of them.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Literal, get_args

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as text_of
from prometheus_client.multiprocess import MultiProcessCollector

from models.interface import Fallback

Stage = Literal["queue", "visitor", "plan", "candidates", "features", "ranker", "rules"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Outcome = Literal["accepted", "duplicate", "rejected"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_requests = Counter("usual_requests", "HTTP requests answered.", ["route", "status"])
_request_seconds = Histogram(
    "usual_request_seconds", "From the first byte in to the last one out.", ["route"], buckets=_SECONDS
)
_stage_seconds = Histogram("usual_stage_seconds", "Time of a batch in a stage of ranking.", ["stage"], buckets=_SECONDS)
_batch_size = Histogram("usual_batch_size", "Visitors ranked in one call.", buckets=_SIZES)
_answers = Counter("usual_answers", "Placements filled.", ["placement", "strategy"])
_fallbacks = Counter("usual_fallbacks", "Answers that are not wholly what was asked for.", ["why"])
_degraded = Counter("usual_degraded", "Answers given without what the visitor has just done, or without a ranker.")
_events = Counter("usual_events", "Events received.", ["outcome"])
_swaps = Counter("usual_swaps", "Models that were published and loaded.", ["outcome"])
_snapshot = Gauge(
    "usual_model_snapshot_seconds",
    "The instant of the snapshot that is served, in seconds since 1970.",
    multiprocess_mode="livemostrecent",
)
_version = Gauge(
    "usual_model_version",
    "Version of the model that is served, where it is a number.",
    multiprocess_mode="livemostrecent",
)


@cache
def _request(route: str, status: int) -> tuple[Counter, Histogram]:
    return _requests.labels(route, str(status)), _request_seconds.labels(route)


@cache
def _stage(name: Stage) -> Histogram:
    return _stage_seconds.labels(name)


@cache
def _answer(placement: str, strategy: str) -> Counter:
    return _answers.labels(placement, strategy)


def request(route: str, status: int, seconds: float) -> None:
    """An answered request; `route` is a path of ours, or `other`."""
    count, took = _request(route, status)
    count.inc()
    took.observe(seconds)


def stage(name: Stage, seconds: float) -> None:
    """The time of one batch in one stage."""
    _stage(name).observe(seconds)


@contextmanager
def timed(name: Stage) -> Iterator[None]:
    """`stage` around a block."""
    begun = perf_counter()
    try:
        yield
    finally:
        stage(name, perf_counter() - begun)


def batch(size: int) -> None:
    """A batch that was ranked."""
    _batch_size.observe(size)


def answer(placement: str, strategy: str, fallback: Fallback | None, degraded: bool) -> None:
    """A placement that was filled; `placement` is one of those that are served."""
    _answer(placement, strategy).inc()
    if fallback is not None:
        _fallbacks.labels(fallback).inc()
    if degraded:
        _degraded.inc()


def events(outcome: Outcome, number: int) -> None:
    """Received events."""
    if number:
        _events.labels(outcome).inc(number)


def swap(loaded: bool) -> None:
    """A published model that took over, or could not."""
    _swaps.labels("loaded" if loaded else "failed").inc()


def serving(version: str | None, snapshot_s: float) -> None:
    """Which model is served."""
    _snapshot.set(snapshot_s)
    _version.set(float(version) if version is not None and version.isdecimal() else float("nan"))


def exposition() -> bytes:
    """All numbers in Prometheus's text format, of all workers."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return text_of(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return text_of(registry)


def of_ranking(name: str, seconds: float) -> None:
    """Hears of the recommender's own stages: `models.timing.tell`."""
    if name in STAGES:
        stage(name, seconds)


def prepare(placements: Sequence[str]) -> None:
    """Start at nought what alarms are set on: a counter that is not there yet has no rate."""
    for why in get_args(Fallback):
        _fallbacks.labels(why)
    for name in STAGES:
        _stage(name)
    for outcome in ("loaded", "failed"):
        _swaps.labels(outcome)
    for placement in placements:
        _answer(placement, "popular")
