"""Serving: ranked products over HTTP, from a bundle that is swapped for a newer one without a restart.

Open `api/app.py` for the routes, `recommend/engine.py` for what happens to a request, `service.py` for what BentoML
runs. Rooms, each importing only those before it: `schemas` (messages, problems, placements), `event_store`, `events`
and `recommend`, `api`, `deploy`. `settings.py`, `logging.py` and `metrics.py` stand below all of them; `client.py`
stands alone: it is for programs that call the API. `pages/` has the tracker and the demo storefront, `dashboards/`
panels for Grafana.

Imports `features` and `models`, never `training`.
"""

import features as features  # fixes thread counts before any library here starts its own
