"""Customers in groups: RFM and lifecycle segments, behavioural clusters, lookalikes, and the report about them."""
