"""The worker's image: built when it is published, which needs Docker, or one that is built already."""

from __future__ import annotations

import re

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_ecs as ecs
from constructs import Construct

from turnkeeper_infra import bundle
from turnkeeper_infra.config import Config
from turnkeeper_infra.functions import sources_of

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/(?P<name>[^@]+)@(?P<digest>.+)"
)


def worker_image(scope: Construct, config: Config) -> ecs.ContainerImage:
    """The image that the stage's file names, by its digest; from ECR, the task's execution role may pull it. Without
    one, an asset of the project and the kit."""
    if config.worker_image is None:
        return ecs.ContainerImage.from_asset(
            str(bundle.image_context(sources_of(config))),
            platform=ecr_assets.Platform.LINUX_ARM64,
            build_args={"AGENT_SDK": "yes"} if config.agent_sdk else None,
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
