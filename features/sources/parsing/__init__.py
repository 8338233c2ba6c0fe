"""Parsing of a shop's tables and JSON: from files of any format to rows in the event log's columns and types.

Open `readers.py` first, which reads a table in batches whatever its file format, then `mapped.py`, which turns the
shop's columns into events. The other modules hold one step each: `coerce` types of cells, `timestamps` times,
`event_ids` ids for events without one, `validate` rules and rejected rows, `pii` hashing and redaction, `catalogs`
item rows from events, `json_lines` and `json_events` what JSON sources share.

Of a file `dialect` recognises what it is: `containers` and `encodings` unpack and recode it, `chunks` yields its lines,
`csv_header`, `csv_grammar` and `csv_rows` make rows of them, `product_feed` of XML.

May import `features.common` and `features.event_log`; knows nothing of single sources.
"""
