"""Models: candidate generators, rankers and recommenders, and the bundle that ships them.

Open `two_stage.py` first: candidates of all generators, the feature matrix, the ranker. `recommender.py` answers
requests (`interface.py`) from a bundle, which `bundle.py` saves and loads; `publishing.py` is where servers find the
active one, `bundle_erasure.py` removes a customer from bundles, `pyfunc.py` is the recommender as an MLflow model.

Rooms, each importing only those before it: `candidates`; `customers` (predictions per customer); `ranker.py`,
`two_stage.py`, `bundle.py`, `recommender.py`; `explain` (reasons, and the score as a sum). Imports `features` only.
"""

import features as features  # fixes thread counts before any library here starts its own
