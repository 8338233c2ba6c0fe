"""Visitor tokens: what the shop's server has signed proves somebody, and nothing else does."""

import base64
import hmac
import json
import string
import threading
import time
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from serving.identity import tokens
from serving.identity.tokens import TokenVerifier, VisitorToken
from serving.settings import Settings
from tests.features.shop import examples

SECRET, NEXT = "first-" + "0123456789abcdef" * 2, "second-" + "0123456789abcdef" * 2
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_RAW = PRIVATE.public_key().public_bytes_raw()
PUBLIC = base64.urlsafe_b64encode(PUBLIC_RAW).decode().rstrip("=")
LETTERS = string.ascii_letters + string.digits + "-_"


def claims(**changes: Any) -> dict[str, Any]:
    content = {"aud": "usual", "exp": int(time.time()) + 600, "sub": "u1"} | changes
    return {name: value for name, value in content.items() if value is not ...}


def sign(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers=headers)


def sign_raw(header: object, payload: object, key: bytes = SECRET.encode()) -> str:
    """Sign with HMAC whatever a header and a payload are, as no library would."""
    head, body = (_encode(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload))
    return f"{head}.{body}.{_encode(hmac.digest(key, f'{head}.{body}'.encode(), 'sha256'))}"


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def verifier(**settings: Any) -> TokenVerifier:
    return TokenVerifier(Settings.model_validate({"open": False, "visitor_secrets": SECRET, **settings}))


BOTH = verifier(visitor_public_keys=PUBLIC)


@pytest.mark.parametrize(("key", "algorithm"), [(SECRET, "HS256"), (PRIVATE, "EdDSA")])
def test_what_the_shop_has_signed_proves_a_customer_a_device_or_both(key: Any, algorithm: str) -> None:
    for customer, client in (("u1", ...), (..., "d1"), ("u1", "d1")):
        token = BOTH.verify(sign(key, algorithm, sub=customer, client_id=client))
        assert token.status == "valid", token
        assert (token.customer_id or ..., token.client_id or ...) == (customer, client)


@pytest.mark.parametrize(("key", "algorithm"), [(SECRET, "HS256"), (PRIVATE, "EdDSA")])
def test_no_altered_token_proves_anything(key: Any, algorithm: str) -> None:
    text = sign(key, algorithm)
    assert BOTH.verify(text).status == "valid"
    altered = {text[:at] + letter + text[at + 1 :] for at in range(len(text)) for letter in "AQgw-_9z." if letter}
    altered |= {text[:-1] + letter for letter in LETTERS}  # of which several stand for the same bytes
    altered |= {text[:at] for at in range(len(text))} | {text[at:] for at in range(1, len(text))}
    altered |= {text + more for more in ("=", "==", "A", ".", ".A", " ", "\n", "\0", "é")} | {" " + text, text + text}
    for other in altered - {text}:
        assert BOTH.verify(other).status in ("bad_signature", "malformed"), other


@examples(200)
@given(st.text(max_size=200) | st.text(st.sampled_from(LETTERS + "."), max_size=200))
def test_whatever_somebody_makes_up_is_refused(text: str) -> None:
    assert BOTH.verify(text).status in ("malformed", "bad_signature")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda of: st.lists(of, max_size=2)
)


