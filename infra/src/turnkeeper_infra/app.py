"""The CDK app. `build` makes the stacks; the CDK command line runs this module as a program.

    TurnkeeperState    table, bucket, queues, secrets, alert topic
    TurnkeeperApi      Lambdas, HTTP API, schedule, stream source
    TurnkeeperWorker   network, cluster, Fargate service, scaling        (cloud only)
    TurnkeeperObserve  alarms and dashboard                              (cloud only)

No stack looks anything up, none names an account or a region: synthesizing works anywhere.
"""

from __future__ import annotations

import os
import sys

# jsii prints a screenful about Node versions on every start; package.json says which ones we support.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
os.environ.setdefault("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", "1")

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from turnkeeper_infra.config import Config, ConfigError
from turnkeeper_infra.kit import Kit
from turnkeeper_infra.stages import from_context


def build(app: cdk.App, config: Config | None = None) -> list[cdk.Stack]:
    """Add the stacks that `config` asks for, by default the stage's file and flags; return them, state first."""
    config = config or from_context(app.node)
    kit = Kit(app, config)
    if config.nag:
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return kit.stacks


if __name__ == "__main__":
    application = cdk.App()
    try:
        build(application)
    except ConfigError as error:
        sys.exit(f"\n{error}\n")
    application.synth()
