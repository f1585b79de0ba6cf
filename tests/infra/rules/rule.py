"""A rule about templates yields a line for each place that breaks it. `plant` breaks it on purpose, to be found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.infra.variants import Template, Variant
from turnkeeper_infra import names

Templates = dict[str, Template]
Found = Iterator[str]


@dataclass(frozen=True)
class Rule:
    """A rule on one variant, which variants it is about, and a way to break it."""

    check: Callable[[Variant], Found]
    plant: Callable[[Templates], object]
    about: Callable[[Variant], bool] = lambda _: True

    @property
    def name(self) -> str:
        return self.check.__name__


def planted(variant: Variant, plant: Callable[[Templates], object]) -> Variant:
    """The variant with a fault in a copy of its templates."""
    templates = copy.deepcopy(variant.templates)
    plant(templates)
    broken = Variant(variant.name, variant.settings, variant.assembly)
    broken.__dict__["templates"] = templates
    return broken


def first(templates: Templates, kind: str) -> dict[str, Any]:
    """A resource of the type, to break."""
    for template in templates.values():
        for resource in template["Resources"].values():
            if resource["Type"] == kind:
                found: dict[str, Any] = resource
                return found
    raise LookupError(f"there is no {kind}")


def function_of(templates: Templates) -> dict[str, Any]:
    """One of the kit's functions, to break."""
    return first({"Api": templates["Api"]}, "AWS::Lambda::Function")


def turn_of(templates: Templates) -> dict[str, Any]:
    """The turn Lambda, to break."""
    found: list[dict[str, Any]] = [
        one
        for one in templates["Api"]["Resources"].values()
        if one["Type"] == "AWS::Lambda::Function" and handler_of(one) == names.TURN_HANDLER
    ]
    return found[0]


def handler_of(function: dict[str, Any]) -> str:
    return str(function["Properties"]["Handler"])


def is_policy_of(resource: dict[str, Any], role_id: str) -> bool:
    return resource["Type"] == "AWS::IAM::Policy" and {"Ref": role_id} in resource["Properties"]["Roles"]
