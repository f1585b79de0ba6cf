"""Small checks that raise the API's 400 with the path of what is wrong, in the API's words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from turnkeeper_local.standin.errors import invalid

Json = Mapping[str, Any]


def mapping(value: object, at: str) -> Json:
    if not isinstance(value, dict):
        raise invalid(f"{at}: Input should be a valid dictionary")
    return value


def array(value: object, at: str) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(f"{at}: Input should be a valid list")
    return value


def string(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"{at}: Input should be a valid string")
    return value


def boolean(value: object, at: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"{at}: Input should be a valid boolean")
    return value


def integer(value: object, at: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(f"{at}: Input should be a valid integer")
    if value < least:
        raise invalid(f"{at}: Input should be greater than or equal to {least}")
    return value


def required(value: Json, key: str, at: str) -> Any:
    if key not in value:
        raise invalid(f"{join(at, key)}: Field required")
    return value[key]


def only(value: Json, allowed: Collection[str], at: str) -> None:
    for key in value:
        if key not in allowed:
            raise invalid(f"{join(at, key)}: Extra inputs are not permitted")


def one_of(value: object, allowed: Collection[str], at: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        listed = [f"'{name}'" for name in allowed]
        wanted = " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
        raise invalid(f"{at}: Input should be {wanted}")
    return value


def cache_control(value: object, at: str) -> None:
    if value is None:
        return
    marker = mapping(value, at)
    only(marker, ("type", "ttl"), at)
    one_of(required(marker, "type", at), ("ephemeral",), join(at, "type"))
    if "ttl" in marker:
        one_of(marker["ttl"], ("5m", "1h"), join(at, "ttl"))


def join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def effort(config: object, at: str) -> Json:
    """``output_config`` as far as a message may have one of its own as well: how hard to think."""
    found = mapping(config if config is not None else {}, at)
    if found.get("effort") is not None:
        one_of(found["effort"], ("low", "medium", "high", "xhigh", "max"), f"{at}.effort")
    return found
