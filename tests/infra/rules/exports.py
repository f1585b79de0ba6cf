"""CloudFormation lets no export go, nor change, while another stack imports it."""

from __future__ import annotations

import json

from tests.infra.rules.rule import Found
from tests.infra.variants import Variant


def exports(variant: Variant) -> dict[str, str]:
    """What the stacks export, by name, and each with its value: CloudFormation lets neither go while it is in use."""
    return {
        json.dumps([stack, output["Export"]["Name"]]).replace(
            variant.settings.get("name", "Turnkeeper"), ""
        ): json.dumps(output["Value"], sort_keys=True)
        for stack, template in variant.templates.items()
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    }


def export_deadlocks(before: Variant, after: Variant) -> Found:
    """What stops a deployment of `before` from becoming `after`."""
    old, new = exports(before), exports(after)
    for name in sorted(old.keys() - new.keys()):
        yield f"{after.name} does not export {name}, which {before.name} does"
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield f"{name} is {old[name]} in {before.name} and {new[name]} in {after.name}"
