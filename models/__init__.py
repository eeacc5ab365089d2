"""Tables and the values they hold; importing any of it registers every table, so that foreign keys resolve."""

from models import (
    access,
    alerts,
    audit,
    backfills,
    destinations,
    events,
    executions,
    lineage,
    pipelines,
    quality,
    reports,
    schedules,
    schemas,
    sources,
    streams,
    work,
)

__all__ = [
    "access",
    "alerts",
    "audit",
    "backfills",
    "destinations",
    "events",
    "executions",
    "lineage",
    "pipelines",
    "quality",
    "reports",
    "schedules",
    "schemas",
    "sources",
    "streams",
    "work",
]
