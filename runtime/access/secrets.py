"""The secrets of a home: those of the settings, or in development files in the home's folder, made on first use."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from models.errors import Invalid
from runtime.settings import Settings

FOLDER: Final = "secrets"
LEAST_SECRET_BYTES: Final = 32


def jwt_secret_of(settings: Settings) -> str | None:
    """The secret that tokens are signed with; None when only an identity provider's tokens are accepted.

    Raises `Invalid` for a secret that can be guessed.
    """
    if settings.jwt_secret is not None:
        secret = settings.jwt_secret.get_secret_value()
        if len(secret.encode()) < LEAST_SECRET_BYTES:
            hint = f"take at least {LEAST_SECRET_BYTES} bytes: `openssl rand -base64 48`"
            raise Invalid("the JWT secret is too short", hint=hint, path="WEDSYNC_JWT_SECRET")
        return secret
    if settings.is_production:
        return None
    return kept(settings.home / FOLDER / "jwt", lambda: secrets.token_urlsafe(48))


def kept(file: Path, make: Callable[[], str]) -> str:
    """The content of a file only its owner can read, made whole by whichever process comes first."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            written.write(make())
        with suppress(FileExistsError):
            os.link(draft, file)
        draft.unlink()
    return file.read_text().strip()
