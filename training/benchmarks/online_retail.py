"""Online Retail II (UCI): what returning customers buy in the four weeks from 11 November 2011."""

from collections.abc import Sequence
from pathlib import Path

from features.common.clock import parse
from features.common.progress import Progress
from features.event_log.ingestion.ingest import ingest
from features.sources import online_retail as source
from training import recipe
from training.benchmarks.benchmark import Benchmark, Figures, Outcome, Row
from training.evaluation.backtest import backtest
from training.evaluation.evaluate import Evaluation
from training.train import train

START, END = "2011-11-11", "2011-12-10"
METRICS = {"NDCG@10": "ndcg_at_10", "Recall@20": "recall_at_20", "MAP@12": "map_at_12", "HitRate@10": "hit_rate_at_10"}


def run(paths: Sequence[Path], work: Path, step: Progress) -> Outcome:
    """Run on online_retail_II.xlsx, or on a mirror of it as CSV or Parquet."""
    step("read", 1, None)
    log = ingest(source.read(paths), work).log
    start = parse(START, "the split")
    bundle = train(log, recipe.load(), start, step).bundle
    step("backtest", 1, 1)
    evaluation = backtest(bundle, log, start, parse(END, "the end"), recipe.load())["one_to_one"]
    rows = [Row("The Usual, one_to_one", _figures(evaluation, ""))]
    rows += [Row(f"{name} (built in)", _figures(evaluation, f"baseline_{name}_")) for name in _baselines(evaluation)]
    return Outcome(rows, evaluation.per_query.height)


def _figures(evaluation: Evaluation, prefix: str) -> Figures:
    measured = {metric: evaluation.summary.get(f"{prefix}{ours}") for metric, ours in METRICS.items()}
    return {metric: 100 * value for metric, value in measured.items() if value is not None}


def _baselines(evaluation: Evaluation) -> list[str]:
    suffix = "_ndcg_at_10"
    names = [key.removeprefix("baseline_").removesuffix(suffix) for key in evaluation.summary if key.endswith(suffix)]
    return [name for name in names if f"baseline_{name}{suffix}" in evaluation.summary]


# The libraries have not reported on this split: each was run on the same rows and scored on the same customers.
_OTHERS = {
    "TIFU-KNN, best of 6 settings": (33.6, 25.5, 21.2, 83.1),
    "implicit 0.7, BM25 item-kNN": (26.2, 19.4, 15.5, 74.0),
    "implicit 0.7, ALS": (24.0, 18.8, 13.5, 73.3),
    "RecTools 0.19, two-stage, its defaults": (18.0, 12.9, 8.5, 70.6),
}
BENCHMARK = Benchmark(
    name="online-retail",
    title="UCI Online Retail II, what returning customers buy in the next four weeks",
    protocol=f"trained before {START}, customers with purchases before and after, items on sale before; percent",
    files="online_retail_II.xlsx of UCI, or a mirror of it as CSV or Parquet",
    metrics=tuple(METRICS),
    published=tuple(
        Row(method, dict(zip(METRICS, figures, strict=True)), "same rows and customers")
        for method, figures in _OTHERS.items()
    ),
    run=run,
    notes=("No paper reports on this split: the other libraries were run on the same rows.",),
)
