"""The commands of rules, as a user types them."""

import json
from pathlib import Path

import polars as pl
import pytest

from models.bundle import Bundle
from tests.e2e.conftest import Run, run_in

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def home(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("rules")
    bundle.save(home / "bundle")
    return home


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    return run_in(home / "home")


def test_check_tells_what_is_wrong_and_what_is_hardly_meant(run: Run, home: Path):
    file = home / "rules.yml"
    file.write_text("rules:\n  - {id: a, when: visitor.segmnt == 'x', do: {pin: {item_ids: [i1]}}}\n")
    wrong = run("rules", "check", file, code=2)
    assert "line 2: a: when: there is no visitor.segmnt; did you mean visitor.segment?" in wrong.stderr
    file.write_text("rules:\n  - {id: a, until: 2020-01-01, do: {pin: {item_ids: [nothing]}}}\n")
    text = run("rules", "check", file, "--bundle", home / "bundle").stdout
    assert "line 2: a: expired: it ended 2020-01-01T00:00:00+00:00" in text
    assert "line 2: a: unknown: the catalog has no product nothing" in text
    answer = json.loads(run("rules", "check", file, "--at", "2019-12-31", "--json").stdout)
    assert (answer["rules"], answer["active"], answer["findings"]) == (1, 1, [])
    assert "cannot be read" in run("rules", "check", home / "none.yml", code=2).stderr


def test_preview_and_recommend_follow_the_same_draft(run: Run, home: Path, bundle: Bundle):
    customer, other = bundle.snapshot.customers.values.to_pylist()[:2]
    items = bundle.snapshot.items.values.to_pylist()
    draft = home / "draft.yml"
    draft.write_text(
        "timezone: Europe/Berlin\nrules:\n"
        f"  - {{id: gone, items: {{item_ids: [{items[0]}]}}, do: {{hide: true}}}}\n"
        f"  - {{id: mail, when: context.source == 'email', do: {{pin: {{item_ids: [{items[1]}]}}}}}}\n"
        f"  - {{id: night, from: 2027-01-01, do: {{pin: {{item_ids: [{items[2]}], at: 2}}}}}}\n"
    )
    options = ("--rules", draft, "--model", home / "bundle", "--customer", customer, "--placement", "email.digest")
    answer = json.loads(run("rules", "preview", *options, "--source", "Email", "--json").stdout)
    assert answer["with_rules"][0]["item_id"] == items[1]
    assert items[0] not in [item["item_id"] for item in answer["with_rules"]]
    assert [(rule["id"], rule["matched"]) for rule in answer["rules"]] == [
        ("gone", True),
        ("mail", True),
        ("night", False),
    ]
    text = run("rules", "preview", *options, "--at", "2027-01-01").stdout
    assert "acts  night (pin)" in text
    assert "no    mail (pin): context.source == 'email': context.source is not known here" in text
    (home / "customers.txt").write_text(f"{customer}\n{other}\n")
    recommend = (
        "recommend",
        "--model",
        home / "bundle",
        "--customers",
        home / "customers.txt",
        "--out",
        home / "o.csv",
    )
    run(*recommend, "--placement", "email.digest", "--rules", draft, "--at", "2027-01-01", "--k", 24)
    table = pl.read_csv(home / "o.csv", schema_overrides={"item_id": pl.String})
    assert table.filter(pl.col("rank") == 2)["item_id"].to_list() == [items[2]] * 2
    assert items[0] not in table["item_id"].to_list()
