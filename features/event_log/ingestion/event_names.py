"""Event names: which of the log's names a shop's own name is most probably meant for."""

from difflib import get_close_matches

from features.event_log.schema import EVENT_NAMES


def nearest_name(name: str) -> str:
    """The known event name that `name` is most probably meant for; empty where none is near."""
    plain = _plain(name)
    if plain in _SYNONYMS:
        return _SYNONYMS[plain]
    spelled = {_plain(known): known for known in EVENT_NAMES}
    near = get_close_matches(plain, spelled, n=1, cutoff=0.8)
    return spelled[near[0]] if near else ""


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


_SYNONYMS = {
    "order": "purchase", "orders": "purchase", "buy": "purchase", "sale": "purchase", "transaction": "purchase",
    "checkout": "begin_checkout", "ordercompleted": "purchase", "completedorder": "purchase", "orderplaced": "purchase",
    "view": "view_item", "click": "view_item", "clicks": "view_item", "detail": "view_item", "pageview": "view_item",
    "productviewed": "view_item", "viewedproduct": "view_item", "productview": "view_item", "viewproduct": "view_item",
    "cart": "add_to_cart", "carts": "add_to_cart", "basket": "add_to_cart", "addtobasket": "add_to_cart",
    "productadded": "add_to_cart", "addedproduct": "add_to_cart", "wishlist": "add_to_wishlist",
    "removefrombasket": "remove_from_cart", "return": "refund", "refunded": "refund", "searched": "search",
    "signin": "login", "loggedin": "login",
}  # fmt: skip
