"""Ingest: read a source into an event log, and account for every row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from features.common.counts import count
from features.common.errors import InputError
from features.common.progress import Progress, silent
from features.event_log import log
from features.event_log.atomic_dir import DirectoryChange, replace_directory
from features.event_log.consent import describe_refused
from features.event_log.ingestion.compaction import Compaction, compact
from features.event_log.ingestion.currency import Currency
from features.event_log.ingestion.intake import Intake, ParsedBatch
from features.event_log.ingestion.notes import describe_lines, describe_set_aside, describe_taken_back, describe_unknown
from features.event_log.ingestion.readings import Inputs, Origins, Readings, Reread, dump_sources, load_sources
from features.event_log.ingestion.report import IngestReport, advise, describe_reason, sort_by_frequency
from features.event_log.ingestion.taken_back import Remains, find_remains
from features.event_log.schema import EVENT_NAMES

__all__ = ["IngestReport", "IngestSettings", "Inputs", "ParsedBatch", "ingest"]


@dataclass(frozen=True)
class IngestSettings:
    """What a person can say about an ingest.

    `currency` and `rates` as in `Currency`; `reread` is what to do with files that the log has under another mapping;
    `all_times` is whether isolated ends of time count, None for as the log has it.
    """

    currency: str | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    reread: Reread | None = None
    all_times: bool | None = None


def ingest(
    batches: Iterable[ParsedBatch],
    out: Path,
    progress: Progress = silent,
    inputs: Inputs | None = None,
    settings: IngestSettings | None = None,
) -> IngestReport:
    """Write a source's batches to the log at `out`; a log that is already there is added to.

    Ingesting the same input again changes nothing: rows are identified by (event_id, item_id), rejected rows by their
    content. The log is the same however the input is cut into batches and in whatever order they come. Memory depends
    on the largest day, the catalog and the links, not on the input. `inputs` says what the batches are read from, so
    that the log knows its sources.

    Raises `InputError` where no row is usable, where a file would count twice because the log has it under another
    mapping, and for sales in several currencies without rates.
    """
    settings = settings or IngestSettings()
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a directory for the log")
    with replace_directory(out) as change:
        old = log.EventLog.open(out) if out.exists() and any(out.iterdir()) else None
        currency = _choose_currency(settings, old, out)
        with Readings(inputs, load_sources(old.info) if old else []) as readings:
            readings.check(settings.reread, out)
            origins = Origins(old.info["origins"] if old else {})
            remains = find_remains(old, origins, readings.removed)
            if remains.is_empty and readings.removed and settings.currency is None:
                currency = Currency(None, settings.rates)
            intake = Intake(change, old, remains, currency, readings, origins)
            with intake.staging:
                for batch in batches:
                    intake.add(batch)
                    progress("read", intake.rows, None)
                intake.staging.flush()
            if not intake.batches:
                raise InputError("nothing to ingest: name at least one file")
            # A catalog may come before the first events; what it rejects is counted as rows are.
            no_items = sum(n for reason, n in intake.quarantine.reasons.items() if reason.startswith("catalog_"))
            only_catalog = intake.rows == no_items and not intake.catalog.compact().is_empty()
            if not intake.staging.rows and not (old and old.info["rows"]) and not only_catalog:
                raise InputError(_refuse(intake, out, inputs))
            return _write_log(intake, old, remains, settings, change, out, progress)


def _choose_currency(settings: IngestSettings, old: log.EventLog | None, out: Path) -> Currency:
    stated = Currency.build(settings.currency, settings.rates)
    established = old.currency if old else None
    if established and stated.code and stated.code != established:
        raise InputError(
            f"{out} is in {established}, and a log has one currency; write `--currency {established} --rate "
            f"{stated.code}=…` with what 1 {stated.code} is worth in {established}, or ingest into another log"
        )
    if stated.rates and not (stated.code or established):
        raise InputError("rates are given and no currency of the log that they lead to; write --currency, as EUR")
    return Currency(stated.code or established, stated.rates)


def _write_log(
    intake: Intake,
    old: log.EventLog | None,
    remains: Remains,
    settings: IngestSettings,
    change: DirectoryChange,
    out: Path,
    progress: Progress,
) -> IngestReport:
    staged, done = intake.staging.rows, 0

    def report_rows(rows: int) -> None:
        nonlocal done
        done += rows
        progress("write", done, None)

    readings, origins = intake.readings, intake.origins
    currency, prepare = intake.settle_currency()
    existing = old.partitions if old else []
    result = compact(intake.staging, existing, change, report_rows, origins, readings.removed, prepare)
    intake.catalog.compact().write_parquet(change.new / "catalog.parquet", compression="zstd")
    intake.links.compact().write_parquet(change.new / "links.parquet", compression="zstd")
    if old and not intake.quarantine.reasons and not readings.removed:
        change.keep("rejected.parquet")
    else:
        intake.quarantine.write(remains.rejected, change.new / "rejected.parquet")
    intake.tombstones.write(change)
    event_log = log.write_manifest(
        change,
        out,
        result.partitions,
        old,
        currency=currency.code,
        sources=dump_sources(readings.after()),
        origins=origins.as_dict(log.origins_in_use(change.new / "events", result.partitions)),
        watermarks={**(old.info["watermarks"] if old else {}), **intake.watermarks},
        **({} if settings.all_times is None else {"all_times": settings.all_times}),
    )
    report = _report(intake, result, event_log, remains, staged)
    report.check()
    change.commit()
    return report


def _report(intake: Intake, result: Compaction, event_log: log.EventLog, remains: Remains, staged: int) -> IngestReport:
    gained, tally = result.gained, result.tally
    unknown = {n: rows for n, rows in sort_by_frequency(gained).items() if rows > 0 and n not in EVENT_NAMES}
    notes = [
        *intake.notes,
        *intake.readings.notes,
        *intake.currency_notes(),
        *([describe_refused(intake.refused)] if intake.refused else []),
        *describe_taken_back(remains),
        *describe_lines(tally),
        *describe_unknown(unknown),
        *describe_set_aside(event_log, intake.directory),
    ]
    return IngestReport(
        rows_read=intake.rows,
        kept={name: n for name, n in sorted(gained.items()) if n},
        merged=intake.merged + tally.merged,
        duplicates=staged - gained.total() - tally.merged,
        rejected=sort_by_frequency(intake.quarantine.reasons),
        log=event_log,
        notes=tuple(dict.fromkeys(notes)),
        erased=intake.erased,
        dropped_vectors=intake.catalog.dropped_vectors(),
        left_out=sort_by_frequency(intake.left_out),
        derived=intake.derived,
        in_log=tally.in_log + (result.moved if remains.rows else 0),
        taken_back=remains.taken_back,
        examples=intake.examples.texts,
        unknown_names=unknown,
    )


def _refuse(intake: Intake, out: Path, inputs: Inputs | None) -> str:
    """Say why nothing of the input is usable, and keep the rejected rows beside the log that is not written."""
    reasons = [
        f"{n:,} × {describe_reason(reason, intake.examples.texts)}"
        for reason, n in sort_by_frequency(intake.quarantine.reasons).items()
    ]
    if intake.erased:
        reasons.append(f"{intake.erased:,} of customers who were erased")
    reasons += [f"{n:,} × left out: {what}" for what, n in sort_by_frequency(intake.left_out).items()]
    text = f"none of the {count(intake.rows, 'row')} read is a usable event: {'; '.join(reasons)}"
    if not intake.rows:
        text = "there are no rows to read: export the file anew, with events in it"
    if advice := advise(sort_by_frequency(intake.quarantine.reasons)):
        text += f". To read them: {'; '.join(advice)}"
    if intake.quarantine.reasons:
        beside = out.with_name(f"{out.name}.rejected.parquet")
        intake.quarantine.write(None, beside)
        text += f". The rejected rows are in {beside}"
    if inputs and inputs.files:
        text += f". `usual inspect {inputs.files[0]}` shows how the file is read and proposes a mapping"
    return text
