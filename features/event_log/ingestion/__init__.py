"""Ingestion: how the rows of a source come into an event log, and what became of each.

`ingest` takes a source's batches in by way of `intake`, `staging`, `combine` (one row per event and item, lines of
orders merged) and `compaction`; rejected rows go to the `quarantine`, and `report`, `examples` and `notes` say what
became of all. `readings` knows the files a log was made from and `taken_back` what remains without some of them;
`currency` keeps amounts in one currency, `event_names` finds the nearest known names. Imports what lies beside it in
`event_log`, none of which imports it.
"""
