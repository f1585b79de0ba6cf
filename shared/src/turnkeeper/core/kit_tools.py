"""The tools that the kit itself offers: the done signal, and the task's plan. They run in the engine."""

from __future__ import annotations

from turnkeeper.core.session import PlanItem, ToolDefinition
from turnkeeper.core.tools import END_TASK, UPDATE_PLAN, Tool, tool

end_task_definition = ToolDefinition(
    name=END_TASK,
    description=(
        "Say that the task is over. Call it once, alone, when the task is done or cannot be done; nothing runs after "
        "it. The summary is what the person who gave the task reads."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "status": {"type": "string", "description": "'completed', or 'failed' where the task could not be done"},
            "summary": {"type": "string", "description": "What was done and found, in a few sentences"},
        },
        "required": ["status", "summary"],
    },
    effect="read",
)


@tool(effect="idempotent", name=UPDATE_PLAN, untrusted=False)
def _update_plan(goal: str, items: list[PlanItem]) -> str:
    """Keep the plan of a longer task: its goal and its sub-tasks with their state. Call it when you have made the plan
    and whenever a state changes; always give the whole plan. The plan survives interruptions."""
    done = sum(item.state == "done" for item in items)
    return f"Plan kept: {done} of {len(items)} done. Goal: {goal}"


#: A ready tool that an agent can be given; the engine stores what it is called with.
update_plan: Tool = _update_plan
