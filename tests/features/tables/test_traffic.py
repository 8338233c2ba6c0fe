from tests.features.shop import build, one, row


def test_the_first_source_and_the_latest_values():
    rows = [
        row("view_item", -9, "d1", "i0", source="paid_search", device="mobile"),
        row("login", -8, "c1+d1", source=None, device="mobile", country="AT"),
        row("view_item", -7, "c1", "i0", source="email", device="desktop", country="DE"),
        row("view_item", -6, "c1", "i0", source=None, device=None, country=None),
        row("view_item", 0, "c1", "i0", source="social", device="tablet", country="NL"),
        row("view_item", -6, "c2", "i0"),
    ]
    table = build(rows).customers
    values = one(table, customer_id="c1")
    assert [values[k] for k in ("first_source", "source", "device", "country")] == [
        "paid_search",  # of the visit before the login
        "email",
        "desktop",
        "DE",
    ]
    values = one(table, customer_id="c2")
    assert [values[k] for k in ("first_source", "source", "device", "country")] == [None] * 4


def test_of_several_values_at_one_instant_the_least_counts():
    rows = [row("view_item", -9, "c1", "i0", source=s) for s in ("social", "email", "organic")]
    for ordered in (rows, rows[::-1]):
        values = one(build(ordered).customers, customer_id="c1")
        assert (values["first_source"], values["source"]) == ("email", "email")
