"""The event log: every source's events in one schema, deduplicated, on disk as Parquet.

Start with `schema` (columns and rules) and `log` (the files of a log, and `EventLog`, which reads them). `ingest` adds
a source's batches by way of `staging`, `dedup`, `compaction` and `partitions`; rejected rows go to the `quarantine`.
`erase` removes a customer and leaves `tombstones`; `identity_links` links clients to customers; `catalog` keeps the
items; `atomic_dir` replaces a log in one step. Imports `common` only.
"""
