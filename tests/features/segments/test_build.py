import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.schema import CATALOG_SCHEMA, conform
from features.segments import build as segments
from features.segments import report
from features.segments.build import LIFECYCLES, VALUE_TIERS, Segments
from features.tables import lifetime, rfm
from features.tables.build import build_from_events
from tests.features.shop import AS_OF, build, frame, one, row

EVIL = "<script>alert('&\"$x_1$')</script>"
ROWS = [
    *(row("purchase", -d, "cust-often", "i1", 2.0, 10.0, f"a{d}", source="email") for d in (300, 290, 9)),
    *(row("purchase", -d, "cust-steady", "i2", 1.0, 30.0, f"b{d}", source="ads") for d in (30, 20, 10, 1)),
    row("purchase", -200, "cust-gone", "i4", 1.0, 5.0, "d1", source=EVIL),
    row("purchase", -2, "cust-fresh", "i4", 1.0, 5.0, "e1", source=EVIL),
    row("view_item", -50, "cust-looks", "i1"),
    row("view_item", -5, "cust-looks", "i1"),
    row("login", -3, "cust-login"),
]  # fmt: skip


def segment_shop(rows: list[dict] = ROWS) -> Segments:
    return segments.build(build(rows))


def cycle(recency: float | None, tenure: float | None, gap: float | None, last_gap: float | None = None) -> str:
    """The lifecycle of a customer in a shop where the typical cycle is 30 days."""
    columns = ("recency_days", "tenure_days", "order_gap_days", "last_gap_days")
    others = [(1.0, 3001.0, 30.0, 30.0)] * 5
    table = pl.DataFrame([(recency, tenure, gap, last_gap), *others], dict.fromkeys(columns, pl.Float32), orient="row")
    return segments.add_lifecycle(table)["lifecycle"][0]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((None, None, None), "prospect"),
        ((10, 10, None), "new"),
        ((30, 30, None), "new"),
        ((1, 29, 7, 7), "new"),  # many orders, but all of the last weeks
        ((31, 31, None), "active"),  # one order counts as the shop's cycle
        ((60, 60, None), "active"),
        ((61, 61, None), "cooling"),
        ((91, 91, None), "lapsed"),
        ((181, 181, None), "lost"),
        # Ten gaps of ten days and one of the shop's thirty: a cycle of 11.8 days, not 30.
        ((23, 123, 10, 10), "active"),
        ((24, 124, 10, 10), "cooling"),
        ((36, 136, 10, 10), "lapsed"),
        ((71, 171, 10, 10), "lost"),
        # Nine gaps of ten days, then one of 100: more than three cycles, which were of twelve days.
        ((5, 195, 19, 100), "won_back"),
        ((5, 115, 55, 100), "won_back"),  # the long gap itself does not make for long cycles
        ((5, 125, 12, 30), "active"),  # nine of ten and one of thirty: that happens
        ((60, 250, 19, 100), "cooling"),  # came back, and is late again
        ((40, 40, 0, 0), "active"),  # two orders at one instant are a gap of none
    ],
)
def test_lifecycle(numbers: tuple, expected: str) -> None:
    assert cycle(*numbers) == expected


def test_a_shop_without_repeat_orders_has_a_cycle() -> None:
    customers = [(float(d), float(d), None, None) for d in (10, 100, 200, 400, 600)]
    columns = ("recency_days", "tenure_days", "order_gap_days", "last_gap_days")
    table = segments.add_lifecycle(pl.DataFrame(customers, dict.fromkeys(columns, pl.Float32), orient="row"))
    assert table["lifecycle"].to_list() == ["new", "active", "cooling", "lapsed", "lost"]
    assert table["cycle_days"].to_list() == [segments.TYPICAL_DAYS] * 5


def test_one_row_per_customer_with_the_declared_columns() -> None:
    table = segment_shop().table
    assert table["customer_id"].to_list() == sorted({r["customer_id"] for r in ROWS})
    declared = {f.name: {"string": pl.String, "int32": pl.Int32}[f.dtype] for f in segments.FIELDS}
    declared |= {c.name: pl.Float32 for c in segments.COLUMNS}
    assert dict(table.schema) == {"customer_id": pl.String} | declared
    assert {c.name for c in lifetime.COLUMNS} <= set(table.columns)
    assert table["lifecycle"].is_in(LIFECYCLES).all()
    assert table["segment"].is_in([*rfm.SEGMENTS, rfm.PROSPECT]).all()


def test_tiers_visitors_and_traffic() -> None:
    table = segment_shop().table
    tiers = dict(zip(table["customer_id"], table["value_tier"], strict=True))
    assert tiers["cust-looks"] == tiers["cust-login"] == "none"
    assert VALUE_TIERS.index(tiers["cust-steady"]) > VALUE_TIERS.index(tiers["cust-often"]) > 1
    visitor = dict(zip(table["customer_id"], table["visitor"], strict=True))
    assert visitor == {
        "cust-often": "returning",
        "cust-steady": "returning",
        "cust-looks": "returning",
        "cust-gone": "new",
        "cust-fresh": "new",
        "cust-login": "new",
    }
    assert one(table, customer_id="cust-often")["source"] == "email"


