"""The worker's image: built when it is published, which needs Docker, or one that is built already."""

from __future__ import annotations

import re

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_ecs as ecs
from constructs import Construct

from infra.config import Config

IMAGE_CONTENTS = ("agents", "fargate_worker", "policy.toml", "requirements/runtime.txt", "shared/src")
"""What the image is built from; everything else in the repository stays out of the build context."""

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/(?P<name>[^@]+)@(?P<digest>.+)"
)


def worker_image(scope: Construct, config: Config) -> ecs.ContainerImage:
    """The image that the stage's file names, by its digest; from ECR, the task's execution role may pull it. Without
    one, an asset of the source tree."""
    if config.worker_image is None:
        return ecs.ContainerImage.from_asset(
            str(config.source_root),
            file="fargate_worker/Dockerfile",
            platform=ecr_assets.Platform.LINUX_ARM64,
            ignore_mode=cdk.IgnoreMode.DOCKER,
            exclude=["*", *(f"!{part}" for part in IMAGE_CONTENTS), "**/__pycache__", "**/*.pyc"],
        )
    found = _ECR.fullmatch(config.worker_image)
    if found is None:
        return ecs.ContainerImage.from_registry(config.worker_image)
    repository = ecr.Repository.from_repository_attributes(
        scope,
        "Images",
        repository_name=found["name"],
        repository_arn=f"arn:{cdk.Aws.PARTITION}:ecr:{found['region']}:{found['account']}:repository/{found['name']}",
    )
    return ecs.ContainerImage.from_ecr_repository(repository, found["digest"])
