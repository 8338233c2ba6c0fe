"""Client of the HTTP API: one connection pool, with retries that are safe for every method.

Reads are harmless to repeat, events carry an `event_id`, other writes an `Idempotency-Key`. Ids are in no URL and in
no message of an exception, and nothing is logged here.
"""

import json
import random
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from email.utils import parsedate_to_datetime
from time import sleep, time
from types import TracebackType
from typing import Any, Self

import httpx

Json = dict[str, Any]

# Too many requests, or the server or a proxy is unavailable. None of them says that a write was done.
_RETRY_STATUSES = frozenset((429, 502, 503, 504))
_FIRST_WAIT_S = 0.2
_MAX_EVENTS, _MAX_EVENT_BYTES, _MAX_ITEMS = 1000, 1_900_000, 1000
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]+")
_TOKEN = re.compile(r"[A-Za-z0-9._-]+")


class UsualError(Exception):
    """A call failed: the base class of this module's exceptions."""


class Unreachable(UsualError):
    """No response, or none in time. Whether a write was done is unknown; sent again it is not done twice."""


class ApiError(UsualError):
    """The server responded with an error: its HTTP `status`, a `code` for programs, `detail` for people.

    `errors` says what is wrong where in the request: dicts of `pointer`, `detail` and perhaps `code`. `request_id`
    finds the line in the server's log. `retry_after_s`: seconds after which to try again, if the server says so.
    """

    def __init__(self, response: httpx.Response) -> None:
        problem = _parse_problem(response)
        self.status = response.status_code
        self.code: str = str(problem.get("code", "http_error"))
        self.detail: str = str(problem.get("detail", response.reason_phrase))
        self.errors: list[Json] = list(problem.get("errors") or [])
        self.request_id = response.headers.get("x-request-id")
        self.retry_after_s = _parse_retry_after_s(response)
        where = "".join(f"; {error.get('pointer')}: {error.get('detail')}" for error in self.errors[:3])
        super().__init__(f"{self.status} {self.code}: {self.detail}{where}")


@dataclass
class SendResult:
    """Counts of events by outcome. `rejected`: dicts of `index` into the events sent, `pointer`, `code`, `detail`.

    Only with a publishable key: of `accepted`, `unproven` events were kept without an id that nothing proved, and
    `claims` are purchases and refunds that count only once the shop's word or a visitor token confirms them.
    """

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Json] = field(default_factory=list)
    unproven: int = 0
    claims: int = 0


