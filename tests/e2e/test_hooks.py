"""Word of turns as receivers get it: a real one that takes, fails, hangs, sends on and is gone; the bus; replies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.e2e.outside import Caller, Document, Stack, assert_problem, eventually
from tests.support.hook_receiver import HookReceiver, hook_receiver

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def receiver() -> Iterator[HookReceiver]:
    with hook_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def on_the_bus(stack: Stack) -> Iterator[list[Document]]:
    """A queue that somebody in the account has had the bus's events sent to."""
    events, sqs = stack.client("events"), stack.client("sqs")
    url = sqs.create_queue(QueueName="heard")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = json.dumps({"source": ["turnkeeper"], "detail-type": ["turnkeeper.turn.ended"]})
    events.put_rule(Name="heard", EventBusName="Turnkeeper", EventPattern=pattern)
    events.put_targets(Rule="heard", EventBusName="Turnkeeper", Targets=[{"Id": "1", "Arn": arn}])
    yield _Heard(stack, url)


class _Heard(list[Document]):
    def __init__(self, stack: Stack, url: str) -> None:
        self._stack, self._url = stack, url

    def of(self, session_id: str) -> list[Document]:
        received(self._stack, self._url, self)
        return [one["detail"] for one in self if one["detail"]["data"]["session_id"] == session_id]


def received(stack: Stack, url: str, into: list[Document]) -> list[Document]:
    sqs = stack.client("sqs")
    for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
        into.append(json.loads(message["Body"]))
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return into


def deliveries(caller: Caller, **of: str) -> list[Document]:
    options = [part for name, value in of.items() for part in (f"--{name}", value)]
    found: list[Document] = caller.stack.cli("hooks", "list", "--tenant", caller.tenant, *options)["deliveries"]
    return found


def test_a_webhook_is_signed_and_the_same_event_is_on_the_bus(
    caller: Caller, receiver: HookReceiver, on_the_bus: _Heard
) -> None:
    turn = caller.turn("desk", "[[say a hidden answer]]", webhook=receiver.url("fine"))
    came = eventually(lambda: receiver.at("fine"), "the webhook came")[0]
    secret = caller.stack.cli("hooks", "secret", "--tenant", caller.tenant)["secret"]
    document: Any = Webhook(secret).verify(came.body, dict(came.headers))
    data = document["data"]
    assert (data["session_id"], data["status"], data["cost_usd"]) == (turn["session_id"], "idle", turn["cost_usd"])
    assert b"hidden" not in came.body
    heard = eventually(lambda: on_the_bus.of(turn["session_id"]), "it was on the bus")
    assert heard[0] == document
    [delivery] = deliveries(caller)
    assert (delivery["state"], delivery["last_status"], delivery["to"]) == (
        "delivered",
        204,
        f"http://127.0.0.1:{receiver.port}",
    )
    again = caller.stack.cli("hooks", "replay", delivery["id"], "--tenant", caller.tenant)
    assert again["state"] == "pending"
    twice = eventually(lambda: (found := receiver.at("fine"))[1:] and found, "it came again")
    assert twice[0].headers["webhook-id"] == twice[1].headers["webhook-id"]
    other = caller.stack.caller()
    caller.stack.cli("hooks", "replay", delivery["id"], "--tenant", other.tenant, exit_code=1)
    assert deliveries(other) == []


def test_bad_receivers_hold_up_nobody_and_are_tried_again(caller: Caller, receiver: HookReceiver) -> None:
    for path in ("hang", "redirect", "gone", "large", "flaky", "calm"):
        caller.turn("desk", "hello", webhook=receiver.url(path))
    eventually(lambda: receiver.at("calm"), "the one that is fine was told beside the others")
    eventually(lambda: len(receiver.at("flaky")) >= 2, "the one that failed was told again")

    def states() -> dict[str, Document] | None:
        found = {one["session_id"]: one for one in deliveries(caller)}
        by_status = {one["last_status"]: one for one in found.values()}
        return by_status if {302, 410, 500, 200, 204, None} <= by_status.keys() else None

    by_status = eventually(states, "each was tried")
    assert (by_status[410]["state"], by_status[200]["state"], by_status[204]["state"]) == (
        "dead",
        "delivered",
        "delivered",
    )
    assert {by_status[status]["state"] for status in (302, 500, None)} == {"pending"}
    assert len(by_status[500]["last_answer"]) <= 300
    assert not [one for one in receiver.received if "meta-data" in one.path]
    gone = len(receiver.at("gone"))
    after = caller.turn("desk", "hello", webhook=receiver.url("gone"))
    eventually(lambda: [one for one in deliveries(caller, session=after["session_id"]) if one["state"] == "dead"], "")
    assert len(receiver.at("gone")) == gone, "one that is gone is left alone"


