"""ASGI middleware: what every request passes before a route.

`telemetry.py` counts and logs; `gateway.py` decides whether a request may pass, with the API keys of `api_keys.py`,
the token buckets of `rate_limits.py` and the origins of `cors.py`. `build_middleware` in `serving/api/app.py` has
their order.
"""