class Client:
    """Calls the API at `url` with the API key `key`.

    A secret key is the shop's word: whatever it says of a visitor is believed. A publishable key will do for
    recommending, reranking, events and client ids, and proves nothing: with it, a customer counts only where a
    `visitor_token` proves them. That of the client is sent with all such calls that have none of their own: give it to
    a client of one visitor, as in an app, and to the calls of a client that serves many.

    `timeout`, in seconds, holds for each of at most `attempts` attempts; where the server asks for a longer pause
    between them than `longest_wait_s`, there is no other. Threads may share a client. Methods raise `ApiError` and
    `Unreachable`. `transport` replaces httpx's own.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = 5.0,
        attempts: int = 4,
        longest_wait_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        *,
        visitor_token: str | None = None,
    ) -> None:
        if key is not None and not _KEY.fullmatch(key):
            raise ValueError("the key has a character that no key has")  # without saying which one: keys are secrets
        if not url.startswith(("http://", "https://")):
            raise ValueError("give the address of the server with its scheme, such as https://usual.shop.example")
        if attempts < 1:
            raise ValueError("there is at least one attempt")
        _token_header(visitor_token)
        self._attempts, self._longest_wait_s, self._visitor_token = attempts, longest_wait_s, visitor_token
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def recommend(
        self,
        *requests: Mapping[str, Any],
        distinct: bool = False,
        dry_run: bool = False,
        visitor_token: str | None = None,
    ) -> list[Json]:
        """Rank products for 1–16 requests; return one result for each, in order.

        The result of a request that is wrong has `error`; `ApiError` is raised only where all are wrong. `identity` of
        the others: `proven` where a customer was named and proven, `unproven` where an id was not proven and so did
        not count, else `anonymous`.
        """
        body = {"requests": requests, "distinct": distinct, "dry_run": dry_run}
        results: list[Json] = self._post("/v1/recommendations", body, visitor_token)["results"]
        return results

    def rerank(self, item_ids: Sequence[str], *, visitor_token: str | None = None, **request: Any) -> Json:
        """Order up to 500 products for a visitor: `customer_id`, `client_id` or `session_id`; `context`, `limit`,
        `include`. The result has `identity`, as those of `recommend`.
        """
        return self._post("/v1/rerank", {"item_ids": item_ids, **request}, visitor_token)

    def new_client_id(self) -> str:
        """Get the id of another device, which the server has signed: keep it in the device, as a cookie is kept."""
        return str(self._send("POST", "/v1/clients")["client_id"])

    def send(self, events: Iterable[Mapping[str, Any]], *, visitor_token: str | None = None) -> SendResult:
        """Send any number of events; when this returns, all that were accepted are on disk.

        An event without an `event_id` gets one that holds for this call: give them yourself if you will call again
        after an exception. `ApiError` with code `invalid_request`: of up to 1,000 events none was right.
        """
        result, first = SendResult(), 0
        headers = self._proof(visitor_token)
        for batch in _batches([{"event_id": str(uuid.uuid4()), **event} for event in events]):
            body = self._send("POST", "/v1/events", f'{{"events":[{",".join(batch)}]}}', headers)
            result.accepted += body["accepted"]
            result.duplicates += body["duplicates"]
            result.unproven += body.get("unproven", 0)
            result.claims += body.get("claims", 0)
            result.rejected += [_shift_index(rejected, first) for rejected in body["rejected"]]
            first += len(batch)
        return result

    def patch_items(self, items: Sequence[Mapping[str, Any]]) -> int:
        """Override what items cost and whether they are `available`; return how many were updated.

        They are sent 1,000 at a time, of which all take effect or none.
        """
        parts = [items[n : n + _MAX_ITEMS] for n in range(0, len(items), _MAX_ITEMS)]
        return sum(int(self._send_once("PATCH", "/v1/items", {"items": part})["updated"]) for part in parts)

    def merge(self, client_id: str, customer_id: str) -> bool:
        """Link a client to a customer from now on; return whether the link is new."""
        return bool(
            self._send_once("POST", "/v1/customers/merge", {"client_id": client_id, "customer_id": customer_id})[
                "changed"
            ]
        )

    def erase(self, customer_id: str | None = None, *, client_id: str | None = None) -> dict[str, int]:
        """Remove a customer's events, or those of a device; return how much was removed."""
        ids = {"customer_id": customer_id, "client_id": client_id}
        return self._send_once("POST", "/v1/customers/erase", {k: v for k, v in ids.items() if v is not None})

    def placements(self) -> dict[str, Json]:
        """Return the placements that requests may name, by name."""
        return dict(self._send("GET", "/v1/placements")["placements"])

    def model(self) -> Json:
        """Return the active model's version, snapshot time and metrics."""
        return self._send("GET", "/v1/model")

    def explain(self, **request: Any) -> Json:
        """Explain a visitor's ranking: `customer_id`, `client_id` or `session_id`; `context`, `item_ids`, `limit`."""
        return self._post("/v1/explain", request)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _proof(self, visitor_token: str | None) -> dict[str, str]:
        """Return the header that proves a visitor, by the token of the call or else that of the client."""
        return _token_header(self._visitor_token if visitor_token is None else visitor_token)

    def _post(self, path: str, body: Json, visitor_token: str | None = None) -> Json:
        return self._send("POST", path, _to_json(body), self._proof(visitor_token))

    def _send_once(self, method: str, path: str, body: Json) -> Json:
        return self._send(method, path, _to_json(body), {"idempotency-key": str(uuid.uuid4())})

    def _send(self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> Json:
        """Send a request, up to `attempts` times, and return the response's JSON."""
        all_headers = {**(headers or {}), **({} if body is None else {"content-type": "application/json"})}
        attempt = 0
        while True:
            attempt += 1
            retry_after_s = 0.0
            try:
                response = self._http.request(method, path, content=body, headers=all_headers)
            except httpx.RequestError as error:
                if attempt == self._attempts:
                    raise Unreachable(f"{method} {path}: {type(error).__name__} in {attempt} attempts") from error
            else:
                if response.is_success:
                    return _parse_object(response)
                retry_after_s = _parse_retry_after_s(response) or 0.0
                retry = response.status_code in _RETRY_STATUSES and attempt < self._attempts
                if not retry or retry_after_s > self._longest_wait_s:
                    raise ApiError(response)
            backoff_s = min(self._longest_wait_s, _FIRST_WAIT_S * 2 ** (attempt - 1))
            # Jitter: clients that failed together do not come back together.
            sleep(max(retry_after_s, backoff_s / 2) + random.uniform(0, backoff_s / 2))  # noqa: S311


def _token_header(visitor_token: str | None) -> dict[str, str]:
    """Return the header with a visitor token; none for None and "". Raises ValueError, which does not repeat it."""
    if not visitor_token:
        return {}
    if not _TOKEN.fullmatch(visitor_token):
        raise ValueError("the visitor token has a character that no token has")
    return {"x-visitor-token": visitor_token}


def _to_json(value: object) -> str:
    """Serialise as JSON, times in ISO 8601. Raises TypeError and ValueError for what JSON cannot represent."""
    return json.dumps(value, allow_nan=False, default=_iso_time)


def _iso_time(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"JSON cannot represent a {type(value).__name__}")


def _batches(events: Sequence[Json]) -> Iterable[list[str]]:
    """Yield the events as JSON texts, as many at a time as a request may have."""
    batch: list[str] = []
    size = 0
    for text in map(_to_json, events):
        if batch and (len(batch) == _MAX_EVENTS or size + len(text) > _MAX_EVENT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield batch


def _shift_index(rejected: Json, first: int) -> Json:
    """Return `rejected` with its index and pointer counted from the first event sent, not from that of its batch."""
    index = rejected["index"] + first
    own = f"/events/{rejected['index']}"
    return {**rejected, "index": index, "pointer": f"/events/{index}" + str(rejected["pointer"]).removeprefix(own)}


def _parse_object(response: httpx.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(response)
    return body


def _parse_problem(response: httpx.Response) -> Json:
    """Return the problem document; an empty one where the response has none, as from a proxy."""
    if response.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        return {}
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _parse_retry_after_s(response: httpx.Response) -> float | None:
    """Return `Retry-After`, a number of seconds or an HTTP date, in seconds from now."""
    text = response.headers.get("retry-after", "")
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return None
