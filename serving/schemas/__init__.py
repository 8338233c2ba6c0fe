"""Schemas: the messages of the HTTP API as pydantic models, and what a shop configures.

Open `recommendations` first: the bodies of `POST /v1/recommendations`, `/v1/rerank` and `/v1/explain`, and what is
sent back. `events` and `items` hold those of the routes that write, `problems` every error response, `filters` the
conditions of a request's `filter` and how they are evaluated, `placements` the keys of serving/placements.yml.

Names of fields, docstrings of models and their fields, and examples are what `/openapi.json` publishes. This room is
the ground floor of `serving`: it imports `features` and `models`, and none of the other rooms.
"""
