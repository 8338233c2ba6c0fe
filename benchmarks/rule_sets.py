"""Rules files of any length, of all kinds that a shop has, about the catalog of a bundle; for `benchmarks/serve.py`."""

from pathlib import Path
from typing import Any

import yaml

from models.bundle import Bundle

# About half of them hold for a customer who comes back without a campaign.
_CONDITIONS = (
    "visitor.segment in ['champions', 'loyal', 'potential_loyalist', 'new']",
    "visitor.orders >= 1.0 && context.source == 'email'",
    "has(visitor.churn_risk) && visitor.churn_risk > 0.3",
    "now.hour >= 6 && now.hour < 23",
    "!has(context.query) || !context.query.contains('gift')",
    "visitor.known && visitor.spend > 50.0",
    "size(context.cart_items) == 0 && visitor.value_tier != 'none'",
)


def write_rules(path: Path, bundle: Bundle, count: int) -> Path:
    """Write a file of `count` rules: most boost or bury, a tenth each hides, pins, gives a share, changes nothing."""
    s = bundle.snapshot
    brands = sorted({brand for brand in s.catalog["brand"].to_pylist() if brand}) or ["none"]
    categories = s.category_names.to_pylist() or ["none"]
    rules = []
    for n in range(count):
        brand = {"field": "brand", "op": "==", "value": brands[n % len(brands)]}
        under = {"field": "category", "op": "under", "value": categories[n % len(categories)]}
        price = {"field": "price", "op": "<", "value": 10 + n % 50}
        item = s.items.values[n % len(s.items)].as_py()
        rule: dict[str, Any] = {"id": f"rule-{n}", "when": _CONDITIONS[n % len(_CONDITIONS)], "priority": n % 5}
        match n % 10:
            case 0:
                rule |= {"items": {"item_ids": [item]}, "do": {"hide": True}}
            case 1:
                rule |= {"do": {"pin": {"item_ids": [item], "at": 3 + n % 9}}}
            case 2:
                rule |= {"items": {"all": [brand]}, "do": {"share": 0.1}}
            case 3 | 4:
                rule |= {"items": {"all": [under, price]}, "do": {"bury": 0.1}}
            case 5:
                rule |= {"items": {"all": [brand]}, "do": {"boost": 0.2}, "placements": ["home.new"]}
            case _:
                rule |= {"items": {"any": [brand, under]}, "do": {"boost": 0.1}}
        rules.append(rule)
    path.write_text(yaml.safe_dump({"timezone": "Europe/Berlin", "rules": rules}))
    return path
