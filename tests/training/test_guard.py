"""What stops a training: checks of the log, a hold-out that measures nothing; and that a reason overrules it."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient

from features.checks.finding import Finding
from features.common.clock import DAY, micros, moment
from features.common.errors import InputError
from features.event_log import log
from features.event_log.log import EventLog
from features.event_log.schema import EVENT_SCHEMA, conform
from tests.conftest import SHOP_ENDS
from tests.training.recipes import small
from training import guard as guards
from training.config import MlflowConfig
from training.dataset import holdout
from training.dataset.holdout import MIN_HOLDOUT_QUERIES, explain_too_few, isolated_dates_hint
from training.guard import Guard
from training.run import run
from training.train import train

NONE = dict.fromkeys(MIN_HOLDOUT_QUERIES, 0)


def with_event(event_log: EventLog, days_after: int, path: Path) -> EventLog:
    """The log, and one purchase of a known customer so many days after its end; it is not set aside."""
    last = event_log.scan().filter(pl.col("name") == "purchase").sort("timestamp").last().collect()
    late = last.with_columns(
        pl.lit(moment(SHOP_ENDS + days_after * DAY)).cast(EVENT_SCHEMA["timestamp"]).alias("timestamp"),
        event_id=pl.lit("a late one"),
        order_id=pl.lit("a late one"),
    )
    events = pl.concat([event_log.scan().collect(), conform(late, EVENT_SCHEMA)])
    written = log.write(path, events, event_log.catalog(), event_log.rejected(), event_log.links())
    info = written.info | {"span": None, "last": moment(SHOP_ENDS + days_after * DAY).isoformat()}
    return EventLog(written.path, info)


@pytest.mark.parametrize("days_after", [9, 40])
def test_one_date_in_the_future_stops_training_with_the_date_to_train_until(
    event_log: EventLog, tmp_path: Path, days_after: int
):
    late = with_event(event_log, days_after, tmp_path / "late")
    ends = datetime.fromtimestamp(SHOP_ENDS / 1e6, UTC).date()
    with pytest.raises(InputError, match="has too few queries with a relevant item to measure anything") as error:
        train(late, small())
    text = str(error.value)
    assert f"--until {ends}" in text
    assert "is that date right?" in text
    assert "--force REASON" in text
    assert train(late, small(boundaries=3), until=SHOP_ENDS).evaluations


def test_an_end_far_after_the_last_event_stops_training(event_log: EventLog):
    with pytest.raises(InputError, match="its last event before the end of training is of ") as error:
        train(event_log, small(), until=SHOP_ENDS + 60 * DAY)
    assert "--until" in str(error.value)


def test_a_reason_overrules_a_small_hold_out_and_is_kept(event_log: EventLog, monkeypatch: pytest.MonkeyPatch):
    huge = dict.fromkeys(MIN_HOLDOUT_QUERIES, 10**6)
    monkeypatch.setattr(holdout, "MIN_HOLDOUT_QUERIES", huge)
    with pytest.raises(InputError, match="too small for this recipe"):
        train(event_log, small(boundaries=3))
    result = train(event_log, small(boundaries=3), guard=Guard("a small shop"))
    (message,) = result.guard.overruled
    assert "too few queries" in message
    assert result.guard.force == "a small shop"
    assert result.evaluations


def test_a_strategy_with_a_small_hold_out_beside_others_is_a_warning(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(holdout, "MIN_HOLDOUT_QUERIES", MIN_HOLDOUT_QUERIES | {"predictive": 10**6})
    result = train(event_log, small(boundaries=3))
    assert "predictive" in result.bundle.recommenders
    (warning,) = result.guard.warnings
    assert warning.startswith("predictive has ")


def test_nothing_is_registered_where_a_check_stops(
    event_log: EventLog, store: MlflowConfig, monkeypatch: pytest.MonkeyPatch
):
    stop = Finding(
        "catalog_join", "stop", "The catalog has the item of 2% of the events.", "write ids alike", "42, 00042"
    )
    warn = Finding("some", "warn", "Something is odd.", "look at it")
    monkeypatch.setattr(guards, "cheap_checks", lambda log, until: [stop, warn])
    config = store.model_copy(update={"registered_model": "stopped"})
    with pytest.raises(InputError, match="catalog_join: The catalog has the item of 2%") as error:
        run(event_log, small(), config)
    for part in ("For example: 42, 00042", "What to do: write ids alike", "--force REASON"):
        assert part in str(error.value)
    client = MlflowClient(config.uri)
    assert not client.search_registered_models(filter_string="name = 'stopped'")
    _, logged = run(event_log, small(boundaries=3), config, force="we know")
    tags = client.get_run(logged.run_id).data.tags
    assert tags["forced"] == "we know"
    assert "catalog_join" in tags["forced_over"]
    assert "some: Something is odd." in tags["warnings"]
    assert "left out" in tags["left_out"]
    card = client.get_model_version("stopped", logged.version).description
    assert 'for the reason "we know"' in card
    assert "catalog_join" in card


def test_a_reason_must_say_something():
    with pytest.raises(InputError, match="needs a reason"):
        Guard(" ")


def small_log(path: Path, *dates: str) -> EventLog:
    events = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(dates))],
            "name": "purchase",
            "timestamp": [datetime.fromisoformat(d).replace(tzinfo=UTC) for d in dates],
            "customer_id": "c1",
            "item_id": "i1",
        }
    )
    written = log.write(path, conform(events, EVENT_SCHEMA), pl.DataFrame({"item_id": ["i1"]}), pl.DataFrame())
    return EventLog(written.path, written.info | {"span": None})


def test_isolated_dates_are_named(tmp_path: Path):
    days = [f"2026-01-{d:02}" for d in range(1, 29)]
    early = small_log(tmp_path / "early", "1970-01-01", *days)
    assert "1 event before 2026-01-01, the first of 1970-01-01" in isolated_dates_hint(
        early, micros(datetime(2026, 1, 29, tzinfo=UTC))
    )
    late = small_log(tmp_path / "late", *days, "2031-01-01")
    hint = isolated_dates_hint(late, micros(datetime(2031, 1, 2, tzinfo=UTC)))
    assert "1 event from 2026-01-29 on, the last of 2031-01-01 (train without: --until 2026-01-29)" in hint
    assert isolated_dates_hint(small_log(tmp_path / "fine", *days), SHOP_ENDS) == ""


def test_a_small_shop_is_told_that_it_is_small(tmp_path: Path):
    shop = small_log(tmp_path / "log", *(f"2026-01-{d:02}" for d in range(1, 29)))
    end = micros(datetime(2026, 1, 29, tzinfo=UTC))
    text = explain_too_few(shop, end - 10 * DAY, end, NONE)
    assert "The log has 10 events in it, 10 in the same time before it. The shop, or its log, is too small" in text
