"""Lines are Powertools' to the letter: who reads them knows these."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from turnkeeper.adapters.logs import JsonLines


def told(**attributes: Any) -> logging.LogRecord:
    where = {"name": "turnkeeper.x", "levelname": "INFO", "funcName": "run", "lineno": 7, "created": 1_790_000_000.0425}
    return logging.makeLogRecord({**where, "msecs": 42.5, "msg": "a line", **attributes})


def failed() -> Any:
    try:
        try:
            raise KeyError("first")
        except KeyError as cause:
            error = ValueError("then")
            error.add_note("and so on")
            raise error from cause
    except ValueError:
        return sys.exc_info()


RECORDS = [
    told(),
    told(msg="of %s and %d", args=("é\u2028", 3)),
    told(msg="{not json}"),
    told(msg='{"a": [1, "é"]}'),
    told(msg="17"),
    told(msg="null"),
    told(msg=""),
    told(msg={"a": None, "b": object}),
    told(msg=["a", 1]),
    told(msg=None),
    told(msecs=0.0),
    told(msecs=999.9996),
    told(session_id="ses", count=3, nothing=None, odd={1}, taskName="Task-1", message="old", service="its own"),
    told(level="mine", location="here", timestamp="now", asctime="then"),
    told(exc_info=failed()),
    told(exc_info=(None, None, None)),
    told(exc_info=failed(), exc_text="as it was shown"),
    told(exc_info=failed(), exception="mine", exception_name=None, exception_notes=["x"]),
    told(exception="mine", stack_info="somewhere", xray_trace_id="mine"),
]


@pytest.mark.parametrize("record", RECORDS, ids=range(len(RECORDS)))
@pytest.mark.parametrize("trace", [None, "", "Root=1-5759e988;Parent=53995c3f;Sampled=1", "odd", ";a"])
@pytest.mark.parametrize("service", [None, "api"])
def test_a_line_is_powertools_line(
    monkeypatch: pytest.MonkeyPatch, record: logging.LogRecord, trace: str | None, service: str | None
) -> None:
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    if trace is not None:
        monkeypatch.setenv("_X_AMZN_TRACE_ID", trace)
    theirs = LambdaPowertoolsFormatter(service=service, serialize_stacktrace=False)
    assert JsonLines(service).format(record) == theirs.format(record)


@pytest.mark.parametrize("told", ["half a \ud800 character", '{"half": "\\udfff"}', "[" * 100_000], ids=range(3))
def test_no_line_is_lost_for_what_it_says(told: str) -> None:
    """Powertools' formatter fails with these, or what it writes cannot be encoded."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(None))
    logger = logging.Logger("turnkeeper.x")
    logger.addHandler(handler)
    logger.info(told, extra={"odd": "\udc80"})
    stream.seek(0)
    line = json.loads(stream.read())
    assert line["odd"] == "\ufffd"
    assert line["message"] in (told, "half a \ufffd character", {"half": "\ufffd"})
