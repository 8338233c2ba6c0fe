"""`usual token`: what it signs is believed, and what is wrong is said with what to do."""

import json
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from features.common.errors import InputError
from serving.identity.signing import PRIVATE_KEY, new_key_pair, new_secret
from usual.cli import app

SECRET, OTHER = "first-" + "0123456789abcdef" * 2, "other-" + "0123456789abcdef" * 2


def run(*arguments: str, stdin: str | None = None, **environment: str | None) -> Result:
    env = {"USUAL_VISITOR_SECRETS": f"{SECRET},{OTHER}", PRIVATE_KEY: None, "USUAL_OPEN": None} | environment
    result = CliRunner().invoke(app, ["token", *arguments], input=stdin, env=env)
    if isinstance(result.exception, InputError):
        raise result.exception
    return result


def sign(*arguments: str, **environment: str) -> str:
    return run(*arguments, **environment).stdout.strip()


def check(token: str, **environment: str) -> dict[str, Any]:
    result = run("--check", "--json", stdin=token + "\n", **environment)
    answer: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if answer["status"] == "valid" else 1)
    return answer


@pytest.mark.parametrize(
    ("arguments", "customer", "client"),
    [
        (("--customer", "u1"), "u1", None),
        (("--client", "d1"), None, "d1"),
        (("--customer", " 17.0 ", "--client", "d1", "--hours", "2"), "17", "d1"),
    ],
)
def test_what_it_signs_is_believed(arguments: tuple[str, ...], customer: str | None, client: str | None) -> None:
    private, public = new_key_pair()
    keys = {"USUAL_VISITOR_PUBLIC_KEYS": public, "USUAL_VISITOR_SECRETS": ""}
    for signed, checked in (({}, {}), ({PRIVATE_KEY: private}, keys)):
        answer = check(sign(*arguments, **signed), **checked)
        assert (answer["status"], answer["customer_id"], answer["client_id"]) == ("valid", customer, client)


def test_it_signs_with_the_first_secret() -> None:
    token = sign("--customer", "u1")
    assert check(token, USUAL_VISITOR_SECRETS=SECRET)["status"] == "valid"
    assert check(token, USUAL_VISITOR_SECRETS=OTHER)["status"] == "bad_signature"


def test_what_it_makes_can_be_used() -> None:
    secret = json.loads(run("--new-secret", "--json").stdout)["secret"]
    assert len({secret, *(new_secret() for _ in range(50))}) == 51
    assert check(sign("--customer", "u1", USUAL_VISITOR_SECRETS=secret), USUAL_VISITOR_SECRETS=secret)
    pair = json.loads(run("--new-key", "--json").stdout)
    token = sign("--customer", "u1", **{PRIVATE_KEY: pair["private_key"]})
    assert check(token, USUAL_VISITOR_PUBLIC_KEYS=pair["public_key"])["status"] == "valid"
    assert check(token, USUAL_VISITOR_PUBLIC_KEYS=new_key_pair()[1])["status"] == "bad_signature"


@pytest.mark.parametrize(
    ("token", "environment", "told"),
    [
        ("", {}, ("malformed", "usual token --customer")),
        ("x" * 5000, {}, ("malformed", "4,096 characters")),
        ("a.b.c", {}, ("malformed", "no JWT")),
        ("a.b.c", {"USUAL_VISITOR_SECRETS": ""}, ("no_keys", "usual token --new-secret")),
        (None, {"USUAL_VISITOR_SECRETS": OTHER}, ("bad_signature", "USUAL_VISITOR_SECRETS")),
        (None, {"USUAL_VISITOR_TOKEN_HOURS": "0.2"}, ("lives_too_long", "USUAL_VISITOR_TOKEN_HOURS")),
    ],
)
def test_it_says_why_a_token_proves_nothing(
    token: str | None, environment: dict[str, str], told: tuple[str, ...]
) -> None:
    token = sign("--customer", "u1") if token is None else token
    result = run("--check", stdin=token, **environment)
    assert result.exit_code == 1
    assert all(text in result.stdout for text in told), result.stdout
    assert len(token) < 10 or token not in result.output


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        ((), {}, "say what to do"),
        (("--customer", "u1", "--check"), {}, "one thing only"),
        (("--new-key", "--new-secret"), {}, "one thing only"),
        (("--customer", "null"), {}, "--customer is 'null'"),
        (("--customer", "6.71E+12"), {}, "digits are lost"),
        (("--customer", "u" * 257), {}, "--customer has 257 characters"),
        (("--client", "~d1"), {}, "--client begins with ~"),
        (("--customer", "u1", "--hours", "25"), {}, "at most 24 hours"),
        (("--customer", "u1", "--hours", "0"), {}, "more than 0"),
        (("--customer", "u1", "--hours", "nan"), {}, "more than 0"),
        (("--customer", "u1"), {"USUAL_VISITOR_SECRETS": ""}, "usual token --new-secret"),
        (("--customer", "u1"), {PRIVATE_KEY: "not-a-key-but-somebody's-secret"}, "no raw Ed25519 key"),
    ],
)
def test_mistakes_are_told_with_what_to_do(arguments: tuple[str, ...], environment: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        run(*arguments, **environment)
    assert not any(secret in str(error.value) for secret in (SECRET, OTHER, "somebody's-secret"))
