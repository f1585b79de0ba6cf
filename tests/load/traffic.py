"""What users do: each kind of traffic, and users who pick among them by lot until time is up."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.e2e import outside
from tests.e2e.outside import call, tools
from tests.load.record import Input, Record
from tests.load.target import Target
from turnkeeper.runtime.jobs import SCHEMA, session_id_of_job

Response = httpx2.Response
#: What is said where nothing can be scripted.
PLAIN = "In one short sentence: what can you do for me?"
#: Caps of the tenant whose caps trip; a turn costs less than a cent of them.
SMALL = {"user_daily": 0.01, "tenant_monthly": 0.02}
_FOLLOW_SECONDS = 120.0


@dataclass
class Traffic:
    """What all users of a run share."""

    target: Target
    record: Record
    stop: threading.Event
    #: One operator at a time: caps are raised, and the kill switch is thrown, by somebody who sees it through.
    operator: threading.Lock
    raised: int = 0

    def prepare(self) -> None:
        """The tenants that are not like the others. Clients are made before there are threads that want them."""
        for service in ("sqs", "dynamodb"):
            self.target.stack.client(service)
        self.target.stack.set_caps(self.target.tenant("small"), **{name: f"{usd:.2f}" for name, usd in SMALL.items()})

    def raise_caps(self) -> None:
        self.raised += 1
        caps = {name: f"{usd * (1 + self.raised / 2):.3f}" for name, usd in SMALL.items()}
        self.target.stack.set_caps(self.target.tenant("small"), **caps)


class User:
    """One user, of every tenant of the run."""

    def __init__(self, traffic: Traffic, number: int, seed: int, mix: Mapping[str, float], pause_seconds: float):
        self.traffic, self.target, self.record = traffic, traffic.target, traffic.record
        self.user = f"u{number}"
        self.dice = random.Random(f"{seed}/{number}")
        self.kinds, self.shares = list(mix), list(mix.values())
        self.pause_seconds = pause_seconds
        self.callers = {name: self.target.caller(name, self.user) for name in ("plain", "small", "paused")}
        self.once, self.keyed = self.target.effects / "once", self.target.effects / "keyed"
        self.kind, self.began = "", 0.0

    def run(self) -> None:
        """Until told to stop: begin something about as often as asked for, or as often as it can."""
        due = time.monotonic() + self.dice.uniform(0, self.pause_seconds)
        while not self.traffic.stop.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic() - self.pause_seconds) + self.dice.uniform(0.5, 1.5) * self.pause_seconds
            [self.kind] = self.dice.choices(self.kinds, self.shares)
            try:
                KINDS[self.kind].act(self)
            except Exception as error:  # noqa: BLE001 - told; one user less would prove less
                self.record.failed(f"{self.kind}: {type(error).__name__} {str(error)[:500]}")

    # ---- saying something, and what comes of it ----

    def begin(
        self, script: str, *, agent: str = "handy", tenant: str = "plain", wait: int = 20, **more: Any
    ) -> Response:
        """A new session, with words of its own."""
        caller, said = self.callers[tenant], self._input(tenant)
        text, agent = self._words(script, said), agent if self.target.scripted else self.target.agent
        return self._sent(said, lambda: caller.start(agent, text, wait=wait, **more))

    def say(self, session_id: str, script: str) -> Response:
        said = self._input("plain", session_id)
        text = self._words(script, said)
        return self._sent(said, lambda: self.callers["plain"].say(session_id, text))

    def submit(self, script: str, *, agent: str = "tasker", copies: int = 1) -> None:
        """A job on the queue; with more copies, the same one again."""
        said = self._input("plain")
        tenant, job_id = said.tenant, uuid.uuid4().hex
        said.session_id = session_id_of_job(tenant, job_id)
        agent = agent if self.target.scripted else self.target.agent
        job = {"schema": SCHEMA, "job_id": job_id, "tenant_id": tenant, "user_id": self.user, "agent": agent}
        job["input"] = self._words(script, said)
        for copy in range(copies):
            self.target.stack.send(job, group=tenant)
            if copy == 0:
                said.accepted = True
                self.record.said(said)
            if copy + 1 < copies:
                time.sleep(self.dice.uniform(0, 3))
        self.record.answered(self.kind, "sent")

    def follow(self, response: Response, *, tenant: str = "plain") -> Response:
        """Until the turn rests, by the token of each 202; how long that took is written down."""
        began = self.began
        while response.status_code == 202 and not self.traffic.stop.is_set():
            if time.monotonic() > began + _FOLLOW_SECONDS:
                self.record.waited_in_vain()
                break
            response = self.go_on(response.json()["continuation_token"], tenant=tenant)
        if response.status_code == 200:
            self.record.took(self.kind, time.monotonic() - began)
        return response

    def resume(self, token: str, *, tenant: str = "plain", **more: Any) -> Response:
        """Of a turn that stopped: until it rests again."""
        self.began = time.monotonic()
        return self.follow(self.go_on(token, tenant=tenant, **more), tenant=tenant)

    def go_on(self, token: str, *, tenant: str = "plain", **more: Any) -> Response:
        body = {"continuation_token": token, **more}
        return self.answered(self.callers[tenant].post("/v1/continue", body, wait=10))

    def answered(self, response: Response) -> Response:
        """Written down, and told to nobody twice: what is an error of the kit's own."""
        body = _body(response)
        self.record.answered(
            self.kind, f"{response.status_code} {body.get('code') or body.get('status') or ''}".strip()
        )
        if response.status_code >= 500 and response.status_code != 503:
            self.record.failed(f"{self.kind}: {response.status_code} {response.text[:500]}")
        return response

    def _sent(self, said: Input, post: Callable[[], Response]) -> Response:
        """Whether it was taken in is known from the answer: one refused at a cap or a switch is kept if it says so."""
        self.began = time.monotonic()
        try:
            response = self.answered(post())
        except httpx2.TransportError:
            self.record.said(said)
            raise
        body = _body(response)
        said.session_id = body.get("session_id") or said.session_id
        kept = response.status_code in {402, 423} and "session_id" in body and "continuation_token" in body
        said.accepted = response.status_code in {200, 202} or kept
        said.refused = 400 <= response.status_code < 500 and "session_id" not in body
        self.record.said(said)
        return response

    def _input(self, tenant: str, session_id: str | None = None) -> Input:
        return Input(self.kind, self.target.tenant(tenant), f"m{uuid.uuid4().hex[:12]}", session_id, False, time.time())

    def _words(self, script: str, said: Input) -> str:
        return f"{script if self.target.scripted else PLAIN} ({said.mark})"


