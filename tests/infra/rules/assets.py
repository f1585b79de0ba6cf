"""What a deployment is made of can be published from another machine than the one that synthesized."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.infra.rules.rule import Found, Rule, Templates, first, is_policy_of
from tests.infra.variants import Variant


def manifests(variant: Variant) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in sorted(variant.assembly.glob("*.assets.json"))}


def absolute_paths(manifests: Mapping[str, Any]) -> Iterator[str]:
    """Paths of the machine that synthesized, which another may lack."""
    for name, manifest in manifests.items():
        for kind in ("files", "dockerImages"):
            for asset in manifest.get(kind, {}).values():
                source = asset["source"]
                texts = (*source.get("executable", ()), source.get("path", ""), source.get("directory", ""))
                yield from (f"{name}: {text}" for text in texts if text.startswith("/"))


def images(manifests: Mapping[str, Any]) -> list[str]:
    """What Docker is needed for."""
    return [name for name, manifest in manifests.items() if manifest.get("dockerImages")]


def a_prebuilt_image_is_pulled_by_its_digest(variant: Variant) -> Found:
    """And may be: from ECR only with the execution role's permission on that repository."""
    name = variant.settings["worker_image"]
    [(stack, _, task)] = variant.resources("AWS::ECS::TaskDefinition")
    [container] = task["Properties"]["ContainerDefinitions"]
    if name.split("/")[-1] not in json.dumps(container["Image"]):
        yield f"the worker runs {container['Image']}"
    role_id = task["Properties"]["ExecutionRoleArn"]["Fn::GetAtt"][0]
    policies = [one for one in variant.templates[stack]["Resources"].values() if is_policy_of(one, role_id)]
    repository = name.split("/", 1)[1].split("@")[0]
    if not any(
        "ecr:BatchGetImage" in json.dumps(one) and f"repository/{repository}" in json.dumps(one) for one in policies
    ):
        yield f"{role_id} may not pull {name}"


def _another_image(templates: Templates) -> None:
    [container] = first(templates, "AWS::ECS::TaskDefinition")["Properties"]["ContainerDefinitions"]
    container["Image"] = "turnkeeper-worker:latest"


def _no_pulling(templates: Templates) -> None:
    task = first(templates, "AWS::ECS::TaskDefinition")["Properties"]
    resources = templates["Worker"]["Resources"]
    role_id = task["ExecutionRoleArn"]["Fn::GetAtt"][0]
    for id in [id for id, one in resources.items() if is_policy_of(one, role_id)]:
        del resources[id]


RULES = tuple(
    Rule(
        a_prebuilt_image_is_pulled_by_its_digest,
        plant,
        about=lambda variant: "worker_image" in variant.settings,
    )
    for plant in (_another_image, _no_pulling)
)
