"""The OpenAPI document, made of the routes and of the models that read and write their bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from functions.api.documents import problems
from functions.api.documents.sessions import SessionForUsers, TurnDocument
from functions.api.problems import CONTENT_TYPE
from functions.api.routing import Route
from functions.api.stages.read import MAX_WAIT_SECONDS
from turnkeeper.core.word import TURN_ENDED, TurnEnded

_REF = "#/components/schemas/{model}"

#: Codes of the problems by status, and the model that describes them.
_PROBLEMS: dict[int, tuple[str, type[BaseModel]]] = {
    400: ("invalid_request", problems.InvalidRequestProblem),
    401: ("unauthenticated", problems.Problem),
    402: ("cost_cap_exceeded", problems.CostCapProblem),
    403: ("forbidden", problems.Problem),
    404: ("session_not_found, agent_not_found", problems.Problem),
    409: ("session_busy, session_ended", problems.ConflictProblem),
    410: ("continuation_expired", problems.Problem),
    413: ("input_too_large", problems.InputTooLargeProblem),
    422: ("idempotency_mismatch, unpriced_model, content_unusable", problems.Problem),
    423: ("tenant_paused", problems.Problem),
    500: ("internal_error", problems.Problem),
    503: ("unavailable", problems.Problem),
}
_OF_EVERY_CALL = (400, 401, 403, 500, 503)
_OF_EVERY_BODY = (413, 422)

_SECURITY: list[dict[str, list[str]]] = [{"jwt": []}, {"iam": []}]
_BY_STREAM_TOKEN = "Of createStreamToken, where the front door is reached as a server: at `stream_url`."  # noqa: S105 - about one

_PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": f"`wait=N`: seconds that the turn may keep the connection, 0 to {MAX_WAIT_SECONDS}, "
    "by default 20 unless the deployment says otherwise. Then the answer is a 202; so it is earlier where no worker "
    "is there for a turn that is queued.",
    "schema": {"type": "string"},
    "example": "wait=5",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "For a day, the same key finds what it began; with another body it is refused.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}


#: What the kit calls, not what it is called by: docs/webhooks.md.
_WEBHOOKS: dict[str, Any] = {
    TURN_ENDED: {
        "post": {
            "summary": "A turn has come to rest; posted where the session, its job or its agent names an address",
            "parameters": [
                {"name": name, "in": "header", "required": True, "description": about, "schema": {"type": "string"}}
                for name, about in {
                    "webhook-id": "The same, however often it is posted.",
                    "webhook-timestamp": "Of this attempt, in seconds.",
                    "webhook-signature": "As Standard Webhooks has it; two while keys are rotated.",
                }.items()
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": _REF.format(model=TurnEnded.__name__)}}},
            },
            "responses": {
                "2XX": {"description": "Taken"},
                "410": {"description": "Nothing more is to be posted there"},
                "default": {"description": "Not taken: it is tried again, for a day"},
            },
            # Nobody signs in: the signature says who it is from.
            "security": [],
        }
    }
}


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Turnkeeper", "version": _version(), "description": "Turns of Claude agents."},
        "paths": paths,
        "webhooks": _WEBHOOKS,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "iam": {
                    "type": "apiKey",
                    "name": "Authorization",
                    "in": "header",
                    "description": "AWS Signature Version 4 of a trusted backend, with X-Tenant-Id and X-User-Id.",
                },
                "stream_token": {"type": "apiKey", "name": "token", "in": "query", "description": _BY_STREAM_TOKEN},
            },
        },
        "security": _SECURITY,
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if route.public:
        operation["security"] = []
    if route.by_token:
        operation["security"] = [*_SECURITY, {"stream_token": []}]
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        needed = any(field.is_required() for field in route.body.model_fields.values())
        operation["requestBody"] = {"required": needed, "content": {"application/json": {"schema": _ref(route.body)}}}
    operation["responses"] = {str(status): _answer(route, status) for status in route.answers}
    of_body = _OF_EVERY_BODY if route.body is not None else ()
    problems = (500,) if route.public else sorted({*route.problems, *of_body, *_OF_EVERY_CALL})
    operation["responses"] |= {str(status): _problem(status) for status in problems}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    found += [
        {"name": query.name, "in": "query", "schema": dict(query.schema), "description": query.about}
        for query in route.query
    ]
    found += [_PREFER] if route.turn else []
    return [*found, _IDEMPOTENCY_KEY] if route.body is not None else found


def _answer(route: Route, status: int) -> dict[str, Any]:
    model = _model(route.answers[status])
    descriptions = {200: "Done", 202: "Still running or queued: go on with its continuation token", 204: "Done"}
    if status == 204:
        return {"description": descriptions[status]}
    schema: dict[str, Any] = _ref(model) if model is not None else {"type": "object"}
    if model is not None and issubclass(model, TurnDocument):
        schema = {"anyOf": [schema, _ref(SessionForUsers)]}
    content: dict[str, Any] = {} if route.streams else {"application/json": {"schema": schema}}
    if status == 200:
        content |= {also: {"schema": {"type": "string"}} for also in route.also}
    return {"description": descriptions[status], "content": content}


def _problem(status: int) -> dict[str, Any]:
    codes, model = _PROBLEMS[status]
    return {"description": codes, "content": {CONTENT_TYPE: {"schema": _ref(model)}}}


def _model(name: str | None) -> type[BaseModel] | None:
    """The model that a route answers with."""
    if name is None:
        return None
    room, _, document = name.partition(".")
    model: type[BaseModel] = getattr(import_module(f"functions.api.documents.{room}"), document)
    return model


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.model_config.get("title") or model.__name__)}


def _schemas(routes: Sequence[Route]) -> dict[str, Any]:
    bodies = {route.body for route in routes if route.body is not None}
    answers = {model for route in routes for name in route.answers.values() if (model := _model(name)) is not None}
    others: set[type[BaseModel]] = {TurnEnded, *(model for _, model in _PROBLEMS.values())}
    modes: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)),
        *((model, "serialization") for model in sorted(answers | others, key=lambda model: model.__name__)),
    ]
    _, definitions = models_json_schema(modes, ref_template=_REF)
    titles = {name: schema.get("title", name) for name, schema in definitions["$defs"].items()}
    schemas = {titles[name]: schema for name, schema in definitions["$defs"].items()}
    # Pydantic calls a schema by its class: references are put right where a title says otherwise.
    renamed = re.sub(r"(?<=#/components/schemas/)\w+", lambda name: titles[name[0]], json.dumps(schemas))
    return dict(json.loads(renamed))


def _version() -> str:
    try:
        return version("turnkeeper")
    except PackageNotFoundError:
        # A Lambda carries the package without what installs it.
        return "0"
