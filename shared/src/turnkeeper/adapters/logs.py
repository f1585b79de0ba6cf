"""Logs of a Lambda and of the worker: one JSON object a line, each with the fields of the
turn that it is about, and without secrets and contents."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from turnkeeper.adapters.redaction import RedactingFilter
from turnkeeper.core.canonical import without_surrogates
from turnkeeper.telemetry import fields

#: Attributes of a record that are no fields of its line, or fields under another name.
_OWN = {*vars(logging.makeLogRecord({})), "level", "asctime", "location", "timestamp"} - {"taskName"}


class JsonLines(logging.Formatter):
    """As Powertools' formatter writes them, to the letter. Importing that one brings metrics and tracers along, which
    every process would wait for."""

    def __init__(self, service: str | None) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": None,
            "timestamp": self.formatTime(record, f"%Y-%m-%d %H:%M:%S,{int(record.msecs):03}%z"),
            "service": self._service,
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        line["message"] = _message(record)
        if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
            kind, error, _ = record.exc_info
            line.setdefault("exception", self.formatException(record.exc_info))
            line.setdefault("exception_name", kind.__name__)
            line.setdefault("exception_notes", getattr(error, "__notes__", None))
        trace = os.environ.get("_X_AMZN_TRACE_ID")
        line["xray_trace_id"] = trace.split(";")[0].replace("Root=", "") if trace else None
        told = {name: value for name, value in line.items() if value is not None}
        # Half a character would be refused by whatever the line is written to.
        return without_surrogates(json.dumps(told, default=str, separators=(",", ":"), ensure_ascii=False))


def _message(record: logging.LogRecord) -> Any:
    """What a text that is JSON holds; texts and objects as they are."""
    if isinstance(record.msg, dict):
        return record.msg
    if record.args:
        return record.getMessage()
    try:
        return json.loads(record.msg) if isinstance(record.msg, str) else record.msg
    except (ValueError, RecursionError):
        return record.msg


class FieldsFilter(logging.Filter):
    """On a handler: adds the fields that hold where a line is written; those that it names itself stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in fields.bound().items():
            record.__dict__.setdefault(name, value)
        return True


def set_up(level: str) -> None:
    """Send everything through one handler of the root logger: ours at ``level``, libraries from WARNING on.

    The runtime's own handler is replaced; without the filter it would print what it is given.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(os.environ.get("POWERTOOLS_SERVICE_NAME")))
    handler.addFilter(RedactingFilter(words_of=fields.words_of))
    # Behind it: ids are no secrets, whatever they look like.
    handler.addFilter(FieldsFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("turnkeeper", "turnkeeper_agents", "functions", "fargate_worker", "server"):
        logging.getLogger(ours).setLevel(level)
