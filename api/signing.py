"""Signs a token of a home, for whoever may read the home's secret."""

from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

from models.access import Role
from models.errors import Invalid
from runtime.access.principal import Principal
from runtime.access.secrets import jwt_secret_of
from runtime.access.tokens import Expected, issue
from runtime.settings import Settings

TOKEN_HOURS = 12.0


def signed(settings: Settings, role: Role, hours: float = TOKEN_HOURS) -> str:
    """A token for a person of that role, the same person each time; raises `Invalid` where the home signs none."""
    secret = jwt_secret_of(settings)
    if secret is None:
        hint = "take one of the identity provider and set WEDSYNC_TOKEN, or set WEDSYNC_JWT_SECRET"
        raise Invalid("this home signs no tokens", hint=hint, path="WEDSYNC_JWT_SECRET")
    person = Principal(uuid5(NAMESPACE_URL, f"wedsync:{role.value}"), role, f"{role.value}@localhost")
    expected = Expected(settings.jwt_audience, settings.jwt_issuer)
    return issue(secret, person, lifetime=timedelta(hours=hours), now=datetime.now(UTC), expected=expected)
