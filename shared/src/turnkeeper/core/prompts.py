"""System prompts that depend on who a session is for: a function of its context, or a template for each tenant.

A prompt is made once, when a turn begins, and kept with the session: however often the turn changes hands, the model is
sent the same bytes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import date, datetime
from types import MappingProxyType
from typing import Any

from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.errors import PromptFailed
from turnkeeper.core.schemas import json_problem
from turnkeeper.core.values import dataclass

#: What a prompt may have, in UTF-8.
MAX_PROMPT_BYTES = 200_000

#: What a template may name, beside ``metadata.KEY``.
_NAMES = frozenset({"tenant_id", "user_id", "role", "agent", "session_id", "date", "now"})
#: ``{{name}}`` stands for ``{name}`` itself. Braces around anything else, such as JSON, are left alone.
_PLACEHOLDER = re.compile(r"\{\{(?P<literal>[a-z_]+(?:\.[\w-]+)?)\}\}|\{(?P<name>[a-z_]+(?:\.[\w-]+)?)\}")
#: The package of an agent's folder has another number in each process.
_FOLDER = re.compile(r"^turnkeeper_agents\.folder_\d+\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """Whom a turn is for. Nothing in it can be changed."""

    tenant_id: str
    #: Whose session it is.
    user_id: str
    #: Of whoever began the turn.
    role: str
    agent: str
    session_id: str
    #: What the session was made with. Its values are the caller's words, not yours: show them as data.
    metadata: Mapping[str, Any]
    #: When the turn began, in the tenant's time zone.
    now: datetime

    @property
    def date(self) -> date:
        """The day on which the turn began, in the tenant's time zone."""
        return self.now.date()


Prompt = Callable[[SessionContext], str]


@dataclass(frozen=True)
class Templates:
    """A prompt for each tenant, with ``{placeholders}`` that are filled from the context: a :data:`Prompt`.

    Raises:
        ValueError: a template is blank, or names something that a context does not have; the text says which.
    """

    #: By tenant.
    texts: Mapping[str, str]
    default: str | None
    #: Where it comes from, for errors: the name of a folder.
    place: str = "by_tenant(...)"
    #: Equal where all templates are.
    definition: str = field(init=False)

    def __post_init__(self) -> None:
        named = [(f"of tenant {tenant!r}", text) for tenant, text in self.texts.items()]
        for which, text in [*named, *([] if self.default is None else [("by default", self.default)])]:
            if not text.strip():
                raise ValueError(f"{self.place}: the prompt {which} is blank")
            if (problem := json_problem(text)) is not None:
                raise ValueError(f"{self.place}: the prompt {which} cannot be sent: {problem}")
            if unknown := sorted(name for name in _placeholders(text) if not _is_known(name)):
                raise ValueError(
                    f"{self.place}: the prompt {which} names {{{unknown[0]}}}; there is "
                    f"{', '.join(f'{{{name}}}' for name in sorted(_NAMES))} and {{metadata.KEY}}. "
                    f"Write {{{{{unknown[0]}}}}} for the word in braces itself."
                )
        if not named and self.default is None:
            raise ValueError(f"{self.place}: there is no template")
        object.__setattr__(self, "texts", MappingProxyType(dict(self.texts)))
        definition = sorted_json([dict(self.texts), self.default])
        object.__setattr__(self, "definition", hashlib.sha256(definition).hexdigest())

    def __call__(self, ctx: SessionContext) -> str:
        template = self.texts.get(ctx.tenant_id, self.default)
        if template is None:
            raise PromptFailed(f"{self.place} has no prompt for tenant {ctx.tenant_id!r}, and no default")
        return _PLACEHOLDER.sub(lambda found: self._filled(found, ctx), template)

    def _filled(self, found: re.Match[str], ctx: SessionContext) -> str:
        if (literal := found["literal"]) is not None:
            return f"{{{literal}}}"
        name = found["name"]
        if not name.startswith("metadata."):
            value = getattr(ctx, name)
            return value if isinstance(value, str) else str(value.isoformat())
        key = name.removeprefix("metadata.")
        if key not in ctx.metadata:
            raise PromptFailed(f"{self.place}: the session's metadata has no {key!r}, which its prompt names")
        value = ctx.metadata[key]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=dict)


