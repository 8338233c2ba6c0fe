"""MLflow model of a bundle: `mlflow.pyfunc.load_model(uri).predict(frame)`.

MLflow runs this file to load the model ("models from code"), so nothing is pickled. The frame has a column
`customer_id`, texts or numbers (null or a word for no id: an unknown visitor), and may have `k` (items per customer,
default 10). The result has one row per customer and item: customer_id, the id as the event log has it, item_id, rank,
score, strategy.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from features.common.errors import InputError
from features.common.ids import normalize_id_list
from models.interface import RankingRequest
from models.recommender import BundleRecommender, load

DEFAULT_K = 10


class UsualModel(PythonModel):
    recommender: BundleRecommender

    def load_context(self, context: Any) -> None:
        self.recommender = load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        if "customer_id" not in model_input.columns:
            raise InputError(f"the input needs a column customer_id, it has {list(model_input.columns)}")
        customers = normalize_id_list(model_input["customer_id"], "customer", "the input's customer_id")
        ks = _limits(model_input)
        requests = [RankingRequest(limit=int(k), customer_id=c) for c, k in zip(customers, ks, strict=True)]
        rankings = self.recommender.recommend(requests)
        rows = [
            (customer, item, rank, score, ranking.strategy)
            for customer, ranking in zip(customers, rankings, strict=True)
            for rank, (item, score) in enumerate(zip(ranking.item_ids, ranking.scores, strict=True), start=1)
        ]
        return pd.DataFrame(rows, columns=["customer_id", "item_id", "rank", "score", "strategy"])


def _limits(model_input: pd.DataFrame) -> list[int]:
    if "k" not in model_input.columns:
        return [DEFAULT_K] * len(model_input)
    limits = [DEFAULT_K if pd.isna(k) else int(k) for k in model_input["k"]]
    if wrong := [k for k in limits if k < 1]:
        raise InputError(f"k is {wrong[0]}; write how many items a customer gets, at least 1")
    return limits


set_model(UsualModel())
