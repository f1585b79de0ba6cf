"""`turnkeeper serve` is killed at any moment, over and over, under clients that come again until they are answered."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.test_serve import Served
from tests.support.examples import examples
from tests.support.installation import PATIENCE_SECONDS, client, steps_of

_CLIENTS = 4
_KILLS = examples(5, all=30)
#: While it starts, in the midst of turns, and once the one before is followed (``server.leading``).
_ALIVE_SECONDS = ((0.0, 1.0), (1.0, 9.0), (18.0, 24.0))
#: A machine may stand still for minutes.
_ANSWER_SECONDS = 600.0


class Killed(Served):
    #: Where it answers at the moment.
    url = ""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "TURNKEEPER_LEASE_SECONDS": "2", "TURNKEEPER_SWEEP_SECONDS": "1"}

    def answered(self, path: str, body: dict[str, Any], key: str, give_up_at: float) -> dict[str, Any]:
        """What a client is told that sends the same again as long as nobody answers, or says to come again."""
        while time.monotonic() < give_up_at:
            with contextlib.suppress(httpx2.HTTPError), client(self.url) as http:
                answer = http.post(path, json=body, headers={"prefer": "wait=20", "idempotency-key": key})
                if answer.status_code < 500 and answer.status_code != 409:
                    assert answer.status_code in (200, 202), answer.text
                    found: dict[str, Any] = answer.json()
                    return found
                assert answer.status_code in (409, 503), answer.text
            time.sleep(0.2)
        raise AssertionError(f"{path} was never answered")


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    served = Killed(tmp_path, f"sqlite:///{tmp_path / 'serve.db'}")
    yield served
    served.end()


class User(threading.Thread):
    """Begins sessions of two turns, one after the other, each call under a key of its own."""

    def __init__(self, served: Killed, until: threading.Event) -> None:
        super().__init__(daemon=True)
        self._served = served
        self._until = until
        #: Of each turn what was asked, and what was answered.
        self.turns: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = []
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._until.is_set():
                first = self._ask("/v1/sessions", {"agent": "noter", "input": steps_of(3)})
                self._ask(f"/v1/sessions/{first['session_id']}/turns", {"input": steps_of(2)})
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.failed = error

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        key = uuid.uuid4().hex
        give_up_at = time.monotonic() + _ANSWER_SECONDS
        answer = self._served.answered(path, body, key, give_up_at)
        while answer["status"] not in ("idle", "stopped", "failed"):
            # It runs on; the same request says how it ended.
            again = self._served.answered(path, body, key, give_up_at)
            assert (again["session_id"], again["turn"]) == (answer["session_id"], answer["turn"])
            answer = again
        self.turns.append((path, body, key, answer))
        return answer


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_nothing_is_lost_done_twice_or_paid_wrongly_whenever_it_is_killed(killed: Killed) -> None:
    dice, until = random.Random(), threading.Event()
    seed = dice.getrandbits(32)
    dice.seed(seed)
    process, killed.url = killed.serve()
    users = [User(killed, until) for _ in range(_CLIENTS)]
    for user in users:
        user.start()
    for _ in range(_KILLS):
        time.sleep(dice.uniform(*dice.choice(_ALIVE_SECONDS)))
        process.kill()
        process.wait()
        process, killed.url = killed.serve()
    until.set()
    for user in users:
        user.join(_ANSWER_SECONDS)
        assert user.failed is None, f"seed {seed}: {user.failed!r}"
        assert not user.is_alive(), f"seed {seed}"

    turns = [turn for user in users for turn in user.turns]
    ids = sorted({answer["session_id"] for _, _, _, answer in turns})
    assert len(ids) * 2 == len(turns)
    # Of the user's whole bill: a session that was begun twice would be on it, too.
    killed.check(ids, steps=7, notes=False)
    for path, body, key, answer in turns:
        again = killed.answered(path, body, key, time.monotonic() + PATIENCE_SECONDS)
        told = ("session_id", "turn", "status", "output_text")
        assert [again[name] for name in told] == [answer[name] for name in told]
        assert (answer["status"], answer["output_text"]) == ("idle", "done")
