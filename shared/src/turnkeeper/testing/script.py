"""A model that says what a test wrote down.

    model=[call("get_invoice", invoice_id="INV-1001"), say("It is paid.")]

Each element is one answer of the model: words, a tool call, a list of both (calls in one answer run side by side), an
:func:`answer` with its own tokens or stop reason, a failure (:func:`fail`, :func:`cut`), or a function that is given
the :class:`ModelRequest` and returns one of these.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from turnkeeper.core.errors import ProviderError
from turnkeeper.core.transcript import Block, text_of
from turnkeeper.ports import Model, ModelReply, ModelRequest

#: What stands for one answer, as the module says. Not told to type checkers: lists that mix them have no narrower type.
Answer = Any

#: The model of a run: answers in their order, one function for all of them, or a model of one's own.
Script = Sequence[object] | Callable[[ModelRequest], Any] | Model

#: What an answer reports to have used, unless it says otherwise.
USAGE = {"input_tokens": 200, "output_tokens": 20}

_ids = itertools.count(1)


class ScriptError(AssertionError):
    """A script and what was asked of it do not fit: it ran out, was not played out, or is none."""


def say(text: str) -> Block:
    """Words."""
    return {"type": "text", "text": text}


def call(tool: str, /, **arguments: Any) -> Block:
    """A tool call."""
    return {"type": "tool_use", "id": f"toolu_{next(_ids):06d}", "name": tool, "input": arguments}


def answer(
    *content: str | Block,
    stop: str | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    usage: dict[str, Any] | None = None,
    model: str = "",
) -> ModelReply:
    """An answer with what the API says around it.

    Args:
        stop: its ``stop_reason``; else ``tool_use`` where it calls a tool, ``end_turn`` where not.
        input_tokens: how much it says it has used; or all of ``usage``, as the API has it.
        model: which model it says it is from; else the one that was asked.
    """
    blocks = [say(part) if isinstance(part, str) else part for part in content]
    calls = any(block.get("type") == "tool_use" for block in blocks)
    used = dict(USAGE if usage is None else usage)
    for name, tokens in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        if tokens is not None:
            used[name] = tokens
    stop = stop or ("tool_use" if calls else "end_turn")
    return ModelReply(f"msg_{next(_ids):06d}", model, blocks, stop, used, None)


def fail(status: int | None = 529, *, retry_after: float | None = None, **more: Any) -> ProviderError:
    """The API fails with this status before it bills anything. 4xx is not tried again, except 408, 409 and 429."""
    again = status is None or status >= 500 or status in (408, 409, 429)
    given: dict[str, Any] = {"retryable": again, "certainty": "unbilled"} | more
    text = f"a scripted failure: {status or 'no connection'}"
    return ProviderError(text, status_code=status, retry_after_seconds=retry_after, **given)


def cut(*, usage: dict[str, Any] | None = None) -> ProviderError:
    """The stream breaks in the middle of an answer: nobody knows what it cost, so all that was reserved counts."""
    return ProviderError("a scripted answer that broke off", retryable=True, certainty="unknown", usage=usage)


class ScriptedModel:
    """A :class:`turnkeeper.ports.Model` that gives these answers in their order. Safe to share between threads.

    Args:
        then: what it answers when it has given all; ``None``: it raises, and notes, a :class:`ScriptError`.
        check: is given each request, and raises where the API would refuse it.
    """

    def __init__(
        self, *answers: Answer, then: Answer | None = None, check: Callable[[ModelRequest], None] | None = None
    ) -> None:
        #: What it was sent.
        self.requests: list[ModelRequest] = []
        #: What went wrong in the script itself: the engine takes it for a failure of the model, the test must not.
        self.errors: list[AssertionError] = []
        self._answers = list(answers)
        self._given = 0
        self._then = then
        self._check = check
        self._lock = threading.Lock()
        self._last: tuple[str, ModelReply] | None = None
        self._interrupted = False

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:  # noqa: ARG002 - the port's
        with self._lock:
            self.requests.append(request)
        if self._check is not None:
            self._check(request)
        try:
            return self._reply(request)
        except AssertionError as error:
            self.errors.append(error)
            raise

    def count_tokens(self, request: ModelRequest) -> int:
        return len(json.dumps(request.messages)) // 3 + 100

    def add(self, answers: Iterable[Answer]) -> None:
        """More answers, after those that are left."""
        with self._lock:
            self._answers.extend(answers)

    def instead(self, answers: Iterable[Answer]) -> None:
        """These answers in the place of those that are left."""
        with self._lock:
            self._answers[self._given :] = answers

    @property
    def left(self) -> list[Answer]:
        """Answers that were not asked for yet."""
        return self._answers[self._given :]

    def interrupted(self) -> None:
        """The runner that asked is gone. Where its last answer was lost with it, the same request comes again, and gets
        the same answer: what happens after a crash does not depend on where in the script it was."""
        self._interrupted = True

    def _reply(self, request: ModelRequest) -> ModelReply:
        asked = json.dumps(request.messages, sort_keys=True, default=str)
        with self._lock:
            again, self._interrupted = self._interrupted, False
            if again and self._last is not None and self._last[0] == asked:
                return self._last[1]
            if self._given < len(self._answers):
                chosen: Answer = self._answers[self._given]
                self._given += 1
            elif self._then is not None:
                chosen = self._then
            else:
                raise ScriptError(self._ran_out(request))
        reply = _reply_of(chosen, request)
        with self._lock:
            self._last = (asked, reply)
        return reply

    def _ran_out(self, request: ModelRequest) -> str:
        script = "\n".join(f"  {number}. {told(each)}" for number, each in enumerate(self._answers, 1)) or "  (empty)"
        return (
            f"the model was asked for answer {len(self._answers) + 1}, and its script has {len(self._answers)}:\n"
            f"{script}\nThe last that it was sent: {_last_words(request)}"
        )


def told(given: Answer) -> str:
    """An answer of a script in a few words, for messages."""
    match given:
        case str():
            return f"say {given[:80]!r}"
        case {"type": "text", "text": str(text)}:
            return f"say {text[:80]!r}"
        case {"type": "tool_use", "name": name, "input": dict(arguments)}:
            inside = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            return f"call {name}({inside})"[:200]
        case ModelReply():
            return " & ".join(map(told, given.content)) or "nothing"
        case Exception():
            return f"fail: {given}"
        case list() | tuple():
            return " & ".join(map(told, given))
    return str(getattr(given, "__name__", given))[:80]


def _reply_of(given: Any, request: ModelRequest) -> ModelReply:
    """What stands for an answer, as one to this request."""
    if isinstance(given, Exception):
        raise given
    if isinstance(given, ModelReply):
        return given if given.model else replace(given, model=request.model)
    if isinstance(given, str | dict):
        return answer(given, model=request.model)
    if isinstance(given, list | tuple):
        return answer(*given, model=request.model)
    if callable(given):
        return _reply_of(given(request), request)
    raise ScriptError(f"{given!r} is no answer of a model: give say(...), call(...), answer(...), fail(...)")


def _last_words(request: ModelRequest) -> str:
    if not request.messages:
        return "nothing"
    content = request.messages[-1]["content"]
    if isinstance(content, str):
        return content[:300]
    parts = [
        text_of(block["content"]) if block.get("type") == "tool_result" else block.get("text", block.get("type"))
        for block in content
    ]
    return " | ".join(str(part) for part in parts)[:300]


class _Other(ScriptedModel):
    """A model of the test's own, with the requests that it was sent."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:  # noqa: ARG002 - the port's
        self.requests.append(request)
        return self._model.call(request, timeout_seconds=timeout_seconds)

    def count_tokens(self, request: ModelRequest) -> int:
        return self._model.count_tokens(request)


def scripted(model: Script) -> ScriptedModel:
    """What a run takes as its model, as one.

    Raises:
        ScriptError: it is none.
    """
    if isinstance(model, ScriptedModel):
        return model
    if isinstance(model, Sequence) and not isinstance(model, str):
        return ScriptedModel(*model)
    if callable(model):
        return ScriptedModel(then=model)
    if hasattr(model, "count_tokens") and not isinstance(model, str):
        return _Other(model)
    raise ScriptError(f"model= is a list of answers, a function of the request, or a model; not {model!r}")
