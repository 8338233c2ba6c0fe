"""Cells: what one cell of a shop's table says, whatever file it came from.

`coerce` makes a cell a value of the event log's types, with `numbers`, `timestamps` (of `date_shapes`), `text_lists`
and `price_currencies`. `formats` decides how a column's ambiguous cells are read, `characters` makes ASCII of any
script's digits, `pii` hashes and redacts what names a person. The lowest room of `parsing`.
"""
