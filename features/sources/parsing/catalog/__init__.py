"""Catalog rows: from files of products, and from what events say of their items.

`catalog_file` reads the former by a mapping, `event_catalog` builds the latter. Imports `mapping` and what lies below.
"""
