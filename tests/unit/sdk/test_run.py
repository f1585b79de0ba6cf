"""A turn that another engine drives, with the program played: what of it stands in transcript, account and audit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_sdk import PRICE, Answer, Calls, ClaudeAgentOptions, Program, ResultMessage, installed
from tests.support.kit import MODEL, POLICY
from tests.support.money import cap_exceeded
from turnkeeper.core.errors import InvalidRequest, LeaseLost, TenantPaused
from turnkeeper.core.limits import Limits
from turnkeeper.core.policy import policy_of
from turnkeeper.core.session import Head
from turnkeeper.core.tools import Tool, ToolContext, tool
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.engine import Drives
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.sdk import ENGINE, SdkAgent
from turnkeeper.sdk.desk import Means
from turnkeeper.sdk.engine import SdkEngine
from turnkeeper.testing.memory_kit import MemoryKit

WHO = Identity(tenant_id="acme", user_id="ann", role="writer")


class SdkKit(MemoryKit):
    """With the engine on a gateway that is played."""

    def __init__(self, agent: Any, calls: Calls, folder: Path) -> None:
        super().__init__(Catalog({agent.name: agent}), policy_of(POLICY), None, runner="none")  # type: ignore[arg-type]
        self.calls, self.folder = calls, folder

    @cached_property
    def engines(self) -> dict[str, Drives]:
        return {ENGINE: SdkEngine(Means(self.calls, self.sessions, self.table, self.blobs, self.folder), slots=2)}

    def begin(self, text: str = "go") -> Head:
        head = self.intake.create(WHO, NewSession("clerk", text, {}))
        self.dispatch.send(head)
        self.work()
        return self.head(head.session_id)

    def told(self, head: Head) -> list[tuple[str, list[tuple[str, str]]]]:
        """Kinds of entries, with the calls' outcomes."""
        return [
            (entry.type, [(outcome.tool, outcome.outcome) for outcome in entry.outcomes])
            for entry in self.entries(head.session_id)
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "agents"


ran: list[str] = []


@tool(effect="once", scopes={"notes:write"})
def note(ctx: ToolContext, text: str) -> str:
    """Write a note."""
    ran.append(f"{ctx.tool_use_id} {text}")
    return "noted"


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    ran.clear()
    yield


def clerk(*, tools: Sequence[Tool] = (note,), options: Any = None, **more: Any) -> SdkAgent:
    given = {"model": MODEL, "system_prompt": "Clerk.", "tools": ["Bash", "Read"], "allowed_tools": ["Bash", "Read"]}
    return SdkAgent(name="clerk", options=options or ClaudeAgentOptions(**given), tools=tools, **more)


def played(program: Program, folder: Path, **more: Any) -> tuple[SdkKit, Head]:
    with installed(program):
        kit = SdkKit(clerk(**more), program.calls, folder)
        return kit, kit.begin()


def test_answers_and_results_are_entries_and_their_money_is_the_sessions(folder: Path) -> None:
    world = {"Bash": lambda arguments: f"did {arguments['command']}"}
    calls = [("mcp__turnkeeper__note", {"text": "one"}), ("Bash", {"command": "ls"})]
    program = Program([[Answer("First.", calls), Answer("Done.")]], world)
    kit, head = played(program, folder)
    assert kit.told(head) == [
        ("user", []),
        ("assistant", []),
        ("tool_results", [("note", "ok"), ("Bash", "ok")]),
        ("assistant", []),
        ("status", []),
    ]
    assert (head.status, head.steps, head.turn.iterations) == ("idle", 2, 2)
    assert head.account.cost_nanousd == 2 * PRICE == sum(entry.cost_nanousd for entry in kit.entries(head.session_id))
    assert head.account.untold_nanousd == 0
    entry = kit.entries(head.session_id)[1]
    assert (entry.call, entry.request_id, entry.stop_reason) == (1, "req_1", "tool_use")
    assert [block.get("name") for block in entry.content] == [None, "note", "Bash"]
    assert len(ran) == 1
    audit = [
        (record["tool"], record["outcome"])
        for record in kit.sessions.audit("acme", head.session_id)
        if "tool" in record
    ]
    assert audit == [("note", "ok"), ("Bash", "ok")]
    [step, _] = kit.trajectory("acme", head.session_id).steps
    assert [(call.tool, call.outcome) for call in step.calls] == [("note", "ok"), ("Bash", "ok")]
    assert [seen.tools for seen in program.options] == [["Bash", "Read"]]


@pytest.mark.parametrize(
    ("begins", "ends", "status"),
    [
        ({"model": 7}, {}, "idle"),
        ({"model": None}, {}, "idle"),
        ({}, {"delta": {"stop_reason": {"odd": 1}}}, "idle"),
        ({}, {"delta": {"stop_reason": 7}}, "idle"),
        ({"usage": {"input_tokens": "many"}}, {"usage": {"output_tokens": [7]}}, "idle"),
        ({"usage": {"input_tokens": -7}}, {"usage": None}, "idle"),
        ({}, {"delta": "odd"}, "stopped"),
        ({"usage": "odd"}, {}, "stopped"),
    ],
)
def test_whatever_an_answer_tells_of_itself_its_session_can_be_read(
    folder: Path, begins: dict[str, Any], ends: dict[str, Any], status: str
) -> None:
    kit, head = played(Program([[Answer("Done.", begins=begins, ends=ends)]]), folder)
    assert (head.status, head.account.cost_nanousd) == (status, PRICE)
    assert head.account.context_tokens >= 0
    told = sum(entry.cost_nanousd for entry in kit.entries(head.session_id))
    assert told + head.account.untold_nanousd == PRICE
    kit.trajectory("acme", head.session_id)


def test_of_what_the_program_says_without_end_only_so_much_is_logged(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program([[Answer("Done.")]])
    query = program.query

    async def flooding(*, prompt: Any, options: Any) -> Any:
        for number in range(5_000):
            options.stderr(f"line {number}")
        async for message in query(prompt=prompt, options=options):
            yield message

    monkeypatch.setattr(program, "query", flooding)
    with caplog.at_level("INFO", logger="turnkeeper.sdk.run"):
        _, head = played(program, folder)
    said = [record.getMessage() for record in caplog.records if "the program:" in record.getMessage()]
    assert (head.status, len(said)) == ("idle", 1_000)
    assert "nothing is logged" in said[-1]


def test_what_a_role_or_a_plan_leaves_out_is_refused_and_told(folder: Path) -> None:
    policy = {**POLICY, "roles": {"writer": {"scopes": [], "denied_tools": ["Bash"]}}}
    program = Program(
        [[Answer("", [("mcp__turnkeeper__note", {"text": "x"}), ("Bash", {"command": "ls"})]), Answer("No.")]]
    )
    with installed(program):
        kit = SdkKit(clerk(), program.calls, folder)
        kit._given = (kit._given[0], policy_of(policy), kit._given[2])
        head = kit.begin()
    assert head.granted_tools == ("Read",)
    assert kit.told(head)[2] == ("tool_results", [("note", "denied"), ("Bash", "denied")])
    assert ran == []
    [options] = program.options
    assert options.tools == ["Read"]
    assert {"Bash", "Write", "WebFetch"} <= set(options.disallowed_tools)


def test_a_hook_of_ours_that_fails_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from turnkeeper.sdk.gate import Gate

    async def broken(*_: Any) -> str | None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Gate, "_refusal", broken)
    program = Program(
        [[Answer("", [("Bash", {"command": "ls"})]), Answer("No.")]], {"Bash": lambda _: ran.append("!") or ""}
    )
    kit, head = played(program, folder)
    assert kit.told(head)[2] == ("tool_results", [("Bash", "denied")])
    assert ran == []


def test_a_log_that_cannot_be_written_runs_nothing_and_leaves_the_turn_to_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnkeeper.core.errors import Unavailable
    from turnkeeper.sdk import gate
    from turnkeeper.sdk.log import SessionLog

    async def away(self: SessionLog, key: Any, entries: Any) -> None:
        return None

    monkeypatch.setattr(gate, "DURABLE_SECONDS", 0.05)
    monkeypatch.setattr(SessionLog, "append", away)
    program = Program(
        [[Answer("", [("Bash", {"command": "ls"})]), Answer("No.")]], {"Bash": lambda _: ran.append("!") or ""}
    )
    with installed(program):
        kit = SdkKit(clerk(), program.calls, folder)
        head = kit.intake.create(WHO, NewSession("clerk", "go", {}))
        kit.dispatch.send(head)
        with pytest.raises(Unavailable):
            kit.work()
    assert ran == []
    assert kit.head(head.session_id).status == "running"


def test_the_same_call_again_and_again_ends_the_turn(folder: Path) -> None:
    again = Answer("", [("Read", {"file_path": "a"})])
    kit, head = played(Program([[again] * 5], {"Read": lambda _: "same"}), folder)
    assert head.stop is not None
    assert head.stop.reason == "repetition"
    assert kit.told(head)[-2] == ("tool_results", [("Read", "error")])


def test_iterations_end_the_turn(folder: Path) -> None:
    steps = [Answer("", [("Read", {"file_path": str(number)})]) for number in range(5)]
    kit, head = played(Program([steps], {"Read": lambda a: str(a)}), folder, limits=Limits(max_iterations=2))
    assert head.stop is not None
    assert (head.stop.reason, head.turn.iterations) == ("iteration_limit", 2)
    assert kit.told(head)[-1] == ("status", [])


@pytest.mark.parametrize(
    ("refusal", "reason"), [(cap_exceeded(), "cost_cap"), (TenantPaused("paused"), "paused"), (None, "provider_error")]
)
def test_an_error_of_a_call_is_told_as_what_the_gateway_refused_it_for(folder: Path, refusal: Any, reason: str) -> None:
    error = ResultMessage(is_error=True, result="API Error: 402", api_error_status=402)
    program = Program([[Answer("", [("Read", {"file_path": "a"})]), error]], {"Read": lambda _: "text"})
    program.calls.refused = refusal if isinstance(refusal, TenantPaused) else None
    with installed(program):
        kit = SdkKit(clerk(), program.calls, folder)
        if refusal is not None:
            # Refused from the first moment on: the turn ends before its first call, or at it.
            program.calls.refused = refusal
        head = kit.begin()
    assert head.stop is not None
    assert head.stop.reason == reason
    assert head.status == "stopped"


def test_the_next_turn_is_told_what_is_new_and_resumes(folder: Path) -> None:
    program = Program([[Answer("One.")], [Answer("Two.")]])
    with installed(program):
        kit = SdkKit(clerk(), program.calls, folder)
        head = kit.begin("first")
        kit.dispatch.send(kit.intake.post(head, "second", who=WHO))
        kit.work()
    first, second = program.options
    assert program.said == [[{"type": "text", "text": "first"}], [{"type": "text", "text": "second"}]]
    assert first.session_id == second.resume
    assert (first.resume, second.session_id) == (None, None)
    assert kit.head(head.session_id).account.cost_nanousd == 2 * PRICE


def test_a_runner_that_was_lost_in_the_middle_of_a_call_is_followed_and_nothing_is_done_twice(folder: Path) -> None:
    """The first runner dies after the note was written, before anybody heard of it."""
    calls = [("mcp__turnkeeper__note", {"text": "one"}), ("Bash", {"command": "ls"})]

    def dies(_: Any) -> str:
        raise LeaseLost("the process is gone")

    program = Program([[Answer("", calls)], [Answer("It goes on.")]], {"Bash": dies})
    with installed(program):
        kit = SdkKit(clerk(), program.calls, folder)
        head = kit.intake.create(WHO, NewSession("clerk", "go", {}))
        kit.dispatch.send(head)
        with pytest.raises(LeaseLost):
            kit.work()
        kit.clock.sleep = lambda _: None  # type: ignore[method-assign]
        held = kit.head(head.session_id)
        kit.table.update(_expired(held))
        kit.run(held)
    head = kit.head(head.session_id)
    assert head.status == "idle"
    assert len(ran) == 1
    results = next(entry for entry in kit.entries(head.session_id) if entry.type == "tool_results")
    assert [(each.tool, each.outcome) for each in results.outcomes] == [("note", "ok"), ("Bash", "unknown")]
    assert "interrupted" in program.said[1][0]["text"]
    assert sum(entry.cost_nanousd for entry in kit.entries(head.session_id)) == head.account.cost_nanousd


def _expired(head: Head) -> Any:
    from turnkeeper.runtime.store import keys
    from turnkeeper.table import Update

    return Update(keys.head_key(head.tenant_id, head.session_id), set={"lease_expires_at": 1})


def test_a_turn_ends_though_its_author_s_code_blocks_the_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that sleeps, an MCP server that waits for a network: what holds up everything in its event loop."""
    monkeypatch.setattr("turnkeeper.sdk.run._GIVE_UP_SECONDS", 0.3)
    going_on, gone_on = threading.Event(), threading.Event()
    program = Program([[Answer("", [("Bash", {"command": "ls"})]), Answer("Too late.")]])

    def blocks(_: Any) -> str:
        program.calls.refused = TenantPaused("the tenant is paused")
        going_on.wait(30)
        gone_on.set()
        return "done at last"

    program.world = {"Bash": blocks}
    with installed(program):
        kit = SdkKit(clerk(), program.calls, folder)
        head = kit.begin()
        assert head.stop is not None
        assert (head.status, head.stop.reason) == ("stopped", "paused")
        before = kit.told(head)
        assert before[-2] == ("tool_results", [("Bash", "unknown")])
        [driving] = [thread for thread in threading.enumerate() if thread.name == "sdk"]
        going_on.set()
        driving.join(30)
    assert gone_on.is_set()
    assert kit.told(head) == before, "what it hears afterwards is nothing to anybody"
    assert not [each for each in folder.iterdir() if each.is_dir()]


def test_a_program_that_ends_before_it_has_said_anything_gives_its_slot_back(folder: Path) -> None:
    """The SDK waits a minute for its answer to the first request where it ended as if all were well."""

    class Ends(Program):
        async def query(self, *, prompt: Any, options: Any) -> Any:
            Path(options.env["TURNKEEPER_LEASH"] + ".over").touch()
            await asyncio.sleep(60)
            yield None

    program, began = Ends([]), time.monotonic()
    _, head = played(program, folder)
    assert time.monotonic() - began < 15
    assert (head.status, head.stop.reason if head.stop else None) == ("stopped", "internal_error")
    assert head.stop is not None
    assert head.stop.detail == {"hint": "The program ended without a word."}


def test_sessions_are_not_moved_between_engines(folder: Path) -> None:
    from turnkeeper.core.agent import Agent

    program = Program([[Answer("One.")]])
    with installed(program):
        kit = SdkKit(clerk(), program.calls, folder)
        head = kit.begin()
        own = Agent(name="clerk", model=MODEL, system="Clerk.")
        kit._given = (Catalog({"clerk": own}), *kit._given[1:])
        del kit.__dict__["catalog"], kit.__dict__["intake"]
        with pytest.raises(InvalidRequest, match="not moved"):
            kit.intake.post(head, "more", who=WHO)
    assert kit.head(head.session_id) == head


def test_interactive_placement_is_refused(folder: Path) -> None:
    program = Program([])
    with installed(program):
        kit = SdkKit(clerk(), program.calls, folder)
        with pytest.raises(InvalidRequest, match="background"):
            kit.intake.create(WHO, NewSession("clerk", "go", {}, "interactive"))
        assert kit.intake.create(WHO, NewSession("clerk", "go", {}, "auto")).placement == "background"


def test_a_worker_without_the_package_says_so(folder: Path) -> None:
    program = Program([])
    kit = SdkKit(clerk(), program.calls, folder)
    kit.__dict__["engines"] = {}
    head = kit.begin()
    assert head.stop is not None
    assert (head.stop.reason, head.stop.detail["code"]) == ("internal_error", "engine_missing")
    assert Decimal(head.account.cost_nanousd) == 0
