"""Jobs on the queue: each done once however often it comes, and what can never work kept with a reason."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.outside import (
    Caller,
    Stack,
    assert_books,
    call,
    eventually,
    good,
    lines,
    results,
    tools,
)

pytestmark = pytest.mark.stack

SCHEMA = "turnkeeper.job/v1"


def a_job(caller: Caller, agent: str, text: Any, job_id: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "job_id": job_id or f"job-{uuid.uuid4().hex}",
        "tenant_id": caller.tenant,
        "user_id": caller.user,
        "agent": agent,
        "input": text,
        **more,
    }


def sessions_of(caller: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = good(caller.get("/v1/sessions", limit=100))["sessions"]
    return found


def is_empty(stack: Stack, queue_url: str) -> bool:
    return stack.depths(queue_url) == (0, 0)


def test_twenty_jobs_each_delivered_twice_or_more(stack: Stack, caller: Caller, tmp_path: Path) -> None:
    """Shuffled, some a third time, and once more when all is done."""
    before = stack.depths(stack.kit.dlq_url)
    paid = tmp_path / "paid"
    jobs = []
    for n in range(20):
        pay = tools(call("pay", file=str(paid), what=f"job {n}", seconds=n % 3 / 2))
        end = tools(call("end_task", status="completed", summary=f"job {n}"))
        jobs.append(a_job(caller, "tasker", f"{pay} {tools(call('look', what=str(n)))} {end}", metadata={"n": n}))
    deliveries = [*jobs, *jobs, *jobs[:7]]
    random.Random(7).shuffle(deliveries)
    for job in deliveries:
        stack.send(job, group=caller.tenant)
    eventually(
        lambda: len(found := sessions_of(caller)) >= 20 and {each["status"] for each in found} == {"completed"},
        "all are completed",
    )
    for job in jobs[:5]:
        stack.send(job, group=caller.tenant)
    eventually(lambda: is_empty(stack, stack.kit.queue_url), "the queue is empty")
    found = sessions_of(caller)
    assert len(found) == 20
    assert sorted(each["metadata"]["n"] for each in found) == list(range(20))
    checked = []
    for each in found:
        session, events = caller.checked(each["session_id"])
        checked.append(session)
        assert session["stop"]["detail"]["summary"] == f"job {each['metadata']['n']}"
        assert session["runner"] == "fargate"
        assert [event["type"] for event in events].count("user") == 1
        assert [result["outcome"] for result in results(events)] == ["ok", "ok", "ok"]
    assert sorted(line.split(maxsplit=2)[2] for line in lines(paid)) == sorted(f"job {n}" for n in range(20))
    assert stack.depths(stack.kit.dlq_url) == before
    assert_books(caller, checked)


def test_the_same_job_id_of_another_tenant_is_another_job(stack: Stack) -> None:
    first, second = stack.caller(), stack.caller()
    for caller in (first, second):
        stack.send(a_job(caller, "handy", "[[say done so]]", job_id="invoice-7"))
    [one] = eventually(lambda: sessions_of(first), "there is a session")
    [other] = eventually(lambda: sessions_of(second), "there is another")
    assert one["session_id"] != other["session_id"]
    for caller, each in ((first, one), (second, other)):
        assert caller.rested(each["session_id"])["status"] == "idle"
        caller.checked(each["session_id"])


def test_the_sender_knows_the_session_and_can_go_on_with_it(stack: Stack, caller: Caller) -> None:
    """A job's session is one like any other: its user sees it and has the next word, on Lambda."""
    submitted = stack.cli(
        "submit", "handy", "[[say from the worker]]", "--tenant", caller.tenant, "--user", caller.user
    )
    session_id = submitted["submitted"][0]["session_id"]
    session = caller.rested(session_id)
    assert (session["status"], session["output_text"], session["runner"]) == ("idle", "from the worker", "fargate")
    assert session["placement"] in {"background", "auto"}
    turn = caller.finish(caller.say(session_id, "[[say and on]]"))
    assert turn["output_text"] == "and on"
    caller.checked(session_id)


def test_roles_of_jobs(stack: Stack) -> None:
    """Without a word about it a job has the default role; one that nobody described is given nothing."""
    for role, granted in ((None, True), ("user", True), ("nobody-described-this", False)):
        caller = stack.caller()
        more = {} if role is None else {"role": role}
        stack.send(a_job(caller, "handy", "hi", **more))
        [session] = eventually(lambda caller=caller: sessions_of(caller), "there is a session")
        caller.rested(session["session_id"])
        assert ("ledger" in caller.session(session["session_id"])["granted_tools"]) == granted