@examples(200)
@given(
    st.dictionaries(st.sampled_from(["aud", "exp", "sub", "client_id", "nbf", "iat", "iss", "jti"]), JSON), st.data()
)
def test_whatever_the_shop_signs_is_read_or_refused(odd: dict[str, Any], data: st.DataObject) -> None:
    """A mistake in the shop's code is no error of the server, and never proves somebody it does not name."""
    content = claims(**{name: value for name, value in odd.items() if data.draw(st.booleans())})
    token = BOTH.verify(sign_raw({"alg": "HS256", "typ": "JWT"}, content))
    if token.status == "valid":
        assert token.customer_id or token.client_id
        assert token.customer_id is None or token.customer_id == str(content["sub"]).strip() or "sub" in odd
    else:
        assert (token.customer_id, token.client_id) == (None, None)
        assert token.why


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": "None"}, {"alg": "NONE"}, {"alg": ""}, {"alg": None}, {"alg": ["HS256"]}, {},
        {"alg": "HS256", "crit": ["exp"]}, {"alg": "HS256", "b64": False, "crit": ["b64"]},
        {"alg": "HS256", "kid": 1}, {"alg": "HS384"}, {"alg": "HS512"}, {"alg": "RS256"}, {"alg": "ES256"},
        {"alg": "hs256"}, {"alg": "HS256 "}, {"alg": "EdDSA"}, {"alg": "Ed25519"}, [], "x", 1, None, b"{", b"\xff",
        b"[" * 3000, b'{"alg":"HS256","alg":"none"}',
    ],
)  # fmt: skip
def test_no_header_talks_its_way_in(header: object) -> None:
    """The right secret, and a header that says something else: the algorithm is that of the key."""
    token = BOTH.verify(sign_raw(header, claims()))
    assert token.status in ("bad_signature", "malformed"), token


def test_a_token_without_a_signature_proves_nothing() -> None:
    text = sign_raw({"alg": "none"}, claims())
    for other in (text.rpartition(".")[0] + ".", text.rpartition(".")[0], jwt.encode(claims(), None, "none")):
        assert BOTH.verify(other).status == "malformed"


def test_the_public_key_is_no_secret() -> None:
    """Everybody may know it: signing by HMAC with its bytes, in any form, proves nothing."""
    for key in (PUBLIC_RAW, PUBLIC.encode(), PUBLIC.encode() + b"=", PUBLIC_RAW.hex().encode()):
        for target in (BOTH, verifier(visitor_secrets="", visitor_public_keys=PUBLIC)):
            for algorithm in ("HS256", "EdDSA"):
                assert target.verify(sign_raw({"alg": algorithm}, claims(), key)).status == "bad_signature"


@pytest.mark.parametrize("extra", [
    {"kid": "../../dev/null"}, {"kid": "' OR 1=1"}, {"jku": "https://evil.example/jwks"}, {"x5u": "http://evil.example"},
    {"jwk": {"kty": "oct", "k": _encode(b"k" * 32)}}, {"x5c": ["AAAA"]},
])  # fmt: skip
def test_a_header_does_not_choose_the_key(extra: dict[str, Any]) -> None:
    for key in (b"k" * 32, b"", b"\0" * 32):
        assert BOTH.verify(sign_raw({"alg": "HS256", **extra}, claims(), key)).status == "bad_signature"
    assert BOTH.verify(sign_raw({"alg": "HS256", **extra}, claims())).status == "valid", "nor spoils the right one"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"exp": -3600}, "expired"),
        ({"exp": -61}, "expired"),
        ({"exp": -30}, "valid"),  # clocks differ
        ({"exp": 24 * 3600 + 30}, "valid"),
        ({"exp": 24 * 3600 + 120}, "lives_too_long"),
        ({"exp": 10**15}, "lives_too_long"),
        ({"exp": 600, "nbf": 120}, "not_yet_valid"),
        ({"exp": 600, "nbf": 30}, "valid"),
        ({"exp": 600, "iat": 120}, "not_yet_valid"),
        ({"exp": 600, "iat": -600}, "valid"),
    ],
)
def test_a_token_is_valid_for_a_time(changes: dict[str, int], status: str) -> None:
    times = {name: int(time.time()) + seconds for name, seconds in changes.items()}
    assert BOTH.verify(sign(**times)).status == status


