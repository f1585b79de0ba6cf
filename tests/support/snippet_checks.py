"""What is wrong with a block of a page, without carrying it out. Each problem is a sentence that names the block."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tests.support.command_line import tree
from tests.support.reference import NOT_OF_A_STAGE, openapi
from tests.support.snippets import PROGRAMS, ROOT, Block, Command, command_lines, json_values

OURS = {"turnkeeper", "turnkeeper_infra", "turnkeeper_local", "turnkeeper_project"}


# ---- command lines ----


def shell_problems(block: Block) -> Iterator[str]:
    for command in command_lines(block):
        check = {"turnkeeper": _turnkeeper, "make": _make, "aws": _aws}.get(command.program)
        if check is not None:
            for problem in check(command):
                yield f"{block}: {command.program} {' '.join(command.words)}: {problem}"
        elif command.program not in PROGRAMS and not command.program.startswith("$"):
            yield f"{block}: {command.program!r} is no program that pages use"


def _turnkeeper(command: Command) -> Iterator[str]:
    from turnkeeper_local.cli.main import app

    if re.fullmatch(r"[A-Z.]+|", " ".join(command.words)) or command.words[:1] == ("...",):
        return
    current, words = tree(app), list(command.words)
    # A command keeps the names of its help that it is first asked with, and tests share the tree: else it has no `-h`.
    settings = current.context_settings
    while hasattr(current, "commands"):
        if not words or words[0].startswith("-"):
            yield from _parsed(current, words, settings)
            return
        if words[0] not in current.commands:
            yield f"there is no command {words[0]!r}"
            return
        current = current.commands[words.pop(0)]
    yield from _parsed(current, words, settings)


def _parsed(command: Any, words: list[str], settings: Mapping[str, Any]) -> Iterator[str]:
    # `[--option]` and `[NAME...]` are how a page says that something may be left out, or said more than once.
    words = [re.sub(r"^\[|\]$", "", word) for word in words]
    rest_is_left_out = any(word.endswith("...") for word in words)
    words = [word for word in words if not word.endswith("...")]
    if {"--help", "-h"} & set(words):
        return
    try:
        given, too_many, _ = command.make_parser(command.context_class(command, **settings)).parse_args(words)
    except Exception as error:  # noqa: BLE001 - the parser's own errors have no public base
        yield str(getattr(error, "message", error))
        return
    if too_many:
        yield f"takes no {too_many}"
    missing = [one.name for one in command.params if one.required and given.get(one.name) in (None, ())]
    if missing and not rest_is_left_out:
        yield f"needs {', '.join(missing)}"


def _make(command: Command) -> Iterator[str]:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for word in command.words:
        if "=" not in word and not word.startswith("-") and word not in targets:
            yield f"there is no target {word!r}"


#: Commands that the AWS client adds to the services' own operations, with their options.
_CLIENTS_OWN: Mapping[tuple[str, str], frozenset[str]] = {
    ("logs", "tail"): frozenset({"since", "follow", "format", "filter-pattern", "log-stream-names"}),
}


def _aws(command: Command) -> Iterator[str]:
    """Service, operation and options, by the models that the AWS client itself is made from."""
    from botocore import xform_name
    from botocore.exceptions import UnknownServiceError

    service, operation, *words = command.words
    if (known := _CLIENTS_OWN.get((service, operation))) is not None:
        given = {word.removeprefix("--").split("=", 1)[0] for word in words if word.startswith("--")}
        yield from (f"{service} {operation} has no option --{option}" for option in given - known)
        return
    if (service, operation) == ("lambda", "wait") or operation == "wait" or service in {"s3", "configure"}:
        return
    try:
        model = _service(service)
    except UnknownServiceError:
        yield f"there is no service {service!r}"
        return
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in operations:
        yield f"{service} has no operation {operation!r}"
        return
    shape = model.operation_model(operations[operation]).input_shape
    members = {xform_name(name, "-") for name in shape.members} if shape else set()
    of_the_client = {
        "query",
        "output",
        "region",
        "profile",
        "no-cli-pager",
        "max-items",
        "starting-token",
        "no-paginate",
    }
    for word in words:
        option = word.removeprefix("--").split("=", 1)[0]
        if (
            word.startswith("--")
            and option not in members | of_the_client
            and option.removeprefix("no-") not in members
        ):
            yield f"{service} {operation} has no option --{option}"


@cache
def _service(name: str) -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model({"deploy": "codedeploy"}.get(name, name))


# ---- Python ----


def python_problems(block: Block) -> Iterator[str]:
    """Syntax, whether what is imported exists, and whether calls of the kit's own functions fit their signatures."""
    try:
        tree = ast.parse(textwrap.dedent(block.text))
    except SyntaxError as error:
        yield f"{block}: {error}"
        return
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0 and node.module.split(".")[0] in OURS:
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    yield f"{block}: {node.module} has no {name.name}"
                else:
                    known[name.asname or name.name] = getattr(module, name.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            function = known.get(node.func.id) or _guarded().get(node.func.id)
            yield from (f"{block}: {problem}" for problem in _call_problems(function, node))


def _call_problems(function: Any, call: ast.Call) -> Iterator[str]:
    keywords = {one.arg for one in call.keywords if one.arg is not None}
    try:
        parameters = inspect.signature(function).parameters if function is not None else {}
    except (TypeError, ValueError):
        return
    if parameters and not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        for name in keywords - set(parameters):
            yield f"{ast.unparse(call.func)}() has no parameter {name!r}"


@cache
def _guarded() -> Mapping[str, Any]:
    tools = importlib.import_module("turnkeeper.tools")
    return {name: getattr(tools, name) for name in tools.__all__}


# ---- data ----


def toml_problems(block: Block) -> Iterator[str]:
    try:
        written = tomllib.loads(textwrap.dedent(block.text))
    except tomllib.TOMLDecodeError as error:
        yield f"{block}: {error}"
        return
    of_python = {"project", "tool", "build-system", "dependency-groups", "pytest"}
    if (of_python | {"personal"}) & set(written) or _is_local(block):
        return
    if {"plans", "roles", "tenants", "models", "default_plan", "default_role"} & set(written):
        yield from (f"{block}: {problem}" for problem in _policy_problems(written))
    else:
        yield from (f"{block}: {problem}" for problem in _stage_problems(written))


def _is_local(block: Block) -> bool:
    """A file of this machine's own, which no stage and no policy reads."""
    return (block.file or "").endswith("local.toml")


def _policy_problems(written: Mapping[str, Any]) -> Iterator[str]:
    from turnkeeper.adapters.price_overrides import price_overrides
    from turnkeeper.core.policy import policy_of

    whole = _merged(tomllib.loads((ROOT / "policy.toml").read_text()), written)
    for plan in whole["plans"].values():
        for name, value in whole["plans"]["standard"].items():
            plan.setdefault(name, value)
    try:
        price_overrides(policy_of(whole).models)
    except ValueError as error:
        yield str(error)


def _stage_problems(written: Mapping[str, Any]) -> Iterator[str]:
    from turnkeeper_infra.config import Config, ConfigError

    if hidden := NOT_OF_A_STAGE & set(written):
        yield f"{', '.join(sorted(hidden))} is not of a stage's file"
    caller: dict[str, Any] = {"identity": "iam", "trusted_principals": ["arn:aws:iam::111122223333:role/Backend"]}
    caller = {} if "identity" in written else caller
    network = {"vpc_id": "vpc-0123456789abcdef0"} if any(key.startswith("vpc_") for key in written) else {}
    try:
        Config.of(_merged({**caller, **network}, written))
    except ConfigError as error:
        yield str(error)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        tables = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if tables else value
    return merged


def json_problems(block: Block) -> Iterator[str]:
    """Whether what is shown can be read, and its members are those of a document of the API, of a job or of IAM."""
    try:
        values = json_values(textwrap.dedent(block.text))
    except json.JSONDecodeError as error:
        yield f"{block}: {error}"
        return
    for value in values:
        names = set(value) if isinstance(value, dict) else set()
        if not any(names <= shape for shape in _shapes()):
            yield f"{block}: no document has the members {', '.join(sorted(names))}"


@cache
def _shapes() -> list[set[str]]:
    from turnkeeper.runtime.jobs import Continue, Job

    shapes = [set(schema.get("properties", ())) for schema in openapi()["components"]["schemas"].values()]
    jobs = [
        {field.alias or name for name, field in model.model_fields.items()} | {"schema"} for model in (Job, Continue)
    ]
    iam = [{"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}, {"Version", "Statement"}]
    return [*shapes, *jobs, *iam, {"error"}]
