"""Settings of visitor tokens and client ids: what is wrong is said, and no secret is repeated."""

import pytest

from features.common.errors import InputError
from serving.settings import read_settings

SECRET, OTHER = "first-" + "0123456789abcdef" * 2, "other-" + "0123456789abcdef" * 2
PUBLIC = "4nL7EU9AeQ6_cZCh5_YuGyhRjvKhnUFv0oHuUVOhMQ0"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("VISITOR_SECRETS", "guessable", "USUAL_VISITOR_SECRETS: secret 1 of 1 has 9 characters; use 32"),
        ("VISITOR_SECRETS", f"{SECRET}, {SECRET[:31]}", "secret 2 of 2 has 31 characters"),
        ("VISITOR_SECRETS", "geheimnis-ä" * 4, "secret 1 of 1 has a space or a character beyond ASCII"),
        ("VISITOR_SECRETS", "a secret of several words, as one thinks", "secret 1 of 2 has 25 characters"),
        ("VISITOR_SECRETS", ",".join(f"{SECRET}{n}" for n in range(9)), "has 9 secrets; keep 8 at most"),
        ("SERVER_SECRETS_BEFORE", "guessable", "USUAL_SERVER_SECRETS_BEFORE: secret 1 of 1 has 9 characters"),
        ("VISITOR_PUBLIC_KEYS", PUBLIC[:-1], "key 1 of 1 is no raw Ed25519 key.*usual token --new-key"),
        ("VISITOR_PUBLIC_KEYS", f"{PUBLIC},{PUBLIC[:-1]}1", "key 2 of 2 is no raw Ed25519 key"),
        ("VISITOR_PUBLIC_KEYS", f"{PUBLIC}=", "43 characters"),
        ("VISITOR_PUBLIC_KEYS", "-----BEGIN PUBLIC KEY-----", "43 characters"),
        ("VISITOR_TOKEN_HOURS", "0", "USUAL_VISITOR_TOKEN_HOURS"),
        ("VISITOR_TOKEN_HOURS", "nan", "USUAL_VISITOR_TOKEN_HOURS"),
        ("VISITOR_TOKEN_HOURS", "inf", "USUAL_VISITOR_TOKEN_HOURS"),
        ("CLIENT_IDS", "all", "USUAL_CLIENT_IDS"),
        ("PAGE_ORDERS", "believe", "USUAL_PAGE_ORDERS"),
    ],
)
def test_no_error_repeats_a_secret(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str) -> None:
    monkeypatch.setenv("USUAL_VISITOR_SECRETS", OTHER)
    monkeypatch.setenv(f"USUAL_{variable}", value)
    with pytest.raises(InputError, match=told) as error:
        read_settings()
    for part in (*value.split(","), OTHER):
        assert len(part) < 5 or part.strip() not in str(error.value)


def test_secrets_are_in_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_VISITOR_SECRETS", f"{SECRET},{OTHER}")
    monkeypatch.setenv("USUAL_SERVER_SECRETS_BEFORE", SECRET)
    settings = read_settings()
    assert [s.get_secret_value() for s in settings.visitor_secrets] == [SECRET, OTHER]
    dump = repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert not any(secret in dump for secret in (SECRET, OTHER))


def test_none_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISITOR_SECRETS", "VISITOR_PUBLIC_KEYS", "SERVER_SECRETS_BEFORE"):
        monkeypatch.setenv(f"USUAL_{name}", " , ")
    settings = read_settings()
    assert (settings.visitor_secrets, settings.visitor_public_keys, settings.server_secrets_before) == ((), (), ())
    assert (settings.visitor_token_hours, settings.client_ids, settings.page_orders) == (24, "signed", "claims")
