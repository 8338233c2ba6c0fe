"""Static pages: the tracker script for storefronts, and a demo storefront over the active model's catalog.

The demo needs no API key and lists customers, so it exists only where the whole server runs without keys.
"""

import gzip
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.common.arrays import Int64Array
from features.ranking.snapshot import CUSTOMER, SEGMENT_NAMES, Snapshot
from serving.api.json_io import json_response, read_message
from serving.identity.signing import sign_demo_token
from serving.recommend.active_model import ActiveModel
from serving.recommend.engine import RecommendationEngine
from serving.schemas.filters import Condition, Filter
from serving.schemas.problems import ProblemError, field_errors, problem
from serving.schemas.recommendations import Id, ShortText
from serving.settings import Settings

PAGES = Path(__file__).parents[2] / "pages"

# Nothing may load or run but what this server serves, whatever markup the name of a product contains.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DEMO_CUSTOMERS = 12


class _StaticFile:
    """A file of `serving/pages`, compressed once; its ETag is a digest of its content."""

    def __init__(self, name: str, media_type: str, headers: dict[str, str]) -> None:
        content = (PAGES / name).read_bytes()
        self._bodies = {False: content, True: gzip.compress(content, mtime=0)}
        self._etag = f'W/"{sha256(content).hexdigest()[:16]}"'  # weak: the same for both encodings
        self._headers = {
            "content-type": f"{media_type}; charset=utf-8",
            "etag": self._etag,
            "vary": "Accept-Encoding",
            **headers,
        }

    async def __call__(self, request: Request) -> Response:
        if self._etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=self._headers)
        use_gzip = "gzip" in request.headers.get("accept-encoding", "")
        encoding = {"content-encoding": "gzip"} if use_gzip else {}
        return Response(self._bodies[use_gzip], headers=self._headers | encoding)


class _CatalogQuery(BaseModel):
    """The query of `GET /demo/items`."""

    model_config = ConfigDict(extra="forbid")

    category: ShortText = ""
    search: ShortText = ""
    start: int = Field(0, ge=0, le=10_000_000)
    limit: int = Field(24, ge=1, le=100)


class _CatalogLookup(BaseModel):
    """The body of `POST /demo/items`."""

    model_config = ConfigDict(extra="forbid")

    item_ids: Annotated[list[Id], Field(max_length=500)]


class _Login(BaseModel):
    """The body of `POST /demo/token`."""

    model_config = ConfigDict(extra="forbid")

    customer_id: Id


