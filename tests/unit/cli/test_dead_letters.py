"""`turnkeeper dead` and `redrive`, on SQS as moto has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from tests.support.examples import examples
from tests.support.kit import MemoryKit
from tests.unit.cli.conftest import Cli, new_session
from tests.unit.cli.fake_api import FakeApi
from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dead_letters import SqsDeadLetters
from turnkeeper.adapters.sqs import SqsQueue
from turnkeeper.core.continuation import continuation_of
from turnkeeper.runtime.jobs import SCHEMA, continue_body, session_id_of_job
from turnkeeper_local.cli import operator as operating
from turnkeeper_local.cli.operator import Operator


class Queues:
    """A queue and its dead letters."""

    def __init__(self, kit: MemoryKit) -> None:
        self.kit = kit
        self.sqs = kit.platform.aws.sqs

    def reject(
        self, body: str, code: str = "agent_not_found", detail: str = "there is no agent", group: str = "g"
    ) -> str:
        """As the worker does: the id of the dead letter."""
        self.kit.queue.send(body, group=group)
        [message] = self.kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=30)
        before = set(self.dead())
        self.kit.queue.reject(message, error_code=code, detail=detail)
        [new] = set(self.dead()) - before
        return new

    def dead(self) -> dict[str, str]:
        """What can be received now: id to body."""
        url = self.kit.settings.dlq_url
        assert url is not None
        found = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0).get("Messages", [])
        return {message["MessageId"]: message["Body"] for message in found}

    def waiting(self) -> list[str]:
        return [message.body for message in self.kit.queue.receive(most=10, wait_seconds=0, visibility_seconds=0)]


@pytest.fixture
def queues(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queues]:
    # moto is one server; waiting would be in vain.
    monkeypatch.setattr("turnkeeper.adapters.dead_letters._WAIT_SECONDS", 0)
    with mock_aws():
        aws = Aws(region="eu-west-1")
        dlq_url, queue_url = (aws.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("dead", "queue"))
        kit = MemoryKit(runner="none", queue_url=queue_url, dlq_url=dlq_url)
        vars(kit.platform)["aws"] = aws
        kit.queue = SqsQueue(aws.sqs, queue_url, dlq_url)  # type: ignore[assignment]  # the real one
        monkeypatch.setattr(operating, "connect", lambda _: Operator(kit, lambda: "operator:test"))
        yield Queues(kit)


def job(agent: str, job_id: str = "j1", tenant: str = "acme", **more: Any) -> str:
    fields = {"job_id": job_id, "tenant_id": tenant, "user_id": "u1", "agent": agent, "input": "hi", **more}
    return json.dumps({"schema": SCHEMA, **fields})


def test_what_is_dead_is_listed_with_why_and_whose(cli: Cli, queues: Queues) -> None:
    assert cli("dead", "list").stdout.strip() == "no dead letters"
    lost = queues.reject(job("nosuch"))
    noise = queues.reject("not json", "not_json", "the body is not JSON")
    listed = {one["id"]: one for one in cli("dead", "list", "--json").document["dead_letters"]}
    assert listed.keys() == {lost, noise}
    told = listed[lost]
    assert (told["error_code"], told["agent"], told["tenant_id"], told["job_id"]) == (
        "agent_not_found",
        "nosuch",
        "acme",
        "j1",
    )
    assert (told["session_id"], told["receives"]) == (None, 1)
    assert 0 <= told["age_seconds"] < 60
    assert "'nosuch' does not exist" in told["still"]
    assert lost in told["what_now"]
    shown = cli("dead", "list", "--code", "not_json").stdout
    assert noise[:8] in shown
    assert lost[:8] not in shown
    assert "send it anew" in shown
    assert set(queues.dead()) == {lost, noise}, "whoever looked lets go"


def test_one_is_shown_by_its_id_its_beginning_or_its_job(cli: Cli, queues: Queues) -> None:
    letter = queues.reject(job("nosuch", detail := "j-\u00fc1"), detail="there is no \x1b[31magent")
    for name in (letter, letter[:8], detail):
        assert cli("dead", "show", name, "--json").document["id"] == letter
    shown = cli("dead", "show", letter).stdout
    for text in ("agent_not_found", "nosuch", "acme, u1", "what now", '"schema"'):
        assert text in shown
    assert "\x1b" not in shown
    missing = cli("dead", "show", "00000000", "--json")
    assert (missing.exit_code, missing.document["error"]["code"]) == (1, "dead_letter_not_found")


def test_one_that_nobody_was_done_with_says_so_and_names_its_session(cli: Cli, queues: Queues) -> None:
    session_id = new_session(queues.kit, tenant="acme", session_id=session_id_of_job("acme", "j1"))
    url = queues.kit.settings.dlq_url
    assert url is not None
    queues.sqs.send_message(QueueUrl=url, MessageBody=job("support"))
    [told] = cli("dead", "list", "--json").document["dead_letters"]
    assert (told["error_code"], told["session_id"], told["still"]) == ("received_too_often", session_id, None)
    for command in (["list"], ["show", "j1"]):
        assert session_id in cli("dead", *command).stdout


def test_a_cause_that_is_still_there_holds_it_back(cli: Cli, queues: Queues, api: FakeApi) -> None:
    letter = queues.reject(job("nosuch"))
    result = cli("redrive")
    assert result.exit_code == 1
    assert letter in result.stdout
    assert "'nosuch' does not exist" in result.stdout
    assert "--force" in result.stderr
    assert (list(queues.dead()), queues.waiting()) == ([letter], [])
    api.agents.append({**api.agents[0], "name": "nosuch"})
    assert cli("redrive", "--json").document == {"moved": 1, "held": []}
    assert (queues.dead(), queues.waiting()) == ({}, [job("nosuch")])


def test_force_gives_back_what_would_come_back(cli: Cli, queues: Queues) -> None:
    queues.reject("not json", "not_json")
    assert cli("redrive", "--json").document["held"][0]["still"].startswith("the message is no job")
    assert cli("redrive", "--force", "--json").document["moved"] == 1
    assert queues.waiting() == ["not json"]


def test_chosen_ones_are_given_back(cli: Cli, queues: Queues) -> None:
    first, second = (queues.reject(job("support", f"j{n}"), code) for n, code in enumerate(("unpriced_model", "other")))
    assert cli("redrive", "--code", "unpriced_model", "--json").document["moved"] == 1
    assert list(queues.dead()) == [second]
    assert first not in queues.dead()
    assert cli("redrive", second, "--json").document["moved"] == 1
    missing = cli("redrive", first, "--json")
    assert missing.document["error"]["code"] == "dead_letter_not_found"
    assert sorted(queues.waiting()) == sorted([job("support", "j0"), job("support", "j1")])


@pytest.mark.parametrize("command", [("redrive",), ("dead", "discard")])
def test_a_name_that_could_mean_several_touches_none_of_them(
    cli: Cli, queues: Queues, command: tuple[str, ...]
) -> None:
    acme, globex = (queues.reject(job("support", "report-11", tenant)) for tenant in ("acme", "globex"))
    other = queues.reject(job("support", "j2"))
    refused = cli(*command, "report-11", other, "--json")
    assert (refused.exit_code, refused.document["error"]["code"]) == (1, "ambiguous")
    assert acme in refused.document["error"]["detail"]
    assert cli(*command, other, "nosuch", "--json").document["error"]["code"] == "dead_letter_not_found"
    assert set(queues.dead()) == {acme, globex, other}
    assert queues.waiting() == []


def test_an_id_is_of_its_own_letter_also_where_a_job_is_called_so(cli: Cli, queues: Queues) -> None:
    first = queues.reject(job("support", "j1"))
    second = queues.reject(job("support", first))
    assert cli("dead", "show", first, "--json").document["job_id"] == "j1"
    assert [one["id"] for one in cli("dead", "discard", first, "--json").document["discarded"]] == [first]
    assert list(queues.dead()) == [second]


def test_a_job_that_died_more_than_once_is_one_job(cli: Cli, queues: Queues) -> None:
    letters = {queues.reject(job("support", "j1")) for _ in range(2)}
    assert {one["id"] for one in cli("dead", "discard", "j1", "--json").document["discarded"]} == letters


def test_a_continuation_goes_back_where_its_session_is(cli: Cli, queues: Queues) -> None:
    new_session(queues.kit, tenant="acme")
    token = queues.kit.tokens.sign(continuation_of(queues.kit.sessions.head("acme", "ses_1")))
    queues.reject(continue_body(token), "internal_error")
    queues.reject(continue_body("forged"), "unauthenticated")
    answer = cli("redrive", "--json").document
    assert (answer["moved"], [one["error_code"] for one in answer["held"]]) == (1, ["unauthenticated"])


def test_what_is_discarded_is_gone_and_on_the_audit_trail(cli: Cli, queues: Queues) -> None:
    first, second, third = (queues.reject(job("nosuch", f"j{n}"), "c" if n else "agent_not_found") for n in range(3))
    assert cli("dead", "discard").exit_code == 2
    assert cli("dead", "discard", first).stdout.strip() == "1 message deleted"
    assert set(queues.dead()) == {second, third}
    assert len(cli("dead", "discard", "--code", "c", "--json").document["discarded"]) == 2
    assert cli("dead", "discard", "--all", "--json").document == {"discarded": []}
    assert queues.waiting() == []
    details = [record["detail"] for record in queues.kit.sessions.audit("acme", None)]
    assert details[0] == {"action": "discard", "error_code": "agent_not_found", "job_id": "j0"}
    assert len(details) == 3


def test_a_redrive_goes_onto_each_tenants_chain_before_it_happens(cli: Cli, queues: Queues) -> None:
    for number, tenant in enumerate(("acme", "acme", "globex")):
        queues.reject(job("support", f"j{number}", tenant))
    assert cli("redrive", "--json").document["moved"] == 3
    for tenant in ("acme", "globex"):
        assert [one["detail"] for one in queues.kit.sessions.audit(tenant, None)] == [{"action": "redrive"}]


@pytest.mark.parametrize("dies_at", ["send", "delete"])
def test_nothing_is_lost_where_it_dies_in_the_middle(
    cli: Cli, queues: Queues, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    bodies = [job("support", f"j{n}") for n in range(3)]
    for body in bodies:
        queues.reject(body)
    real, calls = SqsDeadLetters.discard if dies_at == "delete" else SqsDeadLetters.give_back, []

    def dying(self: SqsDeadLetters, letter: Any) -> None:
        calls.append(letter.message_id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, letter)

    with monkeypatch.context() as patched:
        patched.setattr(SqsDeadLetters, "discard" if dies_at == "delete" else "give_back", dying)
        assert cli("redrive").exit_code == 130
    left = sorted([*queues.dead().values(), *queues.waiting()])
    assert set(left) == set(bodies)
    assert len(left) == (4 if dies_at == "delete" else 3), "doubled at most, and a job that comes twice is done once"


BODIES = st.one_of(
    st.sampled_from(["{}", "[]", "null", '{"schema": "turnkeeper.job/v2"}', job("support"), job("nosuch"), "[" * 3000]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=40),
    st.builds(
        lambda changes: job("support", **changes), st.dictionaries(st.sampled_from(["input", "role"]), st.integers())
    ),
)


@pytest.mark.examples
@settings(max_examples=examples(8, all=25), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(BODIES)
def test_whatever_it_holds_it_is_listed_shown_and_given_back_or_discarded(cli: Cli, queues: Queues, body: str) -> None:
    letter = queues.reject(body, "some_code", body[:100])
    [told] = cli("dead", "list", "--json").document["dead_letters"]
    assert told["id"] == letter
    assert cli("dead", "show", letter, "--json").document["body"] == body
    assert cli("dead", "show", letter).exit_code == 0
    assert cli("redrive", "--json").document["moved"] == (told["still"] is None)
    if told["still"] is not None:
        assert cli("dead", "discard", letter).exit_code == 0
    assert queues.dead() == {}
    for message in queues.kit.queue.receive(most=10, wait_seconds=0, visibility_seconds=5):
        queues.kit.queue.delete(message)
