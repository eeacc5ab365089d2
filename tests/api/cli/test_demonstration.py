"""The demo platform beside a running server: loaded as often as one likes, and run."""

from api.cli.demonstration import prepared
from api.client import Event
from models.executions import ExecutionStatus
from runtime.demo.blueprint import Blueprint
from runtime.demo.definitions import PIPELINES
from tests.kit.platform import Platform

SCALE = 0.01


async def test_the_demo_is_loaded_again_and_run_twice(platform: Platform) -> None:
    seen = dict[str, list[Event]]()

    def watch(pipeline: str, event: Event) -> None:
        seen.setdefault(pipeline, []).append(event)

    async with prepared(platform.stack, Blueprint(scale=SCALE)) as demonstration:
        await demonstration.define()
    async with prepared(platform.stack, Blueprint(scale=SCALE)) as demonstration:
        await demonstration.define()
        assert tuple(demonstration.pipelines) == PIPELINES
        first = await demonstration.run(watch)
        second = await demonstration.run(watch)
    assert {execution.status for execution in (*first, *second)} == {ExecutionStatus.COMPLETED}
    assert all(execution.records_inserted > 0 for execution in first)
    upserted = {one.pipeline.pipeline_name: one for one in second}["vendor-standardisation"]
    assert (upserted.records_inserted, upserted.records_updated) == (0, 0), "nothing has changed since"
    assert set(seen) == set(PIPELINES)
    assert all(sum(event.is_last for event in events) == 2 for events in seen.values())
