"""Feature documentation: docs/features.md, from the columns that each feature group declares.

python -m features.ranking.docs > docs/features.md
"""

from collections.abc import Iterator, Sequence

from features.ranking import feature_matrix, session_features, stated_preferences
from features.tables import affinity, behaviour, history, items, lifetime, rfm, traffic
from features.tables.columns import Column, Field

HEAD = """# Features

Made by `python -m features.ranking.docs` from the declarations in the code. Every number is float32 and null where it
is not defined; every window is half-open and ends just before the instant the table is of. Days are 24 hours back from
that instant, not calendar days. `usual features` writes the tables; the ranker sees the columns marked with a dot.
"""

# Which generators there are is for models to say; each has the same two columns.
GENERATOR = ("NAME",)

# Table, what its rows are, and its groups: title, columns, prefix of the ranker's column names (None: not for it).
Group = tuple[str, Sequence[Column] | Sequence[Field], str | None]
TABLES: tuple[tuple[str, str, tuple[Group, ...]], ...] = (
    (
        "customers",
        "one row per customer with an event",
        (
            ("Recency, frequency, monetary value", (*rfm.COLUMNS, *rfm.SCORES), "customer_"),
            ("Behaviour", behaviour.COLUMNS, "customer_"),
            ("Affinity", affinity.COLUMNS, "customer_"),
            ("Lifetime", lifetime.COLUMNS, "customer_"),
            ("Traffic and segment", (*traffic.FIELDS, rfm.SEGMENT), None),
        ),
    ),
    ("items", "one row per item with an event", (("Items", items.COLUMNS, "item_"), ("Catalog", items.FIELDS, None))),
    ("history", "one row per customer and item", (("History", history.COLUMNS, "pair_"),)),
    ("affinities", "one row per customer, facet and value", (("Shares", (affinity.SHARE,), None),)),
    (
        "for the ranker alone",
        "one row per visitor and candidate item",
        (
            ("Candidate scores, for each candidate generator NAME", feature_matrix.score_columns(GENERATOR), ""),
            ("Customer against item", feature_matrix.CROSS_COLUMNS, ""),
            ("This visit", session_features.COLUMNS, ""),
            ("Stated preferences, where the log has answers", stated_preferences.COLUMNS, ""),
        ),
    ),
)


def render_lines() -> Iterator[str]:
    """Render the page, line by line."""
    yield from HEAD.splitlines()
    ranked = set(feature_matrix.names((*GENERATOR, feature_matrix.STATED)))
    for table, rows, groups in TABLES:
        yield from ("", f"## {table}", "", f"{rows[0].upper()}{rows[1:]}.")
        for title, columns, prefix in groups:
            yield from ("", f"### {title}", "", "| name | type | unit | window | meaning | |", "| --- " * 6 + "|")
            for c in columns:
                mark = "•" if prefix is not None and prefix + c.name in ranked else ""
                yield f"| {c.name} | {_kind(c)} | {c.meaning.replace('|', '/')} | {mark} |"


def _kind(c: Column | Field) -> str:
    return f"float32 | {c.unit} | {c.window}" if isinstance(c, Column) else f"{c.dtype} | | all time"


if __name__ == "__main__":
    print("\n".join(render_lines()))
