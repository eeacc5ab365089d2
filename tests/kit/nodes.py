"""The processes of a Ray node, for those who kill them."""

import psutil

from tests.kit.eventually import eventually


def supervisors(worker: int, *, busy: bool) -> set[psutil.Process]:
    """The supervisors that supervise now, or that wait for work, on the Ray node that a worker belongs to."""
    raylet = psutil.Process(worker).parent()
    assert raylet is not None
    found = {one: _words(one) for one in raylet.children()}
    named = {one: words for one, words in found.items() if "ExecutionSupervisor" in words}
    return {one for one, words in named.items() if ("ExecutionSupervisor.run" in words) is busy}


def _words(process: psutil.Process) -> str:
    """What a process was started as; nothing of one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


async def at_rest(worker: int, others: int) -> set[psutil.Process]:
    """Wait until no more supervisors than these others are at work on that node; answers which those are."""

    async def rest() -> bool:
        return len(supervisors(worker, busy=True)) <= others

    await eventually(rest, within=30.0, because="the supervisors of earlier executions go back to the pool")
    return supervisors(worker, busy=True)
