"""What the kit does not make itself: a model that answers as the seed says, its price, agents, and tools that note
what they did."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.support.scheduler import Scheduler
from turnkeeper import Agent, Limits, ToolContext, ToolError, tool, update_plan
from turnkeeper.core import summary
from turnkeeper.core.errors import ProviderError
from turnkeeper.ports import ModelReply, ModelRequest, Rates
from turnkeeper_local.standin.errors import ApiError
from turnkeeper_local.standin.validate import validate_message

INPUT_RATE, OUTPUT_RATE = 2_000_000_000, 10_000_000_000  # nano-dollars a million tokens


class Prices:
    """Two rates, exact."""

    def rates(self, model: str, options: Mapping[str, Any]) -> Rates:
        return Rates(model, "simulated", INPUT_RATE, OUTPUT_RATE)

    def cost_nanousd(self, model: str, usage: Mapping[str, Any], options: Mapping[str, Any]) -> int:
        return (usage["input_tokens"] * INPUT_RATE + usage["output_tokens"] * OUTPUT_RATE) // 1_000_000


class Tools:
    """Three tools, one of each effect. ``done`` is what they did: (effect, session, tool_use_id, idempotency key)."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.done: list[tuple[str, str, str, str]] = []
        self._scheduler = scheduler

    def agents(self) -> list[Agent]:
        @tool(effect="read")
        def look(ctx: ToolContext, number: int) -> int:
            """Look."""
            return self._happens("read", ctx, number)

        @tool(effect="idempotent")
        def put(ctx: ToolContext, number: int) -> int:
            """Put."""
            return self._happens("idempotent", ctx, number)

        @tool(effect="once")
        def pay(ctx: ToolContext, number: int) -> int:
            """Pay."""
            return self._happens("once", ctx, number)

        tools = [look, put, pay, update_plan]
        limits = Limits(max_iterations=12, max_tokens=500, max_attempts=4)
        return [
            Agent(name="chat", model="m", system="Be.", tools=tools, limits=limits),
            Agent(name="task", model="m", system="Be.", tools=tools, limits=limits, done="end_task"),
        ]

    def _happens(self, effect: str, ctx: ToolContext, number: int) -> int:
        self._scheduler.effect(f"tool {effect} {number} begins")
        self.done.append((effect, ctx.session_id, ctx.tool_use_id, ctx.idempotency_key))
        self._scheduler.effect(f"tool {effect} {number} done")
        if number % 7 == 0:
            raise ToolError("it did not work")
        return number


#: About three steps of the simulated agent.
WINDOW_TOKENS = 450


