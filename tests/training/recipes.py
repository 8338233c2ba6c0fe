"""A training run in miniature."""

import yaml

from training import recipe
from training.recipe import Recipe

_RANKER = {"rounds": 12, "leaves": 7, "min_leaf": 10, "learning_rate": 0.1}
_SMALL = {
    "horizon_days": 10,
    "boundaries": 4,
    "boundary_step_days": 7,
    "visit_days": 5,
    "visits_per_boundary": 120,
    "generators": {
        "als": {"factors": 6, "iterations": 3},
        "item_knn": {"neighbours": 8},
        "neighbours": {"neighbours": 10},
        "covisit": {"neighbours": 10},
        "content": {"neighbours": 8},
    },
    "one_to_one": {
        "budgets": {"history": 15, "neighbours": 5, "als": 10, "item_knn": 10, "covisit_last": 5, "popular": 10},
        "cut": 0.04,
        "ranker": _RANKER | {"prior": True},
    },
    "one_to_one_visit": {
        "budgets": {"history": 10, "visit": 5, "als": 10, "item_knn_visit": 10, "covisit_visit": 5, "popular": 10},
        "ranker": _RANKER,
    },
    "predictive": {
        "budgets": {"visit": 5, "item_knn_visit": 10, "covisit_visit": 5, "content_visit": 5, "popular": 15},
        "ranker": _RANKER,
    },
}


def small(**changes: object) -> Recipe:
    """The default recipe, cut down so that a fit takes moments."""
    return Recipe.model_validate(yaml.safe_load(recipe.DEFAULT_RECIPE.read_text()) | _SMALL | changes)


def small_with_embedding() -> Recipe:
    """`small` with three boundaries and a budget of the generator `embedding` for every recommender."""
    tree = small(boundaries=3).model_dump()
    for name, generator in (
        ("one_to_one", "embedding"),
        ("one_to_one_visit", "embedding_visit"),
        ("predictive", "embedding_visit"),
    ):
        tree[name]["budgets"][generator] = 5
    return Recipe.model_validate(tree)
