from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.admission import Admission, Ticket, is_plain

MOST, TARGET_S = 512, 0.05


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Answers `rate` requests a second, one after the other."""

    def __init__(self, admission: Admission, clock: Clock, rate: float) -> None:
        self.admission, self.clock, self.rate = admission, clock, rate
        self.queue: deque[tuple[Ticket, float]] = deque()
        self.waits: list[float] = []
        self.refused = 0

    def ask(self, host: str = "a") -> bool:
        if self.admission.is_crowded(host):
            self.refused += 1
            return False
        ticket = Ticket(host, self.admission)
        ticket.enter()
        self.queue.append((ticket, self.clock.now))
        return True

    def answer(self) -> None:
        self.clock.now += 1 / self.rate
        if self.queue:
            ticket, since = self.queue.popleft()
            ticket.leave(answered=True)
            self.waits.append(self.clock.now - since)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, rate: float) -> Server:
    return Server(Admission(MOST, TARGET_S, clock), clock, rate)


def test_a_burst_is_taken_on(clock: Clock) -> None:
    server = make(clock, 1_000)
    assert [server.ask() for _ in range(200)] == [True] * 200
    for _ in range(200):
        server.answer()
    clock.now += 0.05
    assert server.ask()
    assert not server.admission.is_overloaded


@pytest.mark.parametrize("rate", [600.0, 2_000.0])
def test_in_overload_those_who_are_let_in_are_answered_in_about_the_target(clock: Clock, rate: float) -> None:
    server = make(clock, rate)
    for _ in range(int(4 * rate)):
        for _ in range(5):
            server.ask()
        server.answer()
    assert server.admission.is_overloaded
    assert server.refused > 3 * rate
    last = server.waits[int(2 * rate) :]
    assert max(last) < 2 * TARGET_S
    assert len(server.waits) == int(4 * rate)  # it never had nothing to do


def test_a_slow_server_still_has_a_few_in_progress(clock: Clock) -> None:
    server = make(clock, 20)
    for _ in range(200):
        for _ in range(5):
            server.ask()
        server.answer()
    assert 30 <= len(server.queue) <= 33


def test_when_nobody_is_refused_any_more_a_burst_is_taken_on_again(clock: Clock) -> None:
    server = make(clock, 1_000)
    for _ in range(1_000):
        server.ask()
        server.ask()
        server.answer()
    assert server.admission.is_overloaded
    for _ in range(1_000):
        if not server.queue:
            server.ask()
        server.answer()
    assert not server.admission.is_overloaded


def test_who_floods_does_not_take_the_place_of_others(clock: Clock) -> None:
    server = make(clock, 1_000)
    for step in range(3_000):
        for _ in range(5):
            server.ask("flood")
        if step % 50 == 0:
            assert server.ask("visitor")
        server.answer()


def test_parked_requests_take_no_place(clock: Clock) -> None:
    admission = Admission(8, TARGET_S, clock)
    tickets = [Ticket("a", admission) for _ in range(4)]
    for ticket in tickets:
        ticket.enter()
    assert admission.is_crowded("a")
    tickets[0].park()
    assert not admission.is_crowded("a")
    for ticket in tickets:
        ticket.leave(answered=True)
        ticket.leave(answered=True)  # once is enough
    assert admission.enter("a") == clock.now


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ask", "answer", "drop", "park"])), max_size=60))
def test_what_comes_goes(steps: list[tuple[str, str]]) -> None:
    clock = Clock()
    admission, tickets = Admission(16, TARGET_S, clock), dict[str, list[Ticket]]()
    for host, step in steps:
        clock.now += 0.03
        if step == "ask" and not admission.is_crowded(host):
            tickets.setdefault(host, []).append(Ticket(host, admission))
            tickets[host][-1].enter()
        elif step != "ask" and tickets.get(host):
            ticket = tickets[host].pop(0)
            ticket.park() if step == "park" else ticket.leave(answered=step == "answer")
    for ticket in (ticket for queue in tickets.values() for ticket in queue):
        ticket.leave(answered=False)
    fresh = [Ticket("d", admission) for _ in range(16)]
    entered = 0
    for ticket in fresh:
        if not admission.is_crowded("d"):
            ticket.enter()
            entered += 1
    assert entered == 8  # half of all places: nothing of before is counted


@pytest.mark.parametrize(
    ("method", "path", "size", "plain"),
    [
        (b"POST", b"/v1/recommendations", 100, True),
        (b"POST", b"/v1/rerank", 8_192, True),
        (b"POST", b"/v1/recommendations", 8_193, False),
        (b"POST", b"/v1/recommendations/bulk", 100, False),
        (b"POST", b"/v1/events", 100, False),
        (b"GET", b"/livez", 0, False),
    ],
)
def test_what_is_plain(method: bytes, path: bytes, size: int, plain: bool) -> None:
    assert is_plain(method, path, size) == plain
