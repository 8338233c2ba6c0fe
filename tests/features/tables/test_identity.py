import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY
from tests.features.shop import AS_OF, Row, build, events, examples, link, one, row, same_tables

PAST = [row("view_item", -9, "d1", "i0"), row("view_item", -8, "d1", "i1")]
LOGIN = row("login", -5, "c1+d1")


def views(rows: list[Row], customer_id: str, as_of_days: float = 0, links: list[Row] | None = None) -> int | None:
    """How many views the customer has; None for a customer who is not in the table yet."""
    table = build(rows, AS_OF + round(as_of_days * DAY), links or []).customers
    matches = table.filter(table["customer_id"] == customer_id)
    return None if matches.is_empty() else int(one(matches, customer_id=customer_id)["views_90d"])


def test_a_login_adds_the_earlier_events_of_the_device():
    tables = build([*PAST, LOGIN])
    assert one(tables.customers, customer_id="c1")["views_90d"] == 2
    assert tables.profiles.rows() == [("d1", "c1")]
    assert tables.anonymous.is_empty()
    assert one(tables.history, customer_id="c1", item_id="i1")["viewed_last_days"] == 8


def test_nothing_joins_before_the_link():
    rows = [*PAST, LOGIN, row("login", -7, "c1+d7")]
    assert views(rows, "c1", -5) == 0  # the login is at this very instant, so not yet
    assert views(rows, "c1", -5 + 2 / DAY) == 2


def test_later_events_of_the_device_are_the_customers_too():
    assert views([LOGIN, row("view_item", -1, "d1", "i0")], "c1") == 1


def test_a_shared_device_is_nobodys():
    rows = [*PAST, LOGIN, row("view_item", -4, "c2+d1", "i2")]
    tables = build(rows)
    assert tables.profiles.is_empty()
    assert views(rows, "c1") == 0
    assert views(rows, "c2") == 1
    assert tables.anonymous["client_id"].to_list() == ["d1", "d1"]
    assert views(rows, "c1", -4) == 2  # before the second customer's event the client was the first one's


@pytest.mark.parametrize("kind", ["email", "payment"])
def test_a_token_of_both_links_client_and_customer(kind: str):
    links = [link(kind, -6, "d1", None, "t1"), link(kind, -5, None, "c1", "t1")]
    rows = [*PAST, row("login", -7, "c1")]
    assert views(rows, "c1", links=links) == 2
    assert views(rows, "c1", -5, links=links) == 0
    assert (
        views(rows, "c1", links=[*links, link("email" if kind == "payment" else "payment", -4, None, "c2", "t1")]) == 2
    )


def test_a_token_of_several_customers_links_nobody():
    links = [link("payment", -6, "d1", None, "t1"), *(link("payment", -5, None, c, "t1") for c in ("c1", "c2"))]
    assert views([*PAST, row("login", -7, "c1")], "c1", links=links) == 0


def test_an_unlink_undoes_a_merge():
    rows = [*PAST, row("login", -7, "c1")]
    merge = link("merge", -3, "d1", "c1")
    assert views(rows, "c1", links=[merge]) == 2
    assert views(rows, "c1", links=[merge, link("unlink", -1, "d1", "c1")]) == 0
    assert same_tables(build(rows), build(rows, links=[merge, link("unlink", -1, "d1", "c1")]))


def test_an_unlink_leaves_other_links_alone():
    rows = [*PAST, LOGIN, row("view_item", -2, "c2+d2", "i3")]
    tables = build(rows, links=[link("unlink", -1, "d1", "c1")])
    assert tables.profiles.rows() == [("d2", "c2")]
    assert one(tables.customers, customer_id="c1")["logins_90d"] == 1  # events while logged in stay


def test_refused_consent_links_nobody():
    assert views([*PAST, LOGIN | {"consent": False}, row("login", -7, "c1")], "c1") == 0


_LINKS = st.lists(
    st.builds(
        link,
        st.sampled_from(["email", "payment", "merge"]),
        st.integers(0, 9),
        st.sampled_from(["d0", "d1", "d2"]),
        st.sampled_from(["c0", "c1", None]),
        st.sampled_from(["t1", "t2"]),
    ),
    max_size=5,
)


@examples(9)
@given(events(-90, 0, least=4), _LINKS)
def test_links_at_or_after_the_instant_change_nothing(rows: list[Row], later: list[Row]):
    rows = [row("view_item", -3, "c0", "i0"), *rows]
    links = [link("email", -2, "d0", None, "t1"), link("email", -2, None, "c0", "t1")]
    assert same_tables(build(rows, links=links), build(rows, links=[*links, *later]))
