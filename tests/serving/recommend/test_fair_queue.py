from hypothesis import given
from hypothesis import strategies as st

from serving.recommend.fair_queue import FairQueue


def pop_all(queue: FairQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_one_sender_is_served_in_order() -> None:
    queue = FairQueue[str](10)
    for item in "abcde":
        assert queue.push(item, "s") is None
    assert pop_all(queue) == list("abcde")


def test_a_flood_of_one_sender_makes_only_that_sender_wait() -> None:
    queue = FairQueue[str](1000)
    for n in range(500):
        queue.push(f"flood {n}", "flood")
    queue.push("honest", "visitor")
    assert pop_all(queue).index("honest") <= 1


def test_a_costly_request_waits_for_plain_ones() -> None:
    queue = FairQueue[str](1000)
    for n in range(100):
        queue.push(f"costly {n}", f"sender {n}", cost=40)
    for n in range(10):
        queue.push(f"plain {n}", f"visitor {n}")
    assert pop_all(queue)[:10] == [f"plain {n}" for n in range(10)]


def test_costly_requests_are_served_at_last_however_many_plain_ones_come() -> None:
    queue = FairQueue[str](1000)
    queue.push("costly", "sender", cost=40)
    served = []
    for n in range(200):
        queue.push(f"plain {n}", f"visitor {n % 2}")
        served.append(queue.pop())
    assert "costly" in served


def test_who_comes_to_a_full_queue_takes_the_place_of_who_has_most() -> None:
    queue = FairQueue[str](3)
    for item in ("f0", "f1", "f2"):
        queue.push(item, "flood")
    assert queue.push("f3", "flood") == "f3"
    assert queue.push("honest", "visitor") == "f2"
    assert sorted(pop_all(queue)) == ["f0", "f1", "honest"]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 50)) | st.none(), max_size=60), st.integers(1, 10)
)  # fmt: skip
def test_nothing_is_lost_or_doubled(steps: list[tuple[int, float] | None], capacity: int) -> None:
    queue = FairQueue[int](capacity)
    left = []
    for number, step in enumerate(steps):
        if step is None:
            left += [queue.pop()] if queue else []
        elif (out := queue.push(number, *step)) is not None:
            left.append(out)
        assert len(queue) <= capacity
    left += queue.drain()
    assert sorted(left) == [n for n, step in enumerate(steps) if step is not None]


def test_the_names_of_senders_do_not_pile_up() -> None:
    queue = FairQueue[int](4)
    queue.push(-1, "first")
    for n in range(10_000):
        queue.push(n, n)
        queue.pop()
    assert len(queue._finish) < 100
