"""The deployments that every rule about templates is held against: each a choice that somebody makes.

A rule's test takes the fixture `variants` and looks at all of them:

    def test_no_rule_is_broken(variants: Variants) -> None:
        for variant in variants.values():
            for stack, template in variant.templates.items():
                ...

Stacks go by what they are (`State`, `Api`, `Worker`, `Observe`), whatever prefix the variant gives them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Template = dict[str, Any]
Synthesize = Callable[..., Path]

ACCOUNT, REGION = "111122223333", "eu-central-1"
KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SECRET_ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:anthropic-AbCdEf"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/turnkeeper-worker@sha256:{'0123456789abcdef' * 4}"

SECRET_KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/aaaabbbb-12ab-34cd-56ef-1234567890ab"
TOOL_SECRET_ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:orders-GhIjKl"
BOUNDARY_ARN = f"arn:aws:iam::{ACCOUNT}:policy/Boundary"
RESTORED = {
    "table_name": "turnkeeper-restored",
    "table_stream_arn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/turnkeeper-restored/stream/2026-11-25T00:00:00.000",
}
CERTIFICATE_ARN = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1234abcd-12ab-34cd-56ef-1234567890ab"
EDGE = {
    "domain_name": "api.example.com",
    "certificate_arn": f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/1234abcd-12ab-34cd-56ef-1234567890ab",
    "web_acl_arn": f"arn:aws:wafv2:us-east-1:{ACCOUNT}:global/webacl/turnkeeper/1234abcd-12ab-34cd-56ef-1234567890ab",
}

JWT = {"identity": "jwt", "jwt_issuer": "https://issuer.example", "jwt_audience": "turnkeeper"}
IAM = {"identity": "iam", "trusted_principals": f"arn:aws:iam::{ACCOUNT}:role/Backend"}
PRIVATE_NETWORK = {
    "vpc_id": "vpc-0123456789abcdef0",
    "vpc_subnet_ids": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
    "vpc_cidr": "10.20.0.0/16",
    "vpc_endpoints": "sqs,bedrock-runtime,com.amazonaws.vpce.eu-central-1.vpce-svc-0123456789abcdef0",
    "vpc_security_group_ids": "sg-0123456789abcdef0",
}
CRM_SECRET_ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:crm-MnOpQr"
VALUES = {
    "secrets": json.dumps({"crm": CRM_SECRET_ARN, "orders": {"arn": TOOL_SECRET_ARN, "kms_key_arn": SECRET_KEY_ARN}}),
    "settings": json.dumps({"crm_url": "https://crm.example.com"}),
}
TRACES = {
    "traces": "https://otlp.example.com",
    "traces_secret_arn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:otlp-StUvWx",
    "traces_secret_kms_key_arn": SECRET_KEY_ARN,
    "trace_contents": "support,research",
}
REPLIES = {
    "reply_queues": json.dumps(
        {
            "results": f"arn:aws:sqs:{REGION}:{ACCOUNT}:results",
            "orders": {"arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders.fifo", "kms_key_arn": SECRET_KEY_ARN},
        }
    )
}
RUNNERS = {
    "variables": {"ORDERS_HOST": "orders.internal"},
    "secrets": [{"variable": "ORDERS_LOGIN", "arn": TOOL_SECRET_ARN, "kms_key_arn": SECRET_KEY_ARN}],
    "policies": [
        {
            "sid": "ReadOrders",
            "actions": ["dynamodb:GetItem", "dynamodb:Query"],
            "resources": [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/orders", "arn:aws:s3:::orders/*"],
        }
    ],
}

SETTINGS: Mapping[str, Mapping[str, str]] = {
    # So few slots that some hundred sessions of a simulation fill its tasks.
    "prod-jwt": {**JWT, "worker_concurrency": "16"},
    "prod-iam": {**IAM, "traces": "cloudwatch", "streaming": "true", **REPLIES},
    "prod-bedrock": {**JWT, "model_provider": "bedrock"},
    "prod-own-secret": {**IAM, "model_secret_arn": SECRET_ARN, "model_secret_kms_key_arn": SECRET_KEY_ARN},
    "prod-no-nat": {**JWT, "nat_gateways": "0"},
    "prod-existing-vpc": {
        **IAM,
        **PRIVATE_NETWORK,
        "model_provider": "bedrock",
        "runners": json.dumps(RUNNERS),
        **VALUES,
    },
    "prod-customer-key": {**JWT, **TRACES, "kms_key_arn": KEY_ARN, "alert_email": "operator@example.com"},
    "prod-image": {**IAM, "worker_image": IMAGE, "permissions_boundary_arn": BOUNDARY_ARN},
    "prod-browser": {
        **JWT,
        **EDGE,
        "cors_origins": "https://app.example.com,http://localhost:3000",
        "streaming": "true",
        "turn_concurrency": "300",
    },
    "prod-gateway": {**JWT, "worker_vcpus": "2", "gateway_certificate_arn": CERTIFICATE_ARN},
    "prod-restored": {**JWT, **RESTORED},
    "dev-jwt": {"stage": "dev", **JWT},
    "dev-iam-nat": {"stage": "dev", **IAM, "nat_gateways": "1", "streaming": "true", "stream_public": "true"},
    "dev-bedrock-vpc-key-image": {
        "stage": "dev",
        **JWT,
        **PRIVATE_NETWORK,
        "model_provider": "bedrock",
        "kms_key_arn": KEY_ARN,
        "worker_image": IMAGE,
        "permissions_boundary_arn": BOUNDARY_ARN,
        "vpc_functions": "all",
        "streaming": "true",
        "stream_adapter_arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:Adapter:3",
    },
}
"""What each variant chooses, by its name: settings as `cdk -c key=value` gives them."""


@dataclass(frozen=True)
class Variant:
    """One deployment, synthesized."""

    name: str
    settings: Mapping[str, str]
    assembly: Path
    """The cloud assembly's folder."""

    @property
    def keeps_data(self) -> bool:
        return self.settings.get("stage", "prod") == "prod"

    @cached_property
    def templates(self) -> dict[str, Template]:
        """By what the stack is: `State`, `Api`, `Worker`, `Observe`."""
        prefix = self.settings.get("name", "Turnkeeper")
        return {
            path.name.removesuffix(".template.json").removeprefix(prefix): json.loads(path.read_text())
            for path in sorted(self.assembly.glob("*.template.json"))
        }

    def resources(self, kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Every resource of a type in any stack: the stack, the logical id, the whole resource."""
        for stack, template in self.templates.items():
            for id, resource in template["Resources"].items():
                if resource["Type"] == kind:
                    yield stack, id, resource


Variants = Mapping[str, Variant]


def synthesize_all(synthesize: Synthesize) -> dict[str, Variant]:
    """All variants, in one process: a second or so for each once jsii is up."""
    return {name: Variant(name, settings, synthesize(**settings)) for name, settings in SETTINGS.items()}
