"""Text files: from bytes to tables of text, in bounded memory.

`dialect` recognises what a file is. `containers` unpacks it, `encodings` makes UTF-8 of it, `chunks` yields blocks of
whole lines; `csv_grammar`, `csv_header` and `csv_rows` make rows of CSV, `json_lines` of JSON. Imports `cells` only.
"""
