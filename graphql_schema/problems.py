"""Errors as GraphQL tells them: members of a mutation's result, or entries of `errors` with a code; never raw text."""

import secrets
from types import MappingProxyType
from typing import Final

import strawberry
import structlog
from graphql import GraphQLError
from strawberry.annotation import StrawberryAnnotation
from strawberry.exceptions import StrawberryGraphQLError
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.field import StrawberryField
from strawberry.types.union import StrawberryUnion
from strawberry.utils.str_converters import to_camel_case

from graphql_schema.context import Info
from graphql_schema.permissions import KEY, Permission, permitted
from models.errors import (
    Conflict,
    Denied,
    DomainError,
    Exhausted,
    Invalid,
    NotFound,
    RunError,
    Unauthenticated,
    Unavailable,
)
from runtime.access.mask import mask_text

log = structlog.get_logger(__name__)


@permitted(Permission.ANYONE)
@strawberry.interface(description="An expected failure of a mutation: what was wrong, where, and what to do.")
class Error:
    """What every expected failure tells."""

    code: str = strawberry.field(description="A stable name of the failure, for programs.")
    message: str = strawberry.field(description="What was wrong, for people.")
    hint: str | None = strawberry.field(description="What to do about it, where known.")
    path: str | None = strawberry.field(description="Where in the input it is, as in `steps[2].config.query`.")


@permitted(Permission.ANYONE)
@strawberry.type(description="The input is wrong; `path` names the bad key.")
class InvalidError(Error):
    """`models.errors.Invalid`."""


@permitted(Permission.ANYONE)
@strawberry.type(description="Whoever asks may see this, but not do that.")
class DeniedError(Error):
    """`models.errors.Denied`."""


@permitted(Permission.ANYONE)
@strawberry.type(description="There is no such thing, or it is hidden from whoever asks.")
class NotFoundError(Error):
    """`models.errors.NotFound`."""


@permitted(Permission.ANYONE)
@strawberry.type(description="The thing exists already, or changed since it was read.")
class ConflictError(Error):
    """`models.errors.Conflict`."""


@permitted(Permission.ANYONE)
@strawberry.type(description="A limit is reached: rate, size, depth or cost.")
class ExhaustedError(Error):
    """`models.errors.Exhausted`."""


@permitted(Permission.ANYONE)
@strawberry.type(description="A part that this needs cannot be reached now; try again.")
class UnavailableError(Error):
    """`models.errors.Unavailable`."""


@permitted(Permission.ANYONE)
@strawberry.type(description="The work was done and failed; `code` says how.")
class FailedError(Error):
    """`models.errors.RunError`, and the sign-in of a source that was refused."""


TOLD: Final[dict[type[DomainError], type[Error]]] = {
    Invalid: InvalidError,
    Denied: DeniedError,
    NotFound: NotFoundError,
    Conflict: ConflictError,
    Exhausted: ExhaustedError,
    Unavailable: UnavailableError,
    RunError: FailedError,
    Unauthenticated: FailedError,
}
"""How each expected failure is told in a mutation's result."""

MEMBERS: Final = (
    InvalidError,
    DeniedError,
    NotFoundError,
    ConflictError,
    ExhaustedError,
    UnavailableError,
    FailedError,
)


def told(error: DomainError) -> Error:
    """The member of a result union for an expected failure, its texts without personal data."""
    kind = next(member for cause, member in TOLD.items() if isinstance(error, cause))
    hint = None if error.hint is None else mask_text(error.hint)
    return kind(code=error.specific_code, message=mask_text(error.message), hint=hint, path=error.path)


class Changes(FieldExtension):
    """Makes a mutation of a resolver: declares its permission, and adds the errors to what it answers.

    The resolver returns its success type and raises `DomainError`s; the field's type becomes the union
    `<Field>Result` of both. Use as `@strawberry.mutation(extensions=[Changes(Permission.ENGINEERS)])`.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def apply(self, field: StrawberryField) -> None:
        """Widen the field's type."""
        field.metadata = MappingProxyType({**field.metadata, KEY: self.permission})
        if isinstance(field.type, StrawberryUnion):
            return
        name = field.python_name.title().replace("_", "")
        members = tuple(StrawberryAnnotation(kind) for kind in (field.type, *MEMBERS))
        shown = field.graphql_name or to_camel_case(field.python_name)
        description = f"What `{shown}` answers: its result, or why there is none."
        field.type = StrawberryUnion(f"{name}Result", type_annotations=members, description=description)

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Info, **arguments: object
    ) -> object:
        """Refuse whom the permission refuses, then run; an expected failure becomes a member of the result."""
        try:
            refusal = self.permission.refusal(info.context.role, f"`{info.field_name}`")
            if refusal is not None:
                raise refusal
            return await next_(source, info, **arguments)
        except DomainError as error:
            if isinstance(error, Unauthenticated) and info.context.principal is None:
                raise
            return told(error)


def tell(error: GraphQLError, request_id: str = "") -> GraphQLError:
    """An entry of `errors` as it may leave: with its code, and masked and logged under an id if nobody expected it."""
    cause = _cause(error)
    if isinstance(cause, DomainError):
        hint = None if cause.hint is None else mask_text(cause.hint)
        extensions = {"code": cause.specific_code, "hint": hint, "path": cause.path}
        known: dict[str, object] = {key: value for key, value in extensions.items() if value is not None}
        return _rewritten(error, mask_text(cause.message), known)
    if _is_the_callers(error, cause):
        return _rewritten(error, error.message, {"code": "invalid", **(error.extensions or {})})
    identifier = secrets.token_hex(6)
    log.error("unexpected_error", error_id=identifier, path=error.path, request_id=request_id, exc_info=cause or error)
    message = f"something went wrong that is not your doing; it is logged as {identifier}"
    return _rewritten(error, message, {"code": "internal", "error_id": identifier})


def _cause(error: GraphQLError) -> Exception | None:
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    return cause


def _is_the_callers(error: GraphQLError, cause: Exception | None) -> bool:
    """Whether the request itself was wrong (syntax, validation, variables), so that the library's text is safe."""
    if cause is None or isinstance(cause, StrawberryGraphQLError):
        return True
    if isinstance(cause, CannotGetOperationTypeError | InvalidOperationTypeError | GraphQLError):
        return True
    return isinstance(cause, ValueError) and error.path is None and error.message.startswith("Variable '$")


def _rewritten(error: GraphQLError, message: str, extensions: dict[str, object]) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )
