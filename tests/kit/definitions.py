"""Small definitions over the CSV source `in` and the CSV destination `out`."""

from typing import Any

from models.fields import JsonObject

ROWS = [{"id": number, "amount": number * 1.5, "city": f"c{number % 7}"} for number in range(100)]


def step(name: str, kind: str, config: JsonObject, *inputs: str, **more: Any) -> JsonObject:
    return {"name": name, "type": kind, "depends_on": list(inputs), "config": config, **more}


def transform(name: str, kind: str, config: JsonObject, *inputs: str, **more: Any) -> JsonObject:
    return step(name, "transform", {"type": kind, "config": config}, *inputs, **more)


def pipeline(*steps: JsonObject, name: str = "p") -> JsonObject:
    return {"pipeline_name": name, "pipeline_type": "etl", "steps": list(steps)}


READ = step("read", "extract", {"source_id": "in", "dataset": "rows.csv"})


def load(*inputs: str, name: str = "load", table: str = "t", **more: Any) -> JsonObject:
    return step(name, "load", {"destination_id": "out", "table_name": table, "write_mode": "append"}, *inputs, **more)


def only(name: str, condition: str, source: str = "read", **more: Any) -> JsonObject:
    return transform(name, "filter", {"condition": condition}, source, **more)


DIAMOND = pipeline(READ, only("big", "amount > 20"), only("small", "amount <= 20"), load("big", "small"))