def _body(response: Response) -> dict[str, Any]:
    try:
        body = response.json() if response.content else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


# ---- the kinds ----


def effects(user: User, steps: int = 1) -> str:
    return outside.effects(user.once, user.keyed, [uuid.uuid4().hex[:8] for _ in range(steps)])


def waits(seconds: float, times: int) -> str:
    """Calls that take some time, none like another."""
    return " ".join(tools(call("wait", seconds=seconds + n / 100)) for n in range(times))


END = tools(call("end_task", status="completed", summary="done"))


def turns(user: User) -> None:
    user.follow(user.begin(f"{tools(call('look', what='it'))} [[say seen]]"))


def conversations(user: User) -> None:
    response = user.follow(user.begin("[[trickle 0.5]] [[say hello]]"))
    for number in range(user.dice.randint(1, 3)):
        if response.status_code != 200 or user.traffic.stop.is_set():
            return
        text = f"{tools(call('look', what=str(number)))} [[say more]]"
        response = user.follow(user.say(response.json()["session_id"], text))


def payments(user: User) -> None:
    user.follow(user.begin(f"{effects(user)} [[say paid]]"))


def jobs(user: User) -> None:
    user.submit(f"[[sleep 0.3]] {effects(user, steps=user.dice.randint(1, 3))} {END}")


def twins(user: User) -> None:
    user.submit(f"{effects(user)} {END}", copies=2)


def long(user: User) -> None:
    """A tool that takes less than a lease, or more than one, and a model that takes its time."""
    script = f"{waits(user.dice.choice([3, 8]), 1)} [[sleep 2]] [[say at last]]"
    user.follow(user.begin(script, placement=user.dice.choice(["auto", "background"])))


def handoffs(user: User) -> None:
    """A turn that outgrows Lambda, with an effect before it moves and one after."""
    user.follow(user.begin(f"{effects(user)} {waits(1.2, 6)} {effects(user)} [[say moved]]", agent="endless", wait=5))


def cancels(user: User) -> None:
    placement = user.dice.choice(["interactive", "background"])
    session_id = _running(user, placement)
    if session_id is None:
        return
    user.traffic.stop.wait(user.dice.uniform(0.2, 4))
    told = _body(user.answered(user.callers["plain"].cancel(session_id)))
    if told.get("status") == "cancelled":
        user.record.told(session_id, "cancelled")


def erasures(user: User) -> None:
    """Of a session at rest, or in the middle of a turn; one that its runner does not let go of is cancelled first."""
    if user.dice.random() < 0.5:
        response = user.follow(user.begin(f"{effects(user)} [[say forget it]]"))
        session_id = _body(response).get("session_id")
    else:
        session_id = _running(user, user.dice.choice(["interactive", "background"]))
        user.traffic.stop.wait(user.dice.uniform(0.2, 3))
    if session_id is None:
        return
    caller = user.callers["plain"]
    if user.answered(caller.erase(session_id)).status_code == 409:
        user.answered(caller.cancel(session_id))
        response = user.answered(caller.erase(session_id))
        if response.status_code != 204:
            return
    user.record.told(session_id, "erased")


