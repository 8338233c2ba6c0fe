"""Presets: mappings for what well-known systems and public data sets export, by name.

A preset is a YAML file here, in the language of mappings, or the name of a source that reads the format in Python.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from features.common.errors import InputError
from features.sources.parsing.files import readers
from features.sources.parsing.mapping.column_names import ColumnNames
from features.sources.parsing.mapping.mapping import INHERITED, Mapping, read_yaml
from features.sources.source import SourceName

Signature = tuple[str, ...]  # columns that files of one kind have


@dataclass(frozen=True)
class Preset:
    """What a preset reads, and the source that reads it: `events` by a mapping, the others by themselves."""

    description: str
    source: SourceName = "events"
    signatures: tuple[Signature, ...] = ()
    """Of the files that a source other than `events` reads; a mapping has its own as `has`."""


PRESETS: MappingOf[str, Preset] = {
    "shopify": Preset("orders and products exported by Shopify"),
    "woocommerce": Preset("orders of the plugin Advanced Order Export, products exported by WooCommerce"),
    "magento": Preset("rows of sales_order_item and products exported by Magento or Adobe Commerce"),
    "bigcommerce": Preset("orders exported by BigCommerce"),
    "stripe": Preset("payments exported by Stripe"),
    "google-merchant": Preset("a product feed of Google Merchant Center, for the catalog"),
    "ga4": Preset("Google Analytics 4's BigQuery export", "ga4", (("event_name", "event_timestamp"),)),
    "segment": Preset("Segment's and RudderStack's calls, version 1 and 2", "segment", (("type", "anonymousId"),)),
    "instacart": Preset(
        "Instacart's market baskets", "instacart",
        (("order_id", "user_id", "order_dow"), ("order_id", "product_id", "add_to_cart_order"),
         ("product_id", "product_name", "aisle_id"), ("aisle_id", "aisle"), ("department_id", "department")),
    ),
    "hm": Preset("H&M's transactions and articles"),
    "otto": Preset("OTTO's sessions"),
    "rees46": Preset(
        "REES46's multi-category store", "rees46", (("event_time", "event_type", "product_id", "user_session"),)
    ),
    "retailrocket": Preset(
        "Retailrocket's data set", "retailrocket",
        (("visitorid", "event", "itemid"), ("itemid", "property", "value"), ("categoryid", "parentid")),
    ),
    "diginetica": Preset(
        "Diginetica's sessions of the CIKM Cup 2016", "diginetica",
        (("sessionId", "itemId", "timeframe", "eventdate"), ("queryId", "sessionId", "searchstring.tokens"),
         ("queryId", "timeframe", "itemId"), ("itemId", "pricelog2"), ("itemId", "categoryId")),
    ),
    "dunnhumby": Preset(
        "dunnhumby's The Complete Journey", "dunnhumby",
        (("household_key", "BASKET_ID", "PRODUCT_ID"), ("PRODUCT_ID", "COMMODITY_DESC", "SUB_COMMODITY_DESC")),
    ),
    "amazon-reviews": Preset("Amazon Reviews of 2018 and 2023"),
}  # fmt: skip


def find_preset(name: str) -> Preset:
    """The preset `name`. Raises `InputError` that lists those there are."""
    if name not in PRESETS:
        near = get_close_matches(name.casefold(), PRESETS, 1)
        hint = f"did you mean {near[0]}?" if near else "docs/presets.md says what each reads."
        raise InputError(f"unknown preset {name!r}; {hint} There are {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_path(name: str) -> Path:
    """The YAML file of a preset that is a mapping."""
    return Path(__file__).parent / f"{name}.yml"


def load_preset(name: str, changes: Path | None = None) -> Mapping:
    """Load the mapping of the preset `name`; keys of the mapping `changes` are put in place of its own.

    Raises `InputError` for an unknown name, for a preset that is no mapping, and for keys that cannot be changed.
    """
    preset = find_preset(name)
    if preset.source != "events":
        raise InputError(f"the preset {name} is no mapping but the source `{preset.source}`; it takes no other mapping")
    path = preset_path(name)
    if changes is None:
        return Mapping.load(path)
    content, own = read_yaml(path), read_yaml(changes) or {}
    if not isinstance(own, dict):
        raise InputError(f"the mapping {changes} does not fit: it is no table of keys")
    if fixed := [key for key in own if "files" in content and key not in INHERITED]:
        raise InputError(
            f"the mapping {changes} has {', '.join(map(str, fixed))}, which cannot be changed in the preset {name}; "
            f"there may be {', '.join(INHERITED)}. For more, copy {path}, change the copy and give it as mapping alone"
        )
    parts = [{**part, **own} for part in content["files"]] if "files" in content else []
    whole = content | own | ({"files": parts} if parts else {})
    return Mapping.parse(whole, f"the preset {name} with the mapping {changes}", changes.parent)


def signatures(name: str) -> tuple[Signature, ...]:
    """The columns by which each kind of file of the preset `name` is recognised."""
    preset = find_preset(name)
    if preset.source != "events":
        return preset.signatures
    mapping = load_preset(name)
    return tuple(tuple(part.has) for part in (mapping, *mapping.files) if part.has)


def recognize(headers: Iterable[Sequence[str]]) -> str | None:
    """The preset that knows most of the files with these `headers`, None if none knows any.

    Of several that know as many, the one that asks for more columns.
    """
    names = [ColumnNames(header) for header in headers]
    best, closest = (0, 0), None
    for preset in PRESETS:
        fits = [max((len(s) for s in signatures(preset) if header.has_all(s)), default=0) for header in names]
        score = (sum(map(bool, fits)), sum(fits))
        if score > best:
            best, closest = score, preset
    return closest


def suggest(paths: Sequence[Path], stated: str | None = None) -> str:
    """Say which preset reads `paths`; empty where none does or it is the one `given`."""
    headers = []
    for path in paths:
        try:
            headers.append(readers.read_column_names(path))
        except InputError:
            continue
    preset = recognize(headers)
    if preset is None or preset == stated:
        return ""
    return f"These look like {PRESETS[preset].description}: try `--preset {preset}`"
