"""What is sealed opens only with its key, in its row and column."""

import base64
from uuid import UUID

import pytest

from models.errors import Invalid, Unavailable
from models.fields import Json
from runtime.access.sealing import Sealer

ROW = UUID(int=7)
OLD = "old:" + base64.b64encode(b"o" * 32).decode()
NEW = "new:" + base64.b64encode(b"n" * 32).decode()
SECRET: Json = {"host": "db", "password": "hunter2", "ports": [5432]}


def test_what_was_sealed_opens_as_it_was() -> None:
    sealer = Sealer.parse(NEW)
    envelope = sealer.seal(SECRET, ROW, "connection_config")
    assert sealer.open(envelope, ROW, "connection_config") == SECRET


def test_an_envelope_shows_nothing_and_is_never_twice_the_same() -> None:
    sealer = Sealer.parse(NEW)
    first, second = (sealer.seal(SECRET, ROW, "connection_config") for _ in range(2))
    assert first != second
    assert "hunter2" not in first.model_dump_json() + repr(sealer)


@pytest.mark.parametrize(
    ("row", "column"), [(UUID(int=8), "connection_config"), (ROW, "authentication_config")], ids=["row", "column"]
)
def test_an_envelope_moved_elsewhere_does_not_open(row: UUID, column: str) -> None:
    sealer = Sealer.parse(NEW)
    envelope = sealer.seal(SECRET, ROW, "connection_config")
    with pytest.raises(Invalid, match="belongs elsewhere"):
        sealer.open(envelope, row, column)


def test_a_changed_envelope_does_not_open() -> None:
    sealer = Sealer.parse(NEW)
    envelope = sealer.seal(SECRET, ROW, "c")
    turned = base64.b64encode(bytes(byte ^ 1 for byte in base64.b64decode(envelope.ciphertext))).decode()
    with pytest.raises(Invalid):
        sealer.open(envelope.model_copy(update={"ciphertext": turned}), ROW, "c")


def test_after_a_rotation_old_envelopes_open_and_new_ones_are_sealed_with_the_first_key() -> None:
    before = Sealer.parse(OLD).seal(SECRET, ROW, "c")
    rotated = Sealer.parse(f"{NEW},{OLD}")
    assert rotated.open(before, ROW, "c") == SECRET
    assert rotated.needs_resealing(before)
    assert rotated.seal(SECRET, ROW, "c").key_id == "new"


def test_without_its_key_an_envelope_says_which_one_is_missing() -> None:
    envelope = Sealer.parse(OLD).seal(SECRET, ROW, "c")
    with pytest.raises(Unavailable, match="old"):
        Sealer.parse(NEW).open(envelope, ROW, "c")


@pytest.mark.parametrize("text", ["", "abc", "a:%%%", "a:" + base64.b64encode(b"short").decode(), f"{NEW},{NEW}"])
def test_keys_that_cannot_be_used_are_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        Sealer.parse(text)
    assert refused.value.path == "WEDSYNC_SEALING_KEY"
    assert "openssl rand" in (refused.value.hint or "")
