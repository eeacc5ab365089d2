"""A home keeps its secrets in files of its owner's; production makes none."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from models.errors import Invalid
from runtime.access.sealing import sealer_of
from runtime.access.secrets import jwt_secret_of, kept
from tests.kit.graphql import settings_of


def test_the_secrets_of_a_home_are_made_once_and_kept(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, jwt_secret=None, sealing_key=None)
    assert jwt_secret_of(settings) == jwt_secret_of(settings)
    envelope = sealer_of(settings).seal("a secret", UUID(int=1), "column")
    assert sealer_of(settings).open(envelope, UUID(int=1), "column") == "a secret"
    for name in ("jwt", "sealing"):
        assert (tmp_path / "secrets" / name).stat().st_mode & 0o077 == 0


def test_processes_that_start_together_agree_on_one_secret(tmp_path: Path) -> None:
    numbers = iter(range(100))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: kept(tmp_path / "jwt", lambda: str(next(numbers))), range(50)))
    assert len(set(found)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["jwt"]


def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        jwt_secret_of(settings_of(tmp_path, jwt_secret=SecretStr("changeme")))
    assert refused.value.path == "WEDSYNC_JWT_SECRET"


def test_production_makes_no_secrets(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, environment="production", jwt_secret=None, sealing_key=None)
    assert jwt_secret_of(settings) is None
    with pytest.raises(Invalid):
        sealer_of(settings)
    assert list(tmp_path.iterdir()) == []