def deliverers(stack: Stack) -> list[int]:
    """Processes of the function that delivers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text()
            if str(stack.home.path) in command and "-Deliver" in command:
                found.append(int(process.name))
    return found


def test_one_that_is_killed_as_it_posts_is_followed_by_another(caller: Caller, receiver: HookReceiver) -> None:
    """Told at least once, by the same id, so that a receiver keeps one of them; and recorded once."""
    sqs = caller.stack.client("sqs")
    [queue] = [url for url in sqs.list_queues()["QueueUrls"] if "HooksQueue" in url]
    before = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])["Attributes"]
    # Whoever dies gives nothing back; this is how long a message waits for that.
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "20"})
    try:
        turn = caller.turn("desk", "hello", webhook=receiver.url("stuck"))
        eventually(lambda: receiver.at("stuck"), "it posts")
        killed = deliverers(caller.stack)
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        came = eventually(lambda: (found := receiver.at("stuck"))[1:] and found, "another one posts it again")
        sent = [(one.headers["webhook-id"], one.body) for one in came]
        assert len(set(sent)) == 1
        assert sent[0][0].startswith(f"evt_{turn['session_id'].removeprefix('ses_')}_")
        eventually(lambda: [one for one in deliveries(caller) if one["state"] == "delivered"], "it is recorded")
        [delivery] = deliveries(caller)
        assert (delivery["attempts"], delivery["last_status"]) == (1, 200)
    finally:
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=before)


def test_a_job_s_result_comes_by_the_queue_that_it_names(caller: Caller) -> None:
    url = caller.stack.kit.reply_queues["replies"]
    job = {
        **{"schema": "turnkeeper.job/v1", "job_id": "j-1", "tenant_id": caller.tenant, "user_id": "u1"},
        **{"agent": "desk", "input": "[[say Zurich]]", "metadata": {"order": 7}, "reply_to": "replies"},
    }
    caller.stack.send(job)
    came: list[Document] = []
    [result] = eventually(lambda: received(caller.stack, url, came), "the result came")
    assert result["result"] == {
        "job_id": "j-1",
        "metadata": {"order": 7},
        "output": [{"type": "text", "text": "Zurich"}],
        "output_text": "Zurich",
    }
    caller.stack.send({**job, "job_id": "j-2", "reply_to": "elsewhere"})
    letters = caller.stack.dead_letters(until=lambda found: any("j-2" in one["Body"] for one in found))
    [letter] = [one for one in letters if "j-2" in one["Body"]]
    assert letter["MessageAttributes"]["error_code"]["StringValue"] == "invalid_request"


@pytest.mark.parametrize(
    "address", ["https://evil.example.com/turns", "http://10.0.0.1/", "http://169.254.169.254/", "no address"]
)
def test_an_address_that_nobody_allowed_is_refused(caller: Caller, address: str) -> None:
    body = {"agent": "desk", "input": "hello", "webhook": address}
    problem = assert_problem(caller.post("/v1/sessions", body), 400, "invalid_request")
    assert problem["errors"][0]["where"] == "webhook"


def test_erasure_takes_addresses_out_of_the_log(caller: Caller, receiver: HookReceiver) -> None:
    turn = caller.turn("desk", "hello", webhook=receiver.url("fine?who=ann"))
    eventually(lambda: [one for one in deliveries(caller) if one["state"] == "delivered"], "it was delivered")
    assert caller.erase(turn["session_id"]).status_code == 204
    [kept] = deliveries(caller)
    assert (kept["to"], kept["last_answer"], kept["state"]) == (None, None, "delivered")
