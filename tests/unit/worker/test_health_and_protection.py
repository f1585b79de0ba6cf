from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from fargate_worker.health import HealthServer
from fargate_worker.protection import TaskProtection
from tests.unit.worker.conftest import Bench


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_health_readiness_and_status(bench: Bench) -> None:
    down = False

    def reachable() -> None:
        if down:
            raise TimeoutError

    worker = bench.worker()
    server = HealthServer(worker, reachable, host="127.0.0.1", port=0)
    server.start()
    session_id = bench.job("shown", "[[sleep 1]][[say done]]")
    bench.wait(lambda: worker.running() == 1)
    assert get(server.port, "/healthz") == (200, {"status": "ok"})
    assert get(server.port, "/readyz?x=1") == (200, {"status": "ready"})
    bench.wait(lambda: get(server.port, "/status")[1]["running"][0]["session_id"] is not None)
    status = get(server.port, "/status")[1]
    assert (status["status"], status["concurrency"], status["following"]) == ("running", 16, 0)
    assert status["running"][0]["session_id"] == session_id
    assert get(server.port, "/secrets")[0] == 404
    down = True
    assert get(server.port, "/readyz")[0] == 503
    assert get(server.port, "/healthz")[0] == 200, "replacing the process would not bring the table back"
    worker.stop()
    assert get(server.port, "/healthz") == (200, {"status": "draining"})
    assert get(server.port, "/readyz") == (503, {"status": "draining"})
    server.close()


def test_a_stuck_receive_loop_is_unhealthy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(bench.kit.queue, "receive", lambda **_: stuck.wait(10) and [])
    monkeypatch.setattr("fargate_worker.health.LONGEST_SILENCE_SECONDS", 0.3)
    server = HealthServer(bench.worker(), lambda: None, host="127.0.0.1", port=0)
    server.start()
    time.sleep(0.5)
    assert get(server.port, "/healthz")[0] == 503
    stuck.set()
    server.close()


# ---- ECS task protection ----


class Agent:
    """Stands in for the ECS agent; answers from a script, then with success."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.script: list[tuple[int, dict[str, Any]]] = []
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                assert self.path == "/api/task-protection/v1/state"
                agent.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                code, body = agent.script.pop(0) if agent.script else (200, {"protection": {}})
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}/api"


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.server.shutdown()
    agent.server.server_close()


def test_protection_is_asked_for_while_busy_refreshed_and_given_back(agent: Agent) -> None:
    busy = False
    protection = TaskProtection(agent.uri, lambda: busy)
    protection.look(0)
    assert agent.asked == []
    busy = True
    for now in (1, 2, 3):
        protection.look(now)
    assert agent.asked == [{"ProtectionEnabled": True, "ExpiresInMinutes": 60}]
    protection.look(1 + 1801)
    assert len(agent.asked) == 2, "refreshed before it expires"
    busy = False
    protection.look(1803)
    busy = True
    protection.look(1804)
    assert len(agent.asked) == 2, "a short pause is none"
    busy = False
    protection.look(1808)
    assert len(agent.asked) == 2
    protection.look(1810)
    assert agent.asked[2:] == [{"ProtectionEnabled": False}]
    protection.look(1820)
    assert len(agent.asked) == 3


def test_an_agent_that_refuses_is_asked_again_later(agent: Agent) -> None:
    agent.script = [(500, {}), (200, {"failure": {"Reason": "DEPLOYMENT_BLOCKED"}})]
    protection = TaskProtection(agent.uri, lambda: True)
    for now in (1, 2, 12, 13, 23, 24):
        protection.look(now)
    assert len(agent.asked) == 3
    assert protection._protected


def test_an_agent_that_is_not_there_disturbs_nobody() -> None:
    protection = TaskProtection("http://127.0.0.1:9", lambda: True)
    protection.look(1)
    assert not protection._protected
