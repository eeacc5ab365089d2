"""The suites that every source and every destination passes, each told how to use one by a small harness class.

A connector's test module subclasses `SourceContract` or `DestinationContract` and gives a fixture `harness`.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from typing import ClassVar, TypeAlias
from uuid import UUID, uuid4

import pyarrow as pa
import pytest

from models.base import StrictModel
from models.destinations import WriteMode
from models.errors import DomainError, Invalid, NotFound, Retryable, RunError, Terminal
from models.fields import Json, JsonObject, parse
from runtime.connectors._contract import (
    CURSOR_MOVED,
    DESTINATIONS,
    SOURCES,
    CursorMove,
    CursorRange,
    Destination,
    LoadCounts,
    ReadRequest,
    Receipt,
    Restorable,
    RunKey,
    Source,
    Split,
    Target,
)
from tests.kit.contracts.connector_rows import by_id, nested_rows, null_rows, rows

DATASET = "guests"

OpenSource: TypeAlias = Callable[[], Source[StrictModel]]


class SourceHarness(ABC):
    """What the suite must know of one source.

    `divides` says that a read of `rows_to_divide` rows has several splits.
    """

    kind: ClassVar[str]
    divides: ClassVar[bool] = False
    rows_to_divide: ClassVar[int] = 100

    @abstractmethod
    def config(self) -> JsonObject:
        """A good configuration."""

    @abstractmethod
    def put(self, rows: pa.Table) -> None:
        """Make the dataset `guests` of these rows and this schema, in place of what there was."""

    @abstractmethod
    def add(self, rows: pa.Table) -> None:
        """Add rows to the dataset."""

    @abstractmethod
    def bad_configs(self) -> Mapping[str, JsonObject]:
        """Bad configurations, each by the path that its error names."""

    def request(self) -> ReadRequest:
        """How to ask for the dataset."""
        return ReadRequest(dataset=DATASET)


class DestinationHarness(ABC):
    """What the suite must know of one destination. `nested` says that structs and lists can be kept."""

    kind: ClassVar[str]
    nested: ClassVar[bool] = False

    @abstractmethod
    def config(self) -> JsonObject:
        """A good configuration."""

    @abstractmethod
    def read(self, table: str) -> pa.Table | None:
        """What is in a table now, by other means than the destination; None when there is none."""

    @abstractmethod
    def bad_configs(self) -> Mapping[str, JsonObject]:
        """Bad configurations, each by the path that its error names."""


def read_all(source: Source[StrictModel], request: ReadRequest, count: int = 1) -> pa.Table:
    """Every row of a request, in `count` splits at most."""
    readers = [source.read(request, split) for split in source.split(request, count)]
    return pa.concat_tables([reader.read_all() for reader in readers])


def read_elsewhere(kind: str, config: JsonObject, request: ReadRequest, split: Split) -> pa.Table:
    """Read one split in a process that knows the source by its kind and configuration alone."""
    plugin = SOURCES.get(kind)
    source = plugin(parse(plugin.Config, config))
    try:
        return source.read(request, split).read_all()
    finally:
        source.close()


class SourceContract:
    """What holds for every source."""

    @pytest.fixture
    def opened(self, harness: SourceHarness) -> Iterator[OpenSource]:
        """Opens the source as it is configured now; every one is closed, twice."""
        plugin, sources = SOURCES.get(harness.kind), list[Source[StrictModel]]()

        def open_source() -> Source[StrictModel]:
            sources.append(plugin(parse(plugin.Config, harness.config())))
            return sources[-1]

        yield open_source
        for source in [*sources, *sources]:
            source.close()

    def test_a_check_says_what_was_reached(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(rows(3))
        source = opened()
        health = source.check()
        assert health.ok
        assert health.message
        assert health.latency_ms >= 0

    def test_discovery_the_schema_and_the_rows_agree(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(rows(10))
        source = opened()
        schema = source.schema(harness.request())
        discovered = source.discover()[DATASET]
        read = read_all(source, harness.request())
        assert discovered.names == schema.names == read.schema.names
        assert discovered.types == schema.types == read.schema.types

    def test_every_type_comes_back_exactly(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(rows(20))
        source = opened()
        assert by_id(read_all(source, harness.request())).to_pylist() == rows(20).to_pylist()
        assert read_all(source, harness.request()).schema.types == rows(20).schema.types

    def test_nulls_come_back_as_nulls(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(null_rows(5))
        source = opened()
        assert by_id(read_all(source, harness.request())).to_pylist() == null_rows(5).to_pylist()

    def test_an_empty_dataset_has_a_schema_and_no_rows(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(rows(0))
        source = opened()
        read = read_all(source, harness.request())
        assert read.num_rows == 0
        assert read.schema.names == rows(0).schema.names

    def test_no_batch_is_larger_than_asked(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(rows(95))
        source = opened()
        request = replaced(harness.request(), batch_rows=10)
        sizes = [batch.num_rows for batch in source.read(request, source.split(request, 1)[0])]
        assert max(sizes) <= 10
        assert sum(sizes) == 95

    def test_splits_are_disjoint_and_complete(self, harness: SourceHarness, opened: OpenSource) -> None:
        count = harness.rows_to_divide
        harness.put(rows(count))
        source = opened()
        request = replaced(harness.request(), partition_column="id")
        splits = source.split(request, 4)
        parts = [source.read(request, split).read_all().column("id").to_pylist() for split in splits]
        assert 1 <= len(splits) <= 4
        assert len(splits) > 1 or not harness.divides
        assert sorted(one for part in parts for one in part) == list(range(count))

    def test_a_split_is_read_in_another_process(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(rows(20))
        source = opened()
        request = replaced(harness.request(), partition_column="id")
        splits = source.split(request, 2)
        with ProcessPoolExecutor(1, get_context("spawn")) as processes:
            reading = [
                processes.submit(read_elsewhere, harness.kind, harness.config(), request, split) for split in splits
            ]
            read = pa.concat_tables([one.result(timeout=60) for one in reading])
        assert by_id(read).to_pylist() == rows(20).to_pylist()

    @pytest.mark.parametrize("limit", [0, 1, 7, 100])
    def test_a_limit_caps_the_rows(self, harness: SourceHarness, opened: OpenSource, limit: int) -> None:
        harness.put(rows(20))
        source = opened()
        assert read_all(source, replaced(harness.request(), limit=limit), 4).num_rows == min(limit, 20)

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"id": 3}, [3]),
            ({"id": [1, 4, 99]}, [1, 4]),
            ({"id": {">=": 3, "<": 6}}, [3, 4, 5]),
            ({"id": {"!=": 0, "<=": 2}}, [1, 2]),
            ({"id": {">": 17}}, [18, 19]),
            ({"id": {"in": [5]}}, [5]),
            ({"name": "", "id": {"<": 5}}, [3]),
            ({"active": True, "id": {"<": 5}}, [0, 3]),
            ({"day": "2024-02-29", "id": {"<": 8}}, [0, 4]),
            ({"price": "0.10", "id": {"<": 8}}, [0, 4]),
        ],
    )
    def test_filters_choose_rows(
        self, harness: SourceHarness, opened: OpenSource, filters: dict[str, Json], expected: list[int]
    ) -> None:
        harness.put(rows(20))
        source = opened()
        read = read_all(source, replaced(harness.request(), filters=filters))
        assert sorted(read.column("id").to_pylist()) == expected

    def test_a_filter_on_a_column_that_is_not_there_is_refused(
        self, harness: SourceHarness, opened: OpenSource
    ) -> None:
        harness.put(rows(3))
        source = opened()
        with pytest.raises(DomainError, match="nonsense"):
            read_all(source, replaced(harness.request(), filters={"nonsense": 1}))

    def test_cursor_ranges_are_half_open(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(rows(20))
        source = opened()
        first = replaced(harness.request(), cursor=CursorRange(None, "10", "id"))
        second = replaced(harness.request(), cursor=CursorRange("10", "20", "id"))
        assert sorted(read_all(source, first).column("id").to_pylist()) == list(range(10))
        assert sorted(read_all(source, second).column("id").to_pylist()) == list(range(10, 20))

    def test_a_watermark_takes_all_rows_there_are_and_later_ones_only_later(
        self, harness: SourceHarness, opened: OpenSource
    ) -> None:
        harness.put(rows(10))
        source = opened()
        upper = source.watermark(harness.request(), "id")
        first = read_all(source, replaced(harness.request(), cursor=CursorRange(None, upper, "id")))
        harness.add(rows(5, start=10))
        source = opened()
        later = source.watermark(harness.request(), "id")
        second = read_all(source, replaced(harness.request(), cursor=CursorRange(upper, later, "id")))
        assert sorted(first.column("id").to_pylist()) == list(range(10))
        assert sorted(second.column("id").to_pylist()) == list(range(10, 15))

    def test_a_dataset_that_is_not_there_is_named(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(rows(1))
        source = opened()
        with pytest.raises(DomainError, match="no_such_thing") as raised:
            read_all(source, ReadRequest(dataset="no_such_thing"))
        assert raised.value.hint

    def test_a_bad_configuration_is_refused_with_its_path(self, harness: SourceHarness) -> None:
        refuse_bad_configs(SOURCES.get(harness.kind), harness.bad_configs())

    def test_the_configuration_has_a_json_schema(self, harness: SourceHarness) -> None:
        schema = SOURCES.get(harness.kind).Config.model_json_schema()
        assert schema["properties"]
        assert schema["additionalProperties"] is False


class NestedSourceContract(SourceContract):
    """What holds for a source whose rows may hold structs and lists."""

    def test_nested_values_come_back_exactly(self, harness: SourceHarness, opened: OpenSource) -> None:
        harness.put(nested_rows())
        source = opened()
        assert by_id(read_all(source, harness.request())).to_pylist() == nested_rows().to_pylist()


class DestinationContract:
    """What holds for every destination."""

    @pytest.fixture
    def destination(self, harness: DestinationHarness) -> Iterator[Destination[StrictModel]]:
        destination = self.opened(harness)
        yield destination
        destination.close()
        destination.close()

    def opened(self, harness: DestinationHarness) -> Destination[StrictModel]:
        plugin = DESTINATIONS.get(harness.kind)
        return plugin(parse(plugin.Config, harness.config()))

    def test_a_check_says_what_was_reached(self, destination: Destination[StrictModel]) -> None:
        assert destination.check().ok

    def test_every_type_is_kept_exactly(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        destination.load(target(WriteMode.APPEND), run(), rows(20).to_reader(), None)
        assert contents(harness) == rows(20).to_pylist()

    def test_nested_values_are_kept_where_they_can_be(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        if harness.nested:
            destination.load(target(WriteMode.APPEND), run(), nested_rows().to_reader(), None)
            assert contents(harness) == nested_rows().to_pylist()
        else:
            with pytest.raises(Terminal, match="venue"):
                destination.load(target(WriteMode.APPEND), run(), nested_rows().to_reader(), None)

    def test_appends_add_up_and_are_counted(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        first = destination.load(target(WriteMode.APPEND), run(), rows(10).to_reader(), None)
        second = destination.load(target(WriteMode.APPEND), run(), rows(5, 10).to_reader(), None)
        assert (first, second) == (LoadCounts(inserted=10), LoadCounts(inserted=5))
        assert contents(harness) == rows(15).to_pylist()

    def test_an_overwrite_replaces_all_rows_and_counts_those_that_went(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        destination.load(target(WriteMode.APPEND), run(), rows(10).to_reader(), None)
        counts = destination.load(target(WriteMode.OVERWRITE), run(), rows(3, 50).to_reader(), None)
        assert counts == LoadCounts(inserted=3, deleted=10)
        assert contents(harness) == rows(3, 50).to_pylist()

    def test_an_upsert_counts_new_and_changed_rows_apart(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        destination.load(upsert(), run(), rows(10).to_reader(), None)
        changed = renamed(rows(8, 6))
        counts = destination.load(upsert(), run(), changed.to_reader(), None)
        assert counts == LoadCounts(inserted=4, updated=4)
        assert contents(harness) == pa.concat_tables([rows(6), changed]).to_pylist()

    @pytest.mark.parametrize("mode", list(WriteMode))
    def test_a_load_of_nothing_changes_as_little(
        self, harness: DestinationHarness, destination: Destination[StrictModel], mode: WriteMode
    ) -> None:
        destination.load(upsert(), run(), rows(4).to_reader(), None)
        counts = destination.load(target(mode, "id"), run(), rows(0).to_reader(), None)
        gone = 4 if mode is WriteMode.OVERWRITE else 0
        assert counts == LoadCounts(deleted=gone)
        assert len(contents(harness)) == 4 - gone

    @pytest.mark.parametrize("mode", list(WriteMode))
    def test_a_commit_that_is_repeated_has_one_effect(self, harness: DestinationHarness, mode: WriteMode) -> None:
        key = run()
        first = self.opened(harness)
        receipts = landed(first, target(mode, "id"), key, [rows(5), rows(5, 5)])
        counts = first.commit(target(mode, "id"), key, receipts, CursorMove("c1"))
        first.close()
        later = self.opened(harness)
        successor = RunKey(key.pipeline_id, key.execution_id, key.step, generation=1)
        again = later.commit(target(mode, "id"), key, receipts, CursorMove("c1"))
        taken_over = later.commit(target(mode, "id"), successor, receipts, CursorMove("c1"))
        later.close()
        assert counts == again == taken_over == LoadCounts(inserted=10)
        assert contents(harness) == rows(10).to_pylist()

    @pytest.mark.parametrize("mode", list(WriteMode))
    def test_an_aborted_run_leaves_the_table_as_it_was(
        self, harness: DestinationHarness, destination: Destination[StrictModel], mode: WriteMode
    ) -> None:
        destination.load(upsert(), run(), rows(4).to_reader(), CursorMove("before"))
        key = run()
        landed(destination, target(mode, "id"), key, [rows(5, 2)])
        destination.abort(target(mode, "id"), key)
        destination.abort(target(mode, "id"), key)
        assert contents(harness) == rows(4).to_pylist()

    @pytest.mark.parametrize("mode", list(WriteMode))
    def test_a_load_that_fails_midway_leaves_the_table_as_it_was(
        self, harness: DestinationHarness, destination: Destination[StrictModel], mode: WriteMode
    ) -> None:
        destination.load(upsert(), run(), rows(4).to_reader(), CursorMove("before"))
        with pytest.raises(RunError, match="the source went away"):
            destination.load(target(mode, "id"), run(), failing(rows(500, 2)), None)
        assert contents(harness) == rows(4).to_pylist()
        assert destination.load(target(WriteMode.APPEND), run(), rows(2, 90).to_reader(), None).inserted == 2

    def test_partitions_written_in_parallel_appear_together(self, harness: DestinationHarness) -> None:
        key, parts = run(), [rows(30), rows(30, 30), rows(30, 60)]
        seen_before = self.opened(harness)
        seen_before.load(target(WriteMode.APPEND), run(), rows(2, 900).to_reader(), None)
        with ThreadPoolExecutor(3) as threads:
            landing = [threads.submit(self.land, harness, key, index, part) for index, part in enumerate(parts)]
            receipts = [one.result(timeout=60) for one in landing]
        assert contents(harness) == rows(2, 900).to_pylist()
        counts = seen_before.commit(target(WriteMode.APPEND), key, receipts, None)
        seen_before.close()
        assert counts == LoadCounts(inserted=90)
        assert contents(harness) == pa.concat_tables([rows(90), rows(2, 900)]).to_pylist()

    def land(self, harness: DestinationHarness, key: RunKey, index: int, part: pa.Table) -> Receipt:
        destination = self.opened(harness)
        try:
            destination.prepare(target(WriteMode.APPEND), part.schema, key)
            return destination.write(target(WriteMode.APPEND), key, index, part.to_reader())
        finally:
            destination.close()

    def test_a_partition_that_is_written_again_replaces_what_it_landed(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        key, plan = run(), target(WriteMode.APPEND)
        landed(destination, plan, key, [rows(7)])
        receipts = landed(destination, plan, key, [rows(5)])
        assert destination.commit(plan, key, receipts, None) == LoadCounts(inserted=5)
        assert contents(harness) == rows(5).to_pylist()

    def test_a_partition_that_failed_midway_can_be_written_again(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        key, plan = run(), target(WriteMode.APPEND)
        destination.prepare(plan, rows(0).schema, key)
        with pytest.raises(RunError, match="the source went away"):
            destination.write(plan, key, 0, failing(rows(500)))
        receipts = landed(destination, plan, key, [rows(5)])
        assert destination.commit(plan, key, receipts, None) == LoadCounts(inserted=5)
        assert contents(harness) == rows(5).to_pylist()

    @pytest.mark.parametrize(
        "loaded", [pa.concat_tables([rows(3), rows(1)]), null_rows(1).set_column(0, "id", pa.nulls(1, pa.int64()))]
    )
    def test_an_upsert_refuses_keys_that_are_null_or_there_twice(
        self, harness: DestinationHarness, destination: Destination[StrictModel], loaded: pa.Table
    ) -> None:
        destination.load(upsert(), run(), rows(4).to_reader(), None)
        with pytest.raises(Terminal, match="id") as raised:
            destination.load(upsert(), run(), loaded.to_reader(), None)
        assert raised.value.hint
        assert contents(harness) == rows(4).to_pylist()

    def test_columns_that_do_not_fit_are_named(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        destination.load(target(WriteMode.APPEND), run(), rows(4).to_reader(), None)
        wrong = pa.table({"id": [1], "day": [1.5], "unheard_of": ["x"]})
        with pytest.raises(Terminal, match="unheard_of") as raised:
            destination.fit(target(WriteMode.APPEND), wrong.schema)
        assert "day" in raised.value.message
        with pytest.raises(Terminal, match="unheard_of"):
            destination.load(target(WriteMode.APPEND), run(), wrong.to_reader(), None)
        assert contents(harness) == rows(4).to_pylist()

    def test_a_value_that_overflows_its_column_is_refused(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        small = pa.table({"id": pa.array([1], pa.int16())})
        destination.load(target(WriteMode.APPEND), run(), small.to_reader(), None)
        with pytest.raises(Terminal, match="id"):
            destination.load(target(WriteMode.APPEND), run(), pa.table({"id": [2, 70_000]}).to_reader(), None)
        assert contents(harness) == [{"id": 1}]

    def test_the_cursor_is_kept_with_the_rows(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        first, second = run(), run()
        destination.load(target(WriteMode.APPEND), first, rows(2).to_reader(), CursorMove("2024-01-01"))
        following, moved = RunKey(first.pipeline_id, uuid4(), first.step), CursorMove("2024-02-02", "2024-01-01")
        with pytest.raises(RunError):
            destination.load(target(WriteMode.APPEND), following, failing(rows(500)), moved)
        assert destination.cursor(first.pipeline_id, first.step) == "2024-01-01"
        assert destination.cursor(second.pipeline_id, second.step) is None
        destination.load(target(WriteMode.APPEND), following, rows(1, 2).to_reader(), moved)
        assert destination.cursor(first.pipeline_id, first.step) == "2024-02-02"

    @pytest.mark.parametrize("mode", list(WriteMode))
    def test_a_range_that_another_run_has_published_is_refused(
        self, harness: DestinationHarness, destination: Destination[StrictModel], mode: WriteMode
    ) -> None:
        first, plan = run(), target(mode, "id")
        late, other = (RunKey(first.pipeline_id, uuid4(), first.step) for _ in range(2))
        receipts = landed(destination, plan, late, [rows(3), rows(3, 3)])
        destination.load(plan, first, rows(5).to_reader(), CursorMove("2024-02-02"))
        for before in (None, "2024-01-01"):
            for attempt in (
                partial(destination.load, plan, other, rows(9).to_reader(), CursorMove("2024-01-31", before)),
                partial(destination.commit, plan, late, receipts, CursorMove("2024-03-03", before)),
            ):
                with pytest.raises(Retryable) as raised:
                    attempt()
                assert raised.value.specific_code == CURSOR_MOVED
        assert destination.cursor(first.pipeline_id, first.step) == "2024-02-02"
        assert contents(harness) == rows(5).to_pylist()
        destination.commit(plan, late, receipts, CursorMove("2024-03-03", "2024-02-02"))

    def test_of_two_runs_that_publish_one_range_at_once_one_is_refused(self, harness: DestinationHarness) -> None:
        first, plan, gate = run(), target(WriteMode.APPEND), threading.Barrier(2)

        def publish(number: int) -> str:
            destination = self.opened(harness)
            key = RunKey(first.pipeline_id, uuid4(), first.step)
            receipts = landed(destination, plan, key, [rows(10)])
            gate.wait(timeout=30)
            try:
                destination.commit(plan, key, receipts, CursorMove(f"c{number}"))
            except Retryable as error:
                return error.specific_code
            return "published"

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(publish, range(2))) == [CURSOR_MOVED, "published"]
        assert contents(harness) == rows(10).to_pylist()

    def test_discovery_shows_the_table(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        destination.load(target(WriteMode.APPEND), run(), rows(1).to_reader(), None)
        assert destination.discover()[DATASET].names == rows(1).schema.names

    def test_what_an_overwrite_replaced_can_be_restored(
        self, harness: DestinationHarness, destination: Destination[StrictModel]
    ) -> None:
        assert isinstance(destination, Restorable)
        plan = replace(target(WriteMode.OVERWRITE), backup={"enabled": True, "keep_versions": 2})
        runs = [run() for _ in range(3)]
        for number, key in enumerate(runs, 3):
            destination.load(plan, key, rows(number).to_reader(), CursorMove(f"c{number}"))
        newest, oldest = destination.versions(DATASET)
        assert (newest.rows, newest.replaced_by) == (4, runs[2].execution_id)
        assert newest.expires_at - newest.replaced_at == timedelta(days=7)
        assert [destination.restore(DATASET, oldest.version) for _ in range(2)] == [3, 3]
        assert contents(harness) == rows(3).to_pylist()
        assert destination.cursor(runs[2].pipeline_id, runs[2].step) == "c5"
        for unknown in (str(uuid4()), "999", "no version"):
            with pytest.raises(NotFound, match="no earlier version"):
                destination.restore(DATASET, unknown)

    def test_a_bad_configuration_is_refused_with_its_path(self, harness: DestinationHarness) -> None:
        refuse_bad_configs(DESTINATIONS.get(harness.kind), harness.bad_configs())

    def test_the_configuration_has_a_json_schema(self, harness: DestinationHarness) -> None:
        schema = DESTINATIONS.get(harness.kind).Config.model_json_schema()
        assert schema["properties"]
        assert schema["additionalProperties"] is False


def replaced(request: ReadRequest, **changes: object) -> ReadRequest:
    """The request with other values."""
    known = {name: getattr(request, name) for name in request.__dataclass_fields__}
    return ReadRequest(**{**known, **changes})


def refuse_bad_configs(
    plugin: type[Source[StrictModel]] | type[Destination[StrictModel]], configs: Mapping[str, JsonObject]
) -> None:
    """Each bad configuration is refused, when parsed, opened or checked, with its path and without its secrets."""
    assert configs
    for path, config in configs.items():
        with pytest.raises(Invalid) as raised:
            plugin(parse(plugin.Config, config)).check()
        assert raised.value.path == path


def target(mode: WriteMode, *keys: str) -> Target:
    """The table `guests`; keys are meant by an upsert alone."""
    return Target(DATASET, mode, key_columns=keys if mode is WriteMode.UPSERT else ())


def upsert() -> Target:
    """The table `guests`, by id."""
    return target(WriteMode.UPSERT, "id")


def run(pipeline: UUID | None = None) -> RunKey:
    """A run of its own."""
    return RunKey(pipeline or uuid4(), uuid4(), "load_guests")


def landed(
    destination: Destination[StrictModel], plan: Target, key: RunKey, parts: Sequence[pa.Table]
) -> list[Receipt]:
    """Prepare a run and write its partitions."""
    destination.prepare(plan, parts[0].schema, key)
    return [destination.write(plan, key, index, part.to_reader()) for index, part in enumerate(parts)]


def failing(table: pa.Table) -> pa.RecordBatchReader:
    """A stream of these rows, in small batches, that breaks before its end."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches(max_chunksize=50)
        raise Terminal("the source went away", hint="try again")

    return pa.RecordBatchReader.from_batches(table.schema, batches())


def renamed(table: pa.Table) -> pa.Table:
    """The rows under other names."""
    return table.set_column(1, "name", pa.array([f"renamed {at}" for at in range(table.num_rows)]))


def contents(harness: DestinationHarness) -> list[dict[str, object]]:
    """The rows of the table `guests` in the order of their ids."""
    table = harness.read(DATASET)
    found: list[dict[str, object]] = [] if table is None else by_id(table).to_pylist()
    return found
