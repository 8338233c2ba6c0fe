"""Parsing of a shop's tables and JSON: from files of any format to rows in the event log's columns and types.

Rooms, from the ground up; each knows those above it in this list and nothing of those below:

- `cells`: what one cell says, as a value of the log's types; hashing and redaction of personal data.
- `text_files`: from bytes to tables of text: containers, encodings, CSV, JSON lines.
- `files`: files of any format in batches of rows.
- `rows`: rows before they are events: nested lists, filling down, joins, order lines, ids, validation.
- `mapping`: the language in which a shop's export is described, and what it means for one table.
- `catalog`: products, from files of their own and from events.
- `events`: events, from mapped tables and from JSON.

Open `files/readers.py` first, which reads a table in batches whatever its file format, then `events/mapped.py`, which
turns the shop's columns into events.

May import `features.common` and `features.event_log`; knows nothing of single sources.
"""
