"""Clients of AWS that a test has the answers of."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError


class Client:
    """Answers every call alike, or refuses it; notes the requests."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []

    def __getattr__(self, method: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.requests.append(arguments)
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return call


def refusal(code: str, status: int = 400) -> ClientError:
    """What a service says that does not take a call."""
    response: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Operation")
