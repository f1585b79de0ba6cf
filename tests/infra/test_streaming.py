"""The function that streams: who may call its address, and that it ends what Lambda would cut off."""

from __future__ import annotations

from typing import Any

import pytest

from functions.api import asgi
from tests.infra.variants import ACCOUNT, REGION, Variant, Variants

STREAMING = {
    "prod-iam": "AWS_IAM",
    "prod-browser": "NONE",
    "dev-iam-nat": "NONE",
    "dev-bedrock-vpc-key-image": "NONE",
}


def stream(variant: Variant) -> dict[str, Any]:
    [function] = [
        resource["Properties"]
        for _, id, resource in variant.resources("AWS::Lambda::Function")
        if id.startswith("Stream")
    ]
    return dict(function)


def urls(variant: Variant) -> list[dict[str, Any]]:
    return [resource["Properties"] for _, _, resource in variant.resources("AWS::Lambda::Url")]


def test_only_a_stage_that_asks_for_it_has_another_address(variants: Variants) -> None:
    assert {name for name, variant in variants.items() if urls(variant)} == STREAMING.keys()
    for name, variant in variants.items():
        assert ("StreamUrl" in variant.templates["Api"]["Outputs"]) == (name in STREAMING)


@pytest.mark.parametrize("name", STREAMING)
def test_its_address_streams_and_asks_for_what_the_stage_says(variants: Variants, name: str) -> None:
    variant = variants[name]
    [url] = urls(variant)
    assert (url["AuthType"], url["InvokeMode"]) == (STREAMING[name], "RESPONSE_STREAM")
    assert "Cors" not in url, "the application answers preflights: twice the headers would be none"
    open_to = [
        resource["Properties"]
        for _, _, resource in variant.resources("AWS::Lambda::Permission")
        if resource["Properties"]["Principal"] == "*"
    ]
    if url["AuthType"] == "AWS_IAM":
        assert open_to == []
        return
    # Without the condition on each, everybody could call the function itself, and say who they are.
    actions = {one["Action"]: one for one in open_to}
    assert actions["lambda:InvokeFunctionUrl"]["FunctionUrlAuthType"] == "NONE"
    assert actions.keys() <= {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert all(one.get("InvokedViaFunctionUrl") is True for one in open_to if one["Action"] == "lambda:InvokeFunction")


@pytest.mark.parametrize("name", STREAMING)
def test_streams_end_before_the_function_does(variants: Variants, name: str) -> None:
    function = stream(variants[name])
    told = function["Environment"]["Variables"]
    assert float(told["TURNKEEPER_STREAM_SECONDS"]) + 20 < function["Timeout"] < 900
    assert told["AWS_LWA_INVOKE_MODE"] == "response_stream"
    assert told["AWS_LWA_PORT"] == told["TURNKEEPER_API_PORT"]
    assert told["TURNKEEPER_WEB_ADAPTER"] == "true"


def test_it_is_told_whose_tokens_and_which_pages(variants: Variants) -> None:
    told = stream(variants["prod-browser"])["Environment"]["Variables"]
    assert told["TURNKEEPER_JWT_ISSUER"] == "https://issuer.example"
    assert told["TURNKEEPER_JWT_AUDIENCE"] == "turnkeeper"
    assert told["TURNKEEPER_CORS_ORIGINS"] == "https://app.example.com,http://localhost:3000"
    assert "TURNKEEPER_TRUSTED_PRINCIPALS" in stream(variants["prod-iam"])["Environment"]["Variables"]


def test_the_adapter_is_the_one_that_is_named_or_that_aws_publishes(variants: Variants) -> None:
    named = stream(variants["dev-bedrock-vpc-key-image"])["Layers"]
    assert f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:Adapter:3" in named
    published = str(stream(variants["prod-iam"])["Layers"])
    assert ":753240598075:layer:LambdaAdapterLayerArm64:" in published
    assert "AWS::Region" in published


def test_both_doors_let_pages_send_and_read_the_same() -> None:
    from turnkeeper_infra import api  # jsii starts with this import

    assert api.CORS_HEADERS == asgi.HEADERS_TAKEN
    assert api.CORS_EXPOSED == asgi.HEADERS_SHOWN
