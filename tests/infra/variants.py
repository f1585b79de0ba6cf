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

JWT = {"identity": "jwt", "jwt_issuer": "https://issuer.example", "jwt_audience": "turnkeeper"}
IAM = {"identity": "iam", "trusted_principals": f"arn:aws:iam::{ACCOUNT}:role/Backend"}
PRIVATE_NETWORK = {
    "vpc_id": "vpc-0123456789abcdef0",
    "vpc_subnet_ids": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
}

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "prod-jwt": {**JWT},
    "prod-iam": {**IAM},
    "prod-bedrock": {**JWT, "model_provider": "bedrock"},
    "prod-own-secret": {**IAM, "model_secret_arn": SECRET_ARN},
    "prod-no-nat": {**JWT, "nat_gateways": "0"},
    "prod-existing-vpc": {**IAM, **PRIVATE_NETWORK, "model_provider": "bedrock"},
    "prod-customer-key": {**JWT, "kms_key_arn": KEY_ARN, "alert_email": "operator@example.com"},
    "prod-image": {**IAM, "worker_image": IMAGE},
    "dev-jwt": {"stage": "dev", **JWT},
    "dev-iam-nat": {"stage": "dev", **IAM, "nat_gateways": "1"},
    "dev-bedrock-vpc-key-image": {
        "stage": "dev",
        **JWT,
        **PRIVATE_NETWORK,
        "model_provider": "bedrock",
        "kms_key_arn": KEY_ARN,
        "worker_image": IMAGE,
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
