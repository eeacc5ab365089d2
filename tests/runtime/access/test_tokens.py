"""Tokens name a principal with a role of ours, or are refused with a reason."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from jwt.algorithms import ECAlgorithm

from models.access import Role
from models.errors import Denied, Unauthenticated, Unavailable
from runtime.access.principal import Principal
from runtime.access.tokens import Expected, KeySet, Verifier, issue, role_of
from tests.kit.identities import ENGINEER

SECRET = "s" * 40
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def verifier(expected: Expected | None = None, now: datetime = NOW) -> Verifier:
    return Verifier(secret=SECRET, keys=None, expected=expected or Expected(), clock=lambda: now)


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    whole = {"sub": str(ENGINEER.user_id), "exp": NOW + HOUR, "role": "data_engineer", **claims}
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, secret, algorithm)


async def test_an_issued_token_names_its_principal_until_it_ends() -> None:
    expected = Expected("wedsync", "home")
    token = issue(SECRET, ENGINEER, lifetime=HOUR, now=NOW, expected=expected)
    found = await verifier(expected).sign_in(token)
    assert found.principal == ENGINEER
    assert found.expires_at == NOW + HOUR


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"role": "system_admin"}, Role.SYSTEM_ADMIN),
        ({"role": "authenticated", "app_metadata": {"role": "data_analyst"}}, Role.DATA_ANALYST),
        ({"app_metadata": {"role": "data_engineer"}}, Role.DATA_ENGINEER),
        ({"role": "data_analyst", "app_metadata": {"role": "system_admin"}}, Role.DATA_ANALYST),
    ],
)
def test_the_role_is_the_top_level_claim_or_that_of_app_metadata(claims: dict[str, Any], role: Role) -> None:
    assert role_of(claims) is role


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"role": "service_role"},
        {"role": "anon"},
        {"role": "authenticated"},
        {"role": "postgres", "app_metadata": {"role": "system_admin"}},
        {"user_metadata": {"role": "system_admin"}},
        {"role": ["system_admin"]},
        {"app_metadata": "system_admin"},
    ],
)
def test_a_role_that_is_not_ours_is_denied(claims: dict[str, Any]) -> None:
    with pytest.raises(Denied) as refused:
        role_of(claims)
    assert refused.value.specific_code == "unknown_role"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed(secret="x" * 40), "signature"),
        (signed(exp=None), "exp"),
        (signed(sub=None), "sub"),
        (signed(sub="nobody"), "malformed"),
        (signed(algorithm="HS512", secret="x" * 64), "algorithm"),
        (signed(nbf=NOW + HOUR), "not valid yet"),
        ("not.a.token", "malformed"),
        ("", "malformed"),
    ],
    ids=["forged", "endless", "nameless", "no-uuid", "algorithm", "early", "garbage", "empty"],
)
async def test_a_token_that_is_not_right_is_refused_with_the_reason(token: str, reason: str) -> None:
    with pytest.raises(Unauthenticated, match=reason):
        await verifier().sign_in(token)


async def test_an_unsigned_token_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="algorithm"):
        await verifier().sign_in(jwt.encode({"sub": str(ENGINEER.user_id), "exp": NOW + HOUR}, "", "none"))


async def test_an_expired_token_is_refused_after_the_leeway() -> None:
    token = issue(SECRET, ENGINEER, lifetime=HOUR, now=NOW, expected=Expected())
    assert await verifier(now=NOW + HOUR + timedelta(seconds=5)).sign_in(token)
    with pytest.raises(Unauthenticated) as refused:
        await verifier(now=NOW + HOUR + timedelta(seconds=10)).sign_in(token)
    assert refused.value.specific_code == "token_expired"


@pytest.mark.parametrize(("aud", "iss"), [("other", "home"), ("wedsync", "other"), (None, "home"), ("wedsync", None)])
async def test_a_token_for_another_audience_or_of_another_issuer_is_refused(aud: str | None, iss: str | None) -> None:
    with pytest.raises(Unauthenticated):
        await verifier(Expected("wedsync", "home")).sign_in(signed(aud=aud, iss=iss))


async def test_only_the_algorithms_of_the_settings_are_accepted() -> None:
    with pytest.raises(Unauthenticated, match="algorithm"):
        await verifier(Expected(algorithms=("RS256",))).sign_in(signed())


async def test_supabases_own_audience_needs_no_setting() -> None:
    token = signed(aud="authenticated", role="authenticated", app_metadata={"role": "data_engineer"})
    assert (await verifier().sign_in(token)).principal.role is Role.DATA_ENGINEER


class Provider:
    """An identity provider: its keys at an address, and how often they were read."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_up = True
        self.private = {"one": generate_private_key(SECP256R1())}

    def answer(self, _: httpx.Request) -> httpx.Response:
        self.reads += 1
        if not self.is_up:
            return httpx.Response(503)
        keys = [
            {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": name, "alg": "ES256"}
            for name, key in self.private.items()
        ]
        return httpx.Response(200, json={"keys": keys})

    def token(self, key: str, **header: str) -> str:
        claims = {"sub": str(ENGINEER.user_id), "exp": NOW + HOUR, "role": "data_engineer"}
        return jwt.encode(claims, self.private[key], "ES256", headers={"kid": key, **header})


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(provider.answer)) as made:
        yield made


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


