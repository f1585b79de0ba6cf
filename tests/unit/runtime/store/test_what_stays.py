"""What an erasure leaves says nothing of what was said: two users' sessions that differ in their words alone, and for
whom chance fell out the same, leave the same behind. So no word stands there, nor a hash of one that could be tried."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from functions.api.app import FrontDoor
from functions.deliver import handler as deliver
from functions.observe import handler as observe
from functions.score import handler as score
from functions.trace import handler as trace
from tests.support.http import Caller
from tests.support.kit import MODEL, POLICY, MemoryKit
from tests.support.scripted import ScriptedModel, failure
from tests.unit.observe.conftest import Stream
from turnkeeper import Agent, Judge, Limits, Scoring, ToolContext, by_tenant, tool
from turnkeeper.core.kit_tools import update_plan
from turnkeeper.core.scoring import Score
from turnkeeper.core.tools import ToolError
from turnkeeper.ports import Posted
from turnkeeper.runtime.store import codec
from turnkeeper.runtime.threads import Sequential
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.script import answer

#: As long as each other, so that they count as many tokens.
WORDS = ("quixotic-marmot-0001", "plangent-cuscus-0002")
#: Made with a salt that is gone, or with a key that is elsewhere: with another one, each of these is another.
SALTED = {"arguments_sha256", "result_sha256", "body_sha256", "ASKED"}
#: Hashes of such.
CHAINED = {"previous_hash", "hash", "audit_hash"}


class Dice:
    """The same throws for whoever is given the same salt."""

    def __init__(self, salt: str) -> None:
        self.salt = salt
        self.thrown = 0

    def _next(self) -> int:
        self.thrown += 1
        return self.thrown

    def session_id(self) -> str:
        return f"ses_{self._next():026d}"

    def token(self) -> str:
        return f"token-{self.salt}-{self._next():026d}"

    def jitter(self) -> float:
        return 0.5


class Quotes:
    def score(self, trajectory: Any) -> list[Score]:
        return [Score("quotes", 0.0, passed=False, reason=f"it says {trajectory.inputs}")]


def tools_of(word: str) -> list[Any]:
    @tool(effect="read")
    def look(what: str) -> str:
        """Look."""
        return f"{what} is {word}"

    @tool(effect="once", secret_arguments={"password"})
    def act(ctx: ToolContext, what: str, password: str = "") -> str:
        """Act."""
        return f"done {what}"

    @tool(effect="read")
    def breaks(what: str) -> str:
        """Break."""
        raise ToolError(f"{what} is broken")

    @tool(effect="read")
    def raises(what: str) -> str:
        """Raise."""
        raise ValueError(f"{what} was unforeseen")

    return [look, act, breaks, raises, update_plan]


class Life:
    """One user's kit, with all that is around it."""

    def __init__(self, word: str, patch: pytest.MonkeyPatch, salt: str = "a") -> None:
        self.word = word
        judge = Judge(rubric="It is kind.", model="claude-opus-5", sample=1.0)
        agents = [
            Agent(
                name="scripted",
                model=MODEL,
                system=by_tenant({}, default="You help {metadata.name}."),
                tools=tools_of(word),
                scoring=Scoring(evaluators=[Quotes()], judge=judge),
                limits=Limits(max_iterations=12),
            ),
        ]
        plans = {**POLICY["plans"], "evals": POLICY["plans"]["standard"]}
        plans["standard"] = {**plans["standard"], "webhook_hosts": ["hooks.example.com"]}
        self.model = ScriptedModel()
        self.kit = MemoryKit(
            agents,
            policy={**POLICY, "plans": plans, "evals_plan": "evals"},
            model=self.model,
            clock=ManualClock(),
            ids=Dice(salt),
            runner="inline",
            otlp_endpoint="http://127.0.0.1:4318",
        )
        self.kit.parallel = Sequential()
        self.kit.signing_keys = [f"a key with {salt}"]
        for module in (deliver, observe, score, trace):
            patch.setattr(module, "_kit", lambda: self.kit)
        self.kit.webhooks.answer = lambda _: Posted(500, f"what is {word}?")
        self.stream = Stream(self.kit)
        self.ann = Caller(FrontDoor(self.kit))
        self.calls = 0

    def use(self, name: str, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        return {"type": "tool_use", "id": f"toolu_{self.calls:06d}", "name": name, "input": arguments}

    def reply(self, *content: Any) -> Any:
        return answer(*content, model=MODEL, usage={"input_tokens": 100, "output_tokens": 10})

    def begin(self, *answers: Any, text: str | None = None, key: str = "k") -> str:
        self.model.add(answers)
        body = {
            "agent": "scripted",
            "input": text or f"I am {self.word}",
            "metadata": {"name": self.word, "about": {self.word: [self.word]}},
            "webhook": f"https://hooks.example.com/{self.word}",
        }
        return str(self.ann.post("/v1/sessions", body, key=key).json()["session_id"])

    def tell(self) -> None:
        """All who follow the changes, and the runners of what they begin."""
        kit = self.kit
        for _ in range(3):
            event = self.stream.event()
            for follower in (observe, score):
                follower.handler(event, None)
            kit.sweep.run(lambda: 10.0)
            kit.work(allowance=Allowance(runner="fargate"))
        while messages := kit.words.receive(most=10, wait_seconds=0, visibility_seconds=60):
            for message in messages:
                record = {"messageId": message.message_id, "body": message.body}
                if deliver.handler({"Records": [record]}, None) == {"batchItemFailures": []}:
                    kit.words.delete(message)
        records = [{"messageId": str(n), "receiptHandle": "r", "body": b} for n, b in enumerate(kit.trace_queue.bodies)]
        trace.handler({"Records": records}, None)

    def left(self) -> list[dict[str, Any]]:
        """Of the table and the bucket, with what is packed laid open."""
        items = [codec.flattened(item) for item in self.kit.table.snapshot()]
        # How an address of a webhook answers is the tenant's: it is known by a hash, for thirty days.
        items = [item for item in items if not item["sk"].startswith("RECEIVER#")]
        for item in items:
            kind, _, name = item["sk"].partition("#")
            if kind == "ASKED":
                item |= {"sk": kind, kind: name}
        return [*(json.loads(json.dumps(item, default=_plain)) for item in items), dict(self.kit.blobs.contents)]

    def around(self) -> dict[str, Any]:
        """What nobody can call back."""
        kit = self.kit
        return {
            "queue": kit.queue.bodies(),
            "words": kit.words.bodies(),
            "traces asked for": [but(CHAINED, json.loads(body)["head"]) for body in kit.trace_queue.bodies],
            "traces": repr(kit.trace_receiver.traces),
            "bus": kit.bus.events,
            "alerts": repr(kit.alerts.alerts),
        }


def but(names: set[str], item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in names}


def salted(items: list[dict[str, Any]]) -> set[str]:
    return {str(item[name]) for item in items for name in SALTED & item.keys()}


def _plain(value: Any) -> Any:
    """With what is compressed laid open."""
    if not isinstance(value, bytes):
        return str(value)
    return (zlib.decompress(value) if value[:1] == b"\x78" else value).decode()


def talks(life: Life) -> None:
    word = life.word
    session = life.begin(
        life.reply(
            f"Let us see, {word}.",
            life.use("look", what=word),
            life.use("act", what=word, password=word),
            life.use("breaks", what=word),
            life.use("raises", what=word),
            life.use("look", wrong=word),
            life.use(f"about {word}", what=word),
        ),
        life.reply(f"It is {word}."),
    )
    life.model.add([life.reply(f"And again {word}.")])
    life.ann.post(f"/v1/sessions/{session}/turns", {"input": f"And {word}?"}, key="next")


def repeats(life: Life) -> None:
    life.begin(*(life.reply(life.use("look", what=life.word)) for _ in range(12)))


def asks_for_what_is_no_tool(life: Life) -> None:
    life.begin(*(life.reply(life.use(f"about {life.word}", what=life.word)) for _ in range(12)))


def fails(life: Life) -> None:
    quoting = [failure(400, retryable=False) for _ in range(3)]
    for each in quoting:
        each.detail = f"messages.0: {life.word} is no such thing"
    life.begin(*quoting)


def is_large(life: Life) -> None:
    noise = "".join(f" {n * 7919:x}" for n in range(90_000))
    life.begin(life.reply(f"{life.word}{noise}"), text=f"{life.word}{noise}")


def is_rewound_and_plans(life: Life) -> None:
    plan = life.use("update_plan", steps=[{"step": life.word, "status": "pending"}])
    session = life.begin(life.reply(plan), life.reply(f"One {life.word}."))
    life.model.add([life.reply(f"Two {life.word}.")])
    life.ann.post(f"/v1/sessions/{session}/turns", {"input": f"And {life.word}?"})
    life.ann.post(f"/v1/sessions/{session}/rewind", {"turns": 1}, key="back")


STORIES = [talks, repeats, asks_for_what_is_no_tool, fails, is_large, is_rewound_and_plans]


def erase_all(life: Life) -> None:
    for item in life.kit.table.snapshot():
        if item["sk"] == "HEAD" and item["pk"].startswith("T#acme#S#"):
            assert life.ann.delete(f"/v1/sessions/{item['pk'].removeprefix('T#acme#S#')}").status == 204


def erased(life: Life, story: Callable[[Life], None]) -> Life:
    story(life)
    life.tell()
    assert life.word in json.dumps(life.left(), default=_plain), "it was there"
    erase_all(life)
    life.tell()
    return life


@pytest.mark.parametrize("story", STORIES)
def test_what_stays_says_nothing(
    story: Callable[[Life], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left, around, logged = [], [], []
    for word in WORDS:
        caplog.clear()
        life = erased(Life(word, monkeypatch), story)
        left.append(life.left())
        around.append(life.around())
        logged.append([(record.name, record.getMessage()) for record in caplog.records])
    one, other = ([but(SALTED | CHAINED, item) for item in items] for items in left)
    assert one == other
    assert around[0] == around[1]
    assert logged[0] == logged[1]
    again = erased(Life(WORDS[0], monkeypatch, salt="b"), story).left()
    assert [but(SALTED | CHAINED, item) for item in again] == one
    assert salted(left[0])
    assert not salted(again) & salted(left[0]), "a hash of what was said, and of nothing else"


class Died(BaseException):
    """The process dies here."""


def dying(kit: MemoryKit, patch: pytest.MonkeyPatch, at: int) -> Callable[[], int]:
    """The process dies at this write of table or bucket: every other time it was done before. How many there were."""
    count = 0

    def until_then(write: Callable[..., Any]) -> Callable[..., Any]:
        def writes(*given: Any) -> Any:
            nonlocal count
            count += 1
            if count == at and at % 2:
                raise Died
            done = write(*given)
            if count == at:
                raise Died
            return done

        return writes

    for store, name in ((kit.table, "write"), (kit.table, "update"), (kit.blobs, "put"), (kit.blobs, "delete_prefix")):
        patch.setattr(store, name, until_then(getattr(store, name)))
    return lambda: count


@pytest.mark.parametrize("when", ["while it lives", "while it is erased"])
def test_nothing_stays_wherever_a_process_dies(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = 2 if when == "while it is erased" else 1  # One that dies before the first write was not erased.
    while True:
        life = Life(WORDS[0], monkeypatch)
        if when == "while it is erased":
            talks(life)
            life.tell()
        with monkeypatch.context() as patch:
            written = dying(life.kit, patch, at)
            with suppress(Died):
                if when == "while it lives":
                    talks(life)
                    life.tell()
                else:
                    erase_all(life)
        erase_all(life)
        for _ in range(4):
            life.kit.clock.sleep(4_000)
            life.tell()
        told = json.dumps([life.left(), life.around()], default=_plain)
        assert life.word not in told, f"at write {at}"
        if written() < at:
            return
        at += 1
