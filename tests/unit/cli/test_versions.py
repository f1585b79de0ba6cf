"""What deployments leave behind goes, and nothing that is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.conftest import Cli
from turnkeeper_local.cli.place import Place
from turnkeeper_local.cli.versions import STILL_CALLED, Version, removable

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def published(*hours_ago: float) -> list[Version]:
    return [Version(number, NOW - timedelta(hours=ago)) for number, ago in enumerate(hours_ago, 1)]


def test_the_newest_before_the_one_in_force_are_kept() -> None:
    versions = published(100, 90, 80, 70, 60)
    assert removable(versions, {5}, keep=2, now=NOW) == [1, 2]
    assert removable(versions, {5}, keep=0, now=NOW) == [1, 2, 3, 4]
    assert removable(versions, {3, 5}, keep=0, now=NOW) == [1, 2], "a deployment is on its way"
    assert removable(versions, set(), keep=0, now=NOW) == []


def test_what_was_in_force_a_moment_ago_is_still_called() -> None:
    assert removable(published(100, 90, 1.9), {3}, keep=0, now=NOW) == [1]
    assert removable(published(100, 90, 2), {3}, keep=0, now=NOW) == [1, 2]


@given(
    hours=st.lists(st.floats(0, 1000), min_size=1, max_size=12),
    aliased=st.sets(st.integers(1, 12), min_size=1, max_size=2),
    keep=st.integers(0, 5),
)
def test_nothing_that_is_needed_goes(hours: list[float], aliased: set[int], keep: int) -> None:
    versions = published(*sorted(hours, reverse=True))
    aliased = {min(number, len(versions)) for number in aliased}
    gone = removable(versions, aliased, keep=keep, now=NOW)
    followed = [after.number - 1 for after in versions[1:] if after.published_at <= NOW - STILL_CALLED]
    assert gone == [number for number in followed if number + keep < min(aliased)]


class Account:
    """The clients of an account with a kit in it, whose answers have the shapes that AWS gives them."""

    def __init__(self, *, moving_to: str | None = None) -> None:
        arn = "arn:aws:lambda:eu-central-1:111122223333:function:turn"
        self.clients = {name: boto3.client(name, region_name="eu-central-1") for name in ("cloudformation", "lambda")}
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}
        resource = {"LogicalResourceId": "Live", "ResourceStatus": "CREATE_COMPLETE", "Timestamp": NOW}
        resources = [
            {**resource, "ResourceType": "AWS::Lambda::Function", "PhysicalResourceId": "turn"},
            {**resource, "ResourceType": "AWS::Lambda::Alias", "PhysicalResourceId": f"{arn}:live"},
        ]
        self.stubs["cloudformation"].add_response(
            "describe_stack_resources", {"StackResources": resources}, {"StackName": "TestApi"}
        )
        versions = [{"Version": "$LATEST", "LastModified": "2026-11-25T11:00:00.000+0000"}]
        versions += [{"Version": str(day), "LastModified": f"2026-11-0{day}T11:00:00.000+0000"} for day in range(1, 6)]
        alias: dict[str, Any] = {"Name": "live", "FunctionVersion": "5"}
        if moving_to is not None:
            alias |= {"FunctionVersion": "4", "RoutingConfig": {"AdditionalVersionWeights": {moving_to: 0.1}}}
        named = {"FunctionName": "turn"}
        self.stubs["lambda"].add_response("list_versions_by_function", {"Versions": versions}, named)
        self.stubs["lambda"].add_response("list_aliases", {"Aliases": [alias]}, named)
        for stub in self.stubs.values():
            stub.activate()

    def removes(self, *versions: int) -> None:
        for version in versions:
            self.stubs["lambda"].add_response(
                "delete_function", {}, {"FunctionName": "turn", "Qualifier": str(version)}
            )

    def client(self, name: str) -> Any:
        return self.clients[name]

    def done(self) -> None:
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("moving_to", "keep", "gone"), [(None, 2, [1, 2]), (None, 0, [1, 2, 3, 4]), ("5", 2, [1]), ("2", 0, [1])]
)
def test_prune_removes_what_deployments_left_behind(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, moving_to: str | None, keep: int, gone: list[int]
) -> None:
    account = Account(moving_to=moving_to)
    account.removes(*gone)
    monkeypatch.setattr(Place, "session", account)
    answer = cli("versions", "prune", "--stack", "Test", "--keep", str(keep), "--json").document
    assert answer == {"removed": {"turn": gone}, "dry_run": False}
    account.done()


def test_prune_can_only_say_what_would_go(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account()
    monkeypatch.setattr(Place, "session", account)
    assert "turn: 1, 2 would go" in cli("versions", "prune", "--stack", "Test", "--dry-run").stdout
    account.done()


def test_prune_is_for_a_kit_that_is_deployed(cli: Cli) -> None:
    assert cli("versions", "prune", "--json").exit_code != 0
