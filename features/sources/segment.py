"""Source `segment`: Segment's and RudderStack's calls by the Ecommerce Spec v2, as JSON lines (warehouse or S3 raw
files).

One line is one call; the `products` of a track call become one row each.

- `messageId` is the event's id, `anonymousId` the client, `userId` the customer, `receivedAt` the time of receipt.
- `identify` with a `userId`, and the event Signed In, are a login.
- An e-mail address in traits or properties becomes a link, hashed; an `alias` of an anonymous id links
  it to the user; neither where the call refuses consent.
- consent is refused where any category in `context.consent.categoryPreferences` is false (Segment) or
  `context.consentManagement.deniedConsentIds` names any (RudderStack), and given where categories are
  listed and none is refused.
- page, screen, group, alias and other events are counted as `not_a_shop_event`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.event_log.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA, ROW, TIMESTAMP, Rule, conform
from features.sources.parsing import event_ids, json_events, json_lines, pii, readers, timestamps
from features.sources.parsing.json_events import FOREIGN, non_empty, to_number
from features.sources.source import Source

NAMES = {
    "product list viewed": "view_item_list",
    "product clicked": "select_item",
    "product viewed": "view_item",
    "products searched": "search",
    "product added to wishlist": "add_to_wishlist",
    "product added": "add_to_cart",
    "product removed": "remove_from_cart",
    "cart viewed": "view_cart",
    "checkout started": "begin_checkout",
    "order completed": "purchase",
    "order refunded": "refund",
    "signed in": "login",
}
_PIECES = ("purchase", "refund", "add_to_cart", "remove_from_cart")  # where no quantity means one piece

_PRODUCT = {
    leaf: pl.String()
    for leaf in ("product_id", "sku", "name", "brand", "category", "price", "quantity", "currency", "position")
}
_ADDRESS = pl.Struct({"email": pl.String()})
SCHEMA: json_lines.Schema = {
    **dict.fromkeys(
        ("type", "event", "messageId", "timestamp", "originalTimestamp", "sentAt", "receivedAt", "userId",
         "anonymousId", "previousId"),
        pl.String(),
    ),
    "traits": _ADDRESS,
    "properties": pl.Struct(
        {
            **_PRODUCT,
            **dict.fromkeys(("order_id", "query", "list_id", "cart_id", "session_id", "email"), pl.String()),
            "products": pl.List(pl.Struct(_PRODUCT)),
        }
    ),
    "context": pl.Struct({
        "traits": _ADDRESS,
        "device": pl.Struct({"type": pl.String()}),
        "os": pl.Struct({"name": pl.String()}),
        "locale": pl.String(),
        "location": pl.Struct({"country": pl.String()}),
        "campaign": pl.Struct({"source": pl.String()}),
        "sessionId": pl.String(),
        "consent": pl.Struct({"categoryPreferences": pl.String()}),
        "consentManagement": pl.Struct({"allowedConsentIds": pl.String(), "deniedConsentIds": pl.String()}),
    }),
}  # fmt: skip


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` lines.

    Raises `InputError` for a file that is not JSON lines or not of Segment, and for e-mail addresses without a salt to
    hash them with.
    """
    for path in paths:
        columns = readers.read_column_names(path, {"type", "event"})
        if "type" not in columns and "event" not in columns:
            raise InputError(
                f"{path} holds no Segment calls: no line has type or event; found {', '.join(columns) or 'none'}"
            )
        for offset, lines in json_events.read_events(path, SCHEMA, rows):
            yield _parse(lines, offset, path.name)


def parse_calls(lines: list[str], source: str) -> tuple[ParsedBatch, pl.DataFrame]:
    """Parse calls that came over HTTP, one JSON object each, numbered from 0.

    Also returns one row per call with its ids: event_id (null where it is foreign), client_id, customer_id,
    previous_id. Errors as for `read`.
    """
    calls = _name_calls(json_lines.parse(lines, SCHEMA), 0)
    events = _read_events(_drop_foreign(calls))
    ids = calls.select(
        ROW, client_id=non_empty("anonymousId"), customer_id=non_empty("userId"), previous_id=_previous()
    )
    ids = ids.join(events.select(ROW, "event_id"), on=ROW, how="left", maintain_order="left")
    return _assemble(calls, events, 0, source), ids.drop(ROW)


