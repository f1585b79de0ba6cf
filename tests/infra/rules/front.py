"""Who gets in, how much of it at once, and what no role goes beyond."""

from __future__ import annotations

import json
from typing import Any

from infra import names
from tests.infra.rules.rule import Found, Rule, Templates, first, handler_of, turn_of
from tests.infra.variants import Variant

_OPEN = {*(f"GET {path}" for path in names.PUBLIC_PATHS)}


def every_call_wants_an_identity(variant: Variant) -> Found:
    """But those that are public; and a browser's preflight, which carries none, never meets the authorizer."""
    origins = [origin for origin in variant.settings.get("cors_origins", "").split(",") if origin]
    kind = {"jwt": "JWT", "iam": "AWS_IAM"}[variant.settings["identity"]]
    routes = {
        route["Properties"]["RouteKey"]: route["Properties"].get("AuthorizationType")
        for _, _, route in variant.resources("AWS::ApiGatewayV2::Route")
    }
    preflight = {"OPTIONS /{proxy+}"} if origins else set()
    wanted = {"$default": kind, **dict.fromkeys(_OPEN | preflight, "NONE")}
    if routes != wanted:
        yield f"routes are {routes}, not {wanted}"
    [(_, _, api)] = variant.resources("AWS::ApiGatewayV2::Api")
    cors = api["Properties"].get("CorsConfiguration", {})
    if cors.get("AllowOrigins", []) != origins or cors.get("AllowCredentials"):
        yield f"pages of {cors.get('AllowOrigins')} may call"
    if origins and "authorization" not in cors["AllowHeaders"]:
        yield "a page may not say who it is"


def a_burst_of_turns_leaves_room(variant: Variant) -> Found:
    """In production the turns have a most, and nobody else is held to one."""
    for stack, id, function in variant.resources("AWS::Lambda::Function"):
        most = function["Properties"].get("ReservedConcurrentExecutions")
        wanted = (
            int(variant.settings.get("turn_concurrency", "100")) if handler_of(function) == names.TURN_HANDLER else None
        )
        if most != wanted:
            yield f"{stack}: {id} runs {most} at once, not {wanted}"


def every_role_has_the_boundary(variant: Variant) -> Found:
    for stack, id, role in variant.resources("AWS::IAM::Role"):
        if role["Properties"].get("PermissionsBoundary") != variant.settings["permissions_boundary_arn"]:
            yield f"{stack}: {id} has no boundary"


def _route(templates: Templates, key: str) -> dict[str, Any]:
    [found] = [
        resource["Properties"]
        for resource in templates["Api"]["Resources"].values()
        if resource["Type"] == "AWS::ApiGatewayV2::Route" and resource["Properties"]["RouteKey"] == key
    ]
    route: dict[str, Any] = found
    return route


def _without_preflight(templates: Templates) -> None:
    resources = templates["Api"]["Resources"]
    for id in [id for id, one in resources.items() if "OPTIONS /{proxy+}" in json.dumps(one)]:
        del resources[id]


RULES = (
    Rule(every_call_wants_an_identity, lambda t: _route(t, "$default").update(AuthorizationType="NONE")),
    Rule(
        every_call_wants_an_identity,
        lambda t: first(t, "AWS::ApiGatewayV2::Api")["Properties"].update(CorsConfiguration={"AllowOrigins": ["*"]}),
        about=lambda variant: "cors_origins" not in variant.settings,
    ),
    Rule(every_call_wants_an_identity, _without_preflight, about=lambda variant: "cors_origins" in variant.settings),
    Rule(
        a_burst_of_turns_leaves_room,
        lambda t: turn_of(t)["Properties"].pop("ReservedConcurrentExecutions"),
        about=lambda variant: variant.keeps_data,
    ),
    Rule(
        every_role_has_the_boundary,
        lambda t: first(t, "AWS::IAM::Role")["Properties"].pop("PermissionsBoundary"),
        about=lambda variant: "permissions_boundary_arn" in variant.settings,
    ),
)
