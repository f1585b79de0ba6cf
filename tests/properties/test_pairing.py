"""Whatever a model says and whenever a runner dies: every call is answered once, and no request is one that the API
refuses."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.kit import MODEL
from tests.support.scripted import begin, check_session, failure, reply, say, scripted_kit, use
from turnkeeper import Agent, Limits, ToolError, tool
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.faulty_table import Crash
from turnkeeper_local.standin.signatures import redact, sign_thinking

THOUGHTS = [
    {"type": "thinking", "thinking": "hm", "signature": sign_thinking("hm")},
    {"type": "redacted_thinking", "data": redact("hidden")},
]
STOPS = ["end_turn", "tool_use", "max_tokens", "refusal", "stop_sequence", "model_context_window_exceeded", "new", None]

BLOCKS = st.one_of(
    st.sampled_from(["", " ", "words", "half \ud800"]).map(lambda words: ("text", words)),
    st.tuples(st.sampled_from(["read", "idempotent", "once", "fail", "nobody", "end_task"]), st.integers(0, 2)),
)
REPLIES = st.one_of(
    st.tuples(st.lists(BLOCKS, max_size=4), st.sampled_from(STOPS), st.booleans()),
    st.sampled_from(["voided", "unknown", "known", "bug"]),
)
#: What happens at a write: most often nothing.
FATES = st.sampled_from([None] * 8 + ["dies before", "dies after", "lost", "cancel", "drain"])


@tool(effect="read")
def read(number: int) -> str:
    """Read."""
    return f"read {number}"


@tool(effect="idempotent")
def idempotent(number: int) -> str:
    """Put."""
    return f"put {number}"


@tool(effect="once")
def once(number: int) -> str:
    """Pay."""
    return f"paid {number}"


@tool(effect="read")
def fail(number: int) -> str:
    """Fail."""
    raise ToolError("" if number else "no")


def answers_of(said: list[Any]) -> list[Any]:
    return [_answer(each) for each in said]


def _answer(said: Any) -> Any:
    match said:
        case "bug":
            return RuntimeError("a bug")
        case "known":
            return failure(certainty="known", usage={"input_tokens": 10, "output_tokens": 1})
        case "voided" | "unknown":
            return failure(certainty="unbilled" if said == "voided" else "unknown")
    blocks, stop, thinks = said
    content = [say(block[1]) if block[0] == "text" else _use(*block) for block in blocks]
    return lambda request, content=content, stop=stop: _fresh(request, [*(THOUGHTS if thinks else []), *content], stop)


def _use(name: str, number: int) -> dict[str, Any]:
    return use(name, status="completed", summary="s") if name == "end_task" else use(name, number=number)


def _fresh(_: ModelRequest, content: list[dict[str, Any]], stop: str | None) -> ModelReply:
    return reply(*content, stop=stop)


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(
    st.lists(REPLIES, max_size=8),
    st.lists(FATES, max_size=30),
    st.sampled_from(["end_turn", "end_task"]),
    st.lists(st.sampled_from(["post", "resume"]), max_size=3),
)
def test_every_history_stays_valid(said: list[Any], fates: list[str | None], done: Any, users: list[str]) -> None:
    options = {"thinking": {"type": "enabled", "budget_tokens": 1_024}}
    agent = Agent(
        name="any",
        model=MODEL,
        system="s",
        tools=[read, idempotent, once, fail],
        done=done,
        model_options=options,
        limits=Limits(max_iterations=12, max_attempts=3),
    )
    kit = scripted_kit(*answers_of(said), agents=[agent])
    session_id = begin(kit, "any").session_id
    draining = False
    coming = iter(fates)
    write = kit.table.write

    def fateful(operations: Any) -> None:
        nonlocal draining
        fate = next(coming, None)
        if fate == "dies before":
            raise Crash("dead")
        if fate == "lost":
            from turnkeeper.core.errors import Unavailable

            write(operations)
            raise Unavailable("the answer was lost")
        write(operations)
        if fate == "dies after":
            raise Crash("dead")
        if fate == "cancel" and not kit.head(session_id).resting:
            kit.sessions.request_cancel(kit.head(session_id))
        draining = fate == "drain"

    def rest() -> None:
        for _ in range(60):
            if kit.head(session_id).resting:
                return
            kit.table.write = fateful  # type: ignore[method-assign]
            try:
                kit.run(kit.head(session_id), Allowance(runner="fargate", draining=lambda: draining))
            except (Crash, TurnkeeperError):
                pass
            finally:
                kit.table.write = write  # type: ignore[method-assign]
            kit.clock.advance(120)  # type: ignore[attr-defined]
        raise AssertionError("it never comes to rest")

    rest()
    for act in users:
        head = kit.head(session_id)
        try:
            kit.intake.post(head, "more") if act == "post" else kit.intake.resume(head)
        except TurnkeeperError:
            break
        rest()
    check_session(kit, kit.head(session_id))
