"""What a step costs: CPU time of the process, requests, bytes and write units, beside a loop written by hand.

    python -m benchmarks.step [--steps 10,100,400] [--kilobytes 1.5,40] [--rounds 3]

A step is one model call and the tool call that it asks for. The kit is wired as in production: its clients of AWS and
the Anthropic SDK talk HTTP to a table and a model in another process (`benchmarks.step_world`), and what is measured is
the CPU time of this one, all its threads together. A model in the process answers at once: HTTP and SDK are left out.

Each stands beside the loop by hand that does the same. The *floor* makes only the two transactions with boto3, of as
many items and bytes, without a model, a tool, or anything kept: what the kit does with the model in the process. The
*floor with the model's call* also asks the model with the SDK, for the same request, and runs the tool.
``--unchecked`` leaves the injection check out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import string
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from benchmarks._results import ROOT, Results
from turnkeeper import Agent, Limits, tool
from turnkeeper.bootstrap import Kit
from turnkeeper.core.policy import policy_of
from turnkeeper.core.suspicion import Finding
from turnkeeper.ports import Model, ModelReply, ModelRequest, OnEvent
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.world import Allowance
from turnkeeper.settings import PREFIX, Settings

MODEL = "claude-sonnet-5-5"
SYSTEM = "Read." * 100
#: Steps on both sides of the one that is asked for, whose median counts.
AROUND = 4
OVER, INSIDE = "turnkeeper", "turnkeeper, model in the process"
PLAN = {f"{scope}_usd": "100000.00" for scope in ("task", "user_daily", "user_monthly", "tenant_monthly")}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "ANTHROPIC_API_KEY": "sk-bench",
}
POLICY = {"default_plan": "wide", "plans": {"wide": PLAN}}


@contextmanager
def world(module: str = "benchmarks.step_world") -> Iterator[str]:
    """A table and a model in a process of their own; their address."""
    command = [sys.executable, "-m", module]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)


def taken(address: str) -> dict[str, float]:
    """What the world counted since it was last asked."""
    with urllib.request.urlopen(address + "/counts") as answer:
        counts: dict[str, float] = json.load(answer)
        return counts


def text_of(kilobytes: float) -> str:
    """Words, as a page has them: they can be compressed, but not away."""
    words = random.Random(7)
    text = ""
    while len(text) < kilobytes * 1024:
        text += "".join(words.choices(string.ascii_lowercase, k=words.randint(2, 9))) + " "
    return text[: int(kilobytes * 1024)]


class Marked:
    """A model that notes the CPU time when each of its calls begins."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.began: list[float] = []
        self.hooks: dict[int, Callable[[], object]] = {}

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: OnEvent | None = None) -> ModelReply:
        if (hook := self.hooks.get(len(self.began))) is not None:
            hook()
        self.began.append(time.process_time())
        return self.model.call(request, timeout_seconds=timeout_seconds, on_event=on_event)

    def count_tokens(self, request: ModelRequest) -> int:  # noqa: ARG002
        raise AssertionError("the provider is asked for a count although every cap is far away")


class Inside:
    """A model that answers at once."""

    def call(
        self,
        request: ModelRequest,
        *,
        timeout_seconds: float,  # noqa: ARG002
        on_event: OnEvent | None = None,  # noqa: ARG002
    ) -> ModelReply:
        made = len(request.messages) // 2
        use = {"type": "tool_use", "id": f"toolu_{made:06}", "name": "look", "input": {"page": made}}
        usage = {"input_tokens": 500 + made, "output_tokens": 60}
        return ModelReply(f"msg_{made}", MODEL, [use], "tool_use", usage, f"req_{made}")

    def count_tokens(self, request: ModelRequest) -> int:
        raise NotImplementedError


class Unchecked:
    def check(self, text: str) -> Finding | None:  # noqa: ARG002
        return None


def kit_of(address: str, kilobytes: float, steps: int, *, inside: bool, unchecked: bool) -> tuple[Kit, Marked]:
    os.environ["AWS_ENDPOINT_URL"] = address
    values = {"root": tempfile.gettempdir(), "table": "t", "bucket": "b", "model_url": address}
    values |= {"queue_url": address + "/q", "dlq_url": address + "/d", "signing_secret_id": "s"}
    kit = Kit(Settings.from_environment({f"{PREFIX}{name.upper()}": value for name, value in values.items()}))
    page_text = text_of(kilobytes)

    @tool(effect="read")
    def look(page: int) -> str:
        """Read a page."""
        return f"{page} {page_text}"

    limits = Limits(max_iterations=steps, max_seconds=86_400)
    agent = Agent(name="reader", model=MODEL, system=SYSTEM, tools=[look], limits=limits)
    kit.policy, kit.catalog = policy_of(POLICY), Catalog({"reader": agent})
    marked = Marked(Inside() if inside else kit.model)
    kit.model = marked
    if unchecked:
        kit.detector = Unchecked()
    return kit, marked


