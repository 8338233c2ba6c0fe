"""The event log: its schema, how events are ingested, merged, looked up and erased, and what lies on disk."""
