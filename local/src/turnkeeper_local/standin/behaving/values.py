"""Arguments that fit a tool's JSON schema, drawn from the question where it has them.

What is made is checked against the schema itself before it is given away: a tool for whose schema nothing valid is
found is not called. So the rules here only have to be good at guessing, never complete.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from turnkeeper_local.standin.behaving.patterns import matching
from turnkeeper_local.standin.behaving.queries import statements, takes_sql
from turnkeeper_local.standin.behaving.reading import Question, shape_of, stems
from turnkeeper_local.standin.behaving.schemas import (
    FORMATS,
    merged_schema,
    pattern_says_something,
    samples_of,
    types_of,
)

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_DEPTH = 12
_TRIES = 40
_LONGEST = 10_000
_WORDS = ("q", "query", "question", "text", "input", "prompt", "message", "search", "goal", "content", "body", "reason")
_IDENTIFIER = re.compile(r"(?:^|_)(?:id|ids|no|nr|number|code|key|ref|reference)$", re.IGNORECASE)
_ANY_IDENTIFIER = re.compile(r"(?=[\w-]*\d)(?=[\w-]*[A-Za-z-])[\w-]{3,64}")


class Unfit(Exception):
    """No value was found for a schema."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """A tool's arguments. ``drawn`` of its required ones stand in the question; ``made_up`` do not, nor has the schema
    a default or choice for them."""

    values: dict[str, Any]
    drawn: int
    made_up: int


def arguments_for(tool: Mapping[str, Any], question: Question) -> Arguments | None:
    """Arguments that the tool's schema finds valid; None where none were found."""
    schema = _schema_of(tool)
    try:
        judge = _judge(schema)
        maker = _Maker(question, str(tool.get("description") or ""), schema, judge)
        values = maker.pick(schema, "", 0)
        if not isinstance(values, dict) or not judge.is_valid(values):
            return None
        json.dumps(values, allow_nan=False)
    except Exception:  # noqa: BLE001 - a schema may be anything, and a tool that is not understood is not called
        return None
    required = [name for name in schema.get("required", ()) if name in values]
    drawn = sum(name in maker.drawn for name in required)
    return Arguments(values, drawn, sum(name in maker.made_up for name in required))


def fits(tool: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether the tool's schema finds these arguments valid."""
    return bool(_judge(_schema_of(tool)).is_valid(values))


def _schema_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tool["input_schema"].items() if value is not None}


def _judge(schema: Mapping[str, Any]) -> Validator:
    from jsonschema import Draft202012Validator, FormatChecker
    from referencing import Registry

    # With a registry of its own it fetches nothing, whatever addresses a schema names.
    return Draft202012Validator(schema, registry=Registry(), format_checker=FormatChecker())