async def test_an_identity_providers_keys_are_read_once_and_again_for_a_new_key(
    provider: Provider, client: httpx.AsyncClient
) -> None:
    clock = Clock()
    keys = KeySet("https://id.example/jwks", client, clock)
    checks = Verifier(secret=None, keys=keys, expected=Expected(), clock=clock)
    for _ in range(3):
        assert (await checks.sign_in(provider.token("one"))).principal.user_id == ENGINEER.user_id
    assert provider.reads == 1
    provider.private["two"] = generate_private_key(SECP256R1())
    clock.now += timedelta(seconds=31)
    assert await checks.sign_in(provider.token("two"))
    assert provider.reads == 2


async def test_forged_key_ids_do_not_make_us_read_more_often(provider: Provider, client: httpx.AsyncClient) -> None:
    clock = Clock()
    checks = Verifier(
        secret=None, keys=KeySet("https://id.example/jwks", client, clock), expected=Expected(), clock=clock
    )
    for number in range(5):
        with pytest.raises(Unauthenticated, match="unknown key"):
            await checks.sign_in(provider.token("one", kid=f"forged-{number}"))
    assert provider.reads == 1


async def test_known_keys_outlive_a_provider_that_is_away(provider: Provider, client: httpx.AsyncClient) -> None:
    clock = Clock()
    checks = Verifier(
        secret=None, keys=KeySet("https://id.example/jwks", client, clock), expected=Expected(), clock=clock
    )
    provider.is_up = False
    with pytest.raises(Unavailable):
        await checks.sign_in(provider.token("one"))
    provider.is_up = True
    assert await checks.sign_in(provider.token("one"))
    provider.is_up = False
    clock.now += timedelta(minutes=11)
    assert await checks.sign_in(provider.token("one"))


async def test_a_public_key_is_never_taken_for_a_secret(provider: Provider, client: httpx.AsyncClient) -> None:
    checks = Verifier(
        secret=None, keys=KeySet("https://id.example/jwks", client), expected=Expected(), clock=lambda: NOW
    )
    with pytest.raises(Unauthenticated, match="algorithm"):
        await checks.sign_in(signed(secret="p" * 40))


def test_the_claims_of_a_transaction_hold_the_normalised_role() -> None:
    principal = Principal(ENGINEER.user_id, Role.DATA_ANALYST, "a@b.c")
    assert principal.claims == {"sub": str(ENGINEER.user_id), "role": "data_analyst", "email": "a@b.c"}
