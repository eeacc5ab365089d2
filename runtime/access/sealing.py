"""Seals secrets at rest: AES-256-GCM under a data key that a named key wraps, bound to their row and column."""

import base64
import binascii
import os
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from models.errors import Invalid, Unavailable
from models.fields import Envelope, Json
from runtime.access.secrets import FOLDER, kept
from runtime.settings import Settings

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SETTING: Final = "WEDSYNC_SEALING_KEY"
_WRAPPED_KEY: Final = b"wedsync data key"


class Sealer:
    """Seals with the first of its keys and opens what any of them sealed, so that keys can be rotated.

    A key is 32 bytes under an id of the operator's choice. Shows only ids when printed.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise Invalid("there is no sealing key", hint="set WEDSYNC_SEALING_KEY", path=SETTING)
        for key in keys.values():
            if len(key) != KEY_BYTES:
                hint = f"a sealing key is {KEY_BYTES} bytes in base64: `openssl rand -base64 {KEY_BYTES}`"
                raise Invalid(f"a sealing key has {len(key)} bytes", hint=hint, path=SETTING)
        self._keys = dict(keys)
        self._current = next(iter(self._keys))

    @classmethod
    def parse(cls, text: str) -> "Sealer":
        """A sealer of keys written as `id:base64`, comma-separated, the current one first; raises `Invalid`."""
        keys: dict[str, bytes] = {}
        for part in text.split(","):
            name, colon, encoded = part.strip().partition(":")
            if not colon or not name or name in keys:
                hint = f"write `<id>:<base64>` with distinct ids; `openssl rand -base64 {KEY_BYTES}` makes a key"
                raise Invalid("the sealing keys cannot be read", hint=hint, path=SETTING)
            keys[name] = _key(encoded)
        return cls(keys)

    def __repr__(self) -> str:
        return f"Sealer({', '.join(self._keys)})"

    @property
    def current(self) -> str:
        """The id of the key that seals."""
        return self._current

    def seal(self, value: Json, row: UUID, column: str) -> Envelope:
        """Seal a JSON value as the content of `column` of `row`; it opens nowhere else."""
        data_key = AESGCM.generate_key(bit_length=8 * KEY_BYTES)
        wrap_nonce, nonce = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
        wrapped = AESGCM(self._keys[self._current]).encrypt(wrap_nonce, data_key, _WRAPPED_KEY)
        sealed = AESGCM(data_key).encrypt(nonce, orjson.dumps(value), _place(row, column))
        return Envelope(
            key_id=self._current,
            nonce=_text(nonce),
            ciphertext=_text(sealed),
            wrapped_key=_text(wrap_nonce + wrapped),
        )

    def open(self, envelope: Envelope, row: UUID, column: str) -> Json:
        """Open what `seal` made for the same row and column.

        Raises `Unavailable` when the key is not among ours and `Invalid` when the envelope was changed or moved.
        """
        key = self._keys.get(envelope.key_id)
        if key is None:
            hint = "add the key it was sealed with to WEDSYNC_SEALING_KEY, after the current one"
            raise Unavailable(f"the secret was sealed with the unknown key {envelope.key_id}", hint=hint, path=column)
        try:
            wrapped = _decoded(envelope.wrapped_key or "")
            data_key = AESGCM(key).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _WRAPPED_KEY)
            nonce, sealed = _decoded(envelope.nonce), _decoded(envelope.ciphertext)
            return _loaded(AESGCM(data_key).decrypt(nonce, sealed, _place(row, column)))
        except (InvalidTag, ValueError) as error:
            hint = "enter the configuration again"
            raise Invalid("the sealed secret was changed or belongs elsewhere", hint=hint, path=column) from error

    def needs_resealing(self, envelope: Envelope) -> bool:
        """Whether an older key than the current one sealed it."""
        return envelope.key_id != self._current


def sealer_of(settings: Settings) -> Sealer:
    """The sealer of the settings' keys; in development, where none are set, of a key kept in the home."""
    if settings.sealing_key is not None:
        return Sealer.parse(settings.sealing_key.get_secret_value())
    if settings.is_production:
        raise Invalid("production needs a sealing key", hint="set it to `<id>:<base64>`", path=SETTING)
    return Sealer.parse(kept(settings.home / FOLDER / "sealing", _new_key))


def _new_key() -> str:
    return f"home:{_text(os.urandom(KEY_BYTES))}"


def _place(row: UUID, column: str) -> bytes:
    return row.bytes + column.encode()


def _loaded(data: bytes) -> Json:
    value: Json = orjson.loads(data)
    return value


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _key(text: str) -> bytes:
    try:
        return _decoded(text)
    except binascii.Error as error:
        hint = f"`openssl rand -base64 {KEY_BYTES}` makes a key"
        raise Invalid("a sealing key is not base64", hint=hint, path=SETTING) from error
