"""`turnkeeper gateway`: tokens, from an operator's side."""

from __future__ import annotations

import json

import pytest

from tests.support.kit import MemoryKit
from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_api import FakeApi
from turnkeeper.runtime.store.holders import Want
from turnkeeper_local.cli import operator as operating
from turnkeeper_local.cli.operator import Operator


@pytest.fixture
def kit(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> MemoryKit:
    kit = MemoryKit(runner="none")
    monkeypatch.setattr(operating, "connect", lambda _: Operator(kit, lambda: "operator:test"))
    return kit


def test_a_token_is_made_listed_and_revoked(cli: Cli, kit: MemoryKit) -> None:
    made = cli("gateway", "token", "--tenant", "acme", "--user", "u1", "--task-usd", "0.50", "--label", "ci", "--json")
    token = made.document
    assert {"tenant_id": "acme", "user_id": "u1", "label": "ci", "status": "valid", "task_usd": "0.500000"}.items() <= (
        token.items()
    )
    known = kit.gateway_tokens.check(token["token"])
    call = kit.purses.reserve(
        known.purse, kit.tenants.terms("acme"), Want(kit.prices.rates("claude-sonnet-5-5", {}), 100, 100)
    )
    [listed] = cli("gateway", "tokens", "--json").document["tokens"]
    assert listed["id"] == token["id"] and listed["reserved_usd"] != "0.000000" and "token" not in listed
    secret = token["token"].rsplit(".", 1)[1]
    assert secret not in json.dumps(kit.table.snapshot(), default=str)
    shown = cli("audit", "show", token["id"], "--tenant", "acme")
    assert "model_call" in shown.stdout and "pending" in shown.stdout
    assert kit.purses.doubt(next(iter(kit.purses.calls("acme", known.id))))
    assert call.reservation.amount_nanousd == kit.purses.spent("acme", known.id).in_doubt_nanousd

    cli("gateway", "token", "--tenant", "other", "--user", "u2", "--expires", "never")
    assert [each["tenant_id"] for each in cli("gateway", "tokens", "--json").document["tokens"]] == ["other", "acme"]
    assert len(cli("gateway", "tokens", "--tenant", "acme", "--json").document["tokens"]) == 1
    assert token["id"] in cli("gateway", "tokens").stdout
    for _ in range(2):
        assert cli("gateway", "revoke", token["id"], "--json").document["status"] == "revoked"
    actions = [record["detail"]["action"] for record in kit.sessions.audit("acme", None)]
    assert actions == ["gateway_token", "gateway_token_revoked"]


def test_people_see_the_token_once_and_how_to_use_it(cli: Cli, kit: MemoryKit) -> None:
    shown = cli("gateway", "token", "--tenant", "acme", "--user", "u1").stdout
    assert shown.splitlines()[0].startswith("tkgw.") and "ANTHROPIC_AUTH_TOKEN" in shown
    assert kit.gateway_tokens.check(shown.splitlines()[0]).user_id == "u1"


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("token", "--expires", "soon"), 2),
        (("token", "--expires", "0h"), 2),
        (("token", "--task-usd", "much"), 2),
        (("token", "--tenant", "acme!evals"), 1),
        (("revoke", "gwt_unknown"), 1),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, kit: MemoryKit, arguments: tuple[str, ...], exit_code: int) -> None:
    assert cli("gateway", *arguments).exit_code == exit_code
    assert cli("gateway", "tokens", "--json").document["tokens"] == []
