"""A deployment of 0.1.0 is updated, and nothing that it holds is lost.

`release_0_1_0.json` is what its templates said with the settings of the variant `prod-jwt`: everything of the state
stack that has contents, with its properties; what has a name of its own, which is taken while it is there; and all
exports. CloudFormation knows a resource by its logical id: under another it makes a second and takes the first down.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infra.variants import Variants

BEFORE = json.loads(Path(__file__).with_name("release_0_1_0.json").read_text())
NEW_INDEX = "by_status"


def _named(properties: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    return {one[name]: one for one in properties[key]}


def _without_new_index(table: dict[str, Any]) -> dict[str, Any]:
    """The table's properties, but for the one index (and the attribute that it is by) that the update adds."""
    properties = copy.deepcopy(table)
    indexes = _named(properties, "GlobalSecondaryIndexes", "IndexName")
    added = indexes.pop(NEW_INDEX)
    by = added["KeySchema"][0]["AttributeName"]
    attributes = _named(properties, "AttributeDefinitions", "AttributeName")
    del attributes[by]
    return {
        **properties,
        "GlobalSecondaryIndexes": list(indexes.values()),
        "AttributeDefinitions": list(attributes.values()),
    }


def losses(templates: dict[str, Any]) -> list[str]:
    """What an update of 0.1.0 to these templates takes away, replaces, or cannot do."""
    found = []
    for id, before in BEFORE["state"].items():
        now = templates["State"]["Resources"].get(id)
        if now is None or now["Type"] != before["Type"]:
            found.append(f"{id} is taken down")
            continue
        properties = {name: value for name, value in now["Properties"].items() if name != "Tags"}
        if now["Type"] == "AWS::DynamoDB::Table":
            if len(properties["GlobalSecondaryIndexes"]) != len(before["Properties"]["GlobalSecondaryIndexes"]) + 1:
                found.append(f"{id}: an update can add one index, and only one")
                continue
            properties = _without_new_index(properties)
        if properties != before["Properties"]:
            found.append(f"{id} is changed")
    for place, kind in BEFORE["named"].items():
        stack, id = place.split("/")
        if templates[stack]["Resources"].get(id, {}).get("Type") != kind:
            found.append(f"{place} is made a second time, under a name that is taken")
    return found


def test_an_update_of_0_1_0_keeps_what_it_holds(variants: Variants) -> None:
    assert losses(variants["prod-jwt"].templates) == []


def test_an_update_of_0_1_0_drops_no_export_that_is_imported(variants: Variants) -> None:
    """The stacks are updated one after the other: state first, while the others still import what they did."""
    outputs = [one for stack in variants["prod-jwt"].templates.values() for one in stack.get("Outputs", {}).values()]
    now = {one["Export"]["Name"]: one["Value"] for one in outputs if "Export" in one}
    assert {name: now.get(name) for name in BEFORE["exports"]} == BEFORE["exports"]


def _other_logical_id(templates: dict[str, Any]) -> None:
    resources = templates["State"]["Resources"]
    resources["Claims00000000"] = resources.pop("ClaimsE8D96B24")


def _other_key(templates: dict[str, Any]) -> None:
    templates["State"]["Resources"]["TableCD117FA1"]["Properties"]["KeySchema"][0]["AttributeName"] = "id"


def _another_secret(templates: dict[str, Any]) -> None:
    properties = templates["State"]["Resources"]["SigningKeysA56F0358"]["Properties"]
    properties["GenerateSecretString"]["PasswordLength"] = 32


def _two_indexes(templates: dict[str, Any]) -> None:
    indexes = templates["State"]["Resources"]["TableCD117FA1"]["Properties"]["GlobalSecondaryIndexes"]
    indexes.append({**indexes[0], "IndexName": "by_something"})


def _another_alias(templates: dict[str, Any]) -> None:
    resources = templates["Api"]["Resources"]
    resources["TurnAlias00000000"] = resources.pop("TurnLive9935FAFA")


@pytest.mark.parametrize("plant", [_other_logical_id, _other_key, _another_secret, _two_indexes, _another_alias])
def test_a_planted_loss_is_found(plant: Callable[[dict[str, Any]], None], variants: Variants) -> None:
    templates = copy.deepcopy(variants["prod-jwt"].templates)
    plant(templates)
    assert len(losses(templates)) == 1
