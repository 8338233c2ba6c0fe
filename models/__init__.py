"""What learns and what is shipped: candidate generators, the ranker, the recommenders, the bundle."""

import features as features  # fixes thread counts before any library here starts its own
