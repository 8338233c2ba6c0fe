"""What every request passes before a route: keys, origins, rate limits, telemetry."""
