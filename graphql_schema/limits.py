"""What one operation may ask for at most: depth, aliases, directives, tokens and cost, known before it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)

from models.errors import Exhausted

PAGE_ARGUMENTS = ("first", "last", "limit")
DEFAULT_PAGE = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one operation may have. Cost: the objects it may read, pages counted whole."""

    depth: int = 12
    aliases: int = 30
    directives: int = 50
    tokens: int = 5_000
    cost: int = 5_000


@dataclass(frozen=True, slots=True)
class Weight:
    """What a selection amounts to."""

    depth: int = 0
    aliases: int = 0
    directives: int = 0
    cost: int = 0

    def beside(self, other: "Weight") -> "Weight":
        """Both selections next to each other."""
        return Weight(
            max(self.depth, other.depth),
            self.aliases + other.aliases,
            self.directives + other.directives,
            self.cost + other.cost,
        )


@dataclass(slots=True)
class _Scales:
    """Weighs each fragment once, however often it is spread: a chain of fragments could else grow exponentially."""

    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, object]
    known: dict[str, Weight] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def weigh(self, selections: SelectionSetNode | None) -> Weight:
        """The weight of all selections of a set."""
        total = Weight()
        for selection in selections.selections if selections else ():
            match selection:
                case FieldNode():
                    weight = self._of_field(selection)
                case FragmentSpreadNode():
                    weight = self._of_fragment(selection.name.value)
                case InlineFragmentNode():
                    weight = self.weigh(selection.selection_set)
                case _:
                    weight = Weight()
            total = total.beside(weight).beside(Weight(directives=len(selection.directives or ())))
        return total

    def _of_field(self, node: FieldNode) -> Weight:
        inner = self.weigh(node.selection_set)
        rows = self._page_size(node) if node.selection_set else 0
        # Introspection nests deeply by nature, and is off where strangers ask.
        depth = 0 if node.name.value.startswith("__") else inner.depth
        return Weight(depth + 1, inner.aliases + bool(node.alias), inner.directives, rows * (1 + inner.cost))

    def _of_fragment(self, name: str) -> Weight:
        fragment = self.fragments.get(name)
        if fragment is None or name in self.open:
            return Weight()
        if name not in self.known:
            self.open.add(name)
            self.known[name] = self.weigh(fragment.selection_set)
            self.open.discard(name)
        return self.known[name]

    def _page_size(self, node: FieldNode) -> int:
        for argument in node.arguments or ():
            if argument.name.value not in PAGE_ARGUMENTS:
                continue
            value: object = None
            if isinstance(argument.value, IntValueNode):
                value = int(argument.value.value)
            elif isinstance(argument.value, VariableNode):
                value = self.variables.get(argument.value.name.value)
            return max(1, value) if isinstance(value, int) else DEFAULT_PAGE
        return 1


def weigh(document: DocumentNode, variables: Mapping[str, object]) -> Weight:
    """The weight of a document: the heaviest of its operations in each respect."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    scales = _Scales(fragments, variables)
    weights = [
        scales.weigh(node.selection_set).beside(Weight(directives=len(node.directives or ())))
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    ]
    return Weight(
        max((weight.depth for weight in weights), default=0),
        sum(weight.aliases for weight in weights),
        sum(weight.directives for weight in weights),
        max((weight.cost for weight in weights), default=0),
    )


def excess(weight: Weight, limits: Limits) -> Exhausted | None:
    """The first limit that a weight is over, or None."""
    for name, unit in (("depth", "levels"), ("aliases", "aliases"), ("directives", "directives"), ("cost", "objects")):
        asked, allowed = getattr(weight, name), getattr(limits, name)
        if asked > allowed:
            return Exhausted(
                f"the operation's {name} is {asked} {unit}; {allowed} are allowed",
                hint="ask for less at a time: fewer nested lists, smaller pages, several operations",
                code=f"{name}_limit",
            )
    return None
