"""The secrets of a home: those of the settings, or in development files in the home's folder, made on first use."""

import base64
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from models.errors import Invalid
from runtime.access.sealing import KEY_BYTES, Sealer
from runtime.settings import Settings

FOLDER: Final = "secrets"
LEAST_SECRET_BYTES: Final = 32


def jwt_secret(settings: Settings) -> str | None:
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
    return _kept(settings.home / FOLDER / "jwt", lambda: secrets.token_urlsafe(48))


def sealer(settings: Settings) -> Sealer:
    """What seals the configurations of sources and destinations."""
    if settings.sealing_key is not None:
        return Sealer.parse(settings.sealing_key.get_secret_value())
    if settings.is_production:
        raise Invalid("production needs a sealing key", hint="set it to `<id>:<base64>`", path="WEDSYNC_SEALING_KEY")
    return Sealer.parse(_kept(settings.home / FOLDER / "sealing", _new_key))


def _new_key() -> str:
    return f"home:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"


def _kept(file: Path, make: Callable[[], str]) -> str:
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
