"""Callers: who sent a request, and which of the visitors that they name they have proven to speak for.

A secret key, or a server without keys, speaks for the shop: everything is believed. A publishable key stands in every
page and proves nothing: there a visitor token counts, and a client id that the server has signed.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from serving import metrics
from serving.identity.client_ids import UNPROVEN, ClientIds
from serving.identity.tokens import TOKEN_STATUSES, TokenStatus, TokenVerifier, VisitorToken
from serving.settings import Settings

Identity = Literal["proven", "unproven", "anonymous"]
"""Whether a customer is proven; something was named that is not; or there is nobody to prove."""


class ProvenVisitor(NamedTuple):
    """Of the ids that a request or an event names, those that are proven; the others are None."""

    customer_id: str | None
    client_id: str | None
    identity: Identity


class VisitorProofs:
    """What proves visitors on this server. One for each process; threads may share it."""

    def __init__(self, settings: Settings) -> None:
        metrics.initialize_visitor_tokens(TOKEN_STATUSES)
        self.tokens = TokenVerifier(settings)
        self.client_ids = ClientIds(settings)
        self.any_client_id = settings.client_ids == "any"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the shop where `secret`, else a page, which may have sent a visitor token.

    Made by `shop_caller` and `page_caller`; the gateway puts it into `request.state.caller`.
    """

    secret: bool
    token: VisitorToken | None = None
    proofs: VisitorProofs | None = None

    @property
    def token_status(self) -> TokenStatus | None:
        """How it stands with the token that came; None: none did."""
        return None if self.token is None else self.token.status

    def resolve(self, customer_id: str | None, client_id: str | None) -> ProvenVisitor:
        """Return what is proven of these ids, which are normalised; what is not is None."""
        customer, client = customer_id or None, client_id or None
        if client is not None and client.startswith(UNPROVEN):
            proven_client = None
        elif self.secret:
            proven_client = client
        else:
            proven_client = client if client is not None and self._proves_client(client) else None
        proven_customer = customer if self.secret or self._proves_customer(customer, client) else None
        if proven_customer is not None:
            return ProvenVisitor(proven_customer, proven_client, "proven")
        nobody = customer is None and proven_client == client
        return ProvenVisitor(None, proven_client, "anonymous" if nobody else "unproven")

    def with_token(self, text: object) -> "Caller":
        """Return the caller of a part of the request that has a token of its own; None and "": it has none."""
        if self.proofs is None or text is None or text == "":
            return self
        if isinstance(text, str):
            token = self.proofs.tokens.verify(text)
        else:
            token = VisitorToken("malformed", why="it is no text")
        metrics.count_visitor_token(token.status)
        return Caller(self.secret, token, self.proofs)

    def new_client_id(self) -> str:
        """Make the id of another device, which every caller of this installation will have proven by naming it."""
        if self.proofs is None:
            raise RuntimeError("only a caller that came over HTTP gets client ids")
        return self.proofs.client_ids.new()

    def _proves_customer(self, customer: str | None, client: str | None) -> bool:
        token = self.token
        if customer is None or token is None or token.customer_id != customer:
            return False
        # A token of one device is worth nothing on another, nor where the device is not named.
        return token.client_id is None or token.client_id == client

    def _proves_client(self, client: str) -> bool:
        if self.token is not None and self.token.client_id == client:
            return True
        return self.proofs is not None and (self.proofs.any_client_id or self.proofs.client_ids.is_signed(client))


SHOP = Caller(secret=True)
"""The shop itself: the caller of what runs without HTTP."""


def shop_caller(proofs: VisitorProofs) -> Caller:
    """Return the caller with a secret key, or of a server without keys."""
    return Caller(True, None, proofs)


def page_caller(proofs: VisitorProofs, token: str | None = None) -> Caller:
    """Return the caller with a publishable key, and the visitor token that it sent."""
    return Caller(False, None, proofs).with_token(token)
