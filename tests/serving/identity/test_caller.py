"""Callers: whom a secret key, a token and a client id prove."""

import time
from typing import Any
from unittest.mock import ANY

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.ids import normalize_id
from serving.identity.caller import SHOP, Caller, ProvenVisitor, VisitorProofs, page_caller, shop_caller
from serving.identity.tokens import VisitorToken
from serving.settings import Settings
from tests.features.shop import examples

SECRET = "visitors-" + "0123456789abcdef" * 2


def proofs(**settings: Any) -> VisitorProofs:
    return VisitorProofs(Settings.model_validate({"open": False, "visitor_secrets": SECRET, **settings}))


PROOFS = proofs(server_secret=f"server-{SECRET}")


def sign(**claims: Any) -> str:
    return jwt.encode({"aud": "usual", "exp": int(time.time()) + 600} | claims, SECRET, "HS256")


def page(*, token: str | None = None, **settings: Any) -> Caller:
    return page_caller(proofs(**settings), token)


@pytest.mark.parametrize("caller", [SHOP, shop_caller(proofs()), shop_caller(proofs()).with_token("x")])
def test_the_shop_is_believed(caller: Caller) -> None:
    assert caller.secret
    assert caller.resolve("u1", "d1") == ProvenVisitor("u1", "d1", "proven")
    assert caller.resolve(None, "d1") == ProvenVisitor(None, "d1", "anonymous")
    assert caller.resolve("", None) == ProvenVisitor(None, None, "anonymous")


def test_a_page_proves_nothing_by_itself() -> None:
    assert page().resolve("u1", "d1") == ProvenVisitor(None, None, "unproven")
    assert page().resolve("u1", None) == ProvenVisitor(None, None, "unproven")
    assert page().resolve(None, "d1") == ProvenVisitor(None, None, "unproven")
    assert page().resolve(None, None) == ProvenVisitor(None, None, "anonymous")
    assert page().resolve("", "") == ProvenVisitor(None, None, "anonymous")


def test_a_signed_client_id_proves_itself_and_no_customer() -> None:
    caller = page()
    client = caller.new_client_id()
    assert caller.resolve(None, client) == ProvenVisitor(None, client, "anonymous")
    assert caller.resolve("u1", client) == ProvenVisitor(None, client, "unproven")


def test_a_token_proves_its_customer_alone() -> None:
    caller = page(token=sign(sub="u1"))
    client = caller.new_client_id()
    assert caller.resolve("u1", client) == ProvenVisitor("u1", client, "proven")
    assert caller.resolve("u1", "d1") == ProvenVisitor("u1", None, "proven")
    assert caller.resolve("u2", client) == ProvenVisitor(None, client, "unproven")
    assert caller.resolve("U1", None) == ProvenVisitor(None, None, "unproven")
    assert caller.resolve(None, client) == ProvenVisitor(None, client, "anonymous"), "it names nobody by itself"


def test_a_token_proves_a_device_of_the_shop() -> None:
    caller = page(token=sign(client_id="d1"))
    assert caller.resolve(None, "d1") == ProvenVisitor(None, "d1", "anonymous")
    assert caller.resolve(None, "d2") == ProvenVisitor(None, None, "unproven")
    assert caller.resolve("u1", "d1") == ProvenVisitor(None, "d1", "unproven")


def test_a_token_of_one_device_is_worth_nothing_on_another() -> None:
    caller = page(token=sign(sub="u1", client_id="d1"))
    assert caller.resolve("u1", "d1") == ProvenVisitor("u1", "d1", "proven")
    other = caller.new_client_id()
    assert caller.resolve("u1", other) == ProvenVisitor(None, other, "unproven")
    assert caller.resolve("u1", "d2") == ProvenVisitor(None, None, "unproven")
    assert caller.resolve("u1", None) == ProvenVisitor(None, None, "unproven"), "nor where no device is named"


@pytest.mark.parametrize("token", ["x", sign(sub="u1", exp=1), sign(sub="u1", aud="x"), sign(sub="u1")[:-1], "é", "\0"])
def test_a_bad_token_proves_nothing_and_spoils_nothing(token: str) -> None:
    caller = page(token=token)
    assert caller.token_status not in (None, "valid")
    client = caller.new_client_id()
    assert caller.resolve("u1", client) == ProvenVisitor(None, client, "unproven")


def test_client_ids_of_the_shop_are_believed_where_it_says_so() -> None:
    caller = page(client_ids="any")
    assert caller.resolve("u1", "d1") == ProvenVisitor(None, "d1", "unproven")
    assert caller.resolve(None, "d1") == ProvenVisitor(None, "d1", "anonymous")


@pytest.mark.parametrize("caller", [SHOP, page(), page(client_ids="any")])
def test_no_word_makes_an_unproven_device_a_proven_one(caller: Caller) -> None:
    assert caller.resolve(None, "~d1") == ProvenVisitor(None, None, "unproven")


def test_a_part_of_a_request_has_a_token_of_its_own() -> None:
    caller = page(token=sign(sub="u1"))
    other = caller.with_token(sign(sub="u2"))
    assert other.resolve("u2", None).customer_id == "u2"
    assert other.resolve("u1", None).customer_id is None
    assert caller.resolve("u1", None).customer_id == "u1"
    for none in (None, ""):
        assert caller.with_token(none) is caller
    for wrong in ("x", 1, [], {"a": 1}, True):
        assert caller.with_token(wrong).resolve("u1", None).customer_id is None, "what is wrong does not fall back"
        assert caller.with_token(wrong).token == VisitorToken("malformed", why=ANY)


IDS = st.sampled_from([None, "", "u1", "u2", "d1", "d2", "~d1", PROOFS.client_ids.new()]) | st.text(max_size=8)


@examples(300)
@given(IDS, IDS, IDS, IDS)
def test_nobody_is_proven_but_by_the_token_or_the_signature(
    customer: str | None, client: str | None, sub: str | None, of_client: str | None
) -> None:
    claims = {name: value for name, value in (("sub", sub), ("client_id", of_client)) if value is not None}
    visitor = page_caller(PROOFS, sign(**claims)).resolve(customer, client)
    assert visitor.customer_id in (None, customer)
    assert visitor.client_id in (None, client)
    if visitor.customer_id is not None:
        assert visitor.customer_id == normalize_id(sub, "customer")
        assert normalize_id(of_client, "client") in (None, client)
    if visitor.client_id is not None:
        assert client == normalize_id(of_client, "client") or PROOFS.client_ids.is_signed(visitor.client_id)
        assert not visitor.client_id.startswith("~")
    assert (visitor.identity == "proven") == (visitor.customer_id is not None)
    whole = (customer or None, client or None) == visitor[:2]
    assert visitor.identity != "unproven" or not whole
    assert visitor.identity != "anonymous" or whole


def test_no_text_is_an_error() -> None:
    for text in ("\ud800", "a.b.\ud800", "é", "\0", "a.b.c" * 2000):
        assert page().with_token(text).resolve("u1", None).identity == "unproven"
