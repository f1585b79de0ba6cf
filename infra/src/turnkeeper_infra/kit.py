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
from turnkeeper_infra.config import Config, ConfigError
from turnkeeper_infra.observe import ObserveStack
from turnkeeper_infra.preflight import check_project
from turnkeeper_infra.state import StateStack
from turnkeeper_infra.worker import WorkerStack
from turnkeeper_project import Project
from turnkeeper_project.locking import lock_problems


class Kit:
    """Adds the stacks to `scope`, an app or a stage of one, named by `config.name`; each is an attribute.

    A subclass may name stacks of its own in place of these, each a subclass of what it replaces.
    """

    state_stack: type[StateStack] = StateStack
    api_stack: type[ApiStack] = ApiStack
    worker_stack: type[WorkerStack] = WorkerStack
    observe_stack: type[ObserveStack] = ObserveStack

    def __init__(self, scope: Construct, config: Config) -> None:
        name = config.name
        # What is deployed is what is locked.
        if problems := lock_problems(Project(config.project), config.agent_folders[1:]):
            raise ConfigError("\n".join(problems))
        warnings = check_project(config)
        self.state = self.state_stack(scope, f"{name}State", config=config)
        for number, warning in enumerate(warnings):
            cdk.Annotations.of(self.state).add_warning_v2(f"turnkeeper:agent{number}", warning)
        self.api = self.api_stack(scope, f"{name}Api", config=config, state=self.state)
        self.worker: WorkerStack | None = None
        self.observe: ObserveStack | None = None
        if not config.local:
            self.worker = self.worker_stack(scope, f"{name}Worker", config=config, state=self.state)
            self.observe = self.observe_stack(scope, f"{name}Observe", config=config, state=self.state, api=self.api)
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
