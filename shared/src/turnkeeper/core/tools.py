"""What a tool is: a typed function, its effect, and the scopes that a role needs to be given it.

A tool is honest about crashes through its effect:

==============  =======================================================================================
``read``        changes nothing; a resume runs it again
``idempotent``  may run again, with the same ``ctx.idempotency_key``
``once``        never runs twice; a resume that finds an intent without a result answers ``unknown``
==============  =======================================================================================
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, Protocol, cast, get_args, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from turnkeeper.core.errors import MissingValue
from turnkeeper.core.late import late
from turnkeeper.core.tool_declarations import arguments_of, check_declaration, names_of
from turnkeeper.core.values import dataclass

if TYPE_CHECKING:
    # With defaults, so that ``Tool`` alone stays a type: of what its arguments and its result are, nothing is said.
    from typing_extensions import ParamSpec, TypeVar

    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

Effect = Literal["read", "idempotent", "once"]
Outcome = Literal["ok", "error", "denied", "unknown"]

#: Names of the kit's own tools.
END_TASK = "end_task"
UPDATE_PLAN = "update_plan"


class ToolError(Exception):
    """The tool could not do it, in words that the model can act on. Becomes an error result.

    ``may_have_run``: nobody knows whether the call took effect, as where a server was silent for too long. Of a tool
    that changes something the outcome is ``unknown`` then, and the model is told not simply to try again.
    """

    def __init__(self, *args: object, may_have_run: bool = False) -> None:
        super().__init__(*args)
        self.may_have_run = may_have_run


class ForeignToolError(ToolError):
    """The tool could not do it, in words of somebody else: a server, a database. They are data, as its results are."""


class ToolDenied(ToolError):
    """The call is outside what is allowed. The message says what *is* allowed. Outcome ``denied``, unless it may have
    run: as where what is not allowed is how a request that was sent is answered."""


class ToolValues(Protocol):
    """Where tools' secrets and settings come from. May be used by several threads at once."""

    def secret(self, name: str, key: str | None = None, /) -> str:
        """The secret, or what it has under a key where it is a JSON object. From here on it is redacted: whoever gives
        it has made it known before.

        Raises:
            UndeclaredValue: the agent does not name it in its ``secrets``.
            MissingValue: the deployment has none of this name that can be used.
            ValueOutOfReach: where it is kept cannot be asked just now.
        """

    def setting(self, name: str, /) -> str:
        """Raises UndeclaredValue, MissingValue."""


class _NotHere:
    """Of a context that was made without any."""

    def secret(self, name: str, key: str | None = None, /) -> str:  # noqa: ARG002
        raise MissingValue(f"there are no secrets here: this context was made without {name!r}")

    def setting(self, name: str, /) -> str:
        raise MissingValue(f"there are no settings here: this context was made without {name!r}")


NO_VALUES: ToolValues = _NotHere()


#: Hears how far a tool is: a text, and a share of the whole from 0 to 1 where it knows one.
OnProgress = Callable[[str, float | None], None]
NO_PROGRESS: OnProgress = lambda _text, _fraction: None  # noqa: E731


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know about the call it serves. Never holds a credential of the kit."""

    session_id: str
    tenant_id: str
    user_id: str
    tool_use_id: str
    #: Stable over every attempt of this call: hand it to whatever the tool changes.
    idempotency_key: str
    #: UTC; the tool's own timeout or the runner's end, whichever is sooner.
    deadline: datetime
    logger: logging.Logger | logging.LoggerAdapter[Any]
    values: ToolValues = field(default=NO_VALUES, repr=False)
    #: Where this call stands in the trace of its turn, as a ``traceparent`` header has it: hand it to services of your
    #: own. Spans that OpenTelemetry's API begins in the tool are below it by themselves. ``None`` outside of a session.
    traceparent: str | None = None
    on_progress: OnProgress = field(default=NO_PROGRESS, repr=False, compare=False)
    #: Seconds from the call's beginning to ``deadline``, by no clock that can be set, or stands still in a test.
    #: ``None`` outside of a session.
    timeout_seconds: float | None = None

    def secret(self, name: str, key: str | None = None) -> str:
        """A secret that the agent declares (``Agent(secrets=["crm"])``), as it is now: ask for it at each call, it may
        be rotated. Whatever shows it afterwards (results, errors, logs) shows ``[redacted:secret NAME]``.

        Args:
            key: of a secret that is a JSON object, the text under this key only.

        Raises:
            ToolValueError: there is none. Leave it to the kit: it tells the operator why, and the model that the tool
                cannot be used.
        """
        return self.values.secret(name, key)

    def setting(self, name: str) -> str:
        """A setting that the agent declares (``Agent(settings=["crm_url"])``).

        Raises:
            ToolValueError: there is none.
        """
        return self.values.setting(name)

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Tell whoever looks on how far this call is: ``ctx.progress("3 of 10 files", fraction=0.3)``. Say it as often
        as you like: it costs nothing where nobody looks, and else the latest word of each tenth of a second is told.
        It is not kept, and the model does not see it. At most 200 characters, without the secrets that are known.

        Args:
            fraction: of the whole, from 0 to 1; what lies outside is moved there, and what is no number left out.
        """
        if not isinstance(fraction, int | float) or math.isnan(fraction):
            fraction = None
        self.on_progress(str(text), None if fraction is None else min(1.0, max(0.0, float(fraction))))


