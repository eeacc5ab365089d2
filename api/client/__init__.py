"""A typed Python client of a WedSync server: `async with Client.of_home(settings) as client: …`."""

from api.client.client import Client, Saved
from api.client.values import Event, Execution, ExecutionSummary, Log, Place, Step

__all__ = ["Client", "Event", "Execution", "ExecutionSummary", "Log", "Place", "Saved", "Step"]
