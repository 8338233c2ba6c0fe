"""Recommend: from the body of a request to the slate that answers it. Open `engine` first.

One request takes four forms, each made by one module:

1. body → `RecommendationRequest` or `RerankRequest`: validated by `serving.schemas.recommendations`; `engine` checks
   it against its placement and submits it to `batcher`.
2. → `Plan` (`planner`): what the model is to rank, from the placement, the filter (`availability`), the visitor's
   stored events (`visits`) and what they bought.
3. → `Ranking`: the model's answer to the batch, one call for all of its plans.
4. → `Slate` (`slate`): the ranking in its display order, which `response` writes as JSON. The rest of a ranking goes
   into a cursor (`pagination`), from which a later request gets its slate without being ranked.

What it works with: `active_model` is the model that serves, `model_watcher` swaps it, and `item_overrides` has what the
shop said of its items since the snapshot. This room imports `serving.schemas` and `serving.event_store`, nothing above.
"""
