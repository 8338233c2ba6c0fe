"""YAML of a proposed mapping, each key with its comment."""

from typing import Any

import yaml

from features.sources.inspection.proposal import Proposal

_ORDER = (
    "has", "encoding", "delimiter", "decimal", "dates", "timezone", "currency", "rates", "explode", "join", "fill_down",
    "where", "columns", "constants", "names", "email", "negative_quantity", "refunds", "items", "files",
)  # fmt: skip
_COLUMNS = (
    "timestamp", "name", "customer_id", "client_id", "session_id", "order_id", "item_id", "title", "category", "brand",
    "quantity", "price", "currency", "available",
)  # fmt: skip
_SPREAD = ("columns", "constants", "names", "where", "items")  # one key a line


def write_yaml(proposal: Proposal, head: list[str]) -> str:
    """Write a mapping; `head` are comment lines above it, the proposal's hints those below."""
    lines = [f"# {line}" if line else "#" for line in head]
    lines += _write(proposal.content, proposal, (), 0)
    if not proposal.content:
        lines.append("{}")
    lines += [f"# {hint}" for hint in dict.fromkeys(proposal.hints)]
    return "\n".join(lines) + "\n"


def _write(content: dict[str, Any], proposal: Proposal, path: tuple[str, ...], depth: int) -> list[str]:
    lines: list[str] = []
    top = not path or path[-1] == "items" or path[-1].isdigit()
    order = _ORDER if top else _COLUMNS if path[-1] == "columns" else ()
    keys = sorted(content, key=lambda k: order.index(k) if k in order else len(order))
    for key in keys:
        value, here = content[key], (*path, key)
        name = "  " * depth + _scalar(key)
        comment = f"  # {text}" if (text := proposal.comments.get(here)) else ""
        if key in _SPREAD and top and isinstance(value, dict):
            lines += [f"{name}:{comment}", *_write(value, proposal, here, depth + 1)]
        elif key == "files" and top:
            lines.append(f"{name}:{comment}")
            for n, part in enumerate(value):
                inner = _write(part, proposal, (*here, str(n)), depth + 2)
                inner[0] = "  " * (depth + 1) + "- " + inner[0].lstrip()
                lines += inner
        else:
            lines.append(f"{name}: {_scalar(value)}{comment}")
    return lines


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip().replace("'on': ", "on: ")  # mappings read `on` as the word it is
