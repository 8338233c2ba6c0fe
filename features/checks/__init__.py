"""Checks: what a careful analyst asks before trusting a log.

`finding` (what a check says), `facts` (the tables that checks read, each computed once), one module per subject
(`joins`, `times`, `ids`, `orders`, `money`, `visitors`, `rows`), `report` (all of them) and `page` (HTML).
`cheap.cheap_checks` is the part that `usual train` runs.

May import `features.common`, `features.event_log` and `features.tables`.
"""
