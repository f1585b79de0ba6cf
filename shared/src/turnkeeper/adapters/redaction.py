"""Takes secrets out of what is kept or shown: audit, logs, traces, errors.

:class:`Redactor` finds them by shape (detect-secrets knows most tokens; the rest is in ``redaction_shapes``), by the
name that they stand under (``redaction_names``), by the argument names that a tool declares, and by the values that
tools were given as secrets (``known_secrets``). It puts ``[redacted:KIND]`` in their place.

It leans to the safe side where a name says "secret", and to precision where only the shape speaks: ids, hashes, dates
and prices must survive, or an audit record says nothing. A secret that has neither name nor shape, such as a password
alone in a sentence, is not found: declare the argument.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from turnkeeper.adapters import redaction_names as names
from turnkeeper.adapters import redaction_shapes as shapes
from turnkeeper.adapters.known_secrets import KNOWN, KnownSecrets

_MAX_DEPTH: Final = 40
_MAX_NODES: Final = 100_000
_MAX_JSON: Final = 200_000
#: Where a secret was, and nothing else: a value that only begins like this may still hold one.
_MARK: Final = re.compile(r"\[redacted:[a-z0-9_ -]{1,60}\]")


class Redactor:
    """Immutable once made but for what ``known_secrets`` comes to know, so one may serve all threads.

    ``secret_names`` are argument names whose values are secret whatever they look like (``Tool.secret_arguments``).
    Texts beyond ``max_chars`` are cut: what was not examined does not go out.
    """

    def __init__(
        self, secret_names: Iterable[str] = (), *, max_chars: int = 1_000_000, known_secrets: KnownSecrets = KNOWN
    ) -> None:
        self._declared = frozenset(name.lower() for name in secret_names)
        self._pattern = names.declared_pattern(self._declared)
        self._max_chars = max_chars
        self._secrets = known_secrets

    def with_names(self, secret_names: Iterable[str]) -> Redactor:
        """A redactor that knows these argument names as well."""
        return Redactor(
            self._declared | {name.lower() for name in secret_names},
            max_chars=self._max_chars,
            known_secrets=self._secrets,
        )

    def without_given(self, value: Any) -> Any:
        """JSON without the secrets that tools were given, and else as it is."""
        return self._secrets.hide_in(value)

    def redact_text(self, text: str, *, known: Iterable[str] = ()) -> str:
        """The text without its secrets. ``known`` are values that are secret here, such as those of :meth:`values`."""
        text = self._secrets.hide(text)
        cut = self._cut(text)
        clean = shapes.known(cut, known)
        if len(clean) <= _MAX_JSON and clean.lstrip()[:1] in {"{", "[", '"'}:
            clean = self._json(clean)
        clean = self._plain(clean)
        clean = shapes.base64_wrapped(clean, lambda inside: self._plain(inside) != inside)
        dropped = len(text) - len(cut)
        return f"{clean}[redacted:{dropped} characters not examined]" if dropped else clean

    def redact(self, value: Any, *, known: Iterable[str] = ()) -> Any:
        """JSON without its secrets: the same structure, with values under secret names replaced as a whole.

        Anything that is no JSON is taken for its text. Never raises on what it is given.
        """
        return self._walk(value, tuple(known), 0, [_MAX_NODES])

    def values(self, arguments: Any) -> tuple[str, ...]:
        """The values under declared or conventional secret names: to be taken out of error texts that quote them."""
        found: list[str] = []
        pending = [(arguments, False, 0)]
        while pending and len(found) < 1000:
            value, secret, depth = pending.pop()
            if isinstance(value, Mapping) and depth < _MAX_DEPTH:
                pending += [(item, secret or self._is_secret(str(key)), depth + 1) for key, item in value.items()]
            elif isinstance(value, list | tuple) and depth < _MAX_DEPTH:
                pending += [(item, secret, depth + 1) for item in value]
            elif secret and isinstance(value, str | int | float) and not isinstance(value, bool):
                found.append(str(value))
        return tuple(found)

    def _is_secret(self, name: str) -> bool:
        return name.lower() in self._declared or names.is_secret_name(name)

    def _cut(self, text: str) -> str:
        if len(text) <= self._max_chars:
            return text
        # Cut at a blank where there is one near: half a token has no shape any more.
        near = max(text.rfind(blank, self._max_chars - 4096, self._max_chars) for blank in " \n")
        return text[: near if near > 0 else self._max_chars]

    def _plain(self, text: str) -> str:
        text = shapes.private_keys(text)
        text = shapes.logins(text)
        text = shapes.headers(text)
        if self._pattern:
            text = names.assigned_to(text, self._pattern)
        text = names.assigned(text)
        text = shapes.tokens(text)
        return shapes.cards(text)

    def _json(self, text: str) -> str:
        """JSON inside a string, a string too: read, redacted and written again, where that changes anything."""
        try:
            value = json.loads(text)
            clean = self._walk(value, (), 1, [_MAX_NODES])
            return text if clean == value else json.dumps(clean, ensure_ascii=False)
        except (ValueError, RecursionError):
            return text

    def _walk(self, value: Any, known: tuple[str, ...], depth: int, nodes: list[int]) -> Any:
        nodes[0] -= 1
        if depth > _MAX_DEPTH or nodes[0] < 0:
            return shapes.mark("too_large")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float) and (hidden := self._secrets.hide_in(value)) is not value:
            return hidden
        if isinstance(value, float):
            return value
        if isinstance(value, int):
            return shapes.mark("card") if 0 < value < 10**19 and shapes.is_card(str(value)) else value
        if isinstance(value, Mapping):
            return self._object(value, known, depth, nodes)
        if isinstance(value, list | tuple | set | frozenset):
            return [self._walk(item, known, depth + 1, nodes) for item in value]
        return self.redact_text(_text_of(value), known=known)

    def _object(self, value: Mapping[Any, Any], known: tuple[str, ...], depth: int, nodes: list[int]) -> dict[str, Any]:
        named = next((value[key] for key in ("name", "Name", "key", "Key") if isinstance(value.get(key), str)), None)
        clean: dict[str, Any] = {}
        for key, item in value.items():
            name = str(key)
            # {"name": "DB_PASSWORD", "value": ...}: how environments and headers are listed.
            listed = named is not None and name.lower() == "value" and self._is_secret(named)
            shown = self.redact_text(name, known=known)
            if self._hides(name, item) or (listed and self._hides(str(named), item)):
                declared = name.lower() in self._declared
                clean[shown] = shapes.mark(
                    "secret_argument" if declared else names.kind_of(str(named) if listed else name)
                )
            else:
                clean[shown] = self._walk(item, known, depth + 1, nodes)
        return clean

    def _hides(self, name: str, item: Any) -> bool:
        if item is None or item in ("", [], {}) or (isinstance(item, str) and _MARK.fullmatch(item)):
            return False
        if name.lower() in self._declared:
            return True
        if not names.is_secret_name(name) or isinstance(item, bool):
            return False
        # A number under "..._token" is a count or a fencing token; under "password" it is a password.
        counts = isinstance(item, int | float) and names.kind_of(name) == "token"
        return not counts


class RedactingFilter(logging.Filter):
    """Put on a *handler*, redacts every record that goes through it: message, arguments, extras, exception, stack.

    Works for the standard library's formatters and for Powertools' JSON formatter, which prints the exception anew from
    ``exc_info``. Never drops a record and never raises; what cannot be redacted is not shown.
    """

    def __init__(
        self, redactor: Redactor | None = None, *, words_of: Callable[[BaseException], str] | None = None
    ) -> None:
        """``words_of``: what may be shown of an error's text; all of it where nobody says."""
        super().__init__()
        self._redactor = redactor or Redactor()
        self._words_of = words_of or _text_of

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            self._clean(record)
        except Exception:  # noqa: BLE001 - arguments may fail in any way when they are formatted
            record.msg, record.args = shapes.mark("a log message that could not be read"), None
            record.exc_info = record.exc_text = record.stack_info = None
        return True

    def _clean(self, record: logging.LogRecord) -> None:
        redact = self._redactor
        if isinstance(record.msg, str):
            record.msg = redact.redact_text(record.getMessage())
        else:
            # Powertools takes a dict as structured fields.
            record.msg = redact.redact(record.msg)
        record.args = None
        for name in record.__dict__.keys() - _STANDARD:
            value = record.__dict__[name]
            hidden = redact.redact({name: value}).get(name, shapes.mark("name"))
            if hidden != value:
                record.__dict__[name] = hidden
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            shown = _redacted_error(error, redact, self._words_of, set())
            record.exc_info = (type(shown), shown, record.exc_info[2])
            lines = traceback.format_exception(type(shown), shown, record.exc_info[2])
            record.exc_text = redact.redact_text("".join(lines).rstrip("\n"))
        elif record.exc_text:
            record.exc_text = redact.redact_text(record.exc_text)
        if record.stack_info:
            record.stack_info = redact.redact_text(record.stack_info)


