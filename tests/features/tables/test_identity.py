import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY
from tests.features.shop import AS_OF, Row, build, events, examples, link, one, row, same_tables

PAST = [row("view_item", -9, "d1", "i0"), row("view_item", -8, "d1", "i1")]
LOGIN = row("login", -5, "c1+d1")


def views(rows: list[Row], who: str, as_of_days: float = 0, links: list[Row] | None = None) -> int | None:
    """How many views the customer's profile holds; None for a customer nobody knows yet."""
    table = build(rows, AS_OF + round(as_of_days * DAY), links or []).customers
    found = table.filter(table["customer_id"] == who)
    return None if found.is_empty() else int(one(found, customer_id=who)["views_90d"])


def test_a_login_brings_the_past_of_the_device():
    made = build([*PAST, LOGIN])
    assert one(made.customers, customer_id="c1")["views_90d"] == 2
    assert made.profiles.rows() == [("d1", "c1")]
    assert made.anonymous.is_empty()
    assert one(made.history, customer_id="c1", item_id="i1")["viewed_last_days"] == 8


def test_nothing_joins_before_the_link():
    rows = [*PAST, LOGIN, row("login", -7, "c1+d7")]
    assert views(rows, "c1", -5) == 0  # the login is at this very instant, so not yet
    assert views(rows, "c1", -5 + 2 / DAY) == 2


def test_what_follows_on_the_device_is_theirs_too():
    assert views([LOGIN, row("view_item", -1, "d1", "i0")], "c1") == 1


def test_a_shared_device_is_nobodys():
    rows = [*PAST, LOGIN, row("view_item", -4, "c2+d1", "i2")]
    made = build(rows)
    assert made.profiles.is_empty()
    assert views(rows, "c1") == 0
    assert views(rows, "c2") == 1
    assert made.anonymous["client_id"].to_list() == ["d1", "d1"]
    assert views(rows, "c1", -4) == 2  # before the second customer came it was the first one's


@pytest.mark.parametrize("kind", ["email", "payment"])
def test_a_token_seen_with_both_links_them(kind: str):
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


def test_a_merge_is_undone_by_taking_the_link_away():
    rows = [*PAST, row("login", -7, "c1")]
    merge = link("merge", -3, "d1", "c1")
    assert views(rows, "c1", links=[merge]) == 2
    assert views(rows, "c1", links=[merge, link("unlink", -1, "d1", "c1")]) == 0
    assert same_tables(build(rows), build(rows, links=[merge, link("unlink", -1, "d1", "c1")]))


def test_an_unlink_leaves_other_ties_alone():
    rows = [*PAST, LOGIN, row("view_item", -2, "c2+d2", "i3")]
    undone = build(rows, links=[link("unlink", -1, "d1", "c1")])
    assert undone.profiles.rows() == [("d2", "c2")]
    assert one(undone.customers, customer_id="c1")["logins_90d"] == 1  # what was done logged in stays done


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
    known = [link("email", -2, "d0", None, "t1"), link("email", -2, None, "c0", "t1")]
    assert same_tables(build(rows, links=known), build(rows, links=[*known, *later]))
