"""Parsing of a shop's tables and JSON: from files of any format to rows in the event log's columns and types.

Open `readers.py` first, which reads a table in batches whatever its file format, then `mapped.py`, which turns the
shop's columns into events. The other modules hold one step each: `coerce` types of cells, `timestamps` times,
`event_ids` ids for events without one, `validate` rules and rejected rows, `pii` hashing and redaction, `catalogs`
item rows from events, `json_lines` and `json_events` what JSON sources share.

Of a file `dialect` recognises what it is: `containers` and `encodings` unpack and recode it, `chunks` yields its lines,
`csv_header`, `csv_grammar` and `csv_rows` make rows of them, `product_feed` of XML.

A `mapping` is the language in which a shop's export is described, with `expressions` and `conditions`. `table_files`
sorts the files of a command, `matching` finds the columns that are meant (`column_names`), `nested` and `rows` explode,
fill down and join, `evaluate` and `event_columns` make our columns of theirs, `formats` decides how ambiguous cells are
read, `order_lines` gives lines their person and event, `reading_notes` tells what was assumed. `catalog_file` does the
same for products.

May import `features.common` and `features.event_log`; knows nothing of single sources.
"""