def _parse(lines: pl.DataFrame, offset: int, source: str) -> ParsedBatch:
    calls = _name_calls(lines, offset)
    return _assemble(calls, _read_events(_drop_foreign(calls)), offset, source)


def _name_calls(lines: pl.DataFrame, offset: int) -> pl.DataFrame:
    """Add `ROW`, the event's name, `FOREIGN`, and the call's time and kind as _at and _kind."""
    event = non_empty("event")
    kind = pl.coalesce(non_empty("type").str.to_lowercase(), pl.when(event.is_not_null()).then(pl.lit("track")))
    name = (
        pl.when(kind == "track").then(event.str.to_lowercase().replace_strict(NAMES, default=None))
        .when((kind == "identify") & non_empty("userId").is_not_null()).then(pl.lit("login"))
    )  # fmt: skip
    valid = kind.is_in(["track", "identify", "page", "screen", "group", "alias"]) & (
        (kind != "track") | event.is_not_null()
    )
    label = pl.coalesce(pl.when(kind == "track").then(event), kind, pl.lit("?"))
    return lines.with_columns(kind.alias("_kind"), name.alias("name")).with_columns(
        pl.when(pl.col("name").is_null() & valid.fill_null(False)).then(label).alias(FOREIGN),
        pl.coalesce(
            timestamps.parse(lines[c]) for c in ("timestamp", "originalTimestamp", "receivedAt")
        ).alias("_at"),
    ).with_row_index(ROW, offset=offset)  # fmt: skip


def _drop_foreign(calls: pl.DataFrame) -> pl.DataFrame:
    return calls.filter(pl.col(FOREIGN).is_null())


def _assemble(lines: pl.DataFrame, events: pl.DataFrame, offset: int, source: str) -> ParsedBatch:
    """Build the batch of `lines`, all calls; `events` are those that are events of a shop."""
    rows, foreign = _explode_products(events), lines.filter(pl.col(FOREIGN).is_not_null()).select(ROW, FOREIGN)
    rows = pl.concat([rows, foreign], how="diagonal").sort(ROW, maintain_order=True)
    rules = tuple(
        Rule(f"bad_{c}", pl.col(f"_{c}").is_not_null() & pl.col(c).is_null()) for c in ("quantity", "price", "position")
    )
    return json_events.assemble(rows, lines, offset, source, rules, _read_links(lines))


def _read_events(lines: pl.DataFrame) -> pl.DataFrame:
    properties, context = pl.col("properties").struct, pl.col("context").struct
    events = lines.select(
        ROW,
        FOREIGN,
        "name",
        "properties",
        event_id=non_empty("messageId"),
        timestamp="_at",
        customer_id=non_empty("userId"),
        client_id=non_empty("anonymousId"),
        session_id=pl.coalesce(non_empty(properties.field("session_id")), non_empty(context.field("sessionId"))),
        order_id=non_empty(properties.field("order_id")),
        query=non_empty(properties.field("query")),
        list_id=non_empty(properties.field("list_id")),
        source=non_empty(context.field("campaign").struct.field("source")),
        device=pl.coalesce(
            non_empty(context.field("device").struct.field("type")), non_empty(context.field("os").struct.field("name"))
        ),
        country=pl.coalesce(
            non_empty(context.field("location").struct.field("country")),
            context.field("locale").str.extract(r"^[a-zA-Z]{2,3}[-_]([a-zA-Z]{2})\b").str.to_uppercase(),
        ),
        consent=_consent(),
    ).with_columns(timestamps.parse(lines["receivedAt"]).alias("received_at"))
    # A call without messageId is identified by its content.
    content = events.with_columns(pl.col("properties").struct.json_encode().alias("_properties"))
    own = event_ids.hash_rows(content, ["name", "timestamp", "customer_id", "client_id", "_properties"])
    return events.with_columns(pl.coalesce("event_id", own))


