"""Events: what storefronts and Segment send, validated and converted to rows of the event store.

Open `validate` first: the events of `POST /v1/events`, with the rules of the event log that reject them. `segment` does
the same for the calls of Segment and RudderStack, by the mapping of the source `segment`. `trust` keeps of both what
their sender has proven. This room imports `serving.schemas`, `serving.identity` and `serving.event_store`; routes that
use it are in `serving.api`.
"""
