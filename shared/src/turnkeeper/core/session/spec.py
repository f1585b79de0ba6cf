"""What the model is sent around a session's transcript, and the plan that it keeps."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from turnkeeper.core.limits import Limits
from turnkeeper.core.session.status import Frozen
from turnkeeper.core.tools import Effect


class ToolDefinition(Frozen):
    """A tool as the model is shown it, with what the kit must know to treat its calls. ``input_schema`` is ``None``
    for a tool that lives elsewhere and is asked for it at first use."""

    name: str
    description: str
    input_schema: dict[str, Any] | None
    effect: Effect


class Spec(Frozen):
    """What the model is sent around the transcript. Never changed once stored: see :mod:`turnkeeper.core.versions`."""

    model: str
    #: Empty where each turn has its own.
    system: str = ""
    tools: tuple[ToolDefinition, ...]
    model_options: dict[str, Any] = Field(default_factory=dict)
    fallback_models: tuple[str, ...] = ()
    #: Where the system prompt is made of the session's context when a turn begins: the name of what makes it.
    prompt: str | None = None
    #: Where another engine than the kit's own loop drives it: its name (``engine``) and what else it is given.
    program: dict[str, Any] | None = None
    #: The agent's own, where they are not the default ones: new sessions begin with them.
    limits: Limits | None = None


class PlanItem(Frozen):
    title: str
    state: Literal["pending", "in_progress", "done", "dropped"] = "pending"


class Plan(Frozen):
    """The task's plan, kept by ``update_plan``: a resume goes on with it instead of making a new one."""

    goal: str
    items: tuple[PlanItem, ...]

    @classmethod
    def of_call(cls, call: Mapping[str, Any]) -> "Plan | None":
        """What a call of ``update_plan`` keeps; ``None`` where its arguments are not a plan."""
        try:
            return cls.model_validate({"goal": call["input"]["goal"], "items": call["input"]["items"]})
        except (KeyError, TypeError, ValueError):
            return None
