"""The stacks of one deployment, for an app of any kind: ours, or one that has stacks of its own beside them.

from turnkeeper_infra import Config, Kit

kit = Kit(app, Config.of({"identity": "iam", "trusted_principals": ["arn:aws:iam::111122223333:role/Backend"]}))
kit.state.table.grant_read_data(report)
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from turnkeeper_infra.api import ApiStack
from turnkeeper_infra.config import Config
from turnkeeper_infra.observe import ObserveStack
from turnkeeper_infra.preflight import check_project
from turnkeeper_infra.state import StateStack
from turnkeeper_infra.worker import WorkerStack


class Kit:
    """Adds the stacks to `scope`, an app or a stage of one, named by `config.name`; each is an attribute."""

    def __init__(self, scope: Construct, config: Config) -> None:
        name = config.name
        warnings = check_project(config)
        self.state = StateStack(scope, f"{name}State", config=config)
        for number, warning in enumerate(warnings):
            cdk.Annotations.of(self.state).add_warning_v2(f"turnkeeper:agent{number}", warning)
        self.api = ApiStack(scope, f"{name}Api", config=config, state=self.state)
        self.worker: WorkerStack | None = None
        self.observe: ObserveStack | None = None
        if not config.local:
            self.worker = WorkerStack(scope, f"{name}Worker", config=config, state=self.state)
            self.observe = ObserveStack(scope, f"{name}Observe", config=config, state=self.state, api=self.api)
        for stack in self.stacks:
            if not config.local:
                cdk.Tags.of(stack).add("turnkeeper:deployment", name)
            if config.permissions_boundary_arn:
                boundary = iam.ManagedPolicy.from_managed_policy_arn(
                    stack, "PermissionsBoundary", config.permissions_boundary_arn
                )
                iam.PermissionsBoundary.of(stack).apply(boundary)

    @property
    def stacks(self) -> list[cdk.Stack]:
        """What is there, state first."""
        made = (self.state, self.api, self.worker, self.observe)
        return [stack for stack in made if stack is not None]
