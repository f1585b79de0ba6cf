"""Whether a value fits a JSON Schema, told in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def misfit(schema: Mapping[str, Any], value: Any, *, whole: str) -> str | None:
    """Where a value does not fit a schema (draft 2020-12), and by which rule; ``None`` where it fits.

    Args:
        whole: what the value is called where it is at fault as a whole.
    """
    from jsonschema import Draft202012Validator  # 75 ms

    error = next(iter(Draft202012Validator(dict(schema)).iter_errors(value)), None)
    if error is None:
        return None
    return f"{'.'.join(map(str, error.absolute_path)) or whole} does not fit the schema ({error.validator})"