class DemoRoutes:
    """Endpoints with the catalog and the customers that the demo storefront shows, and its login."""

    def __init__(self, engine: RecommendationEngine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    async def shop(self, _: Request) -> Response:
        """The categories with how many items each has, and some customers of each segment."""
        s = self._engine.active_model.snapshot
        counts = np.bincount(s.categories[s.categories >= 0], minlength=len(s.category_names))
        categories = [
            {"category": name, "items": n}
            for name, n in zip(s.category_names.to_pylist(), counts.tolist(), strict=True)
        ]
        return json_response({"categories": categories, "customers": _demo_customers(s)})

    async def items(self, request: Request) -> Response:
        """A page of the catalog, what sells first; `next` is where the next page starts."""
        try:
            query = _CatalogQuery.model_validate(dict(request.query_params))
        except ValidationError as error:
            errors = field_errors(error.errors(include_url=False, include_input=False))
            raise ProblemError(problem("invalid_request", "The query is wrong; `errors` says where", errors)) from None
        active = self._engine.active_model
        positions = _search(active, query)
        end = query.start + query.limit
        page = _describe(active, positions[query.start : end])
        return json_response({"items": page, "total": len(positions), "next": end if end < len(positions) else None})

    async def lookup(self, request: Request) -> Response:
        """The items with these ids, as far as they are in the catalog. A POST, as ids stay out of URLs."""
        active = self._engine.active_model
        positions = active.snapshot.items.find((await read_message(request, _CatalogLookup)).item_ids)
        return json_response({"items": _describe(active, positions[positions >= 0])})

    async def token(self, request: Request) -> Response:
        """A visitor token, as a shop's server signs it for who has logged in there; here that is anybody."""
        login = await read_message(request, _Login)
        return json_response({"token": sign_demo_token(self._settings, login.customer_id)})


def add_page_routes(app: FastAPI, engine: RecommendationEngine, settings: Settings) -> None:
    """Add /tracker.js and, on a server without keys, the pages below /demo to `app`."""

    def page(path: str, name: str, media_type: str, headers: dict[str, str]) -> None:
        file = _StaticFile(name, media_type, headers)
        app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)(file)

    # Pages of other origins include it, also isolated ones (COEP). Within an hour browsers take it from their cache
    # without asking; after that they revalidate in the background.
    cache_an_hour = "public, max-age=3600, stale-while-revalidate=86400"
    cross_origin = {"cache-control": cache_an_hour, "cross-origin-resource-policy": "cross-origin"}
    page("/tracker.js", "tracker.js", "text/javascript", cross_origin)
    if not settings.open:
        return
    restricted = {"content-security-policy": CONTENT_SECURITY_POLICY, "referrer-policy": "same-origin"}
    page("/demo", "demo.html", "text/html", restricted)
    page("/demo/demo.js", "demo.js", "text/javascript", {})
    page("/demo/demo.css", "demo.css", "text/css", {})
    page("/demo/icon.svg", "icon.svg", "image/svg+xml", {})
    routes = DemoRoutes(engine, settings)
    app.get("/demo/shop", include_in_schema=False)(routes.shop)
    app.get("/demo/items", include_in_schema=False)(routes.items)
    app.post("/demo/items", include_in_schema=False)(routes.lookup)
    app.post("/demo/token", include_in_schema=False)(routes.token)


def _search(active: ActiveModel, query: _CatalogQuery) -> Int64Array:
    """Return positions of the items that match `query`, those with most buyers in four weeks first."""
    text, filter_ = query.search.strip(), None
    if text:
        filter_ = Filter(any=[Condition(field=field, op="contains", value=text) for field in ("title", "brand")])
    positions = np.flatnonzero(active.availability.matches(filter_, query.category or None))
    buyers = np.nan_to_num(active.snapshot.item("buyers_28d")[positions])
    return positions[np.argsort(-buyers, kind="stable")]


def _describe(active: ActiveModel, positions: Int64Array) -> list[dict[str, Any]]:
    s = active.snapshot
    about = s.catalog.select(["title", "brand", "currency"]).take(positions).to_pylist()
    prices = active.availability.prices(positions).tolist()
    return [
        {
            "item_id": item_id,
            **texts,
            "category": s.category_names[code].as_py() if (code := int(s.categories[position])) >= 0 else None,
            "price": None if np.isnan(price) else round(price, 2),
            "available": bool(active.availability.available[position]),
        }
        for item_id, texts, position, price in zip(
            s.items.at(positions), about, positions.tolist(), prices, strict=True
        )
    ]


def _demo_customers(s: Snapshot) -> list[dict[str, Any]]:
    """Return some customers of each segment, those with most orders."""
    orders = np.nan_to_num(s.customer_features[:, CUSTOMER["frequency"]])
    # PROSPECT is the first segment and the least interesting one: it goes last.
    segment_order = np.where(s.segments == 0, len(SEGMENT_NAMES), s.segments)
    ranked = np.lexsort((-orders, segment_order))
    segments = segment_order[ranked]
    round_robin = np.arange(len(ranked)) - np.searchsorted(segments, segments)
    chosen = np.sort(np.lexsort((segments, round_robin))[:_DEMO_CUSTOMERS])
    return [
        {"customer_id": s.customers.at(np.array([n]))[0], "segment": s.segment(n), "orders": int(orders[n])}
        for n in ranked[chosen].tolist()
    ]