def install(logger: logging.Logger, redactor: Redactor | None = None) -> RedactingFilter:
    """Redact what goes through this logger's handlers, once however often it is called.

    A filter on a logger does not see its children's records; one on a handler does.
    """
    present = [f for handler in logger.handlers for f in handler.filters if isinstance(f, RedactingFilter)]
    shared = present[0] if present and redactor is None else RedactingFilter(redactor)
    for handler in logger.handlers:
        for old in [f for f in handler.filters if isinstance(f, RedactingFilter)]:
            handler.removeFilter(old)
        handler.addFilter(shared)
    return shared


_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


def _text_of(value: Any) -> str:
    try:
        return value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
    except Exception:  # noqa: BLE001 - somebody else's __str__
        return type(value).__name__


def _redacted_error(
    error: BaseException, redact: Redactor, words_of: Callable[[BaseException], str], seen: set[int]
) -> BaseException:
    """A stand-in that prints as the same type with a redacted text; its causes likewise."""
    seen.add(id(error))
    text = redact.redact_text(words_of(error))
    kind = type(error)
    stand_in: Exception = type(
        kind.__name__,
        (Exception,),
        {
            "__module__": kind.__module__,
            "__str__": lambda _self: text,
            "__repr__": lambda _self: f"{kind.__name__}({text!r})",
        },
    )(text)
    stand_in.__traceback__ = error.__traceback__
    for attribute in ("__cause__", "__context__"):
        other = getattr(error, attribute)
        if other is not None and id(other) not in seen and len(seen) < 20:
            setattr(stand_in, attribute, _redacted_error(other, redact, words_of, seen))
    stand_in.__suppress_context__ = error.__suppress_context__
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list) and text:
        stand_in.__notes__ = [redact.redact_text(str(note)) for note in notes]
    return stand_in