class SimulatedModel:
    """A :class:`turnkeeper.ports.Model`: what it answers depends on the seed and on what it is sent."""

    def __init__(self, seed: int, scheduler: Scheduler, violated: Callable[[str], None]) -> None:
        self._seed = seed
        #: Every other round of weather, it answers anything at all, and cannot process some of what it is sent.
        self._odd = seed // 6 % 2 == 1
        self._refused: set[str] = set()
        #: In every third seed it reads little, so that conversations have to be shortened.
        self._window = WINDOW_TOKENS if seed % 3 == 1 else None
        self._scheduler = scheduler
        self._violated = violated
        self._random = Random(seed * 7919 + 3)
        self._made = 0

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:
        self._scheduler.effect("model call")
        self._check(request)
        self._scheduler.sleep(self._random.choice([0.1, 1.0, 5.0, 25.0]))
        if self._random.random() < 0.08:
            certainty = self._random.choice(["unbilled", "known", "unknown"])
            usage = {"input_tokens": 100, "output_tokens": 5} if certainty == "known" else None
            raise ProviderError("simulated", retryable=True, certainty=certainty, usage=usage)  # type: ignore[arg-type]
        reply = self._reply(request)
        self._scheduler.effect("model answered")
        return reply

    def count_tokens(self, request: ModelRequest) -> int:
        return len(str(request.messages)) // 6 + 50

    def _check(self, request: ModelRequest) -> None:
        """What the API refuses, no run may send."""
        body = {"model": "m", "max_tokens": request.max_tokens, "messages": request.messages, "tools": request.tools}
        try:
            validate_message(json.loads(json.dumps(body, allow_nan=False)), beta=False)
            json.dumps(body, ensure_ascii=False).encode()
        except (ApiError, ValueError) as refused:
            self._violated(f"sent to the model: {refused}")
        tokens = self.count_tokens(request)
        if self._window is not None and tokens > self._window:
            refused = ProviderError("too long", retryable=False, certainty="unbilled", status_code=400)
            refused.data |= {"context_window": True, "window": self._window}
            raise refused
        self._refuse(request.messages)

    def _refuse(self, messages: list[dict[str, Any]]) -> None:
        """A block that cannot be processed: refused for as long as it is sent. Text that the kit wrote is none."""
        if not self._odd:
            return
        places = [(at, index) for at, message in enumerate(messages) for index in range(len(message["content"]))]
        if self._random.random() < 0.1:
            at, index = self._random.choice(places)
            if messages[at]["content"][index]["type"] != "text":
                self._refused.add(json.dumps(messages[at]["content"][index], sort_keys=True))
        for at, index in places:
            if json.dumps(messages[at]["content"][index], sort_keys=True) in self._refused:
                refused = ProviderError("simulated", retryable=False, certainty="unbilled", status_code=400)
                refused.data["at"] = (at, index)
                raise refused

    def _reply(self, request: ModelRequest) -> ModelReply:
        texts = [str(message["content"]) for message in request.messages if message["role"] == "assistant"]
        digest = hashlib.sha256(f"{self._seed}{request.messages[0]}{len(texts)}".encode()).digest()
        choice = Random(digest)
        ends = choice.random() < 0.3
        content: list[dict[str, Any]]
        if is_summary(request):
            content = [{"type": "text", "text": "so far so good"}]
        elif not ends:
            content = [self._tool_use(choice, len(texts)) for _ in range(choice.choice([1, 1, 2, 3]))]
        elif any(tool["name"] == "end_task" for tool in request.tools) and choice.random() < 0.8:
            content = [self._use("end_task", {"status": "completed", "summary": "done"})]
        else:
            content = [{"type": "text", "text": "done"}]
        usage = {
            "input_tokens": self.count_tokens(request),
            "output_tokens": min(choice.randint(1, 400), request.max_tokens),
        }
        stop = "tool_use" if content[0]["type"] == "tool_use" else "end_turn"
        if self._odd and choice.random() < 0.5:
            content, stop = odd_answer(choice, content, stop)
        return ModelReply(f"msg_{self._count()}", "m", content, stop, usage, None)

    def _tool_use(self, choice: Random, step: int) -> dict[str, Any]:
        name = choice.choice(["look", "put", "pay", "pay", "nothing", "update_plan"])
        if name == "update_plan":
            return self._use(name, {"goal": "g", "items": [{"title": f"step {step}"}]})
        return self._use(name, {"number": choice.randint(1, 10_000)})

    def _use(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"type": "tool_use", "id": f"toolu_{self._count()}", "name": name, "input": arguments}

    def _count(self) -> int:
        self._made += 1
        return self._made


def is_summary(request: ModelRequest) -> bool:
    return request.system[0]["text"] == summary.SYSTEM


def odd_answer(choice: Random, content: list[dict[str, Any]], stop: str) -> tuple[list[dict[str, Any]], str]:
    """The same answer, of a model that keeps no rules."""
    odd = [_odd_call(choice, block) if block["type"] == "tool_use" else block for block in content]
    extra: list[dict[str, Any]] = [
        {"type": "text", "text": choice.choice(["", " ", "half \ud83d"])},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srv_2", "content": []},
        dict(odd[0]),
    ]
    odd += [block for block in extra if choice.random() < 0.2]
    return odd, choice.choice([stop, stop, stop, "max_tokens", "refusal", "something new"])


def _odd_call(choice: Random, call: dict[str, Any]) -> dict[str, Any]:
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}
    ids = [call["id"], "toolu_same", "", "with space", "x" * 200, None]
    names = [call["name"], call["name"], "pay", "get invoice!", "", "n" * 300, None, "half \ud83d"]
    numbers = [1, float("inf"), "half \ud83d", deep, None]
    inputs = [call["input"], {"number": choice.choice(numbers)}, {"number": 1, "": 1}, [1], "text", deep]
    odd = {**call, "id": choice.choice(ids), "name": choice.choice(names), "input": choice.choice(inputs)}
    return {**odd, "raw_input": "{broken"} if choice.random() < 0.1 else odd


class NoRedaction:
    """A :class:`turnkeeper.ports.Redacts` that finds nothing to take out."""

    def redact(self, value: Any, *, known: Any = ()) -> Any:
        return value

    def redact_text(self, text: str, *, known: Any = ()) -> str:
        return text

    def without_given(self, value: Any, /) -> Any:
        return value

    def with_names(self, secret_names: Any, /) -> NoRedaction:
        return self

    def values(self, arguments: Any) -> tuple[str, ...]:
        return ()
