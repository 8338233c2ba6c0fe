"""Tables: point-in-time features of customers, items and their pairs, computed from the event log as of one instant.

Start with `build`: `build_tables(event_log, as_of)` returns all `Tables`. What may be used as of an instant is decided
in `visibility` (consent, `bots`, `identity`), before anything is computed. Each other module is one feature group that
declares its columns (`columns`) and builds one table: `rfm`, `behaviour`, `affinity`, `lifetime`, `traffic`, `items`,
`history`, `interactions`. They are written once, in Narwhals expressions, and run on an engine (`engine`, `spark`;
`engines` opens one by name). Imports `common` and `event_log`.
"""
