"""A conversation over HTTP that grows beyond its window: what its session and its events tell."""

from __future__ import annotations

from functions.api.app import FrontDoor
from tests.support.http import Caller
from tests.support.kit import MODEL, MemoryKit
from turnkeeper import Agent, Context, Limits, tool

GOAL = "Count the pages of LDG-2041."


@tool(effect="read")
def page(number: int) -> str:
    """Read a page."""
    return f"page {number}: " + "many words " * 40


def test_a_script_of_many_steps_goes_on_behind_its_summaries() -> None:
    """What the user wants, and where the work stands, survive; nothing is played twice."""
    agent = Agent(
        name="reader",
        model=MODEL,
        system="You read.",
        tools=[page],
        limits=Limits(max_iterations=200, max_tokens=500),
        context=Context(window=4_000),
    )
    kit = MemoryKit([agent], runner="inline")
    ann = Caller(FrontDoor(kit))
    steps = " ".join(f'[[tool page {{"number": {number}}}]]' for number in range(90))
    session = ann.post("/v1/sessions", {"agent": "reader", "input": f"{GOAL} {steps} [[say all ninety]]"}).json()
    assert (session["status"], session["output_text"]) == ("idle", "all ninety")
    path = f"/v1/sessions/{session['session_id']}"
    events = ann.get(f"{path}/events").json()["events"]
    assert len([event for event in events if event["type"] == "assistant"]) == 91
    compactions = [event for event in events if event["type"] == "compaction"]
    summaries = [event for event in compactions if event.get("summary")]
    assert summaries
    assert all(float(event["cost_usd"]) > 0 and event["usage"] and event["left_out"] for event in summaries)
    shown = ann.get(path).json()
    assert shown["context"]["window"] == 4_000
    assert 0 < shown["context"]["tokens"] <= 4_000
    assert shown["context"]["left_out"] == sum(len(event["left_out"]) for event in compactions)
    assert shown["usage"]["input_tokens"] >= sum(event["usage"]["input_tokens"] for event in summaries)
