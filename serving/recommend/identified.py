"""Identified requests: whose visitor is what the caller has proven of the one that the request names."""

from typing import NamedTuple

from serving.identity.caller import Caller, Identity
from serving.schemas.recommendations import RankedRequest


class IdentifiedRequest(NamedTuple):
    """A request without the ids that were not proven: nothing behind it can tell of somebody else."""

    request: RankedRequest
    identity: Identity


def identify(request: RankedRequest, caller: Caller) -> IdentifiedRequest:
    """Take the ids that are not proven out of a request, before anything reads them."""
    customer_id, client_id, identity = caller.resolve(request.customer_id, request.client_id)
    if (request.customer_id or None, request.client_id or None) != (customer_id, client_id):
        request = request.model_copy(update={"customer_id": customer_id, "client_id": client_id})
    return IdentifiedRequest(request, identity)
