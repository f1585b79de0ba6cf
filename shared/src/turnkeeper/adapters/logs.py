"""Logs of a Lambda: one JSON object a line, as Powertools writes them, with secrets taken out."""

from __future__ import annotations

import logging
import os
import sys

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from turnkeeper.adapters.redaction import RedactingFilter


def set_up(level: str) -> None:
    """Send everything through one handler of the root logger: ours at ``level``, libraries from WARNING on.

    The runtime's own handler is replaced; without the filter it would print what it is given.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LambdaPowertoolsFormatter(service=os.environ.get("POWERTOOLS_SERVICE_NAME")))
    handler.addFilter(RedactingFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("turnkeeper", "turnkeeper_agents", "functions"):
        logging.getLogger(ours).setLevel(level)