@dataclass(slots=True)
class _Maker:
    question: Question
    about: str
    root: Mapping[str, Any]
    judge: Validator
    drawn: set[str] = field(default_factory=set)
    made_up: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)

    def pick(self, schema: Any, name: str, depth: int) -> Any:
        """The first candidate that is valid.

        Raises:
            Unfit: none is.
        """
        for candidate in itertools.islice(self.candidates(schema, name, depth), _TRIES):
            if self.is_valid(candidate, schema):
                return candidate
        raise Unfit(name)

    def is_valid(self, value: Any, schema: Any) -> bool:
        return bool(self.judge.evolve(schema=schema).is_valid(value))

    def candidates(self, schema: Any, name: str, depth: int) -> Iterator[Any]:
        """Values to try, the best first."""
        if depth > _DEPTH or schema is False:
            return
        if not isinstance(schema, Mapping):
            schema = {}
        if "$ref" in schema:
            target = self._resolved(str(schema["$ref"]))
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            yield from self.candidates(merged_schema(target, rest) if rest else target, name, depth + 1)
            return
        for one in schema.get("allOf", ()):
            target = self._resolved(str(one["$ref"])) if isinstance(one, Mapping) and "$ref" in one else one
            schema = merged_schema({key: value for key, value in schema.items() if key != "allOf"}, target)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                rest = {key: value for key, value in schema.items() if key not in {choice, "default"}}
                # Nothing is the last choice: whoever may say something has a reason to.
                for one in sorted(
                    schema[choice], key=lambda one: isinstance(one, Mapping) and one.get("type") == "null"
                ):
                    yield from itertools.islice(self.candidates(merged_schema(rest, one), name, depth + 1), _TRIES // 4)
                yield from self._given(schema)
                return
        yield from self._typed(schema, name, depth)

    def _typed(self, schema: Mapping[str, Any], name: str, depth: int) -> Iterator[Any]:
        if "const" in schema:
            yield schema["const"]
            return
        if "enum" in schema:
            yield from self._chosen(schema, name)
            return
        for kind in types_of(schema):
            match kind:
                case "string":
                    yield from self._texts(schema, name)
                case "integer" | "number":
                    yield from self._numbers(schema, name, whole=kind == "integer")
                case "boolean":
                    yield from self._given(schema)
                    yield from (False, True)
                case "null":
                    yield None
                case "object":
                    yield from self._objects(schema, depth)
                case "array":
                    yield from self._arrays(schema, name, depth)

    # ---- what stands in the question ----

    def mentioned(self, schema: Any, name: str) -> Iterator[Any]:
        """Values for an argument that the question itself holds; of an optional one only these are given."""
        schema = self._plain(schema)
        kinds = types_of(schema)
        if "enum" in schema:
            yield from (one for one in schema["enum"] if isinstance(one, str) and stems(one) & self.question.stems)
        elif "string" in kinds:
            yield from self._mentioned_texts(schema, name)
        elif {"integer", "number"} & set(kinds) and stems(name) & self.question.stems:
            yield from (_number(text) for text in self.question.numbers)

    def _mentioned_texts(self, schema: Mapping[str, Any], name: str) -> Iterator[str]:
        shapes = [shape for sample in samples_of(schema) if (shape := shape_of(sample))]
        if not shapes and schema.get("format") in FORMATS:
            shapes = [re.compile(FORMATS[schema["format"]][1])]
        if not shapes and pattern_says_something(schema.get("pattern")):
            shapes = [re.compile(schema["pattern"])]
        if not shapes and name.lower() in {"email", "url"}:
            shapes = [re.compile(FORMATS["email" if name.lower() == "email" else "uri"][1])]
        if not shapes and _IDENTIFIER.search(name):
            shapes = [_ANY_IDENTIFIER]
        for shape in shapes:
            yield from self.question.like(shape)

    def _plain(self, schema: Any) -> Mapping[str, Any]:
        """The schema behind a reference, and what is behind `X or nothing`."""
        for _ in range(_DEPTH):
            if not isinstance(schema, Mapping):
                return {}
            if "$ref" in schema:
                schema = self._resolved(str(schema["$ref"]))
            elif some := [
                one for one in schema.get("anyOf", ()) if isinstance(one, Mapping) and one.get("type") != "null"
            ]:
                schema = merged_schema({key: value for key, value in schema.items() if key != "anyOf"}, some[0])
            else:
                return schema
        return {}

    # ---- by type ----

    def _given(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        if "default" in schema:
            yield schema["default"]
        examples = schema.get("examples")
        yield from examples if isinstance(examples, list) else ()

    def _chosen(self, schema: Mapping[str, Any], name: str) -> Iterator[Any]:
        yield from self.mentioned(schema, name)
        yield from self._given(schema)
        yield from schema["enum"]

    def _texts(self, schema: Mapping[str, Any], name: str) -> Iterator[str]:
        about = f"{self.about} {schema.get('description', '')}"
        if takes_sql(name, about):
            yield from statements(about, self.question)
        for text in self._mentioned_texts(schema, name):
            if self.question.holds(text) and self.is_valid(text, schema):
                self.drawn.add(name)
            yield text
        yield from self._given(schema)
        samples = samples_of(schema)
        if samples or schema.get("format") in FORMATS or "pattern" in schema or _IDENTIFIER.search(name):
            self.made_up.add(name)
        yield from samples
        if schema.get("format") in FORMATS:
            yield FORMATS[schema["format"]][0]
        words = self.question.text.strip() or "nothing"
        whole = [words] if name.lower() in _WORDS else []
        for text in (*whole, *self.question.quoted, *self.question.names, words, "x"):
            yield _cut(text, schema)
        if (made := matching(str(schema.get("pattern", "")))) is not None:
            yield made
            yield _cut(made, schema)

    def _numbers(self, schema: Mapping[str, Any], name: str, *, whole: bool) -> Iterator[Any]:
        for text in self.question.numbers:
            if text not in self.used and (not whole or "." not in text):
                self.used.add(text)
                self.drawn.add(name)
                yield _number(text)
        yield from self._given(schema)
        self.made_up.add(name)
        step = schema.get("multipleOf", 1 if whole else 0)
        for bound in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
            if bound in schema:
                yield from _near(schema[bound], step, whole=whole)
        if "minimum" in schema and "maximum" in schema:
            yield (schema["minimum"] + schema["maximum"]) / 2
        yield from (1, 0, step)

    def _arrays(self, schema: Mapping[str, Any], name: str, depth: int) -> Iterator[list[Any]]:
        yield from (one for one in self._given(schema) if one)
        first = [self.pick(one, name, depth + 1) for one in schema.get("prefixItems", ())]
        least = min(int(schema.get("minItems", 0)), _LONGEST)
        items = schema.get("items", {})
        found: list[Any] = []
        for candidate in itertools.chain(
            _several(schema.get("contains"), self, name, depth), self._items(items, name, depth)
        ):
            if len(first) + len(found) >= max(least, len(first) + 1, 1):
                break
            if not schema.get("uniqueItems") or candidate not in found:
                found.append(candidate)
        if found and not schema.get("uniqueItems"):
            found += found[-1:] * (least - len(first) - len(found))
        yield [*first, *found]
        yield first
        yield found
        yield []

    def _items(self, items: Any, name: str, depth: int) -> Iterator[Any]:
        """Different ones, so far as there are."""
        yield from (one for one in self.candidates(items, name, depth + 1) if self.is_valid(one, items))
        for number in range(_TRIES):
            yield from (one for one in (number, f"x{number}", number + 0.5) if self.is_valid(one, items))

    def _objects(self, schema: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
        properties = schema.get("properties") or {}
        found: dict[str, Any] = {}
        for name in [*(schema.get("required") or ())]:
            found[name] = self.pick(properties.get(name, self._other(schema, name)), name, depth + 1)
        required = dict(found)
        for name, one in properties.items():
            if name not in found and (
                some := [value for value in self.mentioned(one, name) if self.is_valid(value, one)]
            ):
                found[name] = some[0]
        yield found
        yield required
        full = dict(found)
        for name, one in properties.items():
            if name not in full:
                try:
                    full[name] = self.pick(one, name, depth + 1)
                except Unfit:
                    continue
            yield dict(full)
        for number in range(min(int(schema.get("minProperties", 0)), _TRIES)):
            name = f"x{number}"
            full[name] = self.pick(self._other(schema, name), name, depth + 1)
        yield full

    @staticmethod
    def _other(schema: Mapping[str, Any], name: str) -> Any:
        """The schema of a member that ``properties`` does not name."""
        for pattern, one in (schema.get("patternProperties") or {}).items():
            if re.search(pattern, name):
                return one
        return schema.get("additionalProperties", {})

    def _resolved(self, reference: str) -> Any:
        """A reference within the schema; to anything else there is none."""
        if not reference.startswith("#"):
            raise Unfit(reference)
        target: Any = self.root
        for part in reference.removeprefix("#").split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            target = target[int(key)] if isinstance(target, list) else target[key]
        return target


def _several(schema: Any, maker: _Maker, name: str, depth: int) -> Iterator[Any]:
    if schema is not None:
        yield maker.pick(schema, name, depth + 1)


def _cut(text: str, schema: Mapping[str, Any]) -> str:
    least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", _LONGEST))
    if len(text) < least <= _LONGEST:
        text = (text or "x").ljust(least, (text or "x")[-1].strip() or "x")
    return text[:most]


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _near(bound: float, step: float, *, whole: bool) -> Iterator[Any]:
    """Numbers at a bound and to both sides of it."""
    if step:
        low = math.floor(bound / step)
        for factor in (low, low + 1, low - 1, low + 2):
            value = factor * step
            yield int(value) if whole else value
        return
    yield from (bound, bound + 1, bound - 1, bound + 1e-3, bound - 1e-3)
