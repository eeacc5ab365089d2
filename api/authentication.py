"""Who sends a request: reads the bearer token and makes sure that rows may refer to the person it names."""

from collections import OrderedDict
from typing import Final
from uuid import UUID

import httpx
from sqlalchemy import text

from models.errors import Denied, Unauthenticated
from runtime.access.principal import Principal
from runtime.access.secrets import jwt_secret_of
from runtime.access.tokens import Clock, KeySet, SignIn, Verifier, expected_of, utc_now
from runtime.database import Database
from runtime.settings import Settings

KNOWN_USERS: Final = 10_000
_ENSURE = text("SELECT wedsync.ensure_user(:id, :email)")


class Authenticator:
    """Turns the `Authorization` of a request into a sign-in, for one process."""

    def __init__(self, verifier: Verifier, database: Database, client: httpx.AsyncClient | None = None) -> None:
        self._verifier = verifier
        self._database = database
        self._client = client
        self._entered: OrderedDict[tuple[UUID, str | None], None] = OrderedDict()

    @classmethod
    def of(cls, settings: Settings, database: Database, clock: Clock = utc_now) -> "Authenticator":
        """What the settings accept: tokens of this home, and of an identity provider where its address is set."""
        client = httpx.AsyncClient() if settings.jwks_url is not None else None
        keys = KeySet(settings.jwks_url, client, clock) if settings.jwks_url is not None and client else None
        secret, expected = jwt_secret_of(settings), expected_of(settings)
        verifier = Verifier(secret=secret, keys=keys, expected=expected, clock=clock)
        return cls(verifier, database, client)

    async def sign_in(self, authorization: str | None) -> SignIn | None:
        """The sign-in of an `Authorization` value; None when there is none.

        Raises `Unauthenticated` for a value that is not accepted and `Denied` for somebody without a role here.
        """
        if not authorization:
            return None
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("the Authorization header is not accepted", hint="send `Bearer <token>`")
        signed_in = await self._verifier.sign_in(token.strip())
        await self._enter(signed_in.principal)
        return signed_in

    async def _enter(self, principal: Principal) -> None:
        """Have PostgreSQL know the user, once for each in this process."""
        key = (principal.user_id, principal.email)
        if key in self._entered:
            self._entered.move_to_end(key)
            return
        async with self._database.transaction(principal) as session:
            known = await session.scalar(_ENSURE, {"id": principal.user_id, "email": principal.email})
        if not known:
            raise Denied("the token names a user who does not exist here", hint="sign up first", code="unknown_user")
        self._entered[key] = None
        if len(self._entered) > KNOWN_USERS:
            self._entered.popitem(last=False)

    async def close(self) -> None:
        """Close the connections to the identity provider."""
        if self._client is not None:
            await self._client.aclose()
