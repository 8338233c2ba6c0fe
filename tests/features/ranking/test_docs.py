from pathlib import Path

from features.ranking import docs, feature_matrix, stated_preferences
from features.tables.build import CUSTOMER_COLUMNS, CUSTOMER_FIELDS, ITEM_COLUMNS, ITEM_FIELDS
from features.tables.columns import names

PAGE = Path(__file__).resolve().parents[3] / "docs" / "features.md"


def test_the_page_is_what_the_code_declares():
    assert PAGE.read_text() == "\n".join(docs.render_lines()) + "\n", (
        "run: python -m features.ranking.docs > docs/features.md"
    )


def test_every_column_of_every_table_is_on_the_page():
    listed = {line.split(" | ")[0].removeprefix("| ") for line in docs.render_lines() if line.startswith("| ")}
    fields = {*CUSTOMER_FIELDS, *ITEM_FIELDS}
    assert {*names(CUSTOMER_COLUMNS), *names(ITEM_COLUMNS), *fields} <= listed


def test_what_the_ranker_sees_is_marked():
    marked = [line for line in docs.render_lines() if line.endswith("| • |")]
    assert len(marked) == len(feature_matrix.names(docs.GENERATOR)) + len(stated_preferences.COLUMNS)
