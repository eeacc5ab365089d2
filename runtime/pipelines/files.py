"""Reads and writes YAML files of pipelines, sources and destinations.

A file holds one or several YAML documents; each is a mapping with one of the keys `pipeline`, `source` and
`destination`, under which the definition stands, with the same keys as in JSON.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast

import yaml

from models.errors import Invalid
from models.fields import Json, JsonObject
from runtime.pipelines.definition import PipelineDefinition, parse_definition
from runtime.transforms._sql import unknown

LARGEST_FILE = 4_000_000
MOST_NODES = 200_000
DEEPEST = 100
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class EntryKind(StrEnum):
    """What a YAML document defines."""

    PIPELINE = "pipeline"
    SOURCE = "source"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class Entry:
    """One definition of a file: its kind and document, and where it stands."""

    kind: EntryKind
    document: JsonObject
    file: str = ""
    node: yaml.Node | None = field(default=None, repr=False, compare=False)

    def pipeline(self) -> PipelineDefinition:
        """The pipeline it defines; raises `Invalid` with file, line and path."""
        try:
            return parse_definition(self.document)
        except Invalid as error:
            raise self.located(error) from None

    def located(self, error: Invalid) -> Invalid:
        """The same error with the file and the line of the bad key before its path."""
        place = f"{self.file}:{self._line(error.path or '')}"
        path = f"{place}: {error.path}" if error.path else place
        return Invalid(error.message, hint=error.hint, path=path, code=error.specific_code)

    def _line(self, path: str) -> int:
        """The line of a path, or of the nearest key above it that is there."""
        node, line = self.node, self.node.start_mark.line + 1 if self.node else 1
        for index, key in _STEP.findall(path):
            found = _child(node, key, index)
            if found is None:
                break
            node, line = found
        return line


def _child(node: yaml.Node | None, key: str, index: str) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode) and key:
        for name, value in node.value:
            if name.value == key:
                return value, name.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and index and int(index) < len(node.value):
        value = node.value[int(index)]
        return value, value.start_mark.line + 1
    return None


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars alone: `on` and `no` are text, and so are dates, which JSON has as text."""


_SCALARS = {
    "bool": (re.compile(r"^(?:true|false|True|False|TRUE|FALSE)$"), "tTfF"),
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "int": (re.compile(r"^[-+]?[0-9]+$"), "-+0123456789"),
    "float": (re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$"), "-+.0123456789"),
    "merge": (re.compile(r"^<<$"), "<"),
}
_Loader.yaml_implicit_resolvers = {}
for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, list(_first))


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def read_files(paths: Iterable[Path]) -> list[Entry]:
    """The definitions of several files and folders (their `*.yaml` and `*.yml`), in order.

    Raises `Invalid` that names the file, and the line where YAML itself is broken; and for files that define nothing.
    """
    entries: list[Entry] = []
    files = [file for path in paths for file in _files(path)]
    for file in files:
        entries.extend(read_text(_text(file), str(file)))
    if not entries:
        kinds = ", ".join(f"`{kind.value}:`" for kind in EntryKind)
        raise Invalid("defines nothing", hint=f"begin it with one of {kinds}", path=", ".join(map(str, files)))
    return entries


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml"))
        if not found:
            raise Invalid("holds no YAML files", hint="name a file, or a folder with `*.yaml`", path=str(path))
        return found
    return [path]


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
        if len(content) > LARGEST_FILE:
            raise Invalid(f"is larger than {LARGEST_FILE:,} bytes", hint="split it", path=str(file))
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("is not UTF-8 text", hint="save it as UTF-8", path=str(file)) from error
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", hint="check the path", path=str(file)) from error


def read_text(text: str, file: str = "<text>") -> list[Entry]:
    """The definitions of one file's text."""
    try:
        loader = _Loader(text)
        return [entry for node in _nodes(loader) if (entry := _entry(loader, node, file)) is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "?" if mark is None else mark.line + 1
        column = "?" if mark is None else mark.column + 1
        raise Invalid(
            f"is not YAML at column {column}: {error.problem or error.context}",
            hint="mend the indentation, the quotes or the brackets there",
            path=f"{file}:{line}",
        ) from error
    except yaml.YAMLError as error:
        raise Invalid(f"is not YAML: {error}", hint="remove characters that do not print", path=file) from error


def _nodes(loader: _Loader) -> Iterator[yaml.Node]:
    while loader.check_node():
        node = loader.get_node()
        if node is not None:
            yield node


def _entry(loader: _Loader, node: yaml.Node, file: str) -> Entry | None:
    """The definition in one YAML document; None for an empty one."""
    if isinstance(node, yaml.ScalarNode) and node.value == "":
        return None
    kinds = [kind.value for kind in EntryKind]
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode) or len(node.value) != 1:
        raise Invalid(
            "is not a mapping with one key", hint=f"begin with one of: {', '.join(kinds)}", path=f"{file}:{line}"
        )
    key, body = node.value[0]
    if key.value not in kinds:
        raise unknown("kind of definition", str(key.value), kinds, f"{file}:{line}")
    if not isinstance(body, yaml.MappingNode):
        raise Invalid(f"{key.value} holds no keys", hint="indent its keys below it", path=f"{file}:{line}")
    _check_keys(body, file, [MOST_NODES], DEEPEST)
    document = cast(JsonObject, loader.construct_document(body))
    return Entry(EntryKind(key.value), document, file, body)


def _check_keys(node: yaml.Node, file: str, left: list[int], levels: int) -> None:
    """Refuse keys that are no text or come twice, and documents that aliases blow up or close into a circle."""
    left[0] -= 1
    if left[0] < 0 or levels < 0:
        raise Invalid("holds too much", hint="use fewer aliases, or split it", path=file)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            place = f"{file}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise Invalid("has a key that is not text", hint="write a word before the colon", path=place)
            if key.value in seen:
                raise Invalid(f"has the key {key.value!r} twice", hint="remove one", path=place)
            seen.add(key.value)
            if key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
            _check_keys(value, file, left, levels - 1)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, file, left, levels - 1)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block, and escapes the line breaks that YAML would fold."""


def _written_text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    folded = any(letter in value for letter in "\r\x85\u2028\u2029\ufeff")
    misread = any(pattern.match(value) for pattern, _ in _SCALARS.values())
    style = '"' if folded or misread else "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _written_text)


def export(entries: Iterable[Entry]) -> str:
    """The definitions as YAML text that `read_text` reads back."""
    documents: list[dict[str, Json]] = [{entry.kind.value: entry.document} for entry in entries]
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, explicit_start=len(documents) > 1
    )


def pipeline_entry(definition: PipelineDefinition) -> Entry:
    """A definition as it is exported: without the keys that say only what is so by default."""
    document = definition.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return Entry(EntryKind.PIPELINE, cast(JsonObject, document))
