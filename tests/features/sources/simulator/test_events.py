"""Every setting of the simulated shop shows in its log, and is gone when switched off."""

from datetime import date
from functools import cache

import polars as pl
import pytest

from features.event_log.ingestion.ingest import ParsedBatch
from features.sources.simulator.frames import log_start
from features.sources.simulator.shop import Shop, SimulatorConfig, read
from features.sources.simulator.shop import simulate as simulate_shop

CONFIG = SimulatorConfig(customers=500, items=240, days=90, seed=8, sessions_per_customer=25)


@cache
def simulate(**changes: object) -> ParsedBatch:
    (parsed,) = read(CONFIG.model_copy(update=changes))
    return parsed


@cache
def shop(**changes: object) -> Shop:
    return simulate_shop(CONFIG.model_copy(update=changes))


def events(*names: str, **changes: object) -> pl.DataFrame:
    table = simulate(**changes).events.with_columns(pl.col("name").cast(pl.String))
    return table.filter(pl.col("name").is_in(names)) if names else table


def per_day(**changes: object) -> pl.DataFrame:
    """Views by item and day of the log, with the shop's own days, which begin at three."""
    hours = pl.col("timestamp").to_physical() - log_start(CONFIG.model_copy(update=changes)) - 3 * 3_600_000_000
    return events("view_item", "purchase", **changes).with_columns(
        day=hours // 86_400_000_000, item=pl.col("item_id").str.slice(1).cast(pl.Int64)
    )


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("recorded_lists", ("view_item_list", "select_item")),
        ("searches", ("search",)),
        ("wishlists", ("add_to_wishlist",)),
        ("abandoned", ("remove_from_cart",)),
        ("cart_views", ("view_cart",)),
        ("checkouts", ("begin_checkout",)),
        ("refunds", ("refund",)),
        ("logged_in", ("login",)),
    ],
)
def test_an_event_and_its_switch(setting: str, names: tuple[str, ...]):
    assert set(events(*names)["name"]) == set(names)
    assert events(*names, **{setting: 0}).is_empty()


def test_a_click_is_on_an_impression_of_the_list():
    impressions = events("view_item_list")
    lists = impressions.group_by("event_id").agg(
        pl.len(), pl.col("position").sort(), pl.col("item_id").n_unique().alias("items"), pl.col("list_id").n_unique()
    )
    assert lists["list_id"].max() == 1
    assert (lists["items"] == lists["len"]).all()
    assert all(p == list(range(1, len(p) + 1)) for p in lists["position"].to_list())
    clicks = events("select_item")
    key = ["session_id", "list_id", "item_id", "position"]
    matches = clicks.join(impressions, on=key, suffix="_list").filter(pl.col("timestamp") > pl.col("timestamp_list"))
    assert matches["event_id"].n_unique() == clicks.height == lists.height
    assert {"search", "category/home/kitchen"} <= set(clicks["list_id"])


def test_a_recorded_list_has_little_of_the_log():
    assert 0.05 < events("view_item_list", "select_item").height / events().height < 0.12


def test_searches_name_what_is_looked_at_next():
    searches = events("search")
    assert searches.select(pl.col("item_id", "price").is_null().all()).row(0) == (True, True)
    steps = events("search", "view_item").drop_nulls("session_id").sort("session_id", "timestamp")
    following = pl.col("item_id").shift(-1).over("session_id")
    queries = steps.with_columns(following=following).filter(pl.col("name") == "search")
    queries = queries.join(simulate().catalog, left_on="following", right_on="item_id")
    words = (pl.col("title").str.to_lowercase() + " " + pl.col("category")).str.contains(pl.col("query"), literal=True)
    assert queries.height == searches.height
    assert queries.select(words.all()).item()


