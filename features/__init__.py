"""Features: events in, point-in-time tables and feature matrices out.

Rooms, from the ground up: `common`; `event_log`; `sources` (reading files and databases into a log) and `tables`
(features as of one instant); `checks` (what to ask before trusting a log), `segments` and `ranking` on top of the
tables. Imports no other package of the project.
Importing it fixes the thread counts (see `common.threads`).
"""

from features.common import threads as threads  # first: BLAS reads its settings when numpy is imported
