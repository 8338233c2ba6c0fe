"""The MLflow pages after two training runs, as an analyst sees them in a real browser."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from features.event_log.ingestion import ingest
from features.event_log.ingestion.ingest import ParsedBatch
from tests.e2e.conftest import ROOT
from tests.training.recipes import small
from training import config
from training.tracking import log_run, mlflow_client
from training.train import train

BOUNDARIES = (3, 4)  # by which the two runs differ

pytestmark = pytest.mark.e2e


@dataclass
class MlflowPages:
    """The server of `usual ui`, its output, and the runs it shows, first to last."""

    url: str
    output: str
    experiment: str
    runs: list[Run]


@pytest.fixture(scope="module")
def pages(browser: Any, simulated: ParsedBatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowPages]:
    root = tmp_path_factory.mktemp("ui")
    home, output = root / "home", root / "ui.out"
    log = ingest.ingest([simulated], root / "shop").log
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USUAL_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
        settings = config.load()
        client = mlflow_client.connect(
            settings
        )  # two processes that make the store at once would be in each other's way
        with _run_ui(home, output) as (url, server):
            results = [log_run.log_run(train(log, small(boundaries=n)), log, settings) for n in BOUNDARIES]
            runs = [client.get_run(run.run_id) for run in results]
            _wait(url, server, output)
            yield MlflowPages(url, output.read_text(), runs[0].info.experiment_id, runs)


@contextlib.contextmanager
def _run_ui(home: Path, output: Path) -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
    """Run `usual ui` as a process; yield its address and the process. Its output goes to the file `output`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("USUAL_", "MLFLOW_"))}
    with output.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "usual", "ui", "--port", str(port)],
            cwd=ROOT,
            env=environment | {"USUAL_HOME": str(home)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


def _wait(url: str, server: "subprocess.Popen[bytes]", output: Path) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):  # noqa: S310
                return
        except OSError:
            assert server.poll() is None, output.read_text()
            time.sleep(0.2)
    raise AssertionError(output.read_text())


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A page in a wide window; its last screenshot is stored beside the test."""
    context = browser.new_context(viewport={"width": 1900, "height": 1000})
    # The assistant opens beside everything on the first visit, and covers what the tests look at.
    context.add_init_script(
        "if (window === window.top) {"
        "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');"
        "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false') }"
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    yield page
    page.screenshot(path=str(tmp_path / "page.png"))
    context.close()


def test_the_printed_address_lists_both_runs_with_their_headline_metrics(pages: MlflowPages, page: Any) -> None:
    match = re.search(r"^runs: (\S+)", pages.output, re.MULTILINE)
    assert match
    page.goto(match[1])
    for run in pages.runs:
        page.get_by_role("link", name=run.info.run_name, exact=True).wait_for()
    table = page.locator("[role=treegrid], [role=grid]").first.inner_text()
    assert "one_to_one_ndcg_at_10" in table
    for run in pages.runs:
        for metric in ("one_to_one_ndcg_at_10", "predictive_ndcg_at_10", "predictive_over_best_baseline"):
            assert f"{run.data.metrics[metric]:.10g}"[:7] in table, metric


def test_charts_begin_with_the_headline(pages: MlflowPages, page: Any) -> None:
    page.goto(f"{pages.url}/#/experiments/{pages.experiment}/runs?compareRunsMode=CHART")
    page.locator(".js-plotly-plot svg.main-svg").first.wait_for()
    section_names = re.compile(r"^(headline|(?:one_to_one|predictive)/\S+|Model metrics)$", re.MULTILINE)
    assert section_names.findall(page.inner_text("body"))[0] == "headline"
    bars = page.locator(".js-plotly-plot").first.locator(".barlayer .point")
    bars.first.wait_for()
    assert bars.count() == len(pages.runs)


def test_runs_are_compared_by_parameters_and_metrics(pages: MlflowPages, page: Any) -> None:
    ids = ",".join(f'"{run.info.run_id}"' for run in pages.runs)
    page.goto(f'{pages.url}/#/compare-runs?runs=[{ids}]&experiments=["{pages.experiment}"]')

    parameter = page.locator("tr").filter(has=page.get_by_text("boundaries", exact=True)).first
    parameter.wait_for()
    assert [t.strip() for t in parameter.locator("td").all_inner_texts()][-2:] == [str(n) for n in BOUNDARIES]
    page.get_by_text("headline/one_to_one_ndcg_at_10").first.wait_for()
    values = page.inner_text("body").partition("headline/")[2].split()
    for run in pages.runs:
        assert f"{run.data.metrics['one_to_one_ndcg_at_10']:.3f}".rstrip("0") in values


def test_the_report_opens_in_the_artifact_viewer(pages: MlflowPages, page: Any) -> None:
    run = pages.runs[-1]
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{pages.url}/#/experiments/{pages.experiment}/runs/{run.info.run_id}/artifacts/report.html")
    report = page.frame_locator("iframe")
    report.locator("#one_to_one_ndcg").wait_for()
    assert report.locator("#one_to_one_ndcg").inner_text() == f"{run.data.metrics['one_to_one_ndcg_at_10']:.3f}"
    assert report.locator("#one_to_one_methods tbody tr").count() > 3
    plot = report.locator("svg[role=img]").first.bounding_box()
    assert plot["width"] > 250
    assert plot["height"] > 100
    assert faults == []


def test_a_plot_is_displayed(pages: MlflowPages, page: Any) -> None:
    run = pages.runs[0].info.run_id
    path = "plots/one_to_one_against_baselines.png"
    page.goto(f"{pages.url}/#/experiments/{pages.experiment}/runs/{run}/artifacts/{path}")
    page.wait_for_function("[...document.images].some(i => i.complete && i.naturalWidth > 600)")


def test_sample_recommendations_are_a_table(pages: MlflowPages, page: Any) -> None:
    run = pages.runs[0].info.run_id
    page.goto(f"{pages.url}/#/experiments/{pages.experiment}/runs/{run}/artifacts/sample_recommendations.json")
    page.get_by_text("View as table").wait_for()
    page.get_by_text("customer 1", exact=True).first.wait_for()
    page.get_by_text("title", exact=True).first.wait_for()


def test_the_model_page_shows_aliases_tags_and_cards(pages: MlflowPages, page: Any) -> None:
    page.goto(f"{pages.url}/#/models/usual")
    newest = page.locator("[role=row], tr").filter(has_text="Version 2").first
    newest.wait_for()
    newest.get_by_text("challenger").first.wait_for()
    row = newest.inner_text()
    assert pages.runs[1].data.tags["log_fingerprint"] in row
    assert "NDCG@10" in row
    assert "challenger" not in page.locator("[role=row], tr").filter(has_text="Version 1").first.inner_text()
    page.get_by_text("The promotion gate").wait_for()
    page.goto(f"{pages.url}/#/models/usual/versions/2")
    page.get_by_role("heading", name="Intended use").wait_for()
    assert "--until" in page.inner_text("body")
