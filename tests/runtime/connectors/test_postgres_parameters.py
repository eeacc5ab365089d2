"""Parameters in SQL are found where they are parameters, bound with the types PostgreSQL infers, and never pasted."""

import pytest

from models.errors import Invalid
from models.fields import Json, JsonObject
from runtime.connectors._contract import CursorRange, ReadRequest, Split
from runtime.connectors._postgres_parameters import parameter_names, with_parameters
from tests.runtime.connectors.postgres_place import Place


@pytest.fixture
def place(scratch: str) -> Place:
    return Place(scratch)


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("select :a, :b_2", {"a", "b_2"}),
        ("select x::date from t where y > :since::timestamptz", {"since"}),
        ("select ':no', '' || 'it''s :no', E'\\' :no', :yes", {"yes"}),
        ('select ":no" from "a"":no"', set()),
        ("select 1 -- :no\n, :yes", {"yes"}),
        ("select /* :no /* :no */ :no */ :yes", {"yes"}),
        ("select $$:no$$, $tag$ :no $$ :no $tag$, :yes", {"yes"}),
        ("select a[1:n], f(x := 1), b[:low]", {"low"}),
        ("select '12:30'::time, :x", {"x"}),
        ("select 1 /* never closed :no", set()),
    ],
)
def test_parameters_are_found_only_where_they_are_parameters(sql: str, names: set[str]) -> None:
    assert parameter_names(sql) == names


def test_a_parameter_without_a_value_is_named() -> None:
    with pytest.raises(Invalid, match=":until") as raised:
        with_parameters("select :since, :until", {"since": 1})
    assert raised.value.path == "parameters.until"
    assert raised.value.hint == "given: since"


@pytest.mark.parametrize(
    ("query", "value", "expected"),
    [
        ("select 7 = :v as r", 7, True),
        ("select 'x' || :v as r", "'; drop table t; --", "x'; drop table t; --"),
        ("select date '2024-05-01' = :v as r", "2024-05-01", True),
        ("select 2 = any(:v) as r", [1, 2, None], True),
        ("select 'a,\"b\\' = any(:v) as r", ['a,"b\\'], True),
        ("select :v::jsonb ->> 'k' as r", {"k": "v"}, "v"),
        ("select true = :v as r", True, True),
        ("select :v::int is null as r", None, True),
        ("select 1.25::numeric(5, 2) = :v as r", 1.25, True),
        ("select count(*) = 3 as r from generate_series(1, 10) as n where n <= :v", 3, True),
        ("select 3 in (:v, :v) as r", 3, True),
    ],
)
def test_values_are_bound_with_the_type_of_their_place(place: Place, query: str, value: Json, expected: object) -> None:
    assert place.read(query, {"v": value}).column("r").to_pylist() == [expected]


def test_a_list_where_one_value_belongs_is_refused(place: Place) -> None:
    with pytest.raises(Invalid, match="integer") as raised:
        place.read("select 1 where 1 = :v", {"v": [1, 2]})
    assert raised.value.path == "parameters.v"
    assert "ANY" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("parameters", "wrong", "kind"),
    [
        ({"n": 1, "day": "soon"}, "day", "date"),
        ({"n": "one", "day": "2026-07-04"}, "n", "bigint"),
        ({"n": 10**30, "day": "2026-07-04"}, "n", "bigint"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_named(place: Place, parameters: JsonObject, wrong: str, kind: str) -> None:
    with pytest.raises(Invalid) as raised:
        place.read("SELECT :n::int8 AS n, :day::date AS day", parameters)
    assert raised.value.message == f"the query's parameter :{wrong} is not of the type {kind}"
    assert (raised.value.path, bool(raised.value.hint)) == (f"parameters.{wrong}", True)
    assert str(parameters[wrong]) not in str(raised.value)


def test_a_filter_of_the_wrong_type_is_named(place: Place) -> None:
    place.execute("CREATE TABLE guests (id int8)")
    request = ReadRequest(dataset="guests", filters={"id": {">": "seven"}})
    with pytest.raises(Invalid, match=r"the value of filters\.id is not of the type bigint") as raised:
        place.source().read(request, Split(0)).read_all()
    assert raised.value.path == "filters.id"


def test_a_parameter_whose_type_cannot_be_told_asks_for_a_cast(place: Place) -> None:
    assert place.read("select :v as r", {"v": "x"}).column("r").to_pylist() == ["x"]
    with pytest.raises(Invalid, match=":v is not of the type integer") as caught:
        place.read("select 1 where 5 = :v", {"v": "wibble"})
    assert "cast" in str(caught.value.hint)


def test_last_run_is_bound_from_the_range(place: Place) -> None:
    request = ReadRequest(query="select :last_run::date as r", cursor=CursorRange("2024-01-01", "2024-02-01"))
    rows = place.source().read(request, Split(0)).read_all()
    assert str(rows.column("r")[0]) == "2024-01-01"
