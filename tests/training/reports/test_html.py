"""A run's report and model card: what they say must be what was measured."""

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
        self.told: dict[str, str] = {}
        self.loads: list[tuple[str, str]] = []
        self._table, self._id, self._cell = "", "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [(tag, str(v)) for k, v in attrs if k in ("src", "href", "srcset") and not str(v).startswith("#")]
        self.loads += [(tag, "")] if tag in ("script", "link", "iframe", "object") else []
        if tag == "table":
            self._table = str(given["id"])
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
            self._cell = True
        elif "id" in given:
            self._id = str(given["id"])

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        self._id = ""

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[self._table][-1][-1] += data
        elif self._id:
            self.told[self._id] = data


@pytest.fixture(scope="module")
def told(result: TrainingResult, event_log: EventLog) -> list[samples.Sample]:
    return samples.samples(result.bundle, event_log.catalog())


@pytest.fixture(scope="module")
def text(result: TrainingResult, event_log: EventLog, told: list[samples.Sample]) -> str:
    gains = {name: two_stage.ranker.importance() for name, two_stage in result.bundle.recommenders.items()}
    made = plots.of_run(result.evaluations, gains, {"one_to_one": [0.1, 0.3, 0.2]})
    return html.html(result, event_log, made, told, [("refit", 1.25), ("fit & hold-out", 2.0)])


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_headline_numbers_are_the_evaluation(page: Page, result: TrainingResult) -> None:
    for name, evaluation in result.evaluations.items():
        assert page.told[f"{name}_ndcg"] == f"{evaluation.summary['ndcg_at_10']:.3f}"
        assert page.told[f"{name}_ahead"] == f"{evaluation.summary['over_best_baseline']:+.3f}"
    assert page.told["events"] == f"{result.events:,}"


def test_methods_are_listed_best_first_below_ours(page: Page, result: TrainingResult) -> None:
    summary = result.evaluations["one_to_one"].summary
    _, ours, *others = page.tables["one_to_one_methods"]
    assert ours[:2] == ["one-to-one", f"{summary['ndcg_at_10']:.4f}"]
    scores = [float(row[1]) for row in others]
    assert scores == sorted(scores, reverse=True)
    ahead = float(others[0][-1].split()[0])
    assert ahead == pytest.approx(summary["over_best_baseline"], abs=1e-4)


def test_segments_hold_every_query(page: Page, result: TrainingResult) -> None:
    evaluation = result.evaluations["one_to_one"]
    rows = page.tables["one_to_one_segments"][1:]
    assert sum(int(row[1].replace(",", "")) for row in rows) == evaluation.per_query.height
    sizes = dict(evaluation.per_query["segment"].value_counts().iter_rows())
    assert {row[0]: int(row[1]) for row in rows} == {plots.words(s): n for s, n in sizes.items()}


def test_it_says_what_it_was_made_from_and_where_the_time_went(
    page: Page, result: TrainingResult, event_log: EventLog
) -> None:
    made = dict(row for row in page.tables["made_from"] if len(row) == 2)
    assert event_log.fingerprint in made["event log"]
    assert made["end of training"] == iso(result.until)
    assert made["training boundaries"].split(", ") == [iso(at)[:10] for at in result.boundaries]
    assert page.tables["seconds"][1:] == [["refit", "1.2"], ["fit & hold-out", "2.0"], ["in all", "3.2"]]


def test_examples_are_the_shipped_models_lists(page: Page, told: list[samples.Sample]) -> None:
    rows = page.tables["examples"][1:]
    assert rows[-1][0].startswith(samples.STRANGER)
    by_name = {s.customer: s for s in told}
    for who, usual, shown in rows:
        sample = by_name[who.split(" (")[0]]
        assert shown == ", ".join(title for title, _, _ in sample.shown[: html.ITEMS])
        assert usual == (", ".join(sample.usual) or "–")


def test_customers_usual_products_are_what_they_ordered(
    told: list[samples.Sample], event_log: EventLog, result: TrainingResult
) -> None:
    bought = event_log.scan().filter(pl.col("name").cast(pl.String) == "purchase").collect()
    titles = dict(event_log.catalog().select("item_id", "title").iter_rows())
    ids = result.bundle.snapshot.customers.values.to_pylist()
    for sample, customer in zip(told[:-1], ids[:: max(1, len(ids) // samples.CUSTOMERS)], strict=False):
        own = {titles[i] for i in bought.filter(pl.col("customer_id") == customer)["item_id"]}
        assert set(sample.usual) <= own
        assert bool(sample.usual) == bool(own)


def test_the_page_needs_and_runs_nothing(text: str, page: Page) -> None:
    assert page.loads == []
    assert "default-src 'none'" in text
    assert text.count("<svg") == 13  # of recommenders and their budgets, and two of what customers do next


def test_budgets_that_could_be_cut_are_shown_by_depth(page: Page, result: TrainingResult) -> None:
    told = {row[0]: row[1:] for row in page.tables["one_to_one_budgets"][1:]}
    for r in result.cuts["one_to_one"].table.iter_rows(named=True):
        numbers = told[f"{plots.words(r['generator'])}, from {r['depth'] + 1}"]
        assert numbers[:4] == [f"{r[c]:,}" for c in ("proposed", "wanted", "alone", "wanted_alone")]
        assert numbers[-1] == f"{result.bundle.recommenders['one_to_one'].budgets[r['generator']]} of {r['budget']}"
    assert "predictive_budgets" not in page.tables


def test_what_the_shop_calls_its_products_is_text(result: TrainingResult, event_log: EventLog) -> None:
    evil = "<script>alert(1)</script>"
    told = [samples.Sample(evil, "champions", "one_to_one", [evil], [(evil, "i1", ())])]
    shown = html.html(result, event_log, {}, told)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_a_run_without_a_hold_out_still_has_a_report_and_a_card(result: TrainingResult, event_log: EventLog) -> None:
    bare = replace(result, evaluations={})
    assert iso(result.until)[:10] in html.html(bare, event_log, {}, [])
    assert "## Limits" in model_card.markdown(bare, event_log, {})


def test_the_stopwatch_passes_on_what_it_hears() -> None:
    heard: list[tuple[str, int, int]] = []
    watch = Stopwatch(lambda *told: heard.append(told))
    watch("one", 1, 2)
    watch("two", 2, 2)
    assert heard == [("one", 1, 2), ("two", 2, 2)]
    assert [text for text, _ in watch.seconds()] == ["one", "two"]
    assert all(seconds >= 0 for _, seconds in watch.seconds())
