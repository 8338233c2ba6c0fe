"""Mappings: the language that describes a shop's export, and what it means for one table.

`mapping` reads the YAML, of which `expressions` and `conditions` are parts. `matching` finds the columns that are
meant (`column_names`), `evaluate` computes ours from theirs, `typed_cells` knows numbers by their type,
`reading_notes` counts what was assumed. Imports `rows` and what lies below.
"""
