"""A restored table takes the place of the stack's own everywhere, in one deploy."""

from __future__ import annotations

import json

from tests.infra.rules.rule import Found, Rule, Templates, first
from tests.infra.variants import Variant


def everything_works_on_the_adopted_table(variant: Variant) -> Found:
    """Nothing but the state stack itself knows of its own table any more; that one stays, to look at."""
    name, stream = variant.settings["table_name"], variant.settings["table_stream_arn"]
    own = [id for stack, id, _ in variant.resources("AWS::DynamoDB::Table") if stack == "State"]
    if len(own) != 1:
        yield f"the state stack has {own} of its own"
    for stack, template in variant.templates.items():
        imported = json.dumps(template["Resources"])
        if stack != "State" and any(id in imported for id in own):
            yield f"{stack} still imports the stack's own table"
    for stack, id, function in variant.resources("AWS::Lambda::Function"):
        table = function["Properties"].get("Environment", {}).get("Variables", {}).get("TURNKEEPER_TABLE", name)
        if table != name:
            yield f"{stack}: {id} works on {table}"
    for stack, id, source in variant.resources("AWS::Lambda::EventSourceMapping"):
        # A queue has no place to start from.
        if "StartingPosition" in source["Properties"] and source["Properties"]["EventSourceArn"] != stream:
            yield f"{stack}: {id} reads another stream"
    if variant.templates["State"]["Outputs"]["TableName"]["Value"] != name:
        yield "operators are told another table"


def _own_stream(templates: Templates) -> None:
    first(templates, "AWS::Lambda::EventSourceMapping")["Properties"]["EventSourceArn"] = {"Fn::ImportValue": "stream"}


RULES = (
    Rule(everything_works_on_the_adopted_table, _own_stream, about=lambda variant: "table_name" in variant.settings),
)
