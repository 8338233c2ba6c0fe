"""The event log: every source's events in one schema, deduplicated, on disk as Parquet.

Start with `schema` (columns and rules) and `log` (the files of a log, and `EventLog`, which reads them). `ingest` takes
a source's batches in by way of `intake`, `staging`, `dedup`, `combine` (one row per event and item, lines of orders
merged), `compaction` and `partitions`; rejected rows go to the `quarantine`, and `report`, `examples` and `notes` say
what became of all. `readings` knows the files a log was made from and `taken_back` what remains without some of them;
`currency` keeps amounts in one currency, `time_span` finds isolated dates, `event_names` the nearest known names.
`erase` removes a customer and leaves `tombstones`; `identity_links` links clients to customers; `catalog` keeps the
items; `atomic_dir` replaces a log in one step. Imports `common` only.
"""
