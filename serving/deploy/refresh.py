"""`usual refresh`: the champion's models over a newer snapshot, published for the servers that watch for it.

Batch features are as of the last midnight (UTC), as in training; what happened since is read from the event store.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from lightgbm.basic import LightGBMError

from features.common.clock import DAY, iso, now
from features.common.errors import InputError
from features.common.locks import exclusive_lock
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.tables.build import build_tables
from models import publishing
from models.bundle import Bundle
from models.publishing import PublishedBundle

_SCRATCH = ".refresh-"


def refresh(log: Path, where: Path, as_of: int | None = None) -> PublishedBundle:
    """Put the models that are published in `where` over the log's snapshot as of `as_of`, and publish that there.

    `as_of` is in microseconds; default: the last midnight (UTC). Raises `InputError`.
    """
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    message = f"a refresh of {where} is running already; wait for it"
    with exclusive_lock(where / ".refreshing", if_held=lambda _: message):
        base = publishing.read_current(where)
        if base is None:
            raise InputError(f"nothing is published in {where}; `usual promote` publishes the champion")
        bundle = Bundle.load(base.path)
        at = now() // DAY * DAY if as_of is None else as_of
        if at < bundle.snapshot.as_of:
            raise InputError(
                f"the model was trained on events up to {iso(bundle.snapshot.as_of)}; a snapshot as of {iso(at)} "
                "would be older than that"
            )
        refreshed_bundle = bundle.refit_to(Snapshot.from_tables(build_tables(EventLog.open(log), at)))
        for left in where.glob(f"{_SCRATCH}*"):  # of a refresh that was killed; we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=where, ignore_cleanup_errors=True) as scratch:
                path = refreshed_bundle.save(Path(scratch) / "bundle")
                return publishing.publish(path, base.version, where, instead_of=base)
        except (OSError, LightGBMError) as error:
            free = shutil.disk_usage(where).free
            raise InputError(
                f"the refreshed bundle could not be written to {where} ({error}; {free / 1e9:.1f} GB free); what was "
                "published stays, free some space and refresh again"
            ) from error


if __name__ == "__main__":
    try:
        refresh(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(f"usual: {error}")
