"""Events: batches of the event log from tables with a mapping, and from JSON with any number of items an event.

Open `mapped` first: it reads a table by a mapping, with the columns of `event_columns`. `table_files` sorts the files
of a command into tables of events, catalogs and joined ones; `json_events` is what JSON sources share. The highest
room of `parsing`.
"""
