"""Where PostgreSQL is can be said in two ways, and never shows its password; kept connections grow old."""

import pytest

from models.errors import Invalid
from models.fields import JsonObject, parse
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors._postgres_pool import Keeping, Pool

URL = "postgresql://wed%40sync:s%2Fecret@db.example:5433/dem%20o?sslmode=require"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"url": URL}, {"host": "db.example", "port": "5433", "user": "wed@sync"}),
        ({"url": URL}, {"password": "s/ecret", "dbname": "dem o", "sslmode": "require"}),
        ({"url": URL, "password": "other", "user": "u"}, {"password": "other", "user": "u"}),
        ({"url": "postgres:///d?host=/run/pg"}, {"host": "/run/pg", "port": "5432", "dbname": "d"}),
        ({"url": "postgresql+asyncpg://h/d"}, {"host": "h", "dbname": "d"}),
        ({"host": "h", "database": "d", "port": 1, "sslmode": "verify-full"}, {"port": "1", "sslmode": "verify-full"}),
    ],
)  # fmt: skip
def test_a_place_is_said_by_url_or_by_parts(config: JsonObject, expected: dict[str, str]) -> None:
    parts = parse(PostgresConfig, config).parts
    assert expected.items() <= parts.items()


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({}, None),
        ({"host": "h"}, None),
        ({"url": URL, "host": "h"}, None),
        ({"url": "mysql://h/d"}, None),
        ({"url": "postgresql://h:port/d"}, None),
        ({"url": URL, "schema": ""}, "schema"),
        ({"url": URL, "statement_timeout_seconds": -1}, "statement_timeout_seconds"),
    ],
)
def test_a_place_that_is_not_one_is_refused(config: JsonObject, path: str | None) -> None:
    with pytest.raises(Invalid) as raised:
        parse(PostgresConfig, config)
    assert raised.value.path == path
    assert "s%2Fecret" not in str(raised.value)


def test_secrets_show_neither_in_print_nor_in_names() -> None:
    config = parse(PostgresConfig, {"url": URL, "password": "hush"})
    assert "s%2Fecret" not in repr(config)
    assert "hush" not in repr(config)
    assert config.place == "database 'dem o' at db.example:5433"


def test_quotes_in_a_password_reach_the_server_as_they_are() -> None:
    config = parse(PostgresConfig, {"host": "h", "database": "d", "password": "it's \\ here"})
    assert r"password='it\'s \\ here'" in config.conninfo


def test_kept_connections_are_reused_until_they_are_old_dead_or_too_many() -> None:
    now, closed, dead = [0.0], list[object](), set[object]()
    pool: Pool[list[int]] = Pool(closed.append, clock=lambda: now[0])
    keeping, made = Keeping(most=1, age=60), list[list[int]]()

    def make() -> list[int]:
        made.append([len(made)])
        return made[-1]

    def take() -> list[int]:
        return pool.take("k", keeping, make, lambda one: id(one) not in dead)

    first = take()
    second = take()
    pool.give("k", keeping, first)
    pool.give("k", keeping, second)
    assert closed == [second]
    assert take() is first
    pool.give("k", keeping, first)
    now[0] = 61.0
    third = take()
    assert third is not first
    pool.give("k", keeping, third)
    dead.add(id(third))
    fourth = take()
    assert fourth is not third
    pool.give("k", keeping, fourth)
    pool.forget("k")
    assert closed == [second, first, third, fourth]
