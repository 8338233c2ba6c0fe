"""The BentoML service: HTTP API, micro-batcher, packaging."""

import features as features  # fixes thread counts before any library here starts its own
