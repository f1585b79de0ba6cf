"""What a new user types first, as the README and docs have it, without a script: the samples answer."""

from __future__ import annotations

import pytest

from tests.e2e.outside import Caller, Stack, results

pytestmark = pytest.mark.stack


def test_the_readmes_job_is_done(stack: Stack, caller: Caller) -> None:
    who = ["--tenant", caller.tenant, "--user", caller.user]
    [submitted] = stack.cli("submit", "analyst", "Which country has the most airports?", *who)["submitted"]
    session = caller.rested(submitted["session_id"])
    assert (session["status"], session["stop"]["reason"]) == ("completed", "end_task")
    assert "US" in session["stop"]["detail"]["summary"]
    _, events = caller.checked(submitted["session_id"])
    assert [(result["tool"], result["outcome"]) for result in results(events)] == [
        ("sql_query", "ok"),
        ("end_task", "ok"),
    ]


@pytest.mark.parametrize(
    ("question", "tool", "answer"),
    [
        ("Is INV-1001 paid?", "get_invoice", "INV-1001"),
        ("What does customer CUS-101 owe?", "get_customer", "balance_due"),
        ("Which invoices of CUS-101 are overdue?", "list_invoices", "overdue"),
    ],
)
def test_a_question_to_the_support_agent_is_looked_up(
    stack: Stack, caller: Caller, question: str, tool: str, answer: str
) -> None:
    turn = stack.cli("run", "support", question, "--tenant", caller.tenant, "--user", caller.user)
    assert turn["status"] == "idle"
    assert answer in turn["output_text"]
    _, events = caller.checked(turn["session_id"])
    first = results(events)[0]
    assert (first["tool"], first["outcome"]) == (tool, "ok")


def test_a_job_for_an_agent_that_there_is_not_is_refused_or_found_again(stack: Stack, caller: Caller) -> None:
    """From the mistake to its end, by the command line alone."""
    who = ["--tenant", caller.tenant, "--user", caller.user]
    assert stack.cli("submit", "nosuch", "hi", *who, exit_code=1)["error"]["code"] == "agent_not_found"
    [sent] = stack.cli("submit", "nosuch", "hi", "--no-check", *who)["submitted"]
    stack.dead_letters(until=lambda found: any(sent["job_id"] in message["Body"] for message in found))
    told = stack.cli("dead", "show", sent["job_id"])
    assert (told["error_code"], told["agent"], told["tenant_id"]) == ("agent_not_found", "nosuch", caller.tenant)
    held = stack.cli("redrive", told["id"], exit_code=1)
    assert [one["id"] for one in held["held"]] == [told["id"]]
    assert [one["id"] for one in stack.cli("dead", "discard", told["id"])["discarded"]] == [told["id"]]
    assert stack.cli("dead", "show", told["id"], exit_code=1)["error"]["code"] == "dead_letter_not_found"
    assert stack.cli("audit", "verify", "--tenant", caller.tenant)["ok"]
