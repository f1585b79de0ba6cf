"""Those who use the kit: at the front door, and by jobs on the queue. Their process dies as any other; then nobody asks
for the rest of what they wanted."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from turnkeeper.core.continuation import Continuation, continuation_of
from turnkeeper.core.errors import SessionEnded, SessionNotFound, TurnkeeperError, Unavailable
from turnkeeper.core.session import Head
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.jobs import SCHEMA, continue_body, session_id_of_job
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.idempotency import AlreadyDone, IdempotencyKey
from turnkeeper.runtime.store.sessions import SKEW_MILLIS
from turnkeeper.table import Cond, Update

if TYPE_CHECKING:
    from tests.simulation.world import Simulation


class Users:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._scheduler = simulation.scheduler
        self._random = simulation.random
        self._tenant_id = simulation.tenant_id
        #: Inputs that were accepted: session id to texts.
        self.accepted: dict[str, list[str]] = {}
        #: How often a session may leave its rest at least and at most, where tokens are all that can bring it to.
        self.resumes: dict[str, tuple[int, int]] = {}
        #: Sessions whose erasure was confirmed.
        self.erased: set[str] = set()
        #: Messages that can never work: begun to be sent, and known to be.
        self.nonsense: set[str] = set()
        self.nonsense_sent: set[str] = set()
        #: Sessions that an operator's hand has damaged.
        self.damaged: set[str] = set()

    def begin(self, count: int) -> None:
        for number in range(count):
            name = f"u{number}"
            body = self._sends_jobs if self._random.random() < 0.3 else self._talks
            self._scheduler.spawn(name, lambda name=name, body=body: body(name))  # type: ignore[misc]
        if self._random.random() < 0.1:
            self._scheduler.spawn("operator", self._damages)

    # ---- at the front door ----

    def _talks(self, name: str) -> None:
        """Opens a session and says something a few times; repeats what got no answer, as clients do. The front door
        runs on the same task: it dies with it."""
        who = Identity(self._tenant_id, name, "user")
        agent = self._random.choice(["chat", "task"])
        placement = self._random.choice(["auto", "auto", "interactive", "background"])
        text = self._text(f"{name} begins {self._simulation.seed}")
        if self._simulation.economy:
            self._scheduler.sleep(self._random.choice([0.5, 3.0]))  # until workers have told that they are there
        session_id = self._insist(name, 0, text, lambda key: self._open(who, agent, placement, key, text))
        for number in range(1, self._random.randint(1, 3)):
            head = self._rest(session_id, name)
            if head.ended:
                return
            text = f"input {number}"
            self._insist(name, number, text, lambda key, text=text: self._say(session_id, text, key))  # type: ignore[misc]
        self._rest(session_id, name)

    def _text(self, text: str) -> str:
        """Now and then one that is too large for an item of the table."""
        if self._random.random() < 0.05:
            return f"{text} {base64.b64encode(self._random.randbytes(66_000)).decode()}"
        return text

    def _open(self, who: Identity, agent: str, placement: Any, key: IdempotencyKey, text: str) -> Head:
        return self._simulation.intake.create(who, NewSession(agent, text, {}, placement), key=key)

    def _say(self, session_id: str, text: str, key: IdempotencyKey) -> Head | None:
        head = self._simulation.sessions.head(self._tenant_id, session_id)
        if head.status == "stopped" and self._random.random() < 0.5:
            self._simulation.placing.send(self._simulation.intake.resume(head, max_iterations=40))
            return None
        return self._simulation.intake.post(head, text, key=key)

    def _insist(self, name: str, number: int, text: str, attempt: Callable[[IdempotencyKey], Head | None]) -> str:
        """Try until it is known what came of it; the session's id. What was written is accepted."""
        key = IdempotencyKey(f"{name}-{number}", "same")
        while True:
            try:
                head = attempt(key)
                if head is None:
                    return ""
            except AlreadyDone as done:  # It was written; the answer was lost.
                head = self._simulation.quiet_sessions.head(self._tenant_id, done.earlier.session_id)
            except SessionEnded as ended:
                return str(ended.data["session_id"])
            except TurnkeeperError:
                self._scheduler.sleep(3.0)
                continue
            self._accept(head.session_id, text)
            try:
                self._simulation.placing.send(head)
            except TurnkeeperError:
                self._scheduler.sleep(3.0)
            else:
                return head.session_id

    def _accept(self, session_id: str, text: str) -> None:
        texts = self.accepted.setdefault(session_id, [])
        if text not in texts:
            texts.append(text)

    # ---- by jobs ----

    def _sends_jobs(self, name: str) -> None:
        """Sends jobs, some of them twice, and tokens of what they made, also old ones."""
        for number in range(self._random.choice([1, 1, 2])):
            if self._random.random() < 0.2:
                self.nonsense.add(nonsense := f'{{"schema": "something/{name}/{number}"}}')
                self._send(nonsense)
                self.nonsense_sent.add(nonsense)
            session_id, body, text = self._job(name, number)
            self._send(body)
            self._accept(session_id, text)
            if self._random.random() < 0.2:
                self._send(body)
            head = self._rest(session_id, name)
            self.resumes[session_id] = (0, 0)
            if head.stop is not None and head.status == "stopped" and self._random.random() < 0.7:
                self._goes_on(head)

    def _job(self, name: str, number: int) -> tuple[str, str, str]:
        job_id, text = f"{name}-{number}", f"{name} wants {number}"
        agent = self._random.choice(["chat", "task"])
        job = {"job_id": job_id, "tenant_id": self._tenant_id, "user_id": name, "agent": agent, "input": text}
        return session_id_of_job(self._tenant_id, job_id), json.dumps({"schema": SCHEMA, **job}), text

    def _goes_on(self, head: Head) -> None:
        """Sends tokens of the position at which it stopped, any number of which resume it once; or of one before, which
        must not: whatever stopped it would be undone by a duplicate."""
        old = self._random.random() < 0.3
        position = continuation_of(head)
        token = Continuation(**{**position.model_dump(), "seq": position.seq - 1}) if old else position
        self.resumes[head.session_id] = (0, 0 if old else 1)
        for _ in range(self._random.choice([1, 2, 3])):
            self._send(continue_body(self._simulation.tokens.sign(token)))
        if not old and head.stop and head.stop.reason != "iteration_limit":
            self.resumes[head.session_id] = (1, 1)

    def _send(self, body: str) -> None:
        while True:
            try:
                self._simulation.queue.send_safely(body, group=self._tenant_id)
            except Unavailable:
                self._scheduler.sleep(3.0)
            else:
                return

    # ---- waiting, or not ----

    def _rest(self, session_id: str, name: str) -> Head:
        """The session at rest. Who does not want to wait for it any more cancels or erases it."""
        while True:
            try:
                head = self._simulation.quiet_sessions.head(self._tenant_id, session_id)
            except SessionNotFound:  # A job that nobody has taken up yet.
                self._scheduler.sleep(5.0)
                continue
            chance = self._random.random()
            if chance < 0.005:
                self._quietly(lambda head=head: self._simulation.cancelling.cancel(head, actor=name))  # type: ignore[misc]
            elif chance < 0.01:
                self._quietly(lambda head=head: self._erase(head, name))  # type: ignore[misc]
            elif head.resting:
                return head
            self._scheduler.sleep(5.0)

    def _erase(self, head: Head, name: str) -> None:
        self._simulation.erasure.erase(head, actor=name)
        self.erased.add(head.session_id)

    def _quietly(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except TurnkeeperError:
            return

    # ---- an operator with a heavy hand ----

    def _damages(self) -> None:
        """Stops sessions of dead runners by writing the table, with their money still set aside: no write of the kit
        leaves a session like that, and the sweep has to find it."""
        for _ in range(60):
            self._scheduler.sleep(2.0)
            for session_id in self._simulation.session_ids():
                head = self._simulation.quiet_sessions.head(self._tenant_id, session_id)
                if head.account.pending is not None and head.lease.owner is not None and self._is_dead(head):
                    self._stop(head)

    def _is_dead(self, head: Head) -> bool:
        now = self._simulation.queue.clock.now().timestamp() * 1000
        return head.lease.expires_at + SKEW_MILLIS < now

    def _stop(self, head: Head) -> None:
        stop = Update(
            keys.head_key(head.tenant_id, head.session_id),
            set={"status": "stopped"},
            remove=("lease_owner",),
            conditions=(
                Cond("fencing_token", "=", head.lease.fencing_token),
                Cond("lease_expires_at", "=", head.lease.expires_at),
                Cond("updated_at", "=", head.updated_at),
            ),
        )
        self.damaged.add(head.session_id)
        self._quietly(lambda: self._simulation.table_with_faults.write([stop]))
