"""Split, sample, fit, evaluate, track, promote."""

import features as features  # fixes thread counts before any library here starts its own
