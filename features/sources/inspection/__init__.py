"""Inspection: looks at files nobody has described yet, and proposes the mapping that reads them.

`sample` (the first rows of a file), `words` (what shops call our columns), `profile` (what the cells of a column look
like), `roles` (which column is which of ours), `kinds` (what a file is), `proposal` (the mapping), `yaml_text` (with
its comments), `preview` (how rows would be read by it) and `inspect` (all of them).
"""
