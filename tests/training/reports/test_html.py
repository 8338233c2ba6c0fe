"""The HTML report and model card of a run show what was measured."""

from dataclasses import replace
from html.parser import HTMLParser

import polars as pl
import pytest

from features.common.clock import iso
from features.event_log.log import EventLog
from training.reports import html, model_card, plots, samples
from training.result import TrainingResult
from training.stopwatch import Stopwatch


class Page(HTMLParser):
    """Tables by id, as rows of cells; the text of elements with an id; everything that would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.values: dict[str, str] = {}
        self.loads: list[tuple[str, str]] = []
        self._table, self._id, self._cell = "", "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.loads += [(tag, str(v)) for k, v in attrs if k in ("src", "href", "srcset") and not str(v).startswith("#")]
        self.loads += [(tag, "")] if tag in ("script", "link", "iframe", "object") else []
        if tag == "table":
            self._table = str(attributes["id"])
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
            self._cell = True
        elif "id" in attributes:
            self._id = str(attributes["id"])

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        self._id = ""

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[self._table][-1][-1] += data
        elif self._id:
            self.values[self._id] = data


@pytest.fixture(scope="module")
def sample_lists(result: TrainingResult, event_log: EventLog) -> list[samples.Sample]:
    return samples.sample_customers(result.bundle, event_log.catalog())


@pytest.fixture(scope="module")
def text(result: TrainingResult, event_log: EventLog, sample_lists: list[samples.Sample]) -> str:
    gains = {name: two_stage.ranker.importance() for name, two_stage in result.bundle.recommenders.items()}
    all_plots = plots.plot_run(result.evaluations, gains, {"one_to_one": [0.1, 0.3, 0.2]})
    return html.render_report(result, event_log, all_plots, sample_lists, [("refit", 1.25), ("fit & hold-out", 2.0)])


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_headline_numbers_are_the_evaluation(page: Page, result: TrainingResult) -> None:
    for name, evaluation in result.evaluations.items():
        assert page.values[f"{name}_ndcg"] == f"{evaluation.summary['ndcg_at_10']:.3f}"
        assert page.values[f"{name}_lead"] == f"{evaluation.summary['over_best_baseline']:+.3f}"
    assert page.values["events"] == f"{result.events:,}"


def test_baselines_are_listed_best_first_below_the_recommender(page: Page, result: TrainingResult) -> None:
    summary = result.evaluations["one_to_one"].summary
    _, own_row, *others = page.tables["one_to_one_methods"]
    assert own_row[:2] == ["one-to-one", f"{summary['ndcg_at_10']:.4f}"]
    scores = [float(row[1]) for row in others]
    assert scores == sorted(scores, reverse=True)
    lead = float(others[0][-1].split()[0])
    assert lead == pytest.approx(summary["over_best_baseline"], abs=1e-4)


def test_segments_hold_every_query(page: Page, result: TrainingResult) -> None:
    evaluation = result.evaluations["one_to_one"]
    rows = page.tables["one_to_one_segments"][1:]
    assert sum(int(row[1].replace(",", "")) for row in rows) == evaluation.per_query.height
    sizes = dict(evaluation.per_query["segment"].value_counts().iter_rows())
    assert {row[0]: int(row[1]) for row in rows} == {plots.display_name(s): n for s, n in sizes.items()}


def test_the_page_lists_data_models_and_time_per_step(page: Page, result: TrainingResult, event_log: EventLog) -> None:
    rows = dict(row for row in page.tables["provenance"] if len(row) == 2)
    assert event_log.fingerprint in rows["event log"]
    assert rows["end of training"] == iso(result.until)
    assert rows["training boundaries"].split(", ") == [iso(at)[:10] for at in result.boundaries]
    assert page.tables["seconds"][1:] == [["refit", "1.2"], ["fit & hold-out", "2.0"], ["total", "3.2"]]


def test_samples_are_lists_of_the_shipped_model(page: Page, sample_lists: list[samples.Sample]) -> None:
    rows = page.tables["examples"][1:]
    assert rows[-1][0].startswith(samples.ANONYMOUS)
    by_name = {s.customer: s for s in sample_lists}
    for name, purchases, items in rows:
        sample = by_name[name.split(" (")[0]]
        assert items == ", ".join(title for title, _, _ in sample.recommended[: html.SAMPLE_ITEMS])
        assert purchases == (", ".join(sample.purchases) or "–")


def test_sampled_purchases_are_items_the_customers_ordered(
    sample_lists: list[samples.Sample], event_log: EventLog, result: TrainingResult
) -> None:
    purchases = event_log.scan().filter(pl.col("name").cast(pl.String) == "purchase").collect()
    titles = dict(event_log.catalog().select("item_id", "title").iter_rows())
    ids = result.bundle.snapshot.customers.values.to_pylist()
    for sample, customer in zip(sample_lists[:-1], ids[:: max(1, len(ids) // samples.SAMPLED_CUSTOMERS)], strict=False):
        own = {titles[i] for i in purchases.filter(pl.col("customer_id") == customer)["item_id"]}
        assert set(sample.purchases) <= own
        assert bool(sample.purchases) == bool(own)


def test_the_page_loads_and_runs_nothing(text: str, page: Page) -> None:
    assert page.loads == []
    assert "default-src 'none'" in text
    assert text.count("<svg") == 13  # of recommenders and their budgets, and two of predictions for customers


def test_candidate_budgets_are_listed_by_depth(page: Page, result: TrainingResult) -> None:
    rows = {row[0]: row[1:] for row in page.tables["one_to_one_budgets"][1:]}
    for r in result.budgets["one_to_one"].table.iter_rows(named=True):
        numbers = rows[f"{plots.display_name(r['generator'])}, from {r['depth'] + 1}"]
        assert numbers[:4] == [f"{r[c]:,}" for c in ("candidates", "relevant", "exclusive", "exclusive_relevant")]
        assert (
            numbers[-1] == f"{result.bundle.recommenders['one_to_one'].budgets[r['generator']]} of {r['recipe_budget']}"
        )
    assert "predictive_budgets" not in page.tables


def test_titles_are_escaped(result: TrainingResult, event_log: EventLog) -> None:
    evil = "<script>alert(1)</script>"
    sample_lists = [samples.Sample(evil, "champions", "one_to_one", [evil], [(evil, "i1", ())])]
    page = html.render_report(result, event_log, {}, sample_lists)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_run_without_a_hold_out_has_a_report_and_a_card(result: TrainingResult, event_log: EventLog) -> None:
    bare = replace(result, evaluations={})
    assert iso(result.until)[:10] in html.render_report(bare, event_log, {}, [])
    assert "## Limits" in model_card.render_card(bare, event_log, {})


def test_the_stopwatch_forwards_every_step() -> None:
    reports: list[tuple[str, int, int]] = []
    watch = Stopwatch(lambda *step: reports.append(step))
    watch("one", 1, 2)
    watch("two", 2, 2)
    assert reports == [("one", 1, 2), ("two", 2, 2)]
    assert [text for text, _ in watch.seconds()] == ["one", "two"]
    assert all(seconds >= 0 for _, seconds in watch.seconds())
