"""Names in PostgreSQL: quoting, tables with their schema, and names that fit into 63 bytes."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from models.errors import Terminal

LONGEST = 63
OURS = "_wedsync_"


def quoted(name: str) -> str:
    """An identifier, quoted."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def literal(text: str) -> str:
    """A text constant of our own making, quoted; never for values that people or sources gave."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def listed(names: list[str] | tuple[str, ...], prefix: str = "") -> str:
    """Identifiers, quoted, separated by commas, each with a prefix such as `s.`."""
    return ", ".join(prefix + quoted(name) for name in names)


@dataclass(frozen=True, slots=True)
class TableName:
    """A table and its schema."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """Both, quoted."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def text(self) -> str:
        """Both as people write them."""
        return f"{self.schema}.{self.name}"

    def beside(self, name: str) -> "TableName":
        """Another table of the same schema."""
        return TableName(self.schema, name)


def table_name(text: str, schema: str) -> TableName:
    """A table as a definition names it: `table`, `schema.table`, or with quotes around names that hold dots."""
    parts: list[str] = []
    rest = text.strip()
    while rest:
        if rest.startswith('"'):
            end = rest.find('"', 1)
            parts.append(rest[1 : end if end > 0 else None])
            rest = rest[end + 1 :] if end > 0 else ""
        else:
            head, _, tail = rest.partition(".")
            parts.append(head)
            rest = "." + tail if "." in rest else ""
        rest = rest[1:] if rest.startswith(".") else rest
    if (
        not 1 <= len(parts) <= 2
        or text.strip().endswith(".")
        or any(not part or len(part.encode()) > LONGEST for part in parts)
    ):
        raise Terminal(
            f"{text!r} does not name a table", hint="write table or schema.table, 63 bytes each", code="bad_table_name"
        )
    return TableName(parts[0], parts[1]) if len(parts) == 2 else TableName(schema, parts[0])


def shortened(name: str) -> str:
    """The name where it fits; else its beginning and eight digits of its hash."""
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: LONGEST - 9].decode(errors="ignore") + "_" + digest


def run_tag(execution_id: UUID, step: str) -> str:
    """Twelve digits that name a run's staging tables."""
    return hashlib.sha256(f"{execution_id}/{step}".encode()).hexdigest()[:12]
