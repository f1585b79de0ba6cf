"""Published versions of the kit's functions: what the alias names, what may still be gone back to, what can go.

A deployment leaves the version before it where it is: events on their way to it arrive, and somebody can go back to it.
Each version with SnapStart costs money for as long as it exists.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli.errors import CliError

if TYPE_CHECKING:
    import boto3

#: An asynchronous start is tried for an hour, and a turn takes a quarter of one.
STILL_CALLED = timedelta(hours=2)


@dataclass(frozen=True)
class Version:
    number: int
    published_at: datetime


def removable(versions: Sequence[Version], aliased: Collection[int], *, keep: int, now: datetime) -> list[int]:
    """The versions that nothing needs, oldest first.

    Never one that an alias names, nor one that is newer than the oldest of these: a deployment may be on its way to it.
    Of those before it, never the ``keep`` newest, nor one that was in force two hours ago.
    """
    if not aliased:
        return []
    ordered = sorted(versions, key=lambda one: one.number)
    before = [one for one in ordered if one.number < min(aliased)]
    candidates = before[: max(0, len(before) - keep)]
    followed_at = {one.number: after.published_at for one, after in pairwise(ordered)}
    return [one.number for one in candidates if followed_at[one.number] <= now - STILL_CALLED]


class Functions:
    """The functions of a deployed kit that have an alias."""

    def __init__(self, session: boto3.Session, stacks: str) -> None:
        make: Any = session.client
        self._lambda = make("lambda")
        self._stack = f"{stacks}Api"
        self._cloudformation = make("cloudformation")

    def names(self) -> list[str]:
        from botocore.exceptions import ClientError

        try:
            found = self._cloudformation.describe_stack_resources(StackName=self._stack)["StackResources"]
        except ClientError as error:
            raise CliError(f"there is no stack {self._stack}: {error}", code="stack_not_found") from error
        aliases = [one["PhysicalResourceId"] for one in found if one["ResourceType"] == "AWS::Lambda::Alias"]
        return sorted({arn.split(":")[6] for arn in aliases})

    def versions(self, function: str) -> list[Version]:
        pages = self._lambda.get_paginator("list_versions_by_function").paginate(FunctionName=function)
        return [
            Version(int(one["Version"]), datetime.fromisoformat(one["LastModified"]))
            for page in pages
            for one in page["Versions"]
            if one["Version"] != "$LATEST"
        ]

    def aliased(self, function: str) -> set[int]:
        """Also those that a deployment is moving to: an alias names both while it shifts."""
        pages = self._lambda.get_paginator("list_aliases").paginate(FunctionName=function)
        aliases = [alias for page in pages for alias in page["Aliases"]]
        named = {alias["FunctionVersion"] for alias in aliases}
        for alias in aliases:
            named |= set(alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {}))
        return {int(version) for version in named if version != "$LATEST"}

    def remove(self, function: str, version: int) -> None:
        self._lambda.delete_function(FunctionName=function, Qualifier=str(version))