def test_shares_add_up_to_the_whole() -> None:
    table = segment_shop().table
    money = 3 * 20 + 4 * 30 + 2 * 5
    for by in ("segment", "lifecycle", "value_tier", "visitor", "source", "cluster_name"):
        groups = segments.share_table(table, by)
        assert groups["customers"].sum() == 6
        assert groups["buyers"].sum() == 4
        assert groups["share"].sum() == pytest.approx(1)
        assert groups["revenue"].sum() == pytest.approx(money)
        assert groups["revenue_share"].sum() == pytest.approx(1)
    prospects = one(segments.share_table(table, "segment"), segment="prospect")
    assert (prospects["customers"], prospects["mean_value"], prospects["revenue"]) == (2, None, 0)
    assert segments.share_table(table, "source")["source"].to_list() == [EVIL, "ads", "email", None]
    assert segments.share_table(table, "segment")["segment"].to_list()[:2] == ["hibernating", "prospect"]  # the largest
    lives = segments.share_table(table, "lifecycle", LIFECYCLES)["lifecycle"].to_list()
    assert lives == [name for name in LIFECYCLES if name in lives]
    steady = one(segments.share_table(table, "source"), source="ads")
    assert steady["mean_value"] == pytest.approx(120)
    assert steady["revenue_share"] == pytest.approx(120 / money)


def test_csv_and_parquet_hold_the_same(tmp_path: Path) -> None:
    result = segment_shop()
    result.write(tmp_path / "new" / "segments.csv")
    result.write(tmp_path / "segments.parquet")
    assert pl.read_parquet(tmp_path / "segments.parquet").equals(result.table)
    again = pl.read_csv(tmp_path / "new" / "segments.csv", schema_overrides=dict(result.table.schema))
    assert again.equals(result.table)


@pytest.mark.parametrize("name", ["segments.xlsx", "segments"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        segment_shop().write(tmp_path / name)
    with pytest.raises(InputError, match=r"--page .* \.html"):
        report.write_page(segment_shop(), tmp_path / "page.pdf")


def test_predictions_and_lookalikes_are_added() -> None:
    rows = [*ROWS, *(row("view_item", -n, f"cust-{n:02}", "i1") for n in range(1, 31))]
    scores = pl.DataFrame({"customer_id": ["cust-often"], "propensity_7d": pl.Series([0.25], dtype=pl.Float32)})
    seeds = [f"cust-{n:02}" for n in range(1, 13)]
    table = segments.build(build(rows), seeds=seeds, n_lookalikes=3, predictions=scores).table
    assert table.columns[-4:] == ["propensity_7d", "seed", "lookalike_score", "lookalike_rank"]
    assert one(table, customer_id="cust-often")["propensity_7d"] == 0.25
    assert table["seed"].sum() == 12
    assert table["lookalike_rank"].drop_nulls().sort().to_list() == [1, 2, 3]


class Cells(HTMLParser):
    """The rows of each table of a page, by the table's id; and every tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[str] = []
        self.open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "table":
            self.rows = self.tables.setdefault(str(dict(attrs)["id"]), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[-1][-1] += data


def test_the_page_matches_the_table() -> None:
    result = segment_shop()
    cells = Cells(report.render_html(result)).tables
    counted = {name: n for name, n, *_ in cells["rfm"][1:]}
    sizes = result.table["segment"].value_counts()
    assert counted == {s.replace("_", " ").replace("cant", "can't"): str(n) for s, n in sizes.iter_rows()}
    assert sum(int(c.split()[0]) for line in cells["heat"][1:] for c in line[1:]) == 4
    assert sum(int(line[1]) for line in cells["lifecycle"][1:]) == 6
    assert ["latest source: ads", "1", "16.7%", "120", "63.2%", "–"] in cells["traffic"]
    assert [f"latest source: {report.UNKNOWN}", "2", "33.3%", "–", "0.0%", "–"] in cells["traffic"]


def test_names_are_escaped_and_no_customer_is_named() -> None:
    catalog = [("i1", f"Kitchen/{EVIL}", "Alder"), ("i2", "Garden", EVIL), ("i4", EVIL, EVIL)]
    rows = [row("view_item", -n, f"cust-{n:02}-{item}", item) for n in range(1, 15) for item, *_ in catalog]
    table = pl.DataFrame(catalog, ["item_id", "category", "brand"], orient="row")
    tables_ = build_from_events(frame([*ROWS, *rows]).lazy(), conform(table, CATALOG_SCHEMA), AS_OF)
    result = segments.build(tables_)
    assert any("alert" in c.name for c in result.clustering.clusters)
    page = report.render_html(result)
    cells = Cells(page)
    assert "script" not in cells.tags
    assert any("alert('&\"$x_1$')" in line[0] for line in cells.tables["clusters"])
    assert [f"latest source: {EVIL}", "2"] in [line[:2] for line in cells.tables["traffic"]]
    assert "cust-" not in page


def test_the_page_is_self_contained() -> None:
    page = report.render_html(segment_shop())
    assert "default-src 'none'" in page
    tags = Cells(page).tags
    assert not {"link", "img", "image", "iframe", "script", "base", "object"} & set(tags)
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\"' >]*", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert page.count("<svg") == page.count('role="img"') == page.count("<title>") - 1 >= 3


def test_a_page_of_a_shop_without_orders() -> None:
    page = report.render_html(segment_shop([row("view_item", -1, "d1", "i1"), row("login", -1, "cust-2")]))
    assert "Too few repeat buyers" in page
    assert "Nobody has touched an item" in page


def test_what_was_left_out_is_said_in_every_form() -> None:
    rows = [row("view_item", -1, "c1+kiosk", "i1"), row("login", -1, "c2+kiosk"), row("login", -1, "c1", consent=False)]
    segmentation = segment_shop(rows)
    assert segments.summarize(segmentation)["left_out"]["without_consent"] == 1
    assert "left out: 1 event without consent\n1 device shared by 2 customers" in segments.format_text(segmentation)
    page = report.render_html(segmentation)
    assert "1 device shared by 2 customers" in page
    assert "kiosk" not in page
