"""The HTTP API: the ASGI application, its routes and its middleware.

Open `app.py` first: `create_app` lists the routes with their paths, `build_middleware` what every request passes
before them, outermost first (telemetry, then the gateway: request id, CORS, API key, rate limit, body limit).
`routes/` has one module per group of paths: each reads a message of `serving.schemas`, calls the engine or the event
store, and writes JSON through `json_io.py`. `errors.py` makes every error a problem document, `openapi.py` completes
FastAPI's OpenAPI document, `idempotency.py` and `store_writes.py` are how routes write.

May import `schemas`, `event_store`, `events`, `recommend` and the modules beside these rooms, never `deploy`.
"""
