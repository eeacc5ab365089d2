"""The settings: what the environment may say, and what is told of it when it is wrong."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import environ
from pathlib import Path

import pytest
from pydantic import SecretStr

from models.errors import Invalid
from runtime.settings import Environment, Settings, asyncpg_url, variable_of

PRODUCTION = {
    "WEDSYNC_ENV": "production",
    "DATABASE_URL": "postgresql://wedsync_app:hush@db.example.org/wedsync",
    "WEDSYNC_SEALING_KEY": "first:" + "A" * 43 + "=",
    "WEDSYNC_JWT_SECRET": "x" * 40,
}


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """An environment with these settings alone."""
    names = {variable_of(field) for field in Settings.model_fields}
    before = dict(environ)
    for name in names:
        environ.pop(name, None)
    environ.update(variables)
    try:
        yield
    finally:
        environ.clear()
        environ.update(before)


def loaded(**variables: str) -> Settings:
    """What `Settings.load` makes of an environment."""
    with environment(variables):
        return Settings.load()


def test_an_empty_environment_is_a_home_in_this_folder_with_everything_embedded() -> None:
    settings = loaded()
    assert settings.home == Path(".wedsync")
    assert (settings.database_url, settings.redis_url, settings.ray_address) == (None, None, None)
    assert settings.host == "127.0.0.1"
    assert settings.allow_private_addresses


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert loaded(DATABASE_URL="").database_url is None


def test_settings_survive_the_way_into_a_child_process() -> None:
    settings = Settings(
        home=Path("/somewhere"),
        environment=Environment.PRODUCTION,
        database_url="postgresql+asyncpg://app@/wedsync?host=%2Ftmp%2Fpg",
        redis_url="unix:///tmp/socket",
        jwt_secret=SecretStr('a "quoted" secret'),
        jwt_algorithms=("RS256", "ES256"),
        sealing_key=SecretStr("k:v"),
        worker_slots=3,
        allow_private_addresses=True,
    )
    assert loaded(**settings.variables()) == settings


@pytest.mark.parametrize("name", ["DATABASE_URL", "WEDSYNC_SEALING_KEY", "WEDSYNC_JWT_SECRET"])
def test_production_names_what_is_missing(name: str) -> None:
    with pytest.raises(Invalid, match=name):
        loaded(**{key: value for key, value in PRODUCTION.items() if key != name})


def test_production_reaches_no_private_address_unless_told_to() -> None:
    assert not loaded(**PRODUCTION).allow_private_addresses
    assert loaded(**PRODUCTION, WEDSYNC_ALLOW_PRIVATE_ADDRESSES="true").allow_private_addresses


def test_bad_values_are_told_by_variable_and_never_repeated() -> None:
    with pytest.raises(Invalid) as caught:
        loaded(WEDSYNC_PORT="hush", DATABASE_URL="mysql://user:hush@host/db", WEDSYNC_ENV="prod")
    said = str(caught.value)
    assert "hush" not in said
    for expected in ("WEDSYNC_PORT", "DATABASE_URL: is not a PostgreSQL URL", "'development' or 'production'"):
        assert expected in said


def test_a_list_that_is_no_json_is_refused_with_the_remedy() -> None:
    with pytest.raises(Invalid, match="cors_origins") as caught:
        loaded(WEDSYNC_CORS_ORIGINS="https://example.org")
    assert "JSON" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://h:6543/d?sslmode=require", "postgresql+asyncpg://h:6543/d?ssl=require"),
        ("postgresql+asyncpg://u@/d?host=/tmp/pg", "postgresql+asyncpg://u@/d?host=%2Ftmp%2Fpg"),
    ],
)
def test_urls_of_other_tools_are_taken(given: str, taken: str) -> None:
    assert asyncpg_url(given) == taken


def test_secrets_do_not_show() -> None:
    settings = loaded(**PRODUCTION)
    assert "x" * 40 not in repr(settings)


def test_each_setting_says_what_it_is_for() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]
    assert silent == []