def test_logins_have_both_ids_and_precede_customer_ids():
    table = events().drop_nulls("session_id")
    login = pl.col("timestamp").filter(pl.col("name") == "login").min().over("session_id")
    known = pl.col("customer_id").is_not_null()
    assert table.select((known == (pl.col("timestamp") >= login).fill_null(False)).all()).item()
    late = table.filter(~known, login.is_not_null())
    assert 0.05 < late["session_id"].n_unique() / events("login").height < 0.2
    table = events(late_login=0).drop_nulls("session_id")
    assert table.filter(~known, login.is_not_null()).is_empty()
    assert events(logged_in=0)["customer_id"].is_null().all()


def test_devices_are_shared_and_people_have_several():
    def most(key: str, of: str, **changes: object) -> pl.Series:
        return events(**changes).drop_nulls(["client_id", "customer_id"]).group_by(key).agg(pl.col(of).n_unique())[of]

    assert 0.01 < (most("client_id", "customer_id") > 1).mean() < 0.1
    assert most("client_id", "customer_id", shared_devices=0).max() == 1
    assert 0.1 < (most("customer_id", "client_id") > 1).mean() < 0.4
    assert most("customer_id", "client_id", shared_devices=0, second_device=0).max() == 1
    both = events().group_by("client_id").agg(pl.col("consent", "device", "country").n_unique())
    assert both.select(pl.col("consent", "device", "country").max()).row(0) == (1, 1, 1)


@pytest.mark.parametrize(("setting", "column", "rest"), [("mobile", "device", "mobile"), ("foreign", "country", "AT")])
def test_countries_and_devices(setting: str, column: str, rest: str):
    assert rest in events()[column].cast(pl.String).to_list()
    assert rest not in events(**{setting: 0})[column].cast(pl.String).to_list()


def rates(**changes: object) -> list[int]:
    """Views of each client's busiest hour, most first."""
    views = events("view_item", **changes).group_by("client_id", pl.col("timestamp").dt.truncate("1h")).len()
    return views.group_by("client_id").agg(pl.col("len").max())["len"].sort(descending=True).to_list()


def test_bots_view_more_than_people_can():
    assert rates(bots=0.02)[0] > 300 > 120 > rates(bots=0)[0]
    share = 1 - events(bots=0).height / events(bots=0.02).height
    assert share == pytest.approx(0.02, abs=0.003)
    assert 1 <= sum(n > 300 for n in rates(bots=0.02)) <= 5


def test_prices_are_net_of_promotions():
    def discounts(**changes: object) -> pl.Series:
        paid = events("view_item", "purchase", **changes).join(
            simulate(**changes).catalog, on="item_id", suffix="_full"
        )
        return (1 - paid["price"] / paid["price_full"]).round(2)

    assert (discounts(promotions=0) == 0).all()
    share = (discounts() > 0).mean()
    assert 0.05 < share < 0.2
    # Cheaper draws the eye: more views than the share of days.
    assert share > 1.2 * shop().calendar.discount.astype(bool).mean()
    assert set((discounts().filter(discounts() > 0.05) * 20).round().unique()) >= {2, 3, 4, 6, 8}


def test_items_out_of_stock_are_rarely_viewed_and_never_bought():
    out = shop(stock_outs=0.1).calendar.out
    assert out.mean() == pytest.approx(0.1, abs=0.02)
    rows = per_day(stock_outs=0.1, bots=0, recorded_lists=0)
    gone = pl.Series(out[rows["day"].to_numpy(), rows["item"].to_numpy()])
    bought = rows["name"] == "purchase"
    assert bought.sum() > 200
    assert not (gone & bought).any()
    assert 0 < gone.mean() < 0.03
    assert not shop(stock_outs=0).calendar.out.any()


def test_new_items_are_looked_at_more_at_first():
    def early(novelty: float) -> float:
        """Views in the first ten days after the launch, against those in the next ten."""
        launch = shop(launched=0.6).items.launch_day
        rows = per_day(launched=0.6, novelty=novelty, yearly=0, promotions=0, bots=0)
        age = rows["day"] - pl.Series(launch)[rows["item"].to_numpy()]
        fresh = pl.Series(launch > 0)[rows["item"].to_numpy()] & (pl.Series(launch) < 65)[rows["item"].to_numpy()]
        return age.filter(fresh).is_between(0, 9).sum() / age.filter(fresh).is_between(10, 19).sum()

    assert early(3.0) > 1.2 * early(0.0) > 0.8


