"""Tests as a team writes them for its own agents, on the samples of this repository and on agents of the test's own."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnkeeper import Agent, Limits, ToolContext, tool, update_plan
from turnkeeper.core.errors import SessionEnded
from turnkeeper.ports import ModelRequest
from turnkeeper.runtime.catalog import Broken, Catalog
from turnkeeper.testing import Crash, Run, ScriptError, Workbench, answer, call, cut, fail, say
from turnkeeper.tools import shell

INVOICE = {"id": "INV-1001", "status": "paid", "amount": "49.00"}
MODEL = "claude-sonnet-5-5"


@pytest.fixture
def bench(turnkeeper: Workbench) -> Workbench:
    turnkeeper.replace("get_invoice", INVOICE)
    return turnkeeper


def refund(bench: Workbench, **options: Any) -> Run:
    look, give = call("get_invoice", invoice_id="INV-1001"), {"invoice_id": "INV-1001", "amount": "49.00"}
    script = [look, call("issue_refund", **give, reason="Billed twice"), say("Refunded.")]
    return bench.run("support", "Refund INV-1001", **{"role": "agent", "model": script, **options})


# ---- what a run tells ----


def test_a_run_tells_what_came_of_it(bench: Workbench) -> None:
    issued = bench.replace("issue_refund", lambda invoice_id, amount, reason: {"refund": invoice_id})
    run = refund(bench, tenant="beta", user="eve")

    assert (run.status, run.text, run.steps, run.head.user_id) == ("idle", "Refunded.", 3, "eve")
    run.assert_calls("get_invoice", "issue_refund")
    run.assert_outcomes("ok", "ok")
    run.assert_stopped("end_turn")
    run.assert_settled()
    assert run.cost_usd == sum((Decimal(step.cost_nanousd) for step in run.trajectory.steps), Decimal()) / 10**9 > 0
    assert run.usage.output_tokens == 60
    assert issued.calls == [{"invoice_id": "INV-1001", "amount": "49.00", "reason": "Billed twice"}]
    assert [record["tool"] for record in run.audit("tool_call")] == ["get_invoice", "issue_refund"]
    assert [call["state"] for call in run.ledger()] == ["settled"] * 3
    assert bench.executions[0].ctx.tenant_id == "beta"
    assert '"paid"' in run.calls("get_invoice")[0].result
    assert "Refunded." in repr(run)


def test_what_is_asserted_wrongly_fails(bench: Workbench) -> None:
    bench.replace("issue_refund", "done")
    run = refund(bench)
    with pytest.raises(AssertionError, match="called get_invoice, issue_refund, not issue_refund"):
        run.assert_calls("issue_refund")
    with pytest.raises(AssertionError, match="issue_refund: ok"):
        run.assert_outcomes("ok", "denied")
    with pytest.raises(AssertionError, match="stopped as end_turn"):
        run.assert_stopped("cost_cap")
    with pytest.raises(AssertionError, match="is not in"):
        run.assert_stopped("end_turn", scope="task")


def test_money_that_is_left_aside_is_found(bench: Workbench) -> None:
    run = refund(bench, crash_after_write=3)  # The first with money: claim and counters come before.
    assert run.reserved_usd > 0
    with pytest.raises(AssertionError, match="it is running"):
        run.assert_settled()


def test_a_role_without_the_scope_is_denied(bench: Workbench) -> None:
    issued = bench.replace("issue_refund", "refunded")
    run = refund(bench, role="user")
    run.assert_outcomes("ok", "denied")
    assert issued.calls == []
    assert [each.tool for each in bench.executions] == ["get_invoice"]


def test_several_inputs_and_what_the_model_was_sent(bench: Workbench) -> None:
    sent: list[str] = []

    def second(request: ModelRequest) -> str:
        sent.append(str(request.messages))
        assert len(request.messages) == 3
        return "And again."

    run = bench.run("support", "Hello", model=["Hi."])
    assert run.say("again?", model=[second]) is run
    assert (run.text, run.head.turn.number) == ("And again.", 2)
    assert [step.text for step in run.turn.steps] == ["And again."]
    assert run.trajectory.inputs == ("Hello", "again?")
    assert "Hi." in sent[0]


def test_calls_in_one_answer_and_one_function_for_all(bench: Workbench) -> None:
    both = [say("Looking."), *(call("get_invoice", invoice_id=name) for name in ("INV-1001", "INV-1002"))]
    run = bench.run("support", "Compare", model=lambda request: both if len(request.messages) == 1 else "Same.")
    run.assert_calls("get_invoice", "get_invoice")
    assert run.steps == 2


# ---- scripts that do not fit ----


def test_a_script_that_runs_out_says_where(bench: Workbench) -> None:
    with pytest.raises(
        ScriptError, match=r"asked for answer 2.*\n.*call get_invoice\(invoice_id='INV-1001'\)\n[\s\S]*paid"
    ):
        bench.run("support", "Look", model=[call("get_invoice", invoice_id="INV-1001")])


def test_a_script_that_is_not_played_out_says_what_is_left(bench: Workbench) -> None:
    with pytest.raises(ScriptError, match=r"ended \(idle, end_turn\).*\n  say 'Never\.'"):
        bench.run("support", "Hi", model=["Hello.", "Never."])


def test_assertions_in_functions_and_fakes_fail_the_test(bench: Workbench) -> None:
    def wrong(request: ModelRequest) -> str:
        raise AssertionError("not what I wanted to be asked")

    def picky(invoice_id: str) -> None:
        raise AssertionError(f"not {invoice_id}")

    with pytest.raises(AssertionError, match="wanted to be asked"):
        bench.run("support", "Hi", model=[wrong])
    bench.replace("get_invoice", picky)
    with pytest.raises(AssertionError, match="not INV-1"):
        bench.run("support", "Hi", model=[call("get_invoice", invoice_id="INV-1"), "Oh."])


def test_what_no_agent_has_cannot_be_replaced(bench: Workbench) -> None:
    with pytest.raises(ScriptError, match=r"no agent has a tool 'get_invoise'; there are .*get_invoice"):
        bench.replace("get_invoise", 1)


def test_arguments_that_do_not_fit_never_reach_a_fake(bench: Workbench) -> None:
    fake = bench.replace("get_invoice", INVOICE)
    run = bench.run("support", "Look", model=[call("get_invoice", number=1), "Oh."])
    run.assert_outcomes("error")
    assert fake.calls == [] and bench.executions == []


def test_an_answer_longer_than_allowed_is_an_error_of_the_script(bench: Workbench) -> None:
    with pytest.raises(ScriptError, match="9000 tokens to a request that allows 8192"):
        bench.run("support", "Hi", model=[answer("Hi.", output_tokens=9_000)])


# ---- failures, caps, operators ----


def test_failures_of_the_api(bench: Workbench) -> None:
    run = bench.run("support", "Hi", model=[fail(529), cut(), fail(500), "There."])
    assert run.text == "There."
    assert [call["state"] for call in run.ledger()] == ["voided", "in_doubt", "voided", "settled"]
    run.assert_settled()
    stopped = bench.run("support", "Hi", model=[fail(400)])
    stopped.assert_stopped("provider_error")


@pytest.mark.turnkeeper(policy={"plans": {"standard": {"task_usd": "0.034"}}})
def test_a_cap_stops_and_a_raised_one_lets_it_go_on(bench: Workbench) -> None:
    look = call("get_invoice", invoice_id="INV-1001")
    run = bench.run(
        "support", "Look", model=[lambda asked: answer(look, output_tokens=asked.max_tokens), "It is paid."]
    )
    run.assert_stopped("cost_cap", scope="task")
    run.assert_settled()
    bench.set_caps(task_usd="1.00")
    assert run.resume().text == "It is paid."


@pytest.mark.turnkeeper(
    agents=[
        Agent(name="brief", model=MODEL, system="Be brief.", tools=[update_plan], limits=Limits(max_iterations=1)),
        Agent(name="tasker", model=MODEL, system="Do it.", done="end_task"),
    ]
)
def test_agents_of_the_tests_own(turnkeeper: Workbench) -> None:
    run = turnkeeper.run("brief", "Do it", model=[call("update_plan", goal="It", items=[]), "Done."])
    run.assert_stopped("iteration_limit")
    assert run.resume(max_iterations=2).text == "Done."
    assert run.trajectory.plan is not None
    run = turnkeeper.run("tasker", "Do it", model=[call("end_task", status="completed", summary="Did it.")])
    run.assert_stopped("end_task", summary="Did it.")
    with pytest.raises(SessionEnded):
        run.say("more")


def test_the_kill_switch_in_the_middle_of_a_turn(bench: Workbench) -> None:
    def thrown(invoice_id: str) -> dict[str, str]:
        bench.pause()
        return INVOICE

    bench.replace("get_invoice", thrown)
    bench.replace("issue_refund", "done")
    run = refund(bench)
    run.assert_stopped("paused")
    refund(bench, model=[]).assert_stopped("paused")
    assert refund(bench, tenant="other").status == "idle"
    bench.unpause()
    assert run.resume().text == "Refunded."


def test_cancelled_in_the_middle_of_a_turn(bench: Workbench) -> None:
    def asked(invoice_id: str) -> dict[str, str]:
        head = bench.kit.head(bench.executions[-1].ctx.session_id)
        bench.kit.cancelling.cancel(head, actor="ann")
        return INVOICE

    bench.replace("get_invoice", asked)
    run = refund(bench)
    run.assert_stopped("cancelled")
    run.assert_settled()
    assert bench.run("support", "Hi", model=["Hi."]).cancel().status == "cancelled"


# ---- time, jobs ----


def slow(bench: Workbench, seconds: float, timeout_seconds: float) -> Agent:
    @tool(effect="read", timeout_seconds=timeout_seconds)
    def wait_for(what: str) -> str:
        """Wait."""
        bench.clock.sleep(seconds)
        return f"{what} came"

    return Agent(name="slow", model=MODEL, system="You wait.", tools=[wait_for])


@pytest.mark.parametrize(("seconds", "outcome"), [(29, "ok"), (31, "error"), (200, "error")])
def test_tools_have_their_time_by_the_clock_of_the_test(turnkeeper: Workbench, seconds: int, outcome: str) -> None:
    turnkeeper.override(agents=[slow(turnkeeper, seconds, 30)])
    run = turnkeeper.run("slow", "Wait", model=[call("wait_for", what="it"), "Well."])
    run.assert_outcomes(outcome)
    assert turnkeeper.clock.monotonic() == seconds


def test_what_takes_long_moves_to_the_worker(turnkeeper: Workbench) -> None:
    turnkeeper.override(agents=[slow(turnkeeper, 500, 900)])
    run = turnkeeper.run("slow", "Wait", model=[*(call("wait_for", what=f"{n}") for n in range(4)), "All came."])
    run.assert_outcomes("ok", "ok", "ok", "ok")
    assert run.head.runner == "fargate"
    run.assert_settled()


@pytest.mark.turnkeeper(policy={"plans": {"standard": {"user_daily_usd": "0.034"}}})
def test_a_day_passes(bench: Workbench) -> None:
    bench.run("support", "Hi", model=[lambda asked: answer("Hi.", output_tokens=asked.max_tokens)])
    run = bench.run("support", "Hi", model=["Hello."])
    run.assert_stopped("cost_cap", scope="user_daily")
    bench.clock.advance(hours=24)
    assert bench.run("support", "Hi", model=["Hello."]).text == "Hello."


def test_a_job_is_done_by_the_worker_once(bench: Workbench) -> None:
    script = [call("get_invoice", invoice_id="INV-1001"), "Paid."]
    run = bench.job("support", "Look", model=script, job_id="j-1", metadata={"source": "cron"})
    assert (run.text, run.head.runner, run.head.metadata) == ("Paid.", "fargate", {"source": "cron"})
    again = bench.job("support", "Look", job_id="j-1")
    assert (again.session_id, again.steps) == (run.session_id, 2)


def test_a_broken_agent_says_why(turnkeeper: Workbench) -> None:
    why = "ImportError: no module named left_pad"
    catalog = Catalog({}, {"mine": Broken(Path("mine"), why, Path("mine/agent.py"), 1, why)})
    with pytest.raises(AssertionError, match="mine could not be loaded: ImportError: no module named left_pad"):
        Workbench(catalog, turnkeeper._policy).run("mine", "Hi", model=["Hi."])


def test_guarded_tools_have_their_time_where_the_clock_stands_still(turnkeeper: Workbench) -> None:
    says = shell(commands={"echo": [r"\w+"]}, cwd="work")
    mine = Agent(name="mine", model=MODEL, system="You work.", tools=[says])
    bench = Workbench(Catalog({"mine": mine}), turnkeeper._policy)
    run = bench.run("mine", "Go", model=[call("shell", command="echo", args=["hello"]), "Well."])
    run.assert_outcomes("ok")
    assert "hello" in run.calls()[0].result


def test_what_is_deployed_is_changed_before_the_first_run(bench: Workbench) -> None:
    bench.run("support", "Hi", model=["Hi."])
    with pytest.raises(RuntimeError, match="before the first run"):
        bench.override(policy={})


# ---- crashes ----


def test_a_crash_and_what_came_of_it(bench: Workbench) -> None:
    issued = bench.replace("issue_refund", "refunded")
    # The answer that asks for the refund is the sixth write. It is the last: nobody knows what came after it.
    run = refund(bench, crash_after_write=6)
    assert (run.crashed, run.status) == (True, "running")
    with pytest.raises(RuntimeError, match="recover"):
        run.resume()
    run.recover()
    run.assert_settled()
    run.assert_outcomes("ok", "unknown")
    assert (run.text, issued.calls) == ("Refunded.", [])


def test_a_crash_within_a_tool(bench: Workbench) -> None:
    def dies(invoice_id: str, amount: str, reason: str) -> None:
        raise Crash("the machine is gone")

    issued = bench.replace("issue_refund", dies)
    run = refund(bench)
    run.assert_settled()
    run.assert_outcomes("ok", "unknown")
    assert len(issued.calls) == 1


def test_a_crash_that_never_comes_is_an_error(bench: Workbench) -> None:
    bench.replace("issue_refund", "refunded")
    with pytest.raises(ScriptError, match="before its write 99"):
        refund(bench, crash_after_write=99)


def test_a_crash_at_every_write(turnkeeper: Workbench) -> None:
    def scenario(bench: Workbench) -> Run:
        bench.replace("get_invoice", INVOICE)
        bench.replace("issue_refund", "refunded")
        return refund(bench).say("Thanks", model=["Welcome."])

    crashed = turnkeeper.crash_everywhere(scenario, check=lambda run: run.assert_calls("get_invoice", "issue_refund"))
    assert len(crashed) == 2 * len({each.write for each in crashed}) > 16
    outcomes = {each.run.calls("issue_refund")[0].outcome for each in crashed}
    assert outcomes == {"ok", "unknown"}


def test_a_tool_that_runs_twice_is_found(turnkeeper: Workbench) -> None:
    """Read tools run again after a crash: one that says so, and changes something, is what this is for."""
    done: list[str] = []

    @tool(effect="read")
    def charge(ctx: ToolContext) -> str:
        """Charge."""
        done.append(ctx.idempotency_key)
        return "charged"

    turnkeeper.override(agents=[Agent(name="shop", model=MODEL, system="You sell.", tools=[charge])])

    def scenario(bench: Workbench) -> Run:
        done.clear()
        return bench.run("shop", "Buy", model=[call("charge"), "Bought."])

    def once(run: Run) -> None:
        assert len(done) == 1, "charged twice"

    with pytest.raises(AssertionError, match=r"with a crash (before|after) write \d+ of \d+: charged twice"):
        turnkeeper.crash_everywhere(scenario, check=once)


def test_nothing_is_left_of_the_test_before(turnkeeper: Workbench) -> None:
    assert turnkeeper.executions == [] and turnkeeper.writes == 0
    run = turnkeeper.run("support", "Look", model=[call("get_invoice", invoice_id="INV-1001"), "Paid."])
    assert '"49.00"' in run.calls()[0].result


STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(["get_invoice", "issue_refund", "nonsense"]), min_size=1, max_size=3),
        st.sampled_from(["fail", "cut"]),
    ),
    max_size=4,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS, data=st.data())
def test_whatever_is_scripted_a_crash_leaves_nothing_behind(
    turnkeeper_deployed: Workbench, steps: list[Any], data: st.DataObject
) -> None:
    def played(bench: Workbench) -> Run:
        bench.replace("get_invoice", INVOICE)
        bench.replace("issue_refund", "refunded")
        arguments = {
            "get_invoice": {"invoice_id": "A"},
            "issue_refund": {"invoice_id": "A", "amount": "1.00", "reason": "x"},
        }
        odd = {"fail": fail(529), "cut": cut()}
        script = [
            odd[step] if isinstance(step, str) else [call(name, **arguments.get(name, {})) for name in step]
            for step in steps
        ]
        return bench.run("support", "Go on", role="agent", model=[*script, "Done."])

    calm = turnkeeper_deployed.fresh()
    calm.override(agents=[patient(calm)])
    expected = played(calm)
    bench = turnkeeper_deployed.fresh()
    bench.override(agents=[patient(bench)])
    bench.crash_at(data.draw(st.integers(1, calm.writes)), data.draw(st.sampled_from(["before", "after"])))
    run = played(bench)
    run.assert_settled()
    assert (run.status, run.text) == (expected.status, expected.text) == ("idle", "Done.")
    assert [each.tool for each in run.calls()] == [each.tool for each in expected.calls()]
    ran = [each.tool for each in bench.executions]
    assert ran.count("issue_refund") <= [each.tool for each in calm.executions].count("issue_refund")


def patient(bench: Workbench) -> Agent:
    """The sample without breakers that a script of the same calls would trip."""
    agent = bench._catalog.get("support")
    return replace(agent, limits=Limits(repetition_strikes=100, max_attempts=20, error_streak=100))
