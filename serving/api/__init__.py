"""The HTTP API: the ASGI app, its routes and its middleware."""