class ToolBody(Protocol):
    def __call__(self, ctx: ToolContext, arguments: Mapping[str, Any], /) -> Any:
        """Run with validated-by-schema arguments; return text, a pydantic model, JSON data or content blocks.

        Raises:
            ToolDenied: outside what is allowed.
            ToolError: could not be done; the text goes to the model.
            pydantic.ValidationError: the arguments do not fit; the model is told where and why.
        """


@dataclass(frozen=True)
class Tool(Generic[P, R]):
    """A tool as an agent holds it. Build one with :func:`tool` or take a guarded one from ``turnkeeper.tools``.

    It can be called like the function that it was made of: ``get_invoice("INV-1")``. See :meth:`__call__`.
    """

    name: str
    description: str
    effect: Effect
    #: JSON Schema of the arguments, or a callable for tools that live elsewhere (MCP) and are asked at first use.
    input_schema: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    body: ToolBody
    #: A role must be given every one of these by policy.toml, else the tool is not granted.
    scopes: frozenset[str] = frozenset()
    timeout_seconds: float = 30.0
    #: Argument names that differ between otherwise same calls (timestamps, request ids): not hashed for repetition.
    volatile: frozenset[str] = frozenset()
    #: Declared to poll: the same call is no repetition as long as its result differs each time, however often it is
    #: made, and though nothing was changed in between.
    polls: bool = False
    #: Argument names whose values never reach audit, logs or traces.
    secret_arguments: frozenset[str] = frozenset()
    #: Results that come from outside the trust of the agent's author (pages, rows, files). Wrapped and checked.
    untrusted: bool = True
    #: What it was made of, where that was a function: takes a context first where ``takes_context`` says so.
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    takes_context: bool = field(default=True, repr=False, compare=False)
    #: What the model sent, as that function takes it. Raises pydantic.ValidationError.
    parse: Callable[[Mapping[str, Any]], dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_declaration(self.name, self.effect, get_args(Effect), self.timeout_seconds)

    def schema(self) -> Mapping[str, Any]:
        return self.input_schema() if callable(self.input_schema) else self.input_schema

    @overload
    def __call__(self, ctx: ToolContext, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # mypy: of a ParamSpec, never so
        """Call the function that this tool was made of, outside of any session: in a test, or from another tool.

        Nothing of a session applies: no grant, no timeout, no wrapping of the result. Arguments go by the function's
        signature and are handed on as they are; those of a tool without a function (the guarded ones) go by its schema
        and are checked by it.

        Args:
            ctx: first, and always optional. Where the tool wants one and none is given, it gets that of
                :func:`call_context`.

        Raises:
            TypeError: the arguments do not fit the signature.
            pydantic.ValidationError: they do not fit the schema of a tool without a function.
            ToolError, ToolDenied, or whatever else the tool raises.
        """
        context, rest = (args[0], args[1:]) if args and isinstance(args[0], ToolContext) else (None, args)
        if context is None and isinstance(kwargs.get("ctx"), ToolContext):
            context = kwargs.pop("ctx")
        if self.function is not None and not self.takes_context:
            return self.function(*rest, **kwargs)
        context = context or call_context(self.timeout_seconds)
        if self.function is not None:
            return self.function(context, *rest, **kwargs)
        return self.body(context, self._named(rest, kwargs))

    def _named(self, values: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by the names of the schema's properties, those without a name in their order."""
        names = list(self.schema().get("properties", {}))
        if len(values) > len(names):
            raise TypeError(f"{self.name} takes {len(names)} arguments, not {len(values)}")
        if twice := sorted(set(names[: len(values)]) & named.keys()):
            raise TypeError(f"{self.name} was given {', '.join(twice)} twice")
        return dict(zip(names, values, strict=False)) | dict(named)


def call_context(timeout_seconds: float = 30.0) -> ToolContext:
    """The context of a call outside of any session. ``turnkeeper.testing.context`` makes one with other values."""
    return ToolContext(
        session_id="ses_call",
        tenant_id="acme",
        user_id="u1",
        tool_use_id="toolu_call",
        idempotency_key="ses_call:toolu_call",
        deadline=datetime.now(UTC) + timedelta(seconds=timeout_seconds),
        logger=logging.getLogger("turnkeeper.call"),
    )


@dataclass(frozen=True)
class ToolSet:
    """Several tools that come from one place, such as an MCP server. An agent may list it among its tools."""

    tools: tuple[Tool, ...] = field(default=())

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)


class Decorator(Protocol):
    """Makes a function a tool, and keeps its signature for whoever calls it. A context comes first and is optional."""

    @overload
    def __call__(self, function: Callable[Concatenate[ToolContext, P], R], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(function: Callable[Concatenate[ToolContext, P], R], /) -> Tool[P, R]: ...
@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    effect: Effect = "read",
    scopes: Sequence[str] | set[str] | frozenset[str] = (),
    timeout_seconds: float = 30.0,
    name: str | None = None,
    volatile: Sequence[str] | set[str] = (),
    polls: bool = False,
    secret_arguments: Sequence[str] | set[str] = (),
    untrusted: bool = True,
) -> Decorator: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    effect: Effect = "read",
    scopes: Sequence[str] | set[str] | frozenset[str] = (),
    timeout_seconds: float = 30.0,
    name: str | None = None,
    volatile: Sequence[str] | set[str] = (),
    polls: bool = False,
    secret_arguments: Sequence[str] | set[str] = (),
    untrusted: bool = True,
) -> Tool | Decorator:
    """Make a typed function a tool. Its docstring is what the model reads; its signature is its schema.

    The first parameter may be ``ctx: ToolContext``; it is not shown to the model.

    Raises:
        TypeError: the function has no docstring, a parameter without a type or that is not given by name, or is async.
        ValueError: another effect, no time to run in, or a text where a list of names is meant.
    """

    def build(f: Callable[..., Any]) -> Tool:
        description = inspect.getdoc(f)
        if not description:
            raise TypeError(f"tool {f.__name__!r} needs a docstring: it is what the model reads")
        takes_context, arguments = arguments_of(f, ToolContext)

        def parse(raw: Mapping[str, Any]) -> dict[str, Any]:
            parsed = arguments.model_validate(dict(raw))
            return {key: getattr(parsed, key) for key in arguments.model_fields}

        def body(ctx: ToolContext, raw: Mapping[str, Any]) -> Any:
            values = parse(raw)
            try:
                return f(ctx, **values) if takes_context else f(**values)
            except ValidationError as error:
                # Of the tool's own data: to the model this must not read as if nothing had been run.
                raise ValueError(f"{error.title}: {error.error_count()} values do not fit") from error

        return Tool(
            name=name or f.__name__,
            description=description,
            effect=effect,
            input_schema=schema_of(arguments),
            body=body,
            scopes=names_of("scopes", scopes),
            timeout_seconds=timeout_seconds,
            volatile=names_of("volatile", volatile),
            polls=polls,
            secret_arguments=names_of("secret_arguments", secret_arguments),
            untrusted=untrusted,
            function=f,
            takes_context=takes_context,
            parse=parse,
        )

    return build(function) if function is not None else cast(Decorator, build)


def schema_of(arguments: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema that the model is shown for these arguments."""
    schema = arguments.model_json_schema()
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return schema


_JSON: TypeAdapter[Any] = late(lambda: TypeAdapter(Any))


def content_of(value: Any) -> list[dict[str, Any]]:
    """A tool's return value as content blocks of a ``tool_result``.

    Text stays text; a list of blocks stays as it is; everything else becomes JSON text.

    Raises:
        pydantic_core.PydanticSerializationError, TypeError, ValueError: the value cannot be written as JSON.
    """
    if value is None:
        return [{"type": "text", "text": "(no content)"}]
    if isinstance(value, str):
        return [{"type": "text", "text": value if value.strip() else "(empty)"}]
    if isinstance(value, list) and value and all(_is_block(item) for item in value):
        json.dumps(value)
        return [{**item, "text": "(empty)"} if _is_blank(item) else item for item in value]
    return [{"type": "text", "text": _JSON.dump_json(value).decode()}]


def _is_block(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    if item.get("type") == "text":
        return isinstance(item.get("text"), str)
    return item.get("type") in ("image", "document", "search_result")


def _is_blank(block: dict[str, Any]) -> bool:
    return block["type"] == "text" and not block["text"].strip()
