"""Logs of a Lambda and of the worker: one JSON object a line, as Powertools writes them, each with the fields of the
turn that it is about, and without secrets and contents."""

from __future__ import annotations

import logging
import os
import sys

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from turnkeeper.adapters.redaction import RedactingFilter
from turnkeeper.telemetry import fields


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
    service = os.environ.get("POWERTOOLS_SERVICE_NAME")
    handler.setFormatter(LambdaPowertoolsFormatter(service=service, serialize_stacktrace=False))
    handler.addFilter(RedactingFilter(words_of=fields.words_of))
    # Behind it: ids are no secrets, whatever they look like.
    handler.addFilter(FieldsFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("turnkeeper", "turnkeeper_agents", "functions", "fargate_worker", "server"):
        logging.getLogger(ours).setLevel(level)
