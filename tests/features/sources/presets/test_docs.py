"""docs/presets.md: its commands, run on the samples here, print the counts and give the rows that it shows."""

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.event_log.log import EventLog
from features.sources.presets import PRESETS
from usual.cli import app

SAMPLES = Path(__file__).parent / "samples"
PAGE = (Path(__file__).parents[4] / "docs" / "presets.md").read_text()
SECTIONS = dict(re.findall(r"^## ([a-z0-9-]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
COLUMNS = ("name", "timestamp", "customer_id", "client_id", "item_id", "quantity", "price", "currency", "order_id")


def counts(printed: str) -> list[str]:
    """The lines of a report that count rows."""
    return [line for line in printed.splitlines() if re.match(r" *-?[\d,]+  \S", line)]


def first_rows(log: Path) -> list[str]:
    """The first three events of a log as a table, or the first three items where it has no events."""
    opened = EventLog.open(log)
    events = opened.scan().collect()
    order = [c for c in ("timestamp", "client_id", "name", "item_id") if c in events.columns]
    table = events.sort(order, nulls_last=True).select(COLUMNS).head(3)
    if not table.height:
        table = (
            opened.catalog().select("item_id", "title", "category", "brand", "price", "currency", "available").head(3)
        )
    shown = [c for c in table.columns if table[c].null_count() < table.height]
    lines = [[_show(value) for value in row] for row in table.select(shown).iter_rows()]
    return ["| " + " | ".join(cells) + " |" for cells in (shown, ["---"] * len(shown), *lines)]


def _show(value: object) -> str:
    if value is None:
        return ""
    if hasattr(value, "strftime"):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = f"{value:.6g}" if isinstance(value, float) else str(value).replace("\n", " ")
    return text if len(text) <= 16 else f"{text[:14]}…"


def test_every_preset_has_its_section():
    assert list(SECTIONS) == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_prints_what_the_page_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fences = re.findall(r"^```(\w*)\n(.*?)\n```$", SECTIONS[name], re.M | re.S)
    command, shown = [text for language, text in fences if language in ("", "text")]
    shutil.copytree(SAMPLES / name, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "a secret of the shop")
    program, *arguments = command.split()
    result = CliRunner().invoke(app, arguments)
    assert (program, result.exit_code) == ("usual", 0), result.output
    assert counts(result.output) == shown.splitlines()
    rows = "\n".join(first_rows(Path("log")))
    assert rows in SECTIONS[name]
