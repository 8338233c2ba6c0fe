"""Customer segments: RFM and lifecycle segments, behavioural clusters, lookalikes, and a report about them.

Open `build.py` first: it makes one table with a row per customer. `preferences.py` places customers as points by what
they prefer, from which `clusters.py` finds behavioural clusters and `lookalike.py` customers similar to a list.
`report.py` writes the result as an HTML page with the plots of `plots.py`.

May import `features.common`, `features.event_log` and `features.tables`.
"""
