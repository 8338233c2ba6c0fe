"""A client of the HTTP API: one connection pool, and the same request again only where that does no harm.

Reads may be repeated; events are known by their `event_id`, other writes by an `Idempotency-Key`, so all may be. Ids
are in no URL and in no message of an exception, and nothing is logged here.
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

# Too many requests; not available, be it here or between here and there. None of them says that a write was done.
_AGAIN = frozenset((429, 502, 503, 504))
_FIRST_WAIT_S = 0.2
_MOST_EVENTS, _MOST_EVENT_BYTES, _MOST_ITEMS = 1000, 1_900_000, 1000
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]+")


class UsualError(Exception):
    """The server gave no answer to use."""


class Unreachable(UsualError):
    """No answer at all, or not in time. Whether a write was done is not known; sent again it is not done twice."""


class ApiError(UsualError):
    """The server's answer is an error: its HTTP `status`, a `code` for programs, `detail` for people.

    `errors` says what is wrong where in the request: dicts of `pointer`, `detail` and perhaps `code`. `request_id`
    finds the line in the server's log. `retry_after_s`: seconds after which to try again, if the server says so.
    """

    def __init__(self, answer: httpx.Response) -> None:
        said = _problem(answer)
        self.status = answer.status_code
        self.code: str = str(said.get("code", "http_error"))
        self.detail: str = str(said.get("detail", answer.reason_phrase))
        self.errors: list[Json] = list(said.get("errors") or [])
        self.request_id = answer.headers.get("x-request-id")
        self.retry_after_s = _retry_after_s(answer)
        where = "".join(f"; {error.get('pointer')}: {error.get('detail')}" for error in self.errors[:3])
        super().__init__(f"{self.status} {self.code}: {self.detail}{where}")


@dataclass
class Sent:
    """What became of events. `rejected`: dicts of `index` into the events given, `pointer`, `code`, `detail`."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Json] = field(default_factory=list)