def run(address: str, kilobytes: float, ats: Sequence[int], **how: bool) -> dict[str, Any]:
    """CPU milliseconds at each of these steps, and what a step about the last of them counts."""
    last = max(ats)
    kit, model = kit_of(address, kilobytes, last + AROUND + 2, **how)
    counts: dict[str, float] = {}
    model.hooks = {last - AROUND: lambda: taken(address), last + AROUND: lambda: counts.update(taken(address))}
    who = Identity("acme", "ann", "user")
    session = kit.intake.create(who, NewSession("reader", "Read it all.", {}))
    head = kit.engine.run(who.tenant_id, session.session_id, Allowance("fargate"))
    assert head.steps == last + AROUND + 2, head.stop
    took = [1000 * (after - before) for before, after in zip(model.began, model.began[1:], strict=False)]
    cpu = {at: median(took[at - AROUND : at + AROUND + 1]) for at in ats}
    return {"cpu_ms": cpu, "a_step": {name: count / (2 * AROUND) for name, count in sorted(counts.items())}}


def floor(address: str, kilobytes: float, *, validated: bool = True) -> float:
    """CPU milliseconds of a step of the loop written by hand."""
    table, text = _by_hand(address, validated=validated), text_of(kilobytes)
    took = []
    for step in range(120):
        began = time.process_time()
        table(2 * step, "call")
        table(2 * step + 1, text)
        took.append(1000 * (time.process_time() - began))
    return median(took[20:])


def asking_floor(address: str, kilobytes: float, ats: Sequence[int]) -> dict[int, float]:
    """The same of a loop that asks the model as well, at each of these steps: its request is made of all that was said,
    as the kit's is, and nothing is kept but that."""
    import anthropic

    table, text = _by_hand(address), text_of(kilobytes)
    client = anthropic.Anthropic(base_url=address)
    system: Any = [{"type": "text", "text": SYSTEM}]
    page: Any = {"type": "object", "properties": {"page": {"type": "integer"}}, "required": ["page"]}
    tools: Any = [{"name": "look", "description": "Read a page.", "input_schema": page}]
    messages: list[Any] = [{"role": "user", "content": "Read it all."}]
    took = []
    for step in range(max(ats) + AROUND + 2):
        began = time.process_time()
        table(2 * step, "call")
        reply = client.messages.create(model=MODEL, max_tokens=8192, system=system, tools=tools, messages=messages)
        [use] = reply.content
        assert use.type == "tool_use"
        table(2 * step + 1, text)
        found = {"type": "tool_result", "tool_use_id": use.id, "content": f"{use.input['page']} {text}"}
        messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": [found]}]
        took.append(1000 * (time.process_time() - began))
    return {at: median(took[at - AROUND : at + AROUND + 1]) for at in ats}


def _by_hand(address: str, *, validated: bool = True) -> Callable[[int, str], object]:
    """Writes the transaction of this number and content with boto3."""
    import boto3
    from botocore.config import Config

    client: Any = boto3.client(
        "dynamodb", endpoint_url=address, region_name="us-east-1", config=Config(parameter_validation=validated)
    )
    return lambda number, content: client.transact_write_items(TransactItems=_transaction(number, content))