def _consent() -> pl.Expr:
    """Consent of a call: false where anything is refused, true where nothing is and something is allowed, else null."""
    context = pl.col("context").struct
    preferences = context.field("consent").struct.field("categoryPreferences")
    managed = context.field("consentManagement").struct
    some = r"[^\s\[\]{}\",]"  # any entry of the list
    refused = preferences.str.contains(r'(?i):\s*"?\s*false').fill_null(False)
    refused |= managed.field("deniedConsentIds").str.contains(some).fill_null(False)
    allowed = preferences.str.contains(r'(?i):\s*"?\s*true').fill_null(False)
    allowed |= managed.field("allowedConsentIds").str.contains(some).fill_null(False)
    return pl.when(refused).then(False).when(allowed).then(True)


def _explode_products(events: pl.DataFrame) -> pl.DataFrame:
    whole = pl.col("properties").struct
    single = pl.concat_list(pl.struct(whole.field(c) for c in _PRODUCT))
    products = whole.field("products")
    rows = events.with_columns(
        pl.when(products.list.len() > 0).then(products).otherwise(single).alias("_product"),
        _currency=non_empty(whole.field("currency")),
    ).explode("_product")
    item = pl.col("_product").struct
    rows = rows.with_columns(
        item_id=pl.coalesce(non_empty(item.field("product_id")), non_empty(item.field("sku"))),
        title=non_empty(item.field("name")),
        brand=non_empty(item.field("brand")),
        category=non_empty(item.field("category")),
        currency=pl.coalesce(non_empty(item.field("currency")), "_currency"),
        **{f"_{c}": non_empty(item.field(c)) for c in ("quantity", "price", "position")},
    )
    position = to_number(pl.col("_position"))
    one = pl.when(pl.col("name").is_in(_PIECES) & pl.col("_quantity").is_null()).then(1.0)
    return rows.with_columns(
        quantity=pl.coalesce(to_number(pl.col("_quantity")), one),
        price=to_number(pl.col("_price")),
        position=pl.when(position == position.floor()).then(position).cast(EVENT_SCHEMA["position"], strict=False),
    ).drop("_product", "_currency", "properties")


def _previous() -> pl.Expr:
    return pl.when(pl.col("_kind") == "alias").then(non_empty("previousId"))


def _read_links(lines: pl.DataFrame) -> pl.DataFrame:
    calls = lines.select(
        timestamp="_at", customer_id=non_empty("userId"), client_id=non_empty("anonymousId"),
        email=pl.coalesce(
            non_empty(pl.col("traits").struct.field("email")),
            non_empty(pl.col("context").struct.field("traits").struct.field("email")),
            non_empty(pl.col("properties").struct.field("email")),
        ),
        previous=_previous(),
        _consent=_consent(),
    ).filter(pl.col("timestamp").is_not_null(), pl.col("_consent").ne_missing(False))  # fmt: skip
    no_address = ~(pii.contains_address("customer_id") | pii.contains_address("client_id"))
    calls = calls.filter(no_address)
    parts = [pl.DataFrame(schema=LINK_SCHEMA)]
    with_email = calls.drop_nulls("email")
    if with_email.height:
        key = pii.load_salt("the calls hold e-mail addresses (email in traits or properties)")
        parts.append(pii.build_links(with_email, {"email": pii.hash_tokens(with_email["email"], "email", key)}))
    alias = calls.drop_nulls(["previous", "customer_id"]).with_columns(client_id="previous")
    merges = alias.filter(no_address).select(
        "client_id", "customer_id", at=pl.col("timestamp").cast(TIMESTAMP), kind=pl.lit("merge")
    )
    return pl.concat([*parts, pii.deduplicate_links(conform(merges, LINK_SCHEMA))])


SOURCE = Source("segment", "Segment's and RudderStack's calls, as JSON lines", lambda paths, _: read(paths))
