"""Backtest: evaluate a trained bundle on a later window of the event log."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from features.common.clock import iso, micros, moment
from features.common.errors import InputError
from features.common.memory import keep_freed_memory
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.sources.simulator.truth import Truth
from features.tables.build import Tables, build_tables
from features.tables.left_out import LeftOut
from models.bundle import Bundle, RecommenderName
from models.customers.predictions import CustomerPredictions
from training.dataset import queries
from training.dataset.queries import Queries
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.oracle import build_oracle
from training.recipe import Recipe


def refresh_bundle(bundle: Bundle, event_log: EventLog, as_of: int) -> Bundle:
    """Return the bundle's models over the log's snapshot as of `as_of`.

    Raises `InputError` if `as_of` is before the end of the bundle's training data.
    """
    return refresh_with_left_out(bundle, event_log, as_of)[0]


def refresh_with_left_out(bundle: Bundle, event_log: EventLog, as_of: int) -> tuple[Bundle, LeftOut]:
    """Return `refresh_bundle`, and the events before `as_of` that count in no table."""
    tables = _build_tables(bundle, event_log, as_of)
    return bundle.refit_to(Snapshot.from_tables(tables)), tables.left_out


def predict_customers(bundle: Bundle, tables: Tables) -> pl.DataFrame:
    """Return the bundle's predictions for the customers of `tables`, as `Predictions.table`.

    Raises `InputError` if the tables are as of a time before the end of the bundle's training data.
    """
    _check_not_before_training(bundle, tables.as_of)
    snapshot = Snapshot.from_tables(tables)
    return CustomerPredictions.predict(bundle.propensity, snapshot).table(snapshot)


def _check_not_before_training(bundle: Bundle, as_of: int) -> None:
    """Raise `InputError` if the bundle was trained on events after `as_of`."""
    if as_of < bundle.snapshot.as_of:
        raise InputError(
            f"the model was trained on events up to {iso(bundle.snapshot.as_of)}; as of {iso(as_of)} it would know "
            "its future. Choose a later time, or train with an earlier --until"
        )


def _build_tables(bundle: Bundle, event_log: EventLog, as_of: int) -> Tables:
    _check_not_before_training(bundle, as_of)
    return build_tables(event_log, as_of)


@dataclass(frozen=True)
class Backtest:
    """A backtest, and who is not in it.

    `left_out`: the events before the window that count in no table. `buyers`: customers who bought in the window, of
    whom `unknown_buyers` had no event before it, so no list of theirs can be compared with what they bought.
    """

    evaluations: dict[RecommenderName, Evaluation]
    left_out: LeftOut
    buyers: int
    unknown_buyers: int

    def describe(self) -> list[str]:
        """Say who is not in it, in lines for the terminal."""
        return [
            f"{self.unknown_buyers:,} of {self.buyers:,} customers who bought in the window were unknown before it; "
            "one_to_one is not measured on them",
            *self.left_out.describe(),
        ]


def backtest(
    bundle: Bundle, event_log: EventLog, start: int, end: int, recipe: Recipe, truth: Truth | None = None
) -> dict[RecommenderName, Evaluation]:
    """Evaluate as `run_backtest`, for callers that want the evaluations alone."""
    return run_backtest(bundle, event_log, start, end, recipe, truth).evaluations


def run_backtest(
    bundle: Bundle, event_log: EventLog, start: int, end: int, recipe: Recipe, truth: Truth | None = None
) -> Backtest:
    """Evaluate on [start, end) (microseconds) with a snapshot as of `start`.

    `recipe` determines how visits are sampled. With the `truth` of a simulated log, the oracle is measured as well.
    Raises `InputError` if the model was trained on part of the window, or the window holds no query.
    """
    if end <= start:
        raise InputError(f"the window from {iso(start)} to {iso(end)} is empty; --to must be after --from")
    _check_window(event_log, start, end)
    tables = _build_tables(bundle, event_log, start)
    bundle_at_start = bundle.refit_to(Snapshot.from_tables(tables))
    queries_by_recommender = queries.build_queries(event_log.scan(), bundle_at_start.snapshot, end, recipe)
    evaluations = evaluate_bundle(bundle_at_start, queries_by_recommender, end, tables.customers, truth)
    if not evaluations:
        raise InputError(
            f"nobody in the window from {iso(start)} to {iso(end)} can be compared with a recommendation: there is no "
            "customer with history who bought, and no visit with events of items"
        )
    buyers = _find_buyers(event_log, start, end)
    unknown = int((bundle_at_start.snapshot.customers.find(buyers) < 0).sum())
    return Backtest(evaluations, tables.left_out, len(buyers), unknown)


def _check_window(event_log: EventLog, start: int, end: int) -> None:
    """Raise `InputError` where the log has no event in the window [start, end)."""
    first, last = micros(event_log.first), micros(event_log.last)
    if start > last or end <= first:
        raise InputError(
            f"nobody in the window from {iso(start)} to {iso(end)} can be compared with a recommendation: the events "
            f"of {event_log.path} are from {iso(first)} to {iso(last)}; check --from and --to"
        )


def _find_buyers(event_log: EventLog, start: int, end: int) -> list[str]:
    """Find the customers who bought in [start, end) and did not refuse consent."""
    bought = event_log.scan().filter(
        pl.col("timestamp") >= moment(start),
        pl.col("timestamp") < moment(end),
        pl.col("name").cast(pl.String) == "purchase",
        pl.col("customer_id").is_not_null(),
        pl.col("consent").fill_null(True),
    )
    return bought.select(pl.col("customer_id").unique()).collect()["customer_id"].to_list()


def evaluate_bundle(
    bundle: Bundle,
    queries: Mapping[RecommenderName, Queries],
    end: int,
    customers: pl.DataFrame | None = None,
    truth: Truth | None = None,
) -> dict[RecommenderName, Evaluation]:
    """Evaluate a bundle on queries between its snapshot's instant and `end` (microseconds).

    Recommenders without a query are left out. `customers`: as in `evaluate`; `truth`: as in `backtest`.
    """
    keep_freed_memory()
    snapshot = bundle.snapshot
    return {
        name: evaluate(
            recommender,
            snapshot,
            queries[name],
            customers,
            build_oracle(truth, snapshot, queries[name], snapshot.as_of, end) if truth else None,
        )
        for name, recommender in bundle.recommenders.items()
        if len(queries[name])
    }
