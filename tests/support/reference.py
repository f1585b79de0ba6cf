"""The reference of docs/reference, made from the code: names, signatures, keys and what their docstrings promise."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from typing import Any, Final

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

MADE: Final = "<!-- Made from the code by `make docs`. -->"
PACKAGES: Final = ("turnkeeper", "turnkeeper.tools", "turnkeeper.testing")


def markdown(text: str | None) -> str:
    """A docstring as Markdown: its markup, and its sections of arguments and errors."""
    text = inspect.cleandoc(text or "")
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    lines, section = [], False
    for line in text.splitlines():
        if heading := re.fullmatch(r"(Args|Raises|Returns|Yields):", line):
            lines += [f"**{heading[1]}**", ""]
            section = True
        elif section and line and not line.startswith(" "):
            section = False
            lines.append(line)
        elif section and (entry := re.fullmatch(r" {4}(\w[\w.]*): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif section and line.strip():
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines).strip()


def cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def fields_of(cls: type) -> dict[str, str]:
    """What the source says of each field of a class: the `#:` before it, or the string after it."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] not in {"turnkeeper", "turnkeeper_infra", "turnkeeper_local", "functions"}:
            continue
        source = textwrap.dedent(inspect.getsource(base))
        lines = source.splitlines()
        (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
        for node, after in zip(body, [*body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            above: list[str] = []
            for line in reversed(lines[: node.lineno - 1]):
                if not line.strip().startswith("#:"):
                    break
                above.insert(0, line.strip()[2:].strip())
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                above = [str(after.value.value)]
            found[node.target.id] = markdown(" ".join(above))
    return found


# ---- Python ----


def python_page() -> str:
    parts = [
        MADE,
        "# The Python API",
        "What may be imported, and what each promises. Everything else may change in any version.",
    ]
    for package in PACKAGES:
        module = importlib.import_module(package)
        names: list[str] = list(getattr(module, "__all__", ()))
        if not names:
            continue
        parts += [f"## {package}", markdown(module.__doc__)]
        parts += [part for name in sorted(names, key=str.lower) for part in _member(name, getattr(module, name))]
    return "\n\n".join(parts) + "\n"


def _member(name: str, value: object) -> Iterator[str]:
    yield f"### {name}"
    if inspect.isclass(value) or inspect.isroutine(value):
        if (signature := _signature(name, value)) is not None:
            yield f"```python\n{signature}\n```"
        yield markdown(value.__doc__)
    elif isinstance(value, types.ModuleType):
        yield markdown(value.__doc__)
    else:
        described = getattr(value, "description", None)
        yield markdown(described if isinstance(described, str) else f"A `{type(value).__name__}`.")
    if inspect.isclass(value):
        yield from _inside(value)


def _inside(cls: type) -> Iterator[str]:
    if (dataclasses.is_dataclass(cls) or issubclass(cls, BaseModel)) and (told := fields_of(cls)):
        rows = [f"| `{name}` | {cell(text)} |" for name, text in told.items() if text and not name.startswith("_")]
        if rows:
            yield "\n".join(["| field | |", "|---|---|", *rows])
    for name, value in list(vars(cls).items()):
        function = value.fget if isinstance(value, property) else inspect.unwrap(getattr(cls, name, None) or value)
        ours = getattr(function, "__module__", "").startswith("turnkeeper")
        if name.startswith("_") or not inspect.isfunction(function) or not ours or not function.__doc__:
            continue
        shown = name if isinstance(value, property) else f"{name}{_arguments(function)}"
        yield f"**`{shown}`**: {markdown(function.__doc__)}"


def _arguments(function: Any) -> str:
    signature = inspect.signature(function)
    returns = (
        f" -> {_annotation(signature.return_annotation)}" if signature.return_annotation != signature.empty else ""
    )
    return f"({', '.join(_parameters(signature))}){returns}"


def _parameters(signature: inspect.Signature) -> list[str]:
    """As they are written, without `self`, and with the star that separates what has to be named."""
    parameters = [one for one in signature.parameters.values() if one.name not in {"self", "cls"}]
    given, kinds = [_parameter(one) for one in parameters], [one.kind for one in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        given.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    return given


def _signature(name: str, value: Any) -> str | None:
    if inspect.isclass(value) and issubclass(value, enum.Enum | BaseException):
        return f"class {name}({value.__mro__[1].__name__}): ..."
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    word = "class" if inspect.isclass(value) else "def"
    returns = (
        ""
        if word == "class" or signature.return_annotation is inspect.Signature.empty
        else f" -> {_annotation(signature.return_annotation)}"
    )
    given = _parameters(signature)
    line = f"{word} {name}({', '.join(given)}){returns}: ..."
    if len(line) <= 100:
        return line if word == "def" else line.removesuffix(": ...")
    inner = "".join(f"    {one},\n" for one in given)
    return f"{word} {name}(\n{inner}){returns}: ..." if word == "def" else f"{name}(\n{inner})"


def _parameter(one: inspect.Parameter) -> str:
    stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(one.kind.name, "")
    text = stars + one.name
    if one.annotation is not inspect.Parameter.empty:
        text += f": {_annotation(one.annotation)}"
    if one.default is not inspect.Parameter.empty:
        plain = one.default is None or isinstance(one.default, str | int | float | bool | tuple)
        text += f" = {one.default!r}" if plain else " = ..."
    return text


def _annotation(annotation: Any) -> str:
    return str(annotation) if isinstance(annotation, str) else inspect.formatannotation(annotation)


# ---- the command line ----


def commands_page() -> str:
    from turnkeeper_local.cli.main import app

    parts = [
        MADE,
        "# Commands",
        "Every command with its options, as `turnkeeper COMMAND --help` has them. "
        "[cli.md](../cli.md) says what they have in common.",
    ]
    for path, command in sorted(commands(typer.main.get_command(app))):
        parts += [f"## {' '.join(path)}", _usage(path, command), markdown(command.help)]
        rows = [_option(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            parts.append("\n".join(["| | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group that can be called."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from commands(inner, (*path, name))
    else:
        yield path, command


def _usage(path: tuple[str, ...], command: Any) -> str:
    names = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs == -1 else "")
            names.append(name if parameter.required or name.startswith("[") else f"[{name}]")
    return f"    {' '.join(['turnkeeper', *path, *names, '[OPTIONS]'])}"


def _option(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "option":
        shown = ", ".join(parameter.opts)
        name = shown if parameter.is_flag else f"{shown} {name}"
    told = parameter.help or ""
    if parameter.default not in (None, False, ()) and not callable(parameter.default) and parameter.show_default:
        told += f" By default {parameter.default}."
    return f"| `{cell(name)}` | {cell(told)} |"


# ---- HTTP ----


def openapi() -> dict[str, Any]:
    from functions.api.openapi import openapi_document
    from functions.api.routes import ROUTES

    return openapi_document(ROUTES)


def http_page() -> str:
    document = openapi()
    parts = [
        MADE,
        "# HTTP calls",
        "As `GET /v1/openapi.json` says them. What a schema cannot say is in [http-api.md](../http-api.md).",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += [f"## {method.upper()} {path}", f"{operation['summary']}. `{operation['operationId']}`"]
            if given := operation.get("parameters"):
                rows = [f"| `{one['name']}` | {one['in']} | {cell(one.get('description', ''))} |" for one in given]
                parts.append("\n".join(["| parameter | in | |", "|---|---|---|", *rows]))
            if body := operation.get("requestBody"):
                parts.append(f"Body: {_schema_link(body['content']['application/json']['schema'])}.")
            rows = [f"| {status} | {_answer(told)} |" for status, told in operation["responses"].items()]
            parts.append("\n".join(["| answer | |", "|---|---|", *rows]))
    parts.append("## Bodies")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += [f"### {name}", markdown(schema.get("description")), *_members(schema)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _members(schema: dict[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    rows = [
        f"| `{name}`{'' if name in required else ' (may be left out)'} | {_type(one)} "
        f"| {cell(one.get('description', ''))} |"
        for name, one in schema.get("properties", {}).items()
    ]
    if rows:
        yield "\n".join(["| member | | |", "|---|---|---|", *rows])


def _answer(told: dict[str, Any]) -> str:
    links = sorted({_schema_link(one["schema"]) for one in told.get("content", {}).values() if "schema" in one})
    return cell(f"{', '.join(link for link in links if link)} {told.get('description', '')}")


def _schema_link(schema: dict[str, Any]) -> str:
    if "$ref" not in schema:
        return ""
    name = schema["$ref"].rsplit("/", 1)[-1]
    return f"[{name}](#{name.lower()})"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _schema_link(schema)
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    bounds = [
        f"at least {schema['minimum']}" if "minimum" in schema else "",
        f"at most {schema['maximum']}" if "maximum" in schema else "",
    ]
    return ", ".join([str(schema.get("type", "any")), *filter(None, bounds)])


# ---- settings, events, records ----

#: Of the local kit and of tests; nobody writes them into a stage's file.
NOT_OF_A_STAGE: Final = frozenset({"local", "nag", "project", "source_root", "local_dependencies", "model_url"})


def stage_settings() -> str:
    from turnkeeper_infra.config import Config, tables

    parts = [_settings(Config, leave_out=NOT_OF_A_STAGE)]
    for title, model in (
        ("runners", tables.Runners),
        ("runners.secrets", tables.RunnerSecret),
        ("runners.policies", tables.Statement),
    ):
        parts += [f"## [{title}]", markdown(model.__doc__), _settings(model)]
    return "\n\n".join(parts) + "\n"


def policy_keys() -> str:
    from turnkeeper.core import policy, scopes

    told = {
        row.plan_key: f"Dollars or `unlimited`: cap of the scope `{row.name}`, {scopes._HOLDS[row.holder]}."
        + ("" if row.required else " May be left out. A table gives each agent its own.")
        for row in scopes.SCOPES.values()
    }
    caps = "\n".join(["| key | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in told.items())])
    return "\n\n".join([
        "### Top of the file", _settings(policy.Policy),
        "### [plans.NAME]", caps, _settings(policy.PlanPolicy, leave_out=frozenset({"caps"})),
        "### [roles.NAME]", _settings(policy.RolePolicy),
        "### [plans.NAME.limits], [roles.NAME.limits]",
        markdown(policy.PlanLimits.__doc__), _settings(policy.PlanLimits),
    ]) + "\n"  # fmt: skip


def _settings(model: type[BaseModel], leave_out: frozenset[str] = frozenset()) -> str:
    told, schema = fields_of(model), model.model_json_schema(mode="validation")
    rows = []
    for name, field in model.model_fields.items():
        if name in leave_out:
            continue
        default = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
        shown = "required" if default is PydanticUndefined else _default(default)
        kind = _without_links(_type(schema["properties"].get(name, {})))
        rows.append(f"| `{name}` | {cell(kind)} | {shown} | {cell(told.get(name, ''))} |")
    return "\n".join(["| key | | default | |", "|---|---|---|---|", *rows])


def _default(value: Any) -> str:
    if value is None or value in ("", (), {}, frozenset()) or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def event_members() -> str:
    from functions.api.documents.events import Event, ToolResult

    schema = openapi()["components"]["schemas"]
    parts = []
    for model, title in ((Event, "An event"), (ToolResult, "One of `results`")):
        parts += [f"## {title}", *_members(schema[model.__name__])]
    return _without_links("\n\n".join(parts)) + "\n"


def _without_links(text: str) -> str:
    return re.sub(r"\[(\w+)\]\(#\w+\)", r"`\1`", text)


def audit_fields() -> str:
    from turnkeeper.core.audit import AuditRecord

    rows = [f"| `{name}` | {cell(text)} |" for name, text in fields_of(AuditRecord).items()]
    return "\n".join(["| member | |", "|---|---|", *rows]) + "\n"
