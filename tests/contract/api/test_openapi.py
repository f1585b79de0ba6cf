"""The OpenAPI document: made of the models, in agreement with the contract, and with what is really answered."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.support.http import Caller, Response
from tests.support.kit import MemoryKit
from turnkeeper.core.money import parse_usd

#: Every call that the outside relies on.
CALLS = {
    ("post", "/v1/sessions"): {"200", "202"},
    ("post", "/v1/sessions/{session_id}/turns"): {"200", "202", "409"},
    ("post", "/v1/continue"): {"200", "202", "410"},
    ("get", "/v1/sessions/{session_id}"): {"200", "404"},
    ("get", "/v1/sessions"): {"200"},
    ("get", "/v1/sessions/{session_id}/explain"): {"200", "400", "404"},
    ("get", "/v1/sessions/{session_id}/events"): {"200"},
    ("get", "/v1/sessions/{session_id}/stream"): {"200", "404"},
    ("post", "/v1/sessions/{session_id}/cancel"): {"200"},
    ("post", "/v1/sessions/{session_id}/rewind"): {"200"},
    ("post", "/v1/sessions/{session_id}/fork"): {"200", "202"},
    ("post", "/v1/sessions/{session_id}/stream-token"): {"200", "404"},
    ("delete", "/v1/sessions/{session_id}"): {"204"},
    ("get", "/v1/agents"): {"200"},
    ("get", "/v1/spend"): {"200"},
    ("get", "/v1/health"): {"200"},
    ("get", "/v1/openapi.json"): {"200"},
}


@pytest.fixture
def document(ann: Caller) -> Any:
    return ann.but(tenant=None, user=None, role=None).get("/v1/openapi.json").ok()


def test_every_call_of_the_contract_is_described(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    described = {
        (method, path): set(operation["responses"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert described.keys() == CALLS.keys()
    for call, statuses in CALLS.items():
        assert described[call] >= statuses, call
    names = [operation["operationId"] for each in document["paths"].values() for operation in each.values()]
    assert len(set(names)) == len(names)


def test_every_body_may_be_too_large_and_its_key_another_ones(ann: Caller, document: Any) -> None:
    bodies = [each for calls in document["paths"].values() for each in calls.values() if "requestBody" in each]
    assert len(bodies) == 5
    assert all(each["responses"].keys() >= {"413", "422"} for each in bodies)
    ann.post("/v1/continue", {"continuation_token": "x" * 5_000_000}).problem(413, "input_too_large")


def test_every_reference_leads_somewhere(document: Any) -> None:
    references = _references(document)
    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"], reference


def test_schemas_are_called_by_what_callers_know_them_as(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert schemas.keys() >= {"Turn", "Session", "SessionSummary", "EventPage", "Spend", "CreateSession", "TextBlock"}
    assert [name for name in schemas if name.endswith("Document")] == []
    assert all(schema.get("title", name) == name for name, schema in schemas.items())


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for item in value.values() for each in _references(item)]
    return [each for item in value for each in _references(item)] if isinstance(value, list) else []


def test_headers_of_a_call(document: Any) -> None:
    taking: dict[str, set[str]] = {"Prefer": set(), "Idempotency-Key": set()}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "header":
                    taking[parameter["name"]].add(operation["operationId"])
    turns = {"createSession", "postTurn", "continueSession", "forkSession"}
    assert taking == {"Prefer": turns, "Idempotency-Key": turns | {"rewindSession"}}


def test_a_public_call_needs_nobody(ann: Caller, kit: MemoryKit) -> None:
    nobody = ann.but(tenant=None, user=None, role=None)
    assert nobody.get("/v1/health").ok()["status"] == "ok"
    assert kit.table.snapshot() == []


def test_answers_are_what_the_document_says(ann: Caller, kit: MemoryKit, document: Any) -> None:
    def check(answer: Response, method: str, path: str) -> Any:
        described = document["paths"][path][method]["responses"][str(answer.status)]["content"]
        schema = described[answer.headers["content-type"]]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())
        return answer.json()

    create, turns = ("post", "/v1/sessions"), ("post", "/v1/sessions/{session_id}/turns")
    script = '[[tool add {"a": 1, "b": 2} & tool fail {"why": "no"}]] [[say hello]]'
    turn = check(ann.post("/v1/sessions", {"agent": "helper", "input": script}), *create)
    session_id = turn["session_id"]
    check(ann.get(f"/v1/sessions/{session_id}"), "get", "/v1/sessions/{session_id}")
    check(ann.get("/v1/sessions"), "get", "/v1/sessions")
    check(ann.get(f"/v1/sessions/{session_id}/events"), "get", "/v1/sessions/{session_id}/events")
    check(ann.get(f"/v1/spend?session_id={session_id}"), "get", "/v1/spend")
    check(ann.get("/v1/agents"), "get", "/v1/agents")
    check(ann.get("/v1/health"), "get", "/v1/health")
    running = check(ann.post("/v1/sessions", {"agent": "plain", "input": "[[sleep 1]]"}, wait=0), *create)
    path = f"/v1/sessions/{running['session_id']}"
    check(ann.post(f"{path}/turns", {"input": "x"}), *turns)
    check(ann.post(f"{path}/cancel"), "post", "/v1/sessions/{session_id}/cancel")
    check(ann.post(f"{path}/turns", {"input": "x"}), *turns)
    check(ann.post("/v1/sessions", {"agent": "nobody", "input": "x"}), *create)
    check(ann.post("/v1/sessions", {"agent": 5}), *create)
    check(ann.post("/v1/continue", {"continuation_token": "x"}), "post", "/v1/continue")
    kit.tenants.set("acme", actor="op", caps={"task": parse_usd("0.000001")})
    check(ann.post("/v1/sessions", {"agent": "plain", "input": "x"}), *create)
    kit.tenants.set("acme", actor="op", paused=True)
    check(ann.post("/v1/sessions", {"agent": "plain", "input": "x"}), *create)


def test_every_answer_forbids_caches_and_sniffing(ann: Caller) -> None:
    for answer in (ann.get("/v1/health"), ann.get("/v1/sessions"), ann.get("/nowhere"), ann.post("/v1/sessions", {})):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_document_takes_what_the_front_door_takes(document: Any) -> None:
    schemas = document["components"]["schemas"]
    create = jsonschema.Draft202012Validator({**schemas["CreateSession"], "components": document["components"]})
    create.validate({"agent": "plain", "input": "x", "metadata": {"a": 1}, "placement": "auto"})
    create.validate({"agent": "plain", "input": [{"type": "text", "text": "x"}]})
    for wrong in ({"agent": "plain"}, {"agent": "plain", "input": []}, {"agent": "plain", "input": "x", "role": "r"}):
        assert not create.is_valid(wrong), json.dumps(wrong)
