"""Source `segment`: Segment's and RudderStack's calls by the Ecommerce Spec v2 or v1, as JSON lines (warehouse or S3
raw files).

One line is one call; the `products` of a track call become one row each.

- `messageId` is the event's id, `anonymousId` the client, `userId` the customer, `receivedAt` the time of receipt.
- `identify` with a `userId`, and the event Signed In, are a login.
- An e-mail address in traits or properties becomes a link, hashed; an `alias` of an anonymous id links
  it to the user; neither where the call refuses consent.
- consent is refused where any category in `context.consent.categoryPreferences` is false (Segment) or
  `context.consentManagement.deniedConsentIds` names any (RudderStack), and given where categories are
  listed and none is refused.
- An order that is cancelled is refunded. Order Refunded or Cancelled without products takes back the whole order
  where its purchase is in the input too.
- Preferences Given, with the properties `question`, `answer` (a text, a number or a list; null withdraws) and `source`,
  is what a visitor says of themselves.
- page, screen, group, alias and other events are counted as `not_a_shop_event`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.common import ids
from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA, ROW, TIMESTAMP, Rule, conform, deduplicate_links
from features.event_log.stated_answers import PREFERENCES
from features.sources.parsing.cells import pii, timestamps
from features.sources.parsing.events import json_events
from features.sources.parsing.events.json_events import FOREIGN, IdCleaner, non_empty, to_number
from features.sources.parsing.files import readers
from features.sources.parsing.rows import event_ids
from features.sources.parsing.rows.whole_refunds import WholeRefunds, resolve_within
from features.sources.parsing.text_files import json_lines
from features.sources.source import Source

# Compared without case, spaces, _ and -: Order Completed is also sent as order_completed and orderCompleted.
NAMES = {
    "productlistviewed": "view_item_list",
    "productclicked": "select_item",
    "productviewed": "view_item",
    "productssearched": "search",
    "productaddedtowishlist": "add_to_wishlist",
    "productadded": "add_to_cart",
    "productremoved": "remove_from_cart",
    "cartviewed": "view_cart",
    "checkoutstarted": "begin_checkout",
    "ordercompleted": "purchase",
    "orderrefunded": "refund",
    "ordercancelled": "refund",
    "ordercanceled": "refund",
    "signedin": "login",
    "preferencesgiven": "preferences",
}
V1_NAMES = {
    "viewedproductcategory": "view_item_list",
    "viewedproductlist": "view_item_list",
    "clickedproduct": "select_item",
    "viewedproduct": "view_item",
    "searchedproducts": "search",
    "addedproducttowishlist": "add_to_wishlist",
    "addedproduct": "add_to_cart",
    "removedproduct": "remove_from_cart",
    "viewedcart": "view_cart",
    "startedcheckout": "begin_checkout",
    "startedorder": "begin_checkout",
    "completedorder": "purchase",
    "refundedorder": "refund",
    "cancelledorder": "refund",
    "canceledorder": "refund",
}
_BETWEEN_WORDS = re.compile(r"[\s_-]+")
_LISTS = ("view_item_list", "view_cart", "begin_checkout", "purchase", "refund")  # have `products`
_PIECES = ("purchase", "refund", "add_to_cart", "remove_from_cart")  # where no quantity means one piece

_OF_ANSWERS = ("question", "answer", "source")
_PRODUCT: json_lines.Schema = {
    leaf: pl.String()
    for leaf in ("product_id", "productId", "id", "sku", "name", "brand", "category", "price", "quantity", "currency",
                 "position")
}  # fmt: skip
_PRODUCTS = pl.List(pl.Struct(_PRODUCT))
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
            **dict.fromkeys(
                ("order_id", "orderId", "query", "list_id", "listId", "cart_id", "session_id", "email", *_OF_ANSWERS),
                pl.String(),
            ),
            "products": _PRODUCTS,
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
    whole, cleaner = WholeRefunds(), IdCleaner()
    for path in paths:
        columns = readers.read_column_names(path, {"type", "event"})
        if "type" not in columns and "event" not in columns:
            raise InputError(
                f"{path} holds no Segment calls: no line has type or event; found {', '.join(columns) or 'none'}"
            )
        for calls in _read_calls(path, rows):
            events = _explode_products(_read_events(_drop_foreign(calls), cleaner))
            yield _assemble(calls, whole.take(events, calls, path.name), path.name, _read_links(calls))
    purchases = (calls.filter(name="purchase") for path in paths for calls in _read_calls(path, rows))
    for events, calls, source in whole.resolve(lambda _: (_explode_products(_read_events(c)) for c in purchases)):
        yield _assemble(calls, events, source)
    if notes := (*whole.notes(), *cleaner.notes()):
        yield ParsedBatch(rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA), notes=notes)


def _read_calls(path: Path, rows: int) -> Iterator[pl.DataFrame]:
    for offset, lines in json_events.read_events(path, SCHEMA, rows):
        yield _name_calls(lines, offset)


def parse_calls(lines: list[str], source: str) -> tuple[ParsedBatch, pl.DataFrame]:
    """Parse calls that came over HTTP, one JSON object each, numbered from 0.

    Also returns one row per call with its ids: event_id (null where it is foreign), client_id, customer_id,
    previous_id. Errors as for `read`.
    """
    calls = _name_calls(json_lines.parse(lines, SCHEMA), 0)
    events = _read_events(_drop_foreign(calls))
    who = IdCleaner().clean(
        calls.select(ROW, client_id=non_empty("anonymousId"), customer_id=non_empty("userId"), previous=_previous())
    )
    who = who.rename({"previous": "previous_id"})
    who = who.join(events.select(ROW, "event_id"), on=ROW, how="left", maintain_order="left")
    rows = resolve_within(_explode_products(events))
    return _assemble(calls, rows, source, _read_links(calls)), who.drop(ROW)


def _name_calls(lines: pl.DataFrame, offset: int) -> pl.DataFrame:
    """Add `ROW`, the event's name, `FOREIGN`, and the call's time and kind as _at and _kind."""
    event = non_empty("event")
    spellings = lines["event"].drop_nulls().unique().to_list()  # few, each in many calls
    plain = {text.strip(): _BETWEEN_WORDS.sub("", text).lower() for text in spellings}
    names = {text: (NAMES | V1_NAMES).get(name) for text, name in plain.items()}
    kind = pl.coalesce(non_empty("type").str.to_lowercase(), pl.when(event.is_not_null()).then(pl.lit("track")))
    name = (
        pl.when(kind == "track").then(event.replace_strict(names, default=None, return_dtype=pl.String))
        .when((kind == "identify") & non_empty("userId").is_not_null()).then(pl.lit("login"))
    )  # fmt: skip
    valid = kind.is_in(["track", "identify", "page", "screen", "group", "alias"]) & (
        (kind != "track") | event.is_not_null()
    )
    label = pl.coalesce(pl.when(kind == "track").then(event), kind, pl.lit("?"))
    v1 = event.is_in([text for text, name in plain.items() if name in V1_NAMES]).fill_null(False)
    lines = _decode_products(lines.with_columns(kind.alias("_kind"), name.alias("name"), v1.alias("_v1")))
    return lines.with_columns(
        pl.when(pl.col("name").is_null() & valid.fill_null(False)).then(label).alias(FOREIGN),
        pl.coalesce(
            timestamps.parse(lines[c]) for c in ("timestamp", "originalTimestamp", "receivedAt")
        ).alias("_at"),
    ).with_row_index(ROW, offset=offset)  # fmt: skip


def _drop_foreign(calls: pl.DataFrame) -> pl.DataFrame:
    return calls.filter(pl.col(FOREIGN).is_null())


def _decode_products(lines: pl.DataFrame) -> pl.DataFrame:
    """Read `products` that a warehouse stored as a text of JSON."""
    text = pl.col(json_lines.LINE)
    missing = pl.col("name").is_in(_LISTS) & pl.col("properties").struct.field("products").is_null()
    coded = lines.with_row_index("_at").filter(missing).filter(text.str.contains(r'"products"\s*:\s*"\s*\['))
    if coded.is_empty():
        return lines
    texts = coded.select(text.str.json_path_match("$.properties.products").str.replace_all(r"\s", " ")).to_series()
    products = json_lines.parse([f'{{"products":{t}}}' for t in texts.fill_null("null")], {"products": _PRODUCTS})
    decoded = coded.select("_at").hstack([products["products"].alias("_decoded")])
    joined = lines.with_row_index("_at").join(decoded, on="_at", how="left", maintain_order="left")
    whole = pl.col("properties").struct
    both = pl.coalesce("_decoded", whole.field("products")).alias("products")
    return joined.with_columns(pl.col("properties").struct.with_fields(both)).drop("_at", "_decoded")


def _assemble(lines: pl.DataFrame, rows: pl.DataFrame, source: str, links: pl.DataFrame | None = None) -> ParsedBatch:
    """Build the batch of `lines`, all calls; `rows` are events × items of those that are events of a shop."""
    foreign = lines.filter(pl.col(FOREIGN).is_not_null()).select(ROW, FOREIGN)
    rows = pl.concat([rows, foreign], how="diagonal").sort(ROW, maintain_order=True)
    bad_position = Rule("bad_position", pl.col("_position").is_not_null() & pl.col("position").is_null())
    asked = pl.col("name") != PREFERENCES
    no_question = Rule("missing_question", ~asked & pl.col("question").is_null())
    rules = (*json_events.amount_rules(), bad_position, no_question)
    return json_events.assemble(rows, lines, source, rules, links)


def _read_events(lines: pl.DataFrame, cleaner: IdCleaner | None = None) -> pl.DataFrame:
    properties, context = pl.col("properties").struct, pl.col("context").struct
    is_answer = pl.col("name") == PREFERENCES
    events = lines.select(
        ROW,
        FOREIGN,
        "name",
        "_v1",
        "properties",
        event_id=non_empty("messageId"),
        timestamp="_at",
        customer_id=non_empty("userId"),
        client_id=non_empty("anonymousId"),
        session_id=pl.coalesce(non_empty(properties.field("session_id")), non_empty(context.field("sessionId"))),
        order_id=pl.coalesce(non_empty(properties.field("order_id")), non_empty(properties.field("orderId"))),
        query=non_empty(properties.field("query")),
        list_id=pl.when(is_answer)
        .then(non_empty(properties.field("source")))
        .otherwise(pl.coalesce(non_empty(properties.field("list_id")), non_empty(properties.field("listId")))),
        **{c: pl.when(is_answer).then(non_empty(properties.field(c))) for c in ("question", "answer")},
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
    events = (cleaner or IdCleaner()).clean(events)
    # A call without messageId is identified by its content.
    unnamed = events["event_id"].is_null().arg_true()
    if not unnamed.len():
        return events
    # Without what came to the schema later: the ids of other events stay as they are.
    said = pl.struct(properties.field(f.name) for f in SCHEMA["properties"].fields if f.name not in _OF_ANSWERS)  # type: ignore[attr-defined]
    content = events[unnamed].with_columns(said.struct.json_encode().alias("_properties"))
    hashed = ["name", "timestamp", "customer_id", "client_id", "_properties", "question", "answer"]
    own = event_ids.hash_rows(content, hashed)
    return events.with_columns(events["event_id"].scatter(unnamed, own))


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
        item_id=pl.coalesce(
            non_empty(item.field("product_id")),
            non_empty(item.field("productId")),
            pl.when("_v1").then(non_empty(item.field("id"))),
            non_empty(item.field("sku")),
            non_empty(item.field("id")),
        ),
        title=non_empty(item.field("name")),
        brand=non_empty(item.field("brand")),
        category=non_empty(item.field("category")),
        currency=pl.coalesce(non_empty(item.field("currency")), "_currency"),
        **{f"_{c}": non_empty(item.field(c)) for c in ("quantity", "price", "position")},
    )
    rows = json_events.read_amounts(rows.with_columns(ids.normalize_ids(rows["item_id"], "item")))
    position = to_number(pl.col("_position"))
    one = pl.when(pl.col("name").is_in(_PIECES) & pl.col("_quantity").is_null()).then(1.0)
    return rows.with_columns(
        quantity=pl.coalesce("quantity", one),
        position=pl.when(position == position.floor()).then(position).cast(EVENT_SCHEMA["position"], strict=False),
    ).drop("_product", "_currency", "properties", "_v1")


def _previous() -> pl.Expr:
    return pl.when(pl.col("_kind") == "alias").then(non_empty("previousId"))


def _read_links(lines: pl.DataFrame) -> pl.DataFrame:
    calls = lines.select(
        timestamp="_at",
        customer_id=non_empty("userId"),
        client_id=non_empty("anonymousId"),
        email=pl.coalesce(
            non_empty(pl.col("traits").struct.field("email")),
            non_empty(pl.col("context").struct.field("traits").struct.field("email")),
            non_empty(pl.col("properties").struct.field("email")),
        ),
        previous=_previous(),
        _consent=_consent(),
    )
    telling = pl.col("email").is_not_null() | pl.col("previous").is_not_null()
    calls = calls.filter(telling, pl.col("timestamp").is_not_null(), pl.col("_consent").ne_missing(False))
    calls = IdCleaner().clean(calls)
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
    return pl.concat([*parts, deduplicate_links(conform(merges, LINK_SCHEMA))])


SOURCE = Source("segment", "Segment's and RudderStack's calls, as JSON lines", lambda paths, _: read(paths))
