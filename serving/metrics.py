"""Prometheus metrics: counters, histograms and gauges of the server, for `GET /metrics`.

Label values come from lists that the code or placements.yml fixes, never from what a caller sent. Worker processes
share their values through the directory PROMETHEUS_MULTIPROC_DIR, where it is set, so any worker reports all of them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Literal, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from models.interface import Fallback

Stage = Literal["queue", "visitor", "plan", "candidates", "features", "ranker", "rules"]
STAGES: tuple[Stage, ...] = get_args(Stage)
EventOutcome = Literal["accepted", "unproven", "claim", "duplicate", "rejected"]

_before_render: list[Callable[[], None]] = []

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
_empty = Counter("usual_empty_answers", "Placements for which there was no product.", ["placement"])
_events = Counter("usual_events", "Events received.", ["outcome"])
_visitor_tokens = Counter("usual_visitor_tokens", "Visitor tokens received.", ["status"])
_dropped = Counter("usual_connections_dropped", "Connections closed because they exceeded a limit.", ["why"])
_swaps = Counter("usual_swaps", "Models that were published and loaded.", ["outcome"])
_rule_failures = Counter(
    "usual_rule_failures",
    "Rules that did not match as what they read is unknown of a request, or as their expression failed.",
    ["rule", "why"],
)
_rules_loads = Counter("usual_rules_loads", "Rules files that were new and loaded.", ["outcome"])
_rules = Gauge("usual_rules", "Rules that are followed.", multiprocess_mode="livemostrecent")
_snapshot = Gauge(
    "usual_model_snapshot_seconds",
    "The instant of the snapshot that is served, in seconds since 1970.",
    multiprocess_mode="livemostrecent",
)
_available_items = Gauge(
    "usual_available_items",
    "Items of the active model that may be shown; 0: every answer is empty, and the server is not ready.",
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


@cache
def _visitor_token(status: str) -> Counter:
    return _visitor_tokens.labels(status)


@cache
def _rule_failure(rule: str, why: str) -> Counter:
    return _rule_failures.labels(rule, why)


def observe_request(route: str, status: int, seconds: float) -> None:
    """Count a request and its time; `route` is a path of ours, or `other`."""
    counter, histogram = _request(route, status)
    counter.inc()
    histogram.observe(seconds)


def observe_stage(name: Stage, seconds: float) -> None:
    """Record the time of one batch in one stage."""
    _stage(name).observe(seconds)


@contextmanager
def time_stage(name: Stage) -> Iterator[None]:
    """Record the time that a block takes as that of stage `name`."""
    started_at = perf_counter()
    try:
        yield
    finally:
        observe_stage(name, perf_counter() - started_at)


def count_dropped(why: str) -> None:
    """Count a connection that exceeded a limit; `why` is a word of `serving/api/connections.py`."""
    _dropped.labels(why).inc()


def observe_batch(size: int) -> None:
    """Record the size of a batch that was ranked."""
    _batch_size.observe(size)


def count_answer(placement: str, strategy: str, fallback: Fallback | None, degraded: bool) -> None:
    """Count a slate; `placement` is a name of placements.yml."""
    _answer(placement, strategy).inc()
    if fallback is not None:
        _fallbacks.labels(fallback).inc()
    if degraded:
        _degraded.inc()


def count_empty_answer(placement: str) -> None:
    """Count a slate without a product; `placement` is a name of placements.yml."""
    _empty.labels(placement).inc()


def set_available_items(number: int) -> None:
    """Set how many items of the active model may be shown."""
    _available_items.set(number)


def count_events(outcome: EventOutcome, number: int) -> None:
    """Count received events. `unproven` and `claim` are accepted too; each event has one outcome."""
    if number:
        _events.labels(outcome).inc(number)


def count_visitor_token(status: str) -> None:
    """Count a token; `status` is a `TokenStatus` of `serving/identity`."""
    _visitor_token(status).inc()


def initialize_visitor_tokens(statuses: Sequence[str]) -> None:
    """Start the counter of each status at zero."""
    for status in statuses:
        _visitor_token(status)


def count_swap(loaded: bool) -> None:
    """Count a swap to a published model, or one that failed."""
    _swaps.labels("loaded" if loaded else "failed").inc()


def count_rule_failures(rule: str, why: Literal["unknown", "error"], number: int) -> None:
    """Count requests on which the expression of a rule failed; `rule` is an id of the rules file."""
    _rule_failure(rule, why).inc(number)


def count_rules_load(loaded: bool) -> None:
    """Count a rules file that was swapped in, or one that did not fit."""
    _rules_loads.labels("loaded" if loaded else "failed").inc()


def set_rules(number: int) -> None:
    """Set how many rules are followed."""
    _rules.set(number)


def set_model(version: str | None, snapshot_s: float) -> None:
    """Set version and snapshot time (seconds since 1970) of the active model."""
    _snapshot.set(snapshot_s)
    _version.set(float(version) if version is not None and version.isdecimal() else float("nan"))


def before_render(hand_over: Callable[[], None]) -> None:
    """Call `hand_over` before each rendering, so that what a part of the server still counts by itself is in it."""
    _before_render.append(hand_over)


def render() -> bytes:
    """Render the metrics of all workers in Prometheus's text format."""
    for hand_over in _before_render:
        hand_over()
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    collect: Callable[[CollectorRegistry], object] = MultiProcessCollector  # which has no types
    collect(registry)
    return generate_latest(registry)


def observe_recommender_stage(name: str, seconds: float) -> None:
    """Record a stage that the recommender reports; stages without a label of their own are left out."""
    if name in STAGES:
        observe_stage(name, seconds)


def initialize(placements: Sequence[str]) -> None:
    """Start the counters that alerts are set on at zero: a counter that does not exist yet has no rate."""
    for why in get_args(Fallback):
        _fallbacks.labels(why)
    for name in STAGES:
        _stage(name)
    for outcome in ("loaded", "failed"):
        _swaps.labels(outcome)
        _rules_loads.labels(outcome)
    for placement in placements:
        _answer(placement, "popular")
        _empty.labels(placement)