def _transaction(number: int, content: str) -> list[dict[str, Any]]:
    """Head, entry with the record of the call, two counters, and with a result its record: as the kit writes them."""

    def update(pk: str, sk: str, expression: str, condition: str, values: Mapping[str, dict[str, str]]) -> Any:
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        told = {"TableName": "t", "Key": key, "UpdateExpression": expression, "ConditionExpression": condition}
        return {"Update": {**told, "ExpressionAttributeValues": dict(values)}}

    def put(name: str, **item: dict[str, str]) -> dict[str, Any]:
        key = {"pk": {"S": session}, "sk": {"S": f"{name}#{number:09}"}}
        absent = {"ConditionExpression": "attribute_not_exists(pk)"}
        return {"Put": {"TableName": "t", "Item": {**key, **item}, **absent}}

    session, result = "T#acme#S#hand", len(content) > 100
    head = {f":h{n}": {"S": f"value {number} of {n}" + "x" * 40 * (n > 8)} for n in range(12)}
    setting = "SET " + ", ".join(f"h{n} = :h{n}" for n in range(12))
    audit = {"at": "2026-11-26T10:00:00Z", "tool": "look", "arguments": "{}", "hash": "0f" * 32, "before": "f0" * 32}
    spent = {":a": {"N": "1200"}, ":c": {"N": "9999999999999"}}
    call = {
        "amount": {"N": "1200000"},
        "state": {"S": "settled"},
        "model": {"S": MODEL},
        "called_at": {"S": audit["at"]},
    }
    holders = [("U#ann", "MONTH#2026-11"), ("SHARD#0", "MONTH#2026-11")]
    return [
        update(session, "HEAD", setting, "attribute_not_exists(lease) OR lease = :h0", head),
        put("ENTRY", content={"S": json.dumps({"text": content})}, **({} if result else call)),
        *([put("AUDIT", **{name: {"S": value} for name, value in audit.items()})] if result else []),
        *(
            update(f"T#acme#{pk}", sk, "ADD reserved :a, committed :a", "committed <= :c OR pk = :c", spent)
            for pk, sk in holders
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.step")
    parser.add_argument("--steps", default="10,100,400")
    parser.add_argument("--kilobytes", default="1.5,40")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--unchecked", action="store_true")
    options = parser.parse_args([] if arguments is None else arguments)
    os.environ |= ENVIRONMENT
    with Results("step") as results:
        for kilobytes in map(float, options.kilobytes.split(",")):
            # A conversation of four megabytes is more than any model reads.
            ats = [at for at in map(int, options.steps.split(",")) if at * kilobytes <= 4_000]
            compare(results, kilobytes, ats, options.rounds, unchecked=options.unchecked)
    return 0


def compare(results: Results, kilobytes: float, ats: Sequence[int], rounds: int, *, unchecked: bool) -> None:
    """The kit and the loops by hand in turn, so that each has its own beside it: a machine that others share is not as
    fast in one round as in another."""
    floors, plain, asking, over_http, inside = [], [], [], [], []
    with world() as address:
        for _ in range(rounds):
            floors.append(floor(address, kilobytes))
            inside.append(run(address, kilobytes, ats, inside=True, unchecked=unchecked))
            plain.append(floor(address, kilobytes, validated=False))
            asking.append(asking_floor(address, kilobytes, ats))
            over_http.append(run(address, kilobytes, ats, inside=False, unchecked=unchecked))
    results.cpu("a step", floors, of="floor", kilobytes=kilobytes)
    results.cpu("a step", plain, of="floor without validation", kilobytes=kilobytes)
    asked = {at: [each[at] for each in asking] for at in ats}
    for at in ats:
        results.cpu("a step", asked[at], of="floor with the model's call", kilobytes=kilobytes, step=at)
    tell(results, over_http, OVER, kilobytes)
    for at in ats:
        ours = {name: [each["cpu_ms"][at] for each in found] for name, found in ((INSIDE, inside), (OVER, over_http))}
        results.cpu("a step", ours[INSIDE], of=INSIDE, kilobytes=kilobytes, step=at)
        for name, beside, least in (
            (INSIDE, "floor", floors),
            (OVER, "floor with the model's call", asked[at]),
            (OVER, "floor", floors),
        ):
            times = [mine / by_hand for mine, by_hand in zip(ours[name], least, strict=True)]
            results.cpu(f"a step beside the {beside}", times, "times", of=name, kilobytes=kilobytes, step=at)


def tell(results: Results, rounds: Sequence[dict[str, Any]], of: str, kilobytes: float) -> None:
    """Figures of what :func:`run` found, of the kit or of a peer."""
    for at in rounds[0]["cpu_ms"]:
        results.cpu("a step", [each["cpu_ms"][at] for each in rounds], of=of, kilobytes=kilobytes, step=int(at))
    for name in rounds[0]["a_step"]:
        unit = "write units" if name.startswith("units") else "bytes" if name.startswith("bytes") else "a step"
        what = f"{name} a step" if unit != "a step" else name
        results.count(what, unit, [each["a_step"].get(name, 0) for each in rounds], of=of, kilobytes=kilobytes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
