"""Presets on samples under the real headers: what each row becomes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import IngestReport, ingest
from features.sources import read
from features.sources.presets import PRESETS, find_preset, load_preset, preset_path, recognize, signatures, suggest

SAMPLES = Path(__file__).parent / "samples"
Reader = Callable[..., IngestReport]


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")


@pytest.fixture
def take(tmp_path: Path) -> Reader:
    """Ingests files, or the sample of a preset, by it."""

    def take(preset: str, *files: Path, mapping: Path | None = None) -> IngestReport:
        paths = list(files) or sorted((SAMPLES / preset).iterdir())
        return ingest(read("events", paths, mapping=mapping, preset=preset), tmp_path / "log")

    return take


def lines(report: IngestReport, *columns: str) -> list[tuple[object, ...]]:
    order = ["timestamp", "name", "item_id"]
    return report.log.scan().sort(order).select(columns).collect().rows()


def changed(tmp_path: Path, sample: str, **cells: str | None) -> Path:
    """A sample with the same cells in every row."""
    table = pl.read_csv(SAMPLES / sample, infer_schema=False)
    named = {c.replace(" ", "_").lower(): c for c in table.columns}
    drop = [named[c] for c, value in cells.items() if value is None]
    table = table.with_columns(pl.lit(v).alias(named[c]) for c, v in cells.items() if v is not None).drop(drop)
    table.write_csv(tmp_path / "changed.csv")
    return tmp_path / "changed.csv"


def items(report: IngestReport, *columns: str) -> list[tuple[object, ...]]:
    return report.log.catalog().sort("item_id").select("item_id", *columns).rows()


def test_shopify(take: Reader):
    report = take("shopify")
    assert (report.kept, sum(report.left_out.values()), report.derived) == ({"purchase": 5, "refund": 1}, 2, 1)
    assert lines(report, "name", "order_id", "item_id", "quantity", "price", "currency", "country") == [
        ("purchase", "#1001", "00042", 1, 12, "EUR", "AT"),
        ("purchase", "#1001", "TEA/GR-1", 2, 20.95, "EUR", "AT"),
        ("purchase", "#1002", "00042", 1, 12, "EUR", None),
        ("refund", "#1002", "00042", 1, 12, "EUR", None),
        ("purchase", "#1003", "Green tea\n100 g", 1, 20.95, "EUR", None),
        ("purchase", "#1006", "00042", 3, 12, "EUR", None),
    ]
    events = report.log.scan().collect()
    who = dict(events.select("order_id", pl.coalesce("customer_id", "client_id")).rows())
    assert who["#1001"] == who["#1006"] != who["#1002"]
    assert all(who[order].startswith("email:") for order in ("#1001", "#1002"))
    assert who["#1003"] == "order:#1003"
    assert events.filter(name="refund")["timestamp"].item() == datetime(2026, 3, 3, 8, tzinfo=UTC)
    catalog = items(report, "title", "category", "brand", "available")
    assert ("00042", "Mug", "Kitchen", "Leaf", True) in catalog
    assert ("00043", "Mug", "Kitchen", "Leaf", True) in catalog
    assert ("TEA/GR-1", "Green tea", "Tea", "Leaf", False) in catalog


@pytest.mark.parametrize("status", ["paid", "partially_paid", "partially_refunded", "refunded"])
def test_shopify_cancelled_orders_are_no_sales_unless_they_were_refunded(take: Reader, tmp_path: Path, status: str):
    table = pl.read_csv(SAMPLES / "shopify" / "orders_export_1.csv", infer_schema=False)
    first = pl.int_range(pl.len()) == 0  # order #1001, whose second line takes both from the first
    cells = {"Financial Status": status, "Cancelled at": "2026-03-12 10:00:00 +0200"}
    table = table.with_columns(pl.when(first).then(pl.lit(v)).otherwise(c).alias(c) for c, v in cells.items())
    table.write_csv(tmp_path / "orders.csv")
    report = take("shopify", tmp_path / "orders.csv")
    names = [name for name, order in lines(report, "name", "order_id") if order == "#1001"]
    assert names == (["purchase"] * 2 + ["refund"] * 2 if status == "refunded" else [])
    reason = "any: {Financial Status: [refunded]} or {Cancelled at: empty}"
    assert report.left_out.get(reason, 0) == (0 if status == "refunded" else 2)


def test_shopify_in_other_files_is_the_same_log(take: Reader, tmp_path: Path):
    """Split between files and exports that overlap, as another format, in another encoding and notation."""
    orders = SAMPLES / "shopify" / "orders_export_1.csv"
    table = pl.read_csv(orders, infer_schema=False)
    first, second, overlap = (tmp_path / f"{n}.csv" for n in range(3))
    for file, part in ((first, table[:3]), (second, table[3:]), (overlap, table[2:5])):
        part.write_csv(file)
    comma = pl.col("Lineitem price").str.replace(".", ",", literal=True)
    table.write_parquet(tmp_path / "o.parquet")
    (tmp_path / "o16.csv").write_bytes(table.with_columns(comma).write_csv(separator="\t").encode("utf-16"))
    (tmp_path / "few.csv").write_text(table.drop("Billing Country", "Cancelled at", "Source", "Id").write_csv())
    expected = take("shopify", orders).log.fingerprint
    for n, files in enumerate([(second, first), (first, second, overlap), ("o.parquet",), ("o16.csv",)]):
        paths = [tmp_path / file for file in files]
        report = ingest(read("events", paths, preset="shopify"), tmp_path / f"log-{n}")
        assert report.log.fingerprint == expected, files
    assert take("shopify", tmp_path / "few.csv").kept["refund"] == 1


def test_shopify_products_alone(take: Reader):
    report = take("shopify", SAMPLES / "shopify" / "products_export_1.csv")
    assert (report.rows_read, items(report, "price")) == (0, [("00042", 12), ("00043", 13), ("TEA/GR-1", 20.95)])


def test_shopify_products_in_the_new_format(take: Reader, tmp_path: Path):
    (tmp_path / "products.csv").write_text(
        "Title,URL handle,Description,Vendor,Product category,Type,Status,SKU,Option1 name,Option1 value,Price\n"
        "Mug,mug,A mug,Leaf,Home,Kitchen,Active,00042,Colour,blue,12.00\n,mug,,,,,,00043,,red,13.00\n"
    )
    report = take("shopify", tmp_path / "products.csv")
    assert items(report, "title", "price", "available") == [("00042", "Mug", 12, True), ("00043", "Mug", 13, True)]


def test_woocommerce(take: Reader):
    report = take("woocommerce")
    assert lines(report, "name", "order_id", "item_id", "quantity", "price") == [
        ("purchase", "101", "Gift wrap", 1, 2), ("purchase", "101", "SKU-1", 2, 12.5),
        ("purchase", "102", "SKU-1", 1, 12.5), ("purchase", "103", "SKU-2", 1, 4),
        ("purchase", "104", "SKU-2", 3, 4), ("refund", "104", "SKU-2", 3, 4),
    ]  # fmt: skip
    customers = report.log.scan().collect()["customer_id"]
    assert customers.is_not_null().all()
    assert (customers.n_unique(), "0" in customers) == (3, False)  # two guests are two customers
    catalog = items(report, "category", "price", "available")
    assert [row for row in catalog if row[0].startswith("SKU")] == [
        ("SKU-1", "Home/Kitchen", 12.5, True), ("SKU-2", "Food/Tea", 4, False),
    ]  # fmt: skip


def test_woocommerce_refunds_that_have_rows_count_once(take: Reader, tmp_path: Path):
    table = pl.read_csv(SAMPLES / "woocommerce" / "orders-2026.csv", infer_schema=False)
    returned = table.filter(pl.col("Order Number") == "104").with_columns(
        pl.lit("2026-01-20 09:00").alias("Order Date"), pl.lit("-2").alias("Quantity")
    )
    other = table.filter(pl.col("Order Number") == "103").with_columns(pl.lit("Refunded").alias("Order Status"))
    pl.concat([table.filter(pl.col("Order Number") != "103"), returned, other]).write_csv(tmp_path / "o.csv")
    report = take("woocommerce", tmp_path / "o.csv")
    refunds = [row for row in lines(report, "name", "order_id", "quantity") if row[0] == "refund"]
    assert refunds == [("refund", "103", 1), ("refund", "104", 2)]
    assert report.derived == 1


def test_woocommerce_with_the_plugins_default_fields(take: Reader, tmp_path: Path):
    sample = "woocommerce/orders-2026.csv"
    report = take("woocommerce", changed(tmp_path, sample, quantity=None, customer_user_id=None, order_currency=None))
    assert report.kept == {"purchase": 4}
    assert report.left_out["Quantity (- Refund): {not: [0]}"] == 1
    assert not {"104", "105", "106"} & {row[0] for row in lines(report, "order_id")}


def test_woocommerce_parents_are_no_items_and_are_told(take: Reader, tmp_path: Path):
    (tmp_path / "products.csv").write_text(
        "ID,Type,SKU,Name,Published,In stock?,Sale price,Regular price,Categories,Parent\n"
        "1,variable,SHIRT,Shirt,1,1,,,Clothes,\n2,variation,SHIRT-S,Shirt S,1,1,,20,,SHIRT\n"
        '3,"variation, virtual",SHIRT-M,Shirt M,1,1,18,20,,SHIRT\n4,grouped,SET,Set,1,1,,,,\n'
        "5,simple,MUG,Mug,1,1,,9,,\n"
    )
    report = take("woocommerce", tmp_path / "products.csv")
    assert items(report, "price") == [("MUG", 9), ("SHIRT-M", 18), ("SHIRT-S", 20)]
    assert any("2 rows of the catalog left out by Type" in note for note in report.notes)


def test_magento_parents_are_no_items_and_are_told(take: Reader, tmp_path: Path):
    (tmp_path / "products.csv").write_text(
        "sku,store_view_code,attribute_set_code,product_type,categories,name,price,special_price,is_in_stock\n"
        "TEE,,Top,configurable,,Tee,,,1\nTEE-M,,Top,simple,,Tee M,22.00,,1\nKIT,,Bag,bundle,,Kit,,,1\n"
        "SET,,Bag,grouped,,Set,,,1\n"
    )
    report = take("magento", tmp_path / "products.csv")
    assert items(report, "price") == [("KIT", None), ("TEE-M", 22)]
    assert any("2 rows of the catalog left out by product_type" in note for note in report.notes)


def test_magento(take: Reader):
    report = take("magento")
    assert lines(report, "name", "order_id", "item_id", "quantity", "price", "currency") == [
        ("purchase", "000000001", "24-MB01", 2, 34, "USD"), ("purchase", "000000001", "WS12-M-Orange", 1, 22, "USD"),
        ("purchase", "000000002", "24-MB01", 1, 34, "USD"), ("purchase", "000000003", "24-MB01", 1, 34, "USD"),
        ("refund", "000000003", "24-MB01", 1, 34, "USD"),
    ]  # fmt: skip
    assert items(report, "title", "category", "available") == [
        ("24-MB01", "Joust Bag", "Default Category/Gear/Bags", False),
        ("WS12-M-Orange", "Radiant Tee-M-Orange", "Default Category/Women/Tops/Tees", True),
    ]


def test_magento_without_statuses_and_refunds(take: Reader, tmp_path: Path):
    absent = dict.fromkeys(("state", "status", "updated_at", "qty_refunded", "base_price"))
    report = take("magento", changed(tmp_path, "magento/sales_order_item.csv", **absent))
    assert report.kept == {"purchase": 6}  # of all orders, as nothing says that they are none; the child's line is out


def test_bigcommerce(take: Reader, tmp_path: Path):
    report = take("bigcommerce")
    expected = [
        ("purchase", "186", "115", 2, 66.5, "USD"), ("purchase", "186", "8810-Blue-Small", 1, 67.5, "USD"),
        ("purchase", "187", "115", 1, 65, "USD"), ("refund", "187", "115", 1, 65, "USD"),
    ]  # fmt: skip
    assert lines(report, "name", "order_id", "item_id", "quantity", "price", "currency") == expected
    assert report.log.scan().collect()["customer_id"].n_unique() == 2


def test_bigcommerce_with_a_row_per_product(take: Reader, tmp_path: Path):
    (tmp_path / "orders.csv").write_text(
        "Order ID,Customer ID,Customer Email,Order Date,Order Status,Order Currency Code,Product ID,Product SKU,"
        "Product Name,Product Qty,Product Unit Price\n"
        "186,54,ann@example.com,26/04/2026,Completed,USD,100,A-1,Legging,1,67.50\n"
        "186,54,ann@example.com,26/04/2026,Completed,USD,115,,Capri,2,66.50\n"
        "187,0,bob@example.com,27/04/2026,Declined,USD,115,,Capri,2,66.50\n"
    )
    report = take("bigcommerce", tmp_path / "orders.csv")
    assert lines(report, "order_id", "item_id", "quantity") == [("186", "115", 2), ("186", "A-1", 1)]


def test_stripe(take: Reader):
    assert lines(take("stripe"), "name", "order_id", "item_id", "price", "currency") == [
        ("purchase", "ch_1A", "order", 1234.5, "EUR"), ("purchase", "ch_1B", "order", 25, "EUR"),
        ("purchase", "ch_1C", "order", 40, "EUR"), ("refund", "ch_1C", "order", 40, "EUR"),
    ]  # fmt: skip


def test_stripe_in_part_and_with_commas(take: Reader, tmp_path: Path):
    sample = changed(tmp_path, "stripe/unified_payments.csv", amount="1.234,50", amount_refunded="34,50", status="Paid")
    refunds = [row for row in lines(take("stripe", sample), "name", "price") if row[0] == "refund"]
    assert refunds == [("refund", 34.5)] * 4


def test_google_merchant(take: Reader, tmp_path: Path):
    xml = items(take("google-merchant"), "title", "category", "brand", "price", "currency", "available")
    assert xml == [
        ("00042", "Mug, blue", "Home/Kitchen", "Leaf", 10, "EUR", True),
        ("TEA/GR-1", "Green tea", "Food/Tea", "Leaf", 20.95, "EUR", False),
    ]
    (tmp_path / "feed.tsv").write_text(
        "id\ttitle\tavailability\tprice\tsale_price\tbrand\tproduct_type\n"
        "00042\tMug, blue\tin_stock\t12.00 EUR\t10.00 EUR\tLeaf\tHome > Kitchen\n"
    )
    tsv = items(
        take("google-merchant", tmp_path / "feed.tsv"), "title", "category", "brand", "price", "currency", "available"
    )
    assert tsv[0] == xml[0]


def test_hm(take: Reader):
    report = take("hm")
    assert (report.kept, report.merged) == ({"purchase": 4}, 1)
    sold = report.log.scan().collect()
    assert sold["quantity"].sum() == 5
    first = sold.filter(pl.col("customer_id").str.starts_with("000058"))
    assert (first["quantity"] * first["price"]).sum() == pytest.approx(0.1322, abs=1e-4)
    assert first["event_id"].n_unique() == 1
    assert ("0663713001", "Atlanta Push Body", "Ladieswear/Underwear/Bodysuit") in items(report, "title", "category")


def test_otto(take: Reader):
    report = take("otto")
    assert lines(report, "name", "client_id", "item_id", "quantity", "price") == [
        ("view_item", "0", "1517085", 1, 0), ("view_item", "1", "424964", 1, 0),
        ("add_to_cart", "0", "1563459", 1, 0), ("purchase", "0", "1563459", 1, 0),
    ]  # fmt: skip
    assert {price for _, price in items(report, "price")} == {None}  # at 0 everything would be free


def test_amazon_reviews(take: Reader, tmp_path: Path):
    report = take("amazon-reviews")
    assert (report.kept, report.left_out) == ({"purchase": 2}, {"verified_purchase: [true]": 1})
    assert lines(report, "customer_id", "item_id")[1] == ("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B00YQ6X8EO")
    assert items(report, "title", "price") == [("B00YQ6X8EO", "Brush set", 12.99), ("B081TJ8YS4", "Soap", None)]


def test_amazon_reviews_of_2018(take: Reader, tmp_path: Path):
    review = {"overall": 5.0, "verified": True, "reviewTime": "01 1, 2018", "reviewerID": "A1", "asin": "B1",
              "reviewText": "Good", "summary": "Good", "unixReviewTime": 1514764800}  # fmt: skip
    (tmp_path / "Beauty_5.json").write_text(json.dumps(review) + "\n" + json.dumps(review | {"verified": False}) + "\n")
    assert lines(take("amazon-reviews", tmp_path / "Beauty_5.json"), "customer_id", "item_id", "timestamp") == [
        ("A1", "B1", datetime(2018, 1, 1, tzinfo=UTC))
    ]


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.source != "events"])
def test_a_preset_may_be_another_source(take: Reader, tmp_path: Path, name: str):
    paths = sorted((SAMPLES / name).iterdir())
    by_source = ingest(read(PRESETS[name].source, paths), tmp_path / "other")
    assert take(name).log.fingerprint == by_source.log.fingerprint


@pytest.mark.parametrize("name", PRESETS)
def test_samples_are_recognised(name: str):
    paths = sorted((SAMPLES / name).iterdir())
    assert f"`--preset {name}`" in suggest(paths)
    assert suggest(paths, stated=name) == ""


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.source == "events"])
def test_mappings_lie_beside_the_package(name: str):
    assert preset_path(name).read_text().startswith("# ")
    assert all(signatures(name))
    assert load_preset(name).parts


def test_unknown_headers_are_nobodys():
    assert recognize([["a", "b"]]) is None
    assert recognize([]) is None


def test_the_error_names_the_preset_that_fits(take: Reader):
    orders = SAMPLES / "shopify" / "orders_export_1.csv"
    with pytest.raises(
        InputError, match="These look like orders and products exported by Shopify: try `--preset shopify`"
    ):
        take("woocommerce", orders)
    with pytest.raises(InputError, match="`--preset shopify`"):
        list(read("events", [orders]))
    with pytest.raises(InputError, match="`--preset hm`"):
        take("rees46", SAMPLES / "hm" / "transactions_train.csv")


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(InputError, match=r"unknown preset 'shopfy'; did you mean shopify\? There are shopify, woo"):
        find_preset("shopfy")
    with pytest.raises(InputError, match="a preset goes with the source events, not 'ga4'"):
        read("ga4", [Path("a")], preset="shopify")


def test_a_mapping_changes_settings_of_a_preset(take: Reader, tmp_path: Path):
    own = tmp_path / "own.yml"
    own.write_text("timezone: Europe/Berlin\n")
    report = take("woocommerce", SAMPLES / "woocommerce" / "orders-2026.csv", mapping=own)
    assert lines(report, "timestamp")[0] == (datetime(2026, 1, 5, 9, 11, tzinfo=UTC),)
    own.write_text("columns: {item_id: SKU}\n")
    with pytest.raises(InputError, match=r"has columns, which cannot be changed in the preset woocommerce.*copy .*yml"):
        take("woocommerce", SAMPLES / "woocommerce" / "orders-2026.csv", mapping=own)
    with pytest.raises(InputError, match="a mapping goes with"):
        take("rees46", mapping=own)