class Client:
    """The API at `url`, asked with `key`: publishable for recommending, reranking and events, secret for the rest.

    `timeout` in seconds holds for each of at most `attempts` attempts; a server that wants a longer pause than
    `longest_wait_s` between them gets no other. Threads may share a client. Methods raise `ApiError` and `Unreachable`.
    `transport`: what sends in place of httpx's own.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = 5.0,
        attempts: int = 4,
        longest_wait_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if key is not None and not _KEY.fullmatch(key):
            raise ValueError("the key has a character that no key has")  # which one is not said: keys are secrets
        if not url.startswith(("http://", "https://")):
            raise ValueError("give the address of the server with its scheme, such as https://usual.shop.example")
        if attempts < 1:
            raise ValueError("there is at least one attempt")
        self._attempts, self._longest_wait_s = attempts, longest_wait_s
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def recommend(self, *requests: Mapping[str, Any], distinct: bool = False, dry_run: bool = False) -> list[Json]:
        """One result for each of 1–16 requests, in order. One that is wrong has `error` and the others are answered;
        `ApiError` is raised only where all are wrong.
        """
        asked = {"requests": requests, "distinct": distinct, "dry_run": dry_run}
        results: list[Json] = self._post("/v1/recommendations", asked)["results"]
        return results

    def rerank(self, item_ids: Sequence[str], **request: Any) -> Json:
        """Up to 500 products in the order of a visitor: `customer_id`, `client_id` or `session_id`; `context`,
        `limit`, `include`.
        """
        return self._post("/v1/rerank", {"item_ids": item_ids, **request})

    def send(self, events: Iterable[Mapping[str, Any]]) -> Sent:
        """Keep any number of events; when this returns, all that were accepted are on disk.

        An event without an `event_id` gets one that holds for this call: give them yourself if you will call again
        after an exception. `ApiError` with code `invalid_request`: of up to 1,000 events none was right.
        """
        sent, first = Sent(), 0
        for batch in _batches([{"event_id": str(uuid.uuid4()), **event} for event in events]):
            answer = self._send("POST", "/v1/events", f'{{"events":[{",".join(batch)}]}}')
            sent.accepted += answer["accepted"]
            sent.duplicates += answer["duplicates"]
            sent.rejected += [_moved(rejected, first) for rejected in answer["rejected"]]
            first += len(batch)
        return sent

    def patch_items(self, items: Sequence[Mapping[str, Any]]) -> int:
        """Say what items cost and whether they are `available`; how many were updated.

        1,000 at a time: of those all are taken over, or none.
        """
        parts = [items[n : n + _MOST_ITEMS] for n in range(0, len(items), _MOST_ITEMS)]
        return sum(int(self._once("PATCH", "/v1/items", {"items": part})["updated"]) for part in parts)

    def merge(self, client_id: str, customer_id: str) -> bool:
        """This client is that customer from now on; whether that was not known before."""
        return bool(
            self._once("POST", "/v1/customers/merge", {"client_id": client_id, "customer_id": customer_id})["changed"]
        )

    def erase(self, customer_id: str) -> dict[str, int]:
        """Remove a customer's events; how much was removed."""
        return self._once("POST", "/v1/customers/erase", {"customer_id": customer_id})

    def placements(self) -> dict[str, Json]:
        """What can be asked for, by name."""
        return dict(self._send("GET", "/v1/placements")["placements"])

    def model(self) -> Json:
        """The model that is served: version, snapshot time, metrics."""
        return self._send("GET", "/v1/model")

    def explain(self, **request: Any) -> Json:
        """Why a visitor's ranking is what it is: `customer_id`, `client_id` or `session_id`; `context`, `item_ids`,
        `limit`.
        """
        return self._post("/v1/explain", request)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _post(self, path: str, body: Json) -> Json:
        return self._send("POST", path, _text(body))

    def _once(self, method: str, path: str, body: Json) -> Json:
        return self._send(method, path, _text(body), {"idempotency-key": str(uuid.uuid4())})

    def _send(self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> Json:
        """The answer's JSON, after as many attempts as it takes and may have."""
        sent = {**(headers or {}), **({} if body is None else {"content-type": "application/json"})}
        attempt = 0
        while True:
            attempt += 1
            asked_s = 0.0
            try:
                answer = self._http.request(method, path, content=body, headers=sent)
            except httpx.RequestError as error:
                if attempt == self._attempts:
                    raise Unreachable(f"{method} {path}: {type(error).__name__} in {attempt} attempts") from error
            else:
                if answer.is_success:
                    return _object(answer)
                asked_s = _retry_after_s(answer) or 0.0
                if answer.status_code not in _AGAIN or attempt == self._attempts or asked_s > self._longest_wait_s:
                    raise ApiError(answer)
            backoff_s = min(self._longest_wait_s, _FIRST_WAIT_S * 2 ** (attempt - 1))
            # Those that failed together do not come back together.
            sleep(max(asked_s, backoff_s / 2) + random.uniform(0, backoff_s / 2))  # noqa: S311


def _text(value: object) -> str:
    """As JSON, times in ISO 8601. Raises TypeError and ValueError for what JSON cannot say."""
    return json.dumps(value, allow_nan=False, default=_time)


def _time(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"JSON cannot say a {type(value).__name__}")


def _batches(events: Sequence[Json]) -> Iterable[list[str]]:
    """The events as JSON, as many at a time as a request takes."""
    batch: list[str] = []
    size = 0
    for text in map(_text, events):
        if batch and (len(batch) == _MOST_EVENTS or size + len(text) > _MOST_EVENT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield batch


def _moved(rejected: Json, first: int) -> Json:
    """The same of an event that was `first` places further back among those given."""
    index = rejected["index"] + first
    own = f"/events/{rejected['index']}"
    return {**rejected, "index": index, "pointer": f"/events/{index}" + str(rejected["pointer"]).removeprefix(own)}


def _object(answer: httpx.Response) -> Json:
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ApiError(answer)
    return said


def _problem(answer: httpx.Response) -> Json:
    """The problem document; nothing where the answer has none, as from a proxy."""
    if answer.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        return {}
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _retry_after_s(answer: httpx.Response) -> float | None:
    """`Retry-After` in seconds from now: a number, or an HTTP date."""
    text = answer.headers.get("retry-after", "")
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return None
