"""The route that gives devices their ids: `POST /v1/clients`."""

from fastapi import FastAPI, Request, Response

from serving.api import openapi
from serving.api.json_io import json_response
from serving.identity.caller import Caller


async def create_client(request: Request) -> Response:
    """An id for a device that has none. Keep it there, and send it as `client_id`: it is proven by itself."""
    caller: Caller = request.state.caller
    return json_response({"client_id": caller.new_client_id()}, 201)


def add_client_routes(app: FastAPI) -> None:
    """Add /v1/clients to `app`."""
    app.post("/v1/clients", status_code=201, **openapi.CLIENTS)(create_client)
