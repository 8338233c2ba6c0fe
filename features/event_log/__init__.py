"""The event log: every source's events in one schema, deduplicated, on disk as Parquet.

Start with `schema` (columns and rules) and `log` (the files of a log, and `EventLog`, which reads them). `ingestion`
takes a source's batches in, by way of `dedup` and `partitions`; `time_span` finds isolated dates, `consent` removes the
ids of who refuses, `stated_answers` reads what visitors say of themselves. `erase` removes a customer and leaves
`tombstones`; `identity_links` links clients to customers; `catalog` keeps the items; `atomic_dir` replaces a log in one
step. Imports `common` only.
"""