@dataclass(frozen=True, slots=True)
class ToldPrompt:
    """In the place of what makes a system prompt, where that is only told of (:mod:`turnkeeper.runtime.manifest`)."""

    definition: str

    def __call__(self, ctx: SessionContext) -> str:  # noqa: ARG002 - a prompt's
        raise PromptFailed(f"{self.definition} is only told of here: nobody runs turns")


def by_tenant(templates: Mapping[str, str], default: str | None = None) -> Templates:
    """A system prompt for each tenant.

        system=by_tenant({"acme": "You serve Acme. Today is {date}."}, default="You help {user_id}.")

    Args:
        templates: by tenant. ``{tenant_id}``, ``{user_id}``, ``{role}``, ``{agent}``, ``{session_id}``, ``{date}``,
            ``{now}`` and ``{metadata.KEY}`` are filled in.
        default: for every other tenant; without it their turns end as ``internal_error``.

    Raises:
        ValueError: a template that cannot be one; the text says which, and why.
    """
    return Templates(templates, default)


def _placeholders(text: str) -> list[str]:
    return [found["name"] for found in _PLACEHOLDER.finditer(text) if found["name"] is not None]


def _is_known(name: str) -> bool:
    return name in _NAMES or (name.startswith("metadata.") and len(name) > len("metadata."))


def definition_of(prompt: Prompt) -> str:
    """The name of a prompt that is made: equal where what makes it is, whatever it makes of a context. For a function
    that is its name with a hash of its source text; functions that it calls are not looked into."""
    if isinstance(prompt, ToldPrompt):
        return prompt.definition
    if isinstance(prompt, Templates):
        return f"templates:{prompt.definition[:32]}"
    function = inspect.unwrap(prompt)
    module = _FOLDER.sub("", getattr(function, "__module__", None) or "")
    name = f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return name
    return f"{name}:{hashlib.sha256(source.encode('utf-8', 'replace')).hexdigest()[:32]}"


def rendered(prompt: Prompt, ctx: SessionContext) -> str:
    """What the prompt says in this context, as it may be sent.

    Raises:
        PromptFailed: it says nothing, or what cannot be sent.
        Exception: whatever the author's function raises.
    """
    text = prompt(ctx)
    if not isinstance(text, str):
        raise PromptFailed(f"it is a {type(text).__name__}, not a text")
    if not text.strip():
        raise PromptFailed("it is blank")
    if (problem := json_problem(text)) is not None:
        raise PromptFailed(f"it cannot be sent: {problem}")
    if (size := len(text.encode())) > MAX_PROMPT_BYTES:
        raise PromptFailed(f"it has {size} bytes, and may have {MAX_PROMPT_BYTES}")
    return text


#: Of a prompt's hash, and of a salt, which only the session's head tells: it goes with it.
_NAME_CHARACTERS = 32


def prompt_name(text: str, salt: str) -> str:
    """What the session's head calls a prompt that was made for it: a salt, and a hash that nobody can try texts against
    who does not know that."""
    return salt + hashlib.sha256(f"{salt}{text}".encode()).hexdigest()[:_NAME_CHARACTERS]


def kept_as(name: str) -> str:
    """What a prompt of this name is kept under: the hash without the salt."""
    return name[-_NAME_CHARACTERS:]


def salt_of(name: str | None) -> str | None:
    """``None`` where there is no prompt yet, or an earlier release named it."""
    return (name or "")[:-_NAME_CHARACTERS] or None


def read_only(value: Any) -> Any:
    """JSON that whoever is given it cannot change."""
    if isinstance(value, Mapping):
        return MappingProxyType({name: read_only(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(map(read_only, value))
    return value
