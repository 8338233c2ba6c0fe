"""`usual refresh`: the champion's models over a newer snapshot, published for the servers that watch for it.

Batch features are as of the last midnight (UTC), as in training; what happened since is read from the event store.
"""

import sys
import tempfile
from pathlib import Path

from features.common.clock import DAY, iso, now
from features.common.errors import InputError
from features.common.locks import exclusive_lock
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.tables.build import build_tables
from models import publishing
from models.bundle import Bundle
from models.publishing import PublishedBundle


def refresh(log: Path, where: Path, as_of: int | None = None) -> PublishedBundle:
    """Put the models that are published in `where` over the log's snapshot as of `as_of`, and publish that there.

    `as_of` is in microseconds; default: the last midnight (UTC). Raises `InputError`.
    """
    where.mkdir(parents=True, exist_ok=True)
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
        with tempfile.TemporaryDirectory(prefix=".refresh-", dir=where) as scratch:
            path = refreshed_bundle.save(Path(scratch) / "bundle")
            return publishing.publish(path, base.version, where, instead_of=base)


if __name__ == "__main__":
    try:
        refresh(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(f"usual: {error}")