def test_how_long_it_may_live_is_a_setting() -> None:
    text = sign(exp=int(time.time()) + 3600)
    assert verifier(visitor_token_hours=0.5).verify(text).status == "lives_too_long"
    assert verifier(visitor_token_hours=2).verify(text).status == "valid"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"aud": "another"}, "wrong_audience"),
        ({"aud": ["another", "USUAL"]}, "wrong_audience"),
        ({"aud": ...}, "wrong_audience"),
        ({"aud": ["another", "usual"]}, "valid"),
        ({"exp": ...}, "malformed"),
        ({"exp": "soon"}, "malformed"),
        ({"sub": ...}, "malformed"),
        ({"sub": "null"}, "malformed"),
        ({"sub": ""}, "malformed"),
        ({"sub": ["u1"]}, "malformed"),
        ({"sub": True}, "malformed"),
        ({"sub": 1.5}, "malformed"),
        ({"sub": "6.71E+12"}, "malformed"),
        ({"sub": "u" * 257}, "malformed"),
        ({"sub": "u\0v"}, "malformed"),
        ({"sub": ..., "client_id": "~d1"}, "malformed"),
    ],
)
def test_what_it_must_say(changes: dict[str, Any], status: str) -> None:
    content = claims(**changes)
    assert BOTH.verify(sign_raw({"alg": "HS256"}, content)).status == status


@pytest.mark.parametrize(("sub", "customer"), [(17, "17"), ("17", "17"), (" u1 ", "u1"), ("Zoe\u0308", "Zo\u00eb")])
def test_ids_are_those_of_bodies(sub: Any, customer: str) -> None:
    assert BOTH.verify(sign_raw({"alg": "HS256"}, claims(sub=sub))).customer_id == customer


def test_secrets_are_rotated() -> None:
    old, new = sign(SECRET), sign(NEXT)
    assert [verifier().verify(t).status for t in (old, new)] == ["valid", "bad_signature"]
    assert [verifier(visitor_secrets=f"{NEXT},{SECRET}").verify(t).status for t in (old, new)] == ["valid", "valid"]
    assert [verifier(visitor_secrets=NEXT).verify(t).status for t in (old, new)] == ["bad_signature", "valid"]


def test_without_keys_a_token_proves_nothing() -> None:
    assert verifier(visitor_secrets="", open=False).verify(sign()).status == "no_keys"


def test_a_huge_token_is_not_read() -> None:
    assert BOTH.verify(sign(more="x" * 4096)).status == "malformed"


def test_a_cached_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    target, text = verifier(), sign()
    assert target.verify(text).status == "valid"
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("it is cached"))
    assert target.verify(text) == target.verify(text)
    later = time.time() + 600 + 61
    monkeypatch.undo()
    monkeypatch.setattr(tokens.time, "time", lambda: later)
    with target._lock:
        assert len(target._cache) == 1
    target.verify(text)  # PyJWT has a clock of its own, so only the cache is looked at here
    monkeypatch.undo()
    short = sign(exp=int(time.time()) - tokens.LEEWAY_S + 2)
    assert target.verify(short).status == "valid"
    time.sleep(2.1)
    assert target.verify(short).status == "expired", "though it was cached"
    assert target.verify(short).status == "expired"


def test_the_cache_is_bounded_and_holds_valid_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MAX_CACHED", 3)
    target = verifier()
    texts = [sign(sub=f"u{n}") for n in range(5)]
    assert [target.verify(text).customer_id for text in texts * 2] == [f"u{n}" for n in range(5)] * 2
    for text in (sign(NEXT), sign(aud="x"), sign(exp=1), "x", ""):
        assert target.verify(text).status != "valid"
    assert len(target._cache) == 3
    assert all(isinstance(key, bytes) and len(key) == sha256().digest_size for key in target._cache), "no token is kept"


def test_threads_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MAX_CACHED", 2)
    target, texts, wrong = verifier(), [sign(sub=f"u{n}") for n in range(6)], list[VisitorToken]()

    def verify_all() -> None:
        for n, text in enumerate(texts * 30):
            if (token := target.verify(text)).customer_id != f"u{n % 6}":
                wrong.append(token)

    threads = [threading.Thread(target=verify_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr("jwt.algorithms.hmac.compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    assert verifier().verify(sign()).status == "valid"
    assert compared
