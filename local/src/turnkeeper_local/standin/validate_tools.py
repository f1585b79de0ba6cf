"""What the API answers 400 to, in ``tools`` and ``tool_choice``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache

from turnkeeper_local.standin import checks
from turnkeeper_local.standin.checks import Json
from turnkeeper_local.standin.errors import invalid

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")

#: Tools that the API itself knows, by the beginning of their versioned type.
_API_TOOLS = (
    *("bash_", "browser_toolset_", "code_execution_", "computer_", "memory_", "text_editor_"),
    *("tool_search_tool_", "web_fetch_", "web_search_", "mcp_toolset", "advisor_"),
)
_NAMELESS = ("browser_toolset_", "computer_toolset_", "mcp_toolset")

_NULLABLE = frozenset({"properties", "required"})

_FIELDS = (
    *("type", "name", "description", "input_schema", "cache_control", "allowed_callers", "defer_loading"),
    *("eager_input_streaming", "input_examples", "strict"),
)


def validate_tools(value: object) -> None:
    names: set[str] = set()
    for index, entry in enumerate(checks.array(value, "tools")):
        at = f"tools.{index}"
        tool = checks.mapping(entry, at)
        kind = tool.get("type")
        if kind is None or kind == "custom":
            _custom(tool, f"{at}.custom")
        elif not isinstance(kind, str) or not kind.startswith(_API_TOOLS):
            raise invalid(f"{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
        elif not kind.startswith(_NAMELESS):
            checks.string(checks.required(tool, "name", at), f"{at}.name")
        checks.cache_control(tool.get("cache_control"), f"{at}.cache_control")
        if isinstance(name := tool.get("name"), str):
            if name in names:
                raise invalid("tools: Tool names must be unique.")
            names.add(name)


def validate_tool_choice(value: object, tools: Sequence[Json]) -> None:
    choice = checks.mapping(value, "tool_choice")
    kinds = ("auto", "any", "tool", "none")
    kind = checks.one_of(checks.required(choice, "type", "tool_choice"), kinds, "tool_choice.type")
    allowed = {"type"} if kind == "none" else {"type", "disable_parallel_tool_use"}
    if kind == "tool":
        allowed.add("name")
        name = checks.string(checks.required(choice, "name", "tool_choice.tool"), "tool_choice.tool.name")
        if all(tool.get("name") != name for tool in tools):
            raise invalid(f"Tool '{name}' not found in provided tools")
    checks.only(choice, allowed, f"tool_choice.{kind}")
    if "disable_parallel_tool_use" in choice:
        at = f"tool_choice.{kind}.disable_parallel_tool_use"
        checks.boolean(choice["disable_parallel_tool_use"], at)
    if kind != "none" and not tools:
        raise invalid("tool_choice: tool_choice may only be specified while providing tools")


def _custom(tool: Json, at: str) -> None:
    checks.only(tool, _FIELDS, at)
    name = checks.string(checks.required(tool, "name", at), f"{at}.name")
    if not _NAME.fullmatch(name):
        raise invalid(f"{at}.name: String should match pattern '^{_NAME.pattern}$'")
    if "description" in tool:
        checks.string(tool["description"], f"{at}.description")
    for key in ("strict", "defer_loading"):
        if key in tool:
            checks.boolean(tool[key], f"{at}.{key}")
    _schema(checks.mapping(checks.required(tool, "input_schema", at), f"{at}.input_schema"), tool, at)


def _schema(schema: Json, tool: Json, at: str) -> None:
    at = f"{at}.input_schema"
    if checks.required(schema, "type", at) != "object":
        raise invalid(f"{at}.type: Input should be 'object'")
    if any(key in schema for key in ("oneOf", "anyOf", "allOf")):
        raise invalid(f"{at}: input_schema does not support oneOf, allOf, or anyOf at the top level")
    properties = schema.get("properties")
    for key in checks.mapping(properties, f"{at}.properties") if properties is not None else ():
        if not _PROPERTY.fullmatch(key):
            raise invalid(f"{at}.properties: Property keys should match pattern '^{_PROPERTY.pattern}$'")
    for index, name in enumerate(checks.array(schema.get("required") or [], f"{at}.required")):
        checks.string(name, f"{at}.required.{index}")
    # As the SDK's types have it, these two may be null at the root.
    rest = {key: value for key, value in schema.items() if key not in _NULLABLE or value is not None}
    if not _is_schema(json.dumps(rest)):
        raise invalid(
            f"{at}: JSON schema is invalid. It must match JSON Schema draft 2020-12 "
            "(https://json-schema.org/draft/2020-12)."
        )
    if tool.get("strict") and schema.get("additionalProperties") is not False:
        raise invalid(f"{at}: For 'object' type, 'additionalProperties' must be explicitly set to false")


@lru_cache(maxsize=4096)
def _is_schema(text: str) -> bool:
    """Whether this is a schema of draft 2020-12. Formats (patterns, addresses) are not looked into."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(json.loads(text), format_checker=jsonschema.FormatChecker(()))
    except (jsonschema.SchemaError, RecursionError):
        return False
    return True