def _running(user: User, placement: str) -> str | None:
    script = f"[[sleep 0.5]] {effects(user)} {waits(1, 4)} [[say late]]"
    return _body(user.begin(script, agent="endless", wait=0, placement=placement)).get("session_id")


def resumes(user: User) -> None:
    """Of a turn that stops at its limit of model calls, with more of them."""
    looks = " ".join(tools(call("look", what=str(n))) for n in range(5))
    response = user.follow(user.begin(f"{looks} [[say all five]]", agent="brief"))
    if _body(response).get("status") == "stopped":
        user.resume(response.json()["continuation_token"], limits={"max_iterations": 20})


def failures(user: User) -> None:
    """The provider's bad days: lived through, or a stop that can be gone on from."""
    bad = user.dice.choice(["[[fail 529]]", "[[fail 500 x2]]", "[[cut]]", "[[fail 529 x4]]"])
    response = user.follow(user.begin(f"{bad} [[say after all]]", agent="short"))
    if _body(response).get("status") == "stopped":
        user.resume(response.json()["continuation_token"])


def caps(user: User) -> None:
    """Turns of a tenant that has little money; now and then it gets more, and what was stopped goes on."""
    looks = " ".join(tools(call("look", what=str(n))) for n in range(3))
    response = user.follow(user.begin(f"[[tokens 200]] {looks} [[say x]]", tenant="small"), tenant="small")
    token = _body(response).get("continuation_token")
    if token and response.status_code in {200, 402} and user.dice.random() < 0.4:
        with user.traffic.operator:
            user.traffic.raise_caps()
        user.resume(token, tenant="small")


def pauses(user: User) -> None:
    """The kill switch while a turn runs, and back: both what ran and what was refused go on."""
    caller, stack = user.callers["paused"], user.target.stack
    with user.traffic.operator:
        running = user.begin(f"{waits(0.5, 6)} [[say all of it]]", agent="endless", tenant="paused", wait=0)
        stack.cli("tenant", "pause", caller.tenant)
        try:
            refused = user.begin("[[say too late]]", tenant="paused")
        finally:
            stack.cli("tenant", "unpause", caller.tenant)
    for response in (running, refused):
        if session_id := _body(response).get("session_id"):
            user.traffic.stop.wait(1)
            token = _body(caller.get(f"/v1/sessions/{session_id}")).get("continuation_token")
            if token:
                user.resume(token, tenant="paused")


def nonsense(user: User) -> None:
    """What can never work is put aside with its reason."""
    mark, tenant = uuid.uuid4().hex, user.callers["plain"].tenant
    job = {"schema": SCHEMA, "job_id": mark, "tenant_id": tenant, "user_id": user.user, "input": "x"}
    code, body = user.dice.choice(
        [
            ("not_json", f"no job of {tenant}: {mark}"),
            ("unknown_schema", json.dumps({**job, "schema": "other/v9"})),
            ("agent_not_found", json.dumps({**job, "agent": "nobody"})),
        ]
    )
    user.record.meant(body, code)
    user.target.stack.send(body, group=tenant)
    user.record.answered(user.kind, "sent")


@dataclass(frozen=True)
class Kind:
    """A kind of traffic, how often it is picked beside the others, and whether it needs the test agents."""

    act: Callable[[User], None]
    share: float
    scripted: bool = True
    #: It rings an alarm: where nobody asks for it, only a kit of one's own gets it.
    rings: bool = False


KINDS = {
    "turns": Kind(turns, 5, scripted=False),
    "conversations": Kind(conversations, 2, scripted=False),
    "jobs": Kind(jobs, 4, scripted=False),
    "twins": Kind(twins, 1, scripted=False),
    "payments": Kind(payments, 3),
    "long": Kind(long, 1),
    "handoffs": Kind(handoffs, 1),
    "cancels": Kind(cancels, 1, scripted=False),
    "erasures": Kind(erasures, 1, scripted=False),
    "resumes": Kind(resumes, 1),
    "failures": Kind(failures, 2),
    "caps": Kind(caps, 1, scripted=False),
    "pauses": Kind(pauses, 0.3, scripted=False),
    "nonsense": Kind(nonsense, 0.3, scripted=False, rings=True),
}


def default_mix(*, scripted: bool) -> dict[str, float]:
    return {name: kind.share for name, kind in KINDS.items() if scripted or not (kind.scripted or kind.rings)}