def test_seasons_of_the_week_and_the_year():
    def views(part: pl.Expr, **changes: object) -> dict[int, tuple[int, float]]:
        """Views in each value of `part`, and the garden's share of them."""
        size = {"days": 364, "start": date(2026, 1, 1), "sessions_per_customer": 40, "visitors_per_customer": 0}
        table = events("view_item", bots=0, **size, **changes).join(simulate(**size, **changes).catalog, on="item_id")
        garden = pl.col("category").str.starts_with("garden")
        return {
            key: (n, share)
            for key, n, share in table.group_by(part.alias("part")).agg(pl.len(), garden.mean()).iter_rows()
        }

    weekday, month = pl.col("timestamp").dt.weekday(), pl.col("timestamp").dt.month()
    assert 1.2 < views(weekday)[7][0] / views(weekday)[6][0] < 1.8
    assert 0.9 < views(weekday, weekly=0)[7][0] / views(weekday, weekly=0)[6][0] < 1.1
    assert views(month)[5][1] > 2 * views(month)[11][1]
    assert 0.7 < views(month, yearly=0)[5][1] / views(month, yearly=0)[11][1] < 1.4


def test_sources_differ_in_size_and_in_orders():
    def sources(**changes: object) -> tuple[dict[str, float], dict[str, int]]:
        size = {"customers": 1500, "habit": 0.0, "conversion": 0.1, "visitors_per_customer": 0.0}
        sessions = events(**size, **changes).drop_nulls("session_id").group_by("session_id").agg(
            pl.col("source").cast(pl.String).first(), ordered=(pl.col("name") == "purchase").any()
        )  # fmt: skip
        table = sessions.group_by("source").agg(pl.len(), pl.col("ordered").mean())
        return dict(zip(table["source"], table["ordered"], strict=True)), dict(
            zip(table["source"], table["len"], strict=True)
        )

    orders, size = sources()
    assert set(orders) == {"direct", "organic", "paid_search", "email", "social", "referral"}
    assert orders["email"] > 1.3 * orders["organic"] > 1.3 * 1.3 * orders["social"]
    assert size["direct"] > 3 * size["social"]
    orders, size = sources(traffic=0)
    assert max(orders.values()) < 1.2 * min(orders.values())
    assert max(size.values()) < 1.1 * min(size.values())


def test_thrifty_people_look_at_cheaper_items():
    def dearness(**changes: object) -> float:
        s = shop(**changes)
        return float(s.items.dearness[s.visits.item].mean())

    assert dearness(price_sensitivity=2.0) < dearness() - 0.05 < dearness(price_sensitivity=0.0) - 0.1


@pytest.mark.parametrize(("setting", "of", "strong"), [("brand_loyalty", "brand", 0.8), ("favourites", "item_id", 0.6)])
def test_people_come_back_to_their_brands_and_favourites(setting: str, of: str, strong: float):
    def top(value: float) -> float:
        """Mean share of a client's most viewed brand or item, of those with thirty views and more."""
        changes = {setting: value, "items": 1500, "habit": 0.0, "repeat_views": 0.0, "visitors_per_customer": 0.0}
        changes |= {"bots": 0, "sessions_per_customer": 40}
        views = events("view_item", **changes).join(simulate(**changes).catalog, on="item_id")
        counts = views.group_by("client_id", of).len()
        share = counts.group_by("client_id").agg(
            pl.len(), pl.col("len").sum().alias("all"), pl.col("len").max().alias("most")
        )
        share = share.filter(pl.col("all") >= 30)
        return (share["most"] / share["all"]).mean()

    assert top(strong) > top(0.0) + 0.04


def test_shopping_days_bring_habits_together():
    def lines(rhythm: int) -> float:
        sales = events("purchase", rhythm=rhythm, habit=1.0, departments=("grocery", "pets", "baby"), basket=3.0)
        return sales.height / sales["order_id"].n_unique()

    assert lines(14) > 1.15 * lines(1)
