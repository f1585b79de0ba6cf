"""Who gets in, how much of it at once, and what no role goes beyond."""

from __future__ import annotations

import json
from typing import Any

from tests.infra.rules.rule import Found, Rule, Templates, first, handler_of, turn_of
from tests.infra.variants import Variant
from turnkeeper_infra import names

# Of AWS's managed policies, by the ids that its documentation gives.
_CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
_ALL_VIEWER_EXCEPT_HOST_HEADER = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
_OPEN = {f"{method} {path}" for method in ("GET", "HEAD") for path in names.PUBLIC_PATHS}


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
    """In production the turns have a most, and so have streams; nobody else is held to one."""
    held = {names.TURN_HANDLER: "turn_concurrency", names.STREAM_PROGRAM: "stream_concurrency"}
    for stack, id, function in variant.resources("AWS::Lambda::Function"):
        most = function["Properties"].get("ReservedConcurrentExecutions")
        setting = held.get(handler_of(function))
        wanted = int(variant.settings.get(setting, "100")) if setting else None
        if most != wanted:
            yield f"{stack}: {id} runs {most} at once, not {wanted}"


def every_role_has_the_boundary(variant: Variant) -> Found:
    for stack, id, role in variant.resources("AWS::IAM::Role"):
        if role["Properties"].get("PermissionsBoundary") != variant.settings["permissions_boundary_arn"]:
            yield f"{stack}: {id} has no boundary"


def the_edge_hands_on_and_keeps_nothing(variant: Variant) -> Found:
    """Encrypted on both sides, looked at by the web ACL, never cached: an answer is its caller's own."""
    [(_, _, distribution)] = variant.resources("AWS::CloudFront::Distribution")
    config = distribution["Properties"]["DistributionConfig"]
    behavior, [origin] = config["DefaultCacheBehavior"], config["Origins"]
    held = {
        "its name": config["Aliases"] == [variant.settings["domain_name"]],
        "the web ACL": config.get("WebACLId") == variant.settings["web_acl_arn"],
        "TLS 1.2": config["ViewerCertificate"]["MinimumProtocolVersion"] == "TLSv1.2_2021",
        "no caching": behavior["CachePolicyId"] == _CACHING_DISABLED,
        "identity handed on": behavior["OriginRequestPolicyId"] == _ALL_VIEWER_EXCEPT_HOST_HEADER,
        "encryption": (behavior["ViewerProtocolPolicy"], origin["CustomOriginConfig"]["OriginProtocolPolicy"])
        == ("https-only", "https-only"),
        "more patience than the API": origin["CustomOriginConfig"]["OriginReadTimeout"] > 30,
    }
    yield from (f"the edge lacks {what}" for what, well in held.items() if not well)


def _edge_of(templates: Templates) -> dict[str, Any]:
    config: dict[str, Any] = first(templates, "AWS::CloudFront::Distribution")["Properties"]["DistributionConfig"]
    return config


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
    *(
        Rule(the_edge_hands_on_and_keeps_nothing, plant, about=lambda variant: "domain_name" in variant.settings)
        for plant in (
            lambda t: _edge_of(t).pop("WebACLId"),
            lambda t: _edge_of(t)["DefaultCacheBehavior"].update(CachePolicyId="658327ea-f89d-4fab-a63d-7e88639e58f6"),
        )
    ),
    Rule(
        every_role_has_the_boundary,
        lambda t: first(t, "AWS::IAM::Role")["Properties"].pop("PermissionsBoundary"),
        about=lambda variant: "permissions_boundary_arn" in variant.settings,
    ),
)
