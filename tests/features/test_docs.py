from pathlib import Path

from features import assemble, docs, tables
from features.columns import names

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "features.md"


def test_the_page_is_what_the_code_declares():
    assert PAGE.read_text() == "\n".join(docs.lines()) + "\n", "run: python -m features.docs > docs/features.md"


def test_every_column_of_every_table_is_on_the_page():
    listed = {line.split(" | ")[0].removeprefix("| ") for line in docs.lines() if line.startswith("| ")}
    fields = {*tables.CUSTOMER_FIELDS, *tables.ITEM_FIELDS}
    assert {*names(tables.CUSTOMER_COLUMNS), *names(tables.ITEM_COLUMNS), *fields} <= listed


def test_what_the_ranker_sees_is_marked():
    marked = [line for line in docs.lines() if line.endswith("| • |")]
    assert len(marked) == len(assemble.NAMES)