NEVER = [
    ("not json at all", None),
    ("[]", None),
    ("7", None),
    ("null", None),
    ("{}", None),
    ('{"schema": "turnkeeper.job/v2"}', None),
    ("[" * 50_000, None),
    (None, {"agent": "nobody"}),
    (None, {"agent": "broken"}),
    (None, {"agent": "unpriced"}),
    (None, {"agent": 7}),
    (None, {"input": ""}),
    (None, {"input": None}),
    (None, {"input": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}),
    (None, {"job_id": ""}),
    (None, {"job_id": "x" * 129}),
    (None, {"tenant_id": ""}),
    (None, {"tenant_id": 7}),
    (None, {"schema": "turnkeeper.job/v9"}),
    (None, {"metadata": "text"}),
    ('{"schema": "turnkeeper.job/v1"}', None),
    ('{"schema": "turnkeeper.job/v1", "continuation_token": "forged"}', None),
    ('{"schema": "turnkeeper.job/v1", "continuation_token": 7}', None),
    ('{"schema": "turnkeeper.job/v1", "continuation_token": "é"}', None),
]


def test_what_can_never_work_is_a_dead_letter_at_once(stack: Stack, caller: Caller) -> None:
    """On its first receive, with the reason, its body as it was; and nothing is started."""
    sent = []
    for body, changes in NEVER:
        text = json.dumps({**a_job(caller, "handy", "hi"), **changes}) if changes is not None else body
        assert text is not None
        stack.send(text, group=caller.tenant)
        sent.append(text)

    def all_there(found: list[dict[str, Any]]) -> bool:
        return set(sent) <= {message["Body"] for message in found}

    letters = [message for message in stack.dead_letters(until=all_there) if message["Body"] in sent]
    assert sorted(message["Body"] for message in letters) == sorted(sent), "each once"
    for message in letters:
        reason = message["MessageAttributes"]["error_code"]["StringValue"]
        assert reason
        assert " " not in reason
    reasons = {message["Body"]: message["MessageAttributes"]["error_code"]["StringValue"] for message in letters}
    assert reasons[sent[7]] == "agent_not_found"
    assert reasons['{"schema": "turnkeeper.job/v1", "continuation_token": "forged"}'] == "unauthenticated"
    eventually(lambda: is_empty(stack, stack.kit.queue_url), "the queue is empty")
    assert sessions_of(caller) == []
    # What would come back at once stays where it is, unless it is forced; then it comes to the same end, and the queue
    # does not run hot.
    held = {one["id"]: one["still"] for one in stack.cli("redrive", exit_code=None)["held"]}
    assert {message["MessageId"] for message in letters if reasons[message["Body"]] != "unpriced_model"} <= held.keys()
    moved = stack.cli("redrive", "--force")["moved"]
    assert moved >= len(sent)
    again = [message for message in stack.dead_letters(until=all_there) if message["Body"] in sent]
    assert len(again) >= len(sent)
    stack.client("sqs").purge_queue(QueueUrl=stack.kit.dlq_url)


def test_redrive_does_what_can_be_done_now(stack: Stack, caller: Caller) -> None:
    body = a_job(caller, "handy", "[[say at last]]")
    stack.client("sqs").send_message(QueueUrl=stack.kit.dlq_url, MessageBody=json.dumps(body), MessageGroupId="g")
    assert stack.cli("redrive")["moved"] >= 1
    [session] = eventually(lambda: sessions_of(caller), "there is a session")
    assert caller.rested(session["session_id"])["output_text"] == "at last"


def test_a_continuation_on_the_queue_resumes_a_stopped_session(stack: Stack, caller: Caller) -> None:
    """What the token lets its holder do over HTTP, it lets a message do; and only once."""
    stack.set_caps(caller.tenant, task="0.000100")
    response = caller.start("handy", f"{tools(call('look', what='x'))} [[say went on]]")
    assert response.status_code == 402, response.text
    token, session_id = response.json()["continuation_token"], response.json()["session_id"]
    stack.set_caps(caller.tenant, task="1.00")
    for _ in range(3):
        stack.send({"schema": SCHEMA, "continuation_token": token}, group=caller.tenant)
    session = caller.until(session_id, lambda now: now["status"] == "idle")
    assert session["output_text"] == "went on"
    eventually(lambda: is_empty(stack, stack.kit.queue_url), "the queue is empty")
    session, events = caller.checked(session_id)
    assert session["steps"] == 2
    assert len(results(events)) == 1
    assert_books(caller, [session])


def test_a_continuation_of_a_turn_that_is_over_is_no_harm(stack: Stack, caller: Caller) -> None:
    response = caller.start("handy", f"{tools(call('wait', seconds=2))} [[say one]]", wait=0)
    token = response.json()["continuation_token"]
    turn = caller.finish(response)
    stack.send({"schema": SCHEMA, "continuation_token": token}, group=caller.tenant)
    eventually(lambda: is_empty(stack, stack.kit.queue_url), "the queue is empty")
    assert caller.session(turn["session_id"])["last_seq"] == turn["last_seq"]
    caller.checked(turn["session_id"])


def test_a_file_of_jobs(stack: Stack, caller: Caller, tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_text("\n".join(json.dumps({"input": f"[[say job {n}]]", "metadata": {"n": n}}) for n in range(5)) + "\n")
    answer = stack.cli("submit", "batch", "--file", str(file), "--tenant", caller.tenant, "--user", caller.user)
    for n, submitted in enumerate(answer["submitted"]):
        session = caller.rested(submitted["session_id"])
        assert (session["output_text"], session["metadata"]) == (f"job {n}", {"n": n})
