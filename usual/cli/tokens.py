"""The command that makes and checks visitor tokens, and the secrets and keys that sign them: token."""

import sys
from typing import Annotated

import typer

from usual.cli.options import Json, print_answer, print_note

app = typer.Typer()
PANEL = "Serving"

_REMEDIES = {
    "expired": "sign a new one for each page, or ask for one before it is over",
    "not_yet_valid": "compare the clocks of the two servers; they may differ by a minute",
    "lives_too_long": "sign it with an earlier exp, or set USUAL_VISITOR_TOKEN_HOURS on the server",
    "bad_signature": "sign it with one of the server's USUAL_VISITOR_SECRETS (HS256), or with the private key of one "
    "of its USUAL_VISITOR_PUBLIC_KEYS (EdDSA)",
    "malformed": "compare it with one that `usual token --customer ID` makes",
    "wrong_audience": 'sign it with "aud": "usual"',
    "no_keys": "set USUAL_VISITOR_SECRETS; make one with: usual token --new-secret",
}


@app.command(rich_help_panel=PANEL)
def token(
    customer: Annotated[str | None, typer.Option(help="The customer that the token proves.")] = None,
    client: Annotated[str | None, typer.Option(help="The device that it proves, or on which alone it holds.")] = None,
    hours: Annotated[float, typer.Option(help="How long it is valid.")] = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Read a token from stdin and say what it proves; exit code 1: nothing.")
    ] = False,
    secret: Annotated[
        bool, typer.Option("--new-secret", help="Make a secret for USUAL_VISITOR_SECRETS instead.")
    ] = False,
    key: Annotated[
        bool, typer.Option("--new-key", help="Make a pair of keys for signing without a shared secret instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Sign a visitor token as the shop's server does, with USUAL_VISITOR_PRIVATE_KEY or the first of _SECRETS."""
    from features.common.errors import InputError
    from serving.identity import signing
    from serving.settings import read_settings

    if sum((customer is not None or client is not None, check, secret, key)) != 1:
        raise InputError(
            "say what to do, and one thing only: --customer ID and/or --client ID signs a token, --check reads one, "
            "--new-secret and --new-key make what signs them"
        )
    if secret:
        value = signing.new_secret()
        print_answer({"secret": value}, as_json, value)
        print_note("put it into USUAL_VISITOR_SECRETS, of the server here and of the shop's; it is kept nowhere else")
    elif key:
        private, public = signing.new_key_pair()
        text = f"{signing.PRIVATE_KEY}={private}\nUSUAL_VISITOR_PUBLIC_KEYS={public}"
        print_answer({"private_key": private, "public_key": public}, as_json, text)
        print_note("the private key is for the shop's server alone; this one needs the public key only")
    elif check:
        _check(as_json)
    else:
        value = signing.sign_token(read_settings(), customer, client, hours)
        print_answer({"token": value}, as_json, value)


def _check(as_json: bool) -> None:
    from features.common.clock import SECOND, iso
    from serving.identity.tokens import TokenVerifier
    from serving.settings import read_settings

    # Not an argument: those of a running command can be read by every user of the machine.
    result = TokenVerifier(read_settings()).verify(sys.stdin.read().strip())
    if result.status == "valid":
        until = iso(int(result.expires_at) * SECOND)
        who = " on ".join(
            f"{kind} {text!r}"
            for kind, text in (("customer", result.customer_id), ("device", result.client_id))
            if text is not None
        )
        answer = {"customer_id": result.customer_id, "client_id": result.client_id, "expires_at": until}
        print_answer({"status": "valid", **answer}, as_json, f"valid: proves {who} until {until}")
        return
    remedy = _REMEDIES[result.status]
    answer = {"status": result.status, "why": result.why, "remedy": remedy}
    print_answer(answer, as_json, f"{result.status}: {result.why}\n{remedy}")
    raise typer.Exit(1)
