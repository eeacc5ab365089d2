"""Signs people in: issues this home's tokens, and turns a token, ours or an identity provider's, into a principal."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import jwt
from jwt import PyJWK, PyJWKSet

from models.access import Role
from models.errors import Denied, Unauthenticated, Unavailable
from runtime.access.principal import Principal
from runtime.settings import Settings

SECRET_ALGORITHMS: Final = ("HS256",)
KEY_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")
LEEWAY_SECONDS: Final = 10
SUPABASE_ROLE: Final = "authenticated"
"""The top-level role of everyone whom Supabase signed in; the person's own role is then in `app_metadata`."""

JWKS_SECONDS: Final = 600.0
JWKS_PAUSE_SECONDS: Final = 30.0
JWKS_TIMEOUT_SECONDS: Final = 5.0
_HINT: Final = "get a new one: sign in again, or `wedsync token --role ROLE`"

Claims = Mapping[str, Any]
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The moment it is."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class SignIn:
    """Whom a token names, and until when."""

    principal: Principal
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say of itself: its audience and issuer, where they are set, and one of these algorithms."""

    audience: str | None = None
    issuer: str | None = None
    algorithms: tuple[str, ...] = SECRET_ALGORITHMS + KEY_ALGORITHMS


def expected_of(settings: Settings) -> Expected:
    """What the settings want a token to say."""
    if "jwt_algorithms" in settings.model_fields_set:
        return Expected(settings.jwt_audience, settings.jwt_issuer, settings.jwt_algorithms)
    return Expected(settings.jwt_audience, settings.jwt_issuer)


def issue(secret: str, principal: Principal, *, lifetime: timedelta, now: datetime, expected: Expected) -> str:
    """A token of this home for a principal, signed with HS256."""
    claims: dict[str, Any] = {**principal.claims, "iat": now, "exp": now + lifetime}
    if expected.audience is not None:
        claims["aud"] = expected.audience
    if expected.issuer is not None:
        claims["iss"] = expected.issuer
    return jwt.encode(claims, secret, algorithm=SECRET_ALGORITHMS[0])


class KeySet:
    """The public keys of an identity provider, read from its JWKS address and kept for ten minutes.

    An unknown key id makes it read again, at most every 30 s, so that forged ids cannot make us a burden.
    """

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Clock = utc_now) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._read_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def key(self, key_id: str | None) -> PyJWK:
        """The key of an id; raises `Unauthenticated` for an unknown one and `Unavailable` when none can be read."""
        if self._is_older_than(JWKS_SECONDS) or (key_id not in self._keys and self._is_older_than(JWKS_PAUSE_SECONDS)):
            await self._read()
        found = self._keys.get(key_id or "") or (next(iter(self._keys.values())) if self._is_only(key_id) else None)
        if found is None:
            raise Unauthenticated("the token is signed with an unknown key", hint=_HINT)
        return found

    def _is_only(self, key_id: str | None) -> bool:
        return key_id is None and len(self._keys) == 1

    def _is_older_than(self, seconds: float) -> bool:
        return self._read_at is None or self._clock() - self._read_at > timedelta(seconds=seconds)

    async def _read(self) -> None:
        before = self._read_at
        async with self._reading:
            if self._read_at is not before:
                return
            try:
                answer = await self._client.get(self._url, timeout=JWKS_TIMEOUT_SECONDS)
                keys = PyJWKSet.from_dict(answer.raise_for_status().json()).keys
            except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
                if self._keys:
                    self._read_at = self._clock()
                    return
                raise Unavailable(
                    "the keys that tokens are checked with cannot be read", hint="is WEDSYNC_JWKS_URL right and up?"
                ) from error
            self._keys = {key.key_id or "": key for key in keys if key.algorithm_name in KEY_ALGORITHMS}
            self._read_at = self._clock()


class Verifier:
    """Checks tokens: HS256 with the home's secret, asymmetric ones with the keys of a JWKS address."""

    def __init__(self, *, secret: str | None, keys: KeySet | None, expected: Expected, clock: Clock = utc_now) -> None:
        self._secret = secret
        self._keys = keys
        self._expected = expected
        self._clock = clock

    async def sign_in(self, token: str) -> SignIn:
        """Whom a token names.

        Raises `Unauthenticated` for one that is malformed, expired, forged or meant for others, and `Denied` for one
        without a role of ours.
        """
        try:
            header = jwt.get_unverified_header(token)
            claims = await self._claims(token, header)
            self._refuse_untimely(claims)
            user = UUID(str(claims["sub"]))
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired", hint=_HINT, code="token_expired") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated(f"the token is not accepted: {_reason(error)}", hint=_HINT) from error
        email = claims.get("email")
        principal = Principal(user, role_of(claims), email if isinstance(email, str) and email else None)
        return SignIn(principal, datetime.fromtimestamp(claims["exp"], UTC))

    async def _claims(self, token: str, header: Claims) -> Claims:
        algorithm = header.get("alg")
        if algorithm not in self._expected.algorithms:
            raise jwt.InvalidAlgorithmError(f"the algorithm {algorithm!r} is not accepted here")
        options: Any = {
            "require": ["exp", "sub"],
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "verify_aud": self._expected.audience is not None,
        }
        named = {"audience": self._expected.audience, "issuer": self._expected.issuer, "options": options}
        if algorithm in SECRET_ALGORITHMS and self._secret is not None:
            return jwt.decode(token, self._secret, algorithms=list(SECRET_ALGORITHMS), **named)
        if algorithm in KEY_ALGORITHMS and self._keys is not None:
            key = await self._keys.key(header.get("kid"))
            if key.algorithm_name != algorithm:
                raise jwt.InvalidAlgorithmError("its algorithm is not its key's")
            return jwt.decode(token, key, algorithms=[algorithm], **named)
        raise jwt.InvalidAlgorithmError(f"the algorithm {algorithm!r} is not accepted here")

    def _refuse_untimely(self, claims: Claims) -> None:
        """Check the moments against our own clock, which tests set."""
        now = self._clock().timestamp()
        expires, begins = claims["exp"], claims.get("nbf", claims.get("iat", 0))
        if not isinstance(expires, int | float) or not isinstance(begins, int | float):
            raise jwt.DecodeError("its moments are not numbers")
        if expires + LEEWAY_SECONDS <= now:
            raise jwt.ExpiredSignatureError("it has expired")
        if begins - LEEWAY_SECONDS > now:
            raise jwt.ImmatureSignatureError("it is not valid yet")


def role_of(claims: Claims) -> Role:
    """The role of a token: the top-level `role`, or `app_metadata.role` when that is absent or Supabase's own.

    `user_metadata` is never looked at: people write it themselves. Raises `Denied` for a role that is not ours.
    """
    named = claims.get("role")
    if named is None or named == SUPABASE_ROLE:
        metadata = claims.get("app_metadata")
        named = metadata.get("role") if isinstance(metadata, dict) else None
    try:
        return Role(str(named))
    except ValueError:
        roles = ", ".join(role.value for role in Role)
        raise Denied(
            "the token has no role here" if named is None else "the token's role is not known here",
            hint=f"`role` or `app_metadata.role` must be one of {roles}",
            code="unknown_role",
        ) from None


def _reason(error: Exception) -> str:
    match error:
        case jwt.InvalidSignatureError():
            return "its signature does not fit"
        case jwt.InvalidAudienceError():
            return "it is meant for another audience"
        case jwt.InvalidIssuerError():
            return "another issuer made it"
        case jwt.MissingRequiredClaimError():
            return f"it has no claim `{error.claim}`"
        case jwt.InvalidAlgorithmError() | jwt.ImmatureSignatureError():
            return str(error)
        case _:
            return "it is malformed"
