from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fargate_worker.health import MAX_SILENCE_SECONDS, HealthServer
from fargate_worker.metrics import Page
from fargate_worker.protection import TaskProtection
from tests.unit.worker.conftest import Bench
from turnkeeper.testing.clock import ManualClock


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
    server = HealthServer(worker, reachable, Page(), host="127.0.0.1", port=0)
    server.start()
    session_id = bench.job("shown", "[[sleep 90]][[say done]]")
    bench.wait(lambda: bench.status(session_id) == "running")
    bench.scheduler.sleep(30)
    assert get(server.port, "/healthz") == (200, {"status": "ok"})
    assert get(server.port, "/readyz?x=1") == (200, {"status": "ready"})
    status = get(server.port, "/status")[1]
    assert (status["status"], status["concurrency"], status["following"]) == ("running", 16, 0)
    assert status["running"] == [{"tenant_id": "acme", "session_id": session_id, "seconds": 30.0}]
    assert get(server.port, "/secrets")[0] == 404
    down = True
    assert get(server.port, "/readyz")[0] == 503
    assert get(server.port, "/healthz")[0] == 200, "replacing the process would not bring the table back"
    bench.scheduler.now += MAX_SILENCE_SECONDS + 1
    assert get(server.port, "/healthz") == (503, {"status": "stuck", "silent_seconds": MAX_SILENCE_SECONDS + 1})
    worker.stop()
    assert get(server.port, "/healthz") == (200, {"status": "draining"})
    assert get(server.port, "/readyz") == (503, {"status": "draining"})
    server.close()


def test_what_it_counts_and_how_it_is_are_served_for_prometheus(bench: Bench) -> None:
    page = Page()
    bench.kit.written = page.see
    worker = bench.worker(concurrency=3)
    page.watch(worker)
    server = HealthServer(worker, lambda: None, page, host="127.0.0.1", port=0)
    server.start()

    def scraped() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            families = list(text_string_to_metric_families(answer.read().decode()))
        return {one.name: one.value for family in families for one in family.samples}

    session_id = bench.job("counted", "[[sleep 90]][[say done]]")
    bench.wait(lambda: bench.status(session_id) == "running")
    now = scraped()
    assert (now["turnkeeper_worker_sessions_held"], now["turnkeeper_worker_slots"]) == (1, 3)
    assert "turnkeeper_turns_total" not in now
    bench.empty()
    worker.stop()
    now = scraped()
    assert (now["turnkeeper_worker_sessions_held"], now["turnkeeper_worker_draining"]) == (0, 1)
    assert now["turnkeeper_turns_total"] == 1
    assert now["turnkeeper_spend_nanousd_total"] == bench.kit.head(session_id).account.cost_nanousd > 0
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
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}/api"


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.server.shutdown()
    agent.server.server_close()


def test_protection_is_asked_for_while_busy_refreshed_and_given_back(agent: Agent) -> None:
    busy = False
    clock = ManualClock()
    protection = TaskProtection(agent.uri, lambda: busy, clock)

    def look(after: float) -> None:
        clock.advance(after)
        protection.look()

    look(0)
    assert agent.asked == []
    busy = True
    for _ in range(3):
        look(1)
    assert agent.asked == [{"ProtectionEnabled": True, "ExpiresInMinutes": 60}]
    look(1800)
    assert len(agent.asked) == 2, "refreshed before it expires"
    busy = False
    look(1)
    busy = True
    look(1)
    assert len(agent.asked) == 2, "a short pause is none"
    busy = False
    look(4)
    assert len(agent.asked) == 2
    look(2)
    assert agent.asked[2:] == [{"ProtectionEnabled": False}]
    look(10)
    assert len(agent.asked) == 3


def test_an_agent_that_refuses_is_asked_again_later(agent: Agent) -> None:
    agent.script = [(500, {}), (200, {"failure": {"Reason": "DEPLOYMENT_BLOCKED"}})]
    clock = ManualClock()
    protection = TaskProtection(agent.uri, lambda: True, clock)
    for after in (1, 1, 10, 1, 10, 1):
        clock.advance(after)
        protection.look()
    assert len(agent.asked) == 3
    assert protection._protected


@pytest.mark.parametrize("refusal", [{"failure": "blocked"}, {"failure": ["blocked"]}, {"error": {"Code": "busy"}}])
def test_a_refusal_in_whatever_words_is_one(agent: Agent, refusal: dict[str, Any]) -> None:
    agent.script = [(200, refusal)]
    clock = ManualClock()
    protection = TaskProtection(agent.uri, lambda: True, clock)
    protection.look()
    assert not protection._protected
    clock.advance(11)
    protection.look()
    assert protection._protected


def test_an_agent_that_is_not_there_disturbs_nobody() -> None:
    protection = TaskProtection("http://127.0.0.1:9", lambda: True, ManualClock())
    protection.look()
    assert not protection._protected


def test_an_agent_that_speaks_something_else_disturbs_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection = server.accept()[0]
            connection.sendall(b"what?\r\n\r\n")
            connection.close()

        threading.Thread(target=speak, daemon=True).start()
        protection = TaskProtection(f"http://127.0.0.1:{server.getsockname()[1]}", lambda: True, ManualClock())
        protection.look()
    assert not protection._protected
