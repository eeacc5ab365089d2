"""Which database objects are ours to migrate and to compare with the tables."""

from sqlalchemy.sql.schema import SchemaItem
from sqlmodel import SQLModel

import models

VERSION_SCHEMA = "wedsync"
assert models.__all__, "importing the package registers the tables"
metadata = SQLModel.metadata


def is_ours(
    item: SchemaItem,
    name: str | None,
    kind: str,
    reflected: bool,
    compared: SchemaItem | None,
) -> bool:
    """Leave out what belongs to Supabase: the tables of the schema `auth`."""
    return not (kind == "table" and getattr(item, "schema", None) == "auth")
