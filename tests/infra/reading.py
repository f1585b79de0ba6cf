"""The templates of one deployment, read as CloudFormation links them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Templates = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Resource:
    """A resource with the stack that it stands in."""

    stack: str
    id: str
    kind: str
    properties: Mapping[str, Any]
    template: Mapping[str, Any]
    """The whole of it, with what stands beside its properties."""

    def __str__(self) -> str:
        return f"{self.stack}/{self.id}"


class Deployment:
    def __init__(self, templates: Templates) -> None:
        self._resources = {
            (stack, id): Resource(stack, id, found["Type"], found.get("Properties", {}), found)
            for stack, template in templates.items()
            for id, found in template.get("Resources", {}).items()
        }
        self._exports = {
            str(output["Export"]["Name"]): (stack, output["Value"])
            for stack, template in templates.items()
            for output in template.get("Outputs", {}).values()
            if "Export" in output
        }

    def all(self, *kinds: str) -> Iterator[Resource]:
        return (one for one in self._resources.values() if one.kind in kinds)

    def follow(self, stack: str, value: Any) -> Resource | None:
        """The resource that a value in a stack is taken from; ``None`` where that is something else, or several."""
        match value:
            case {"Ref": str(id)} | {"Fn::GetAtt": [str(id), *_]}:
                return self._resources.get((stack, id))
            case {"Fn::ImportValue": str(name)} if name in self._exports:
                return self.follow(*self._exports[name])
        return None

    def text(self, stack: str, value: Any) -> str:
        """A value as text, with `${Stack/Resource.Attribute}` for what is known only once it is deployed: equal where
        the values will be."""
        match value:
            case str() | int() | float():
                return str(value)
            case {"Fn::Join": [str(between), list(parts)]}:
                return between.join(self.text(stack, part) for part in parts)
            case {"Fn::ImportValue": str(name)} if name in self._exports:
                return self.text(*self._exports[name])
            case {"Fn::GetAtt": [str(id), str(attribute)]}:
                return f"${{{stack}/{id}.{attribute}}}"
            case {"Ref": str(name)} if name.startswith("AWS::"):
                return f"${{{name}}}"
            case {"Ref": str(id)}:
                return f"${{{stack}/{id}}}"
        return json.dumps(value, sort_keys=True)


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
