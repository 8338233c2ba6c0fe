"""Pages: the tracker that storefronts include, and a demo storefront over the catalog of the served bundle.

The demo asks for no key and names customers, so there is one only where the whole server asks for no keys.
"""

import gzip
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.ranking.snapshot import CUSTOMER, SEGMENT_NAMES, Snapshot
from serving.api.json_io import json_response, read
from serving.recommend.active_model import Served
from serving.recommend.engine import Answers
from serving.schemas.filters import Condition, Filter
from serving.schemas.problems import ProblemError, field_errors, problem
from serving.schemas.recommendations import Id, Short

PAGES = Path(__file__).parents[2] / "pages"

# Only what this server serves may load or run, whatever a product is called.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CUSTOMERS = 12  # that the demo offers to be


class _Asset:
    """A file as it is sent: compressed once, and known by its content."""

    def __init__(self, name: str, media_type: str, headers: dict[str, str]) -> None:
        content = (PAGES / name).read_bytes()
        self._bodies = {False: content, True: gzip.compress(content, mtime=0)}
        self._tag = f'W/"{sha256(content).hexdigest()[:16]}"'  # weak: the same for both encodings
        self._headers = {
            "content-type": f"{media_type}; charset=utf-8",
            "etag": self._tag,
            "vary": "Accept-Encoding",
            **headers,
        }

    async def __call__(self, request: Request) -> Response:
        if self._tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=self._headers)
        zipped = "gzip" in request.headers.get("accept-encoding", "")
        encoding = {"content-encoding": "gzip"} if zipped else {}
        return Response(self._bodies[zipped], headers=self._headers | encoding)


class _Wanted(BaseModel):
    """The query of `GET /demo/items`."""

    model_config = ConfigDict(extra="forbid")

    category: Short = ""
    search: Short = ""
    start: int = Field(0, ge=0, le=10_000_000)
    limit: int = Field(24, ge=1, le=100)


class _Named(BaseModel):
    """The body of `POST /demo/items`."""

    model_config = ConfigDict(extra="forbid")

    item_ids: Annotated[list[Id], Field(max_length=500)]


class Demo:
    """What the demo storefront shows of the catalog and of the customers."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def shop(self, _: Request) -> Response:
        """The categories with how many items each has, and some customers of each segment."""
        s = self._answers.served.snapshot
        counts = np.bincount(s.categories[s.categories >= 0], minlength=len(s.category_names))
        categories = [
            {"category": name, "items": n}
            for name, n in zip(s.category_names.to_pylist(), counts.tolist(), strict=True)
        ]
        return json_response({"categories": categories, "customers": _regulars(s)})

    async def items(self, request: Request) -> Response:
        """A page of the catalog, what sells first; `next` is where the next page starts."""
        try:
            wanted = _Wanted.model_validate(dict(request.query_params))
        except ValidationError as error:
            errors = field_errors(error.errors(include_url=False, include_input=False))
            raise ProblemError(problem("invalid_request", "The query is wrong; `errors` says where", errors)) from None
        served = self._answers.served
        found = _found(served, wanted)
        end = wanted.start + wanted.limit
        page = _described(served, found[wanted.start : end])
        return json_response({"items": page, "total": len(found), "next": end if end < len(found) else None})

    async def named(self, request: Request) -> Response:
        """These items, as far as the catalog knows them. Ids stay out of URLs."""
        served = self._answers.served
        at = served.snapshot.items.find((await read(request, _Named)).item_ids)
        return json_response({"items": _described(served, at[at >= 0])})


def add_page_routes(app: FastAPI, answers: Answers, demo: bool) -> None:
    """Give `app` the tracker and, with `demo`, the demo storefront."""

    def page(path: str, name: str, media_type: str, headers: dict[str, str]) -> None:
        asset = _Asset(name, media_type, headers)
        app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)(asset)

    # Pages of other origins include it, also those that isolate themselves (COEP). An hour: a change reaches
    # storefronts soon enough, and nobody waits for it to be checked.
    hour = "public, max-age=3600, stale-while-revalidate=86400"
    cross = {"cache-control": hour, "cross-origin-resource-policy": "cross-origin"}
    page("/tracker.js", "tracker.js", "text/javascript", cross)
    if not demo:
        return
    guarded = {"content-security-policy": POLICY, "referrer-policy": "same-origin"}
    page("/demo", "demo.html", "text/html", guarded)
    page("/demo/demo.js", "demo.js", "text/javascript", {})
    page("/demo/demo.css", "demo.css", "text/css", {})
    page("/demo/icon.svg", "icon.svg", "image/svg+xml", {})
    shown = Demo(answers)
    app.get("/demo/shop", include_in_schema=False)(shown.shop)
    app.get("/demo/items", include_in_schema=False)(shown.items)
    app.post("/demo/items", include_in_schema=False)(shown.named)


def _found(served: Served, wanted: _Wanted) -> np.ndarray:
    """Positions of the items that are wanted, what sold to most in four weeks first."""
    text, either = wanted.search.strip(), None
    if text:
        either = Filter(any=[Condition(field=field, op="contains", value=text) for field in ("title", "brand")])
    positions = np.flatnonzero(served.shelf.matching(either, wanted.category or None))
    sold = np.nan_to_num(served.snapshot.item("buyers_28d")[positions])
    return positions[np.argsort(-sold, kind="stable")]


def _described(served: Served, positions: np.ndarray) -> list[dict[str, Any]]:
    s, at = served.snapshot, positions.tolist()
    about = s.about.select(["title", "brand", "currency"]).take(positions).to_pylist()
    prices = served.shelf.price(positions).tolist()
    return [
        {
            "item_id": item_id,
            **texts,
            "category": s.category_names[code].as_py() if (code := int(s.categories[position])) >= 0 else None,
            "price": None if np.isnan(price) else round(price, 2),
            "available": bool(served.shelf.available[position]),
        }
        for item_id, texts, position, price in zip(s.items.at(positions), about, at, prices, strict=True)
    ]


def _regulars(s: Snapshot) -> list[dict[str, Any]]:
    """Some customers of each segment: those with most orders."""
    orders = np.nan_to_num(s.customer_features[:, CUSTOMER["frequency"]])
    # PROSPECT is the first of the segments, and the least to look at.
    last = np.where(s.segments == 0, len(SEGMENT_NAMES), s.segments)
    ranked = np.lexsort((-orders, last))
    segments = last[ranked]
    turn = np.arange(len(ranked)) - np.searchsorted(segments, segments)
    chosen = np.sort(np.lexsort((segments, turn))[:_CUSTOMERS])
    return [
        {"customer_id": s.customers.at(np.array([n]))[0], "segment": s.segment(n), "orders": int(orders[n])}
        for n in ranked[chosen].tolist()
    ]
