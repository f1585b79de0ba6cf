from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from aws_lambda_powertools import Logger

from turnkeeper.adapters.redaction import RedactingFilter, Redactor, install

SECRET = "".join(["gh", "p_", "FAKEfake0123456789" * 2])


@pytest.fixture
def standard() -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(extra)s", defaults={"extra": ""}))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    install(logger)
    return logger, stream


@pytest.fixture
def powertools() -> tuple[Logger, io.StringIO]:
    stream = io.StringIO()
    logger = Logger(service="redaction-test", stream=stream, serialize_stacktrace=True)
    for handler in logger.handlers:
        handler.addFilter(RedactingFilter())
    return logger, stream


def fail() -> None:
    try:
        raise KeyError(SECRET)
    except KeyError as cause:
        error = ValueError(f"cannot log in with password={SECRET}")
        error.add_note(f"token was {SECRET}")
        raise error from cause


def log_everything(logger: Any) -> None:
    logger.info(f"plain {SECRET}")
    logger.info("with argument %s and %d", SECRET, 7)
    logger.info("extra", extra={"extra": {"k": SECRET}, "password": "staple"})
    try:
        fail()
    except ValueError:
        logger.exception("failed")


def test_standard_logging_shows_no_secret(standard: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = standard
    log_everything(logger)
    shown = stream.getvalue()
    assert SECRET not in shown
    assert "with argument [redacted:github_token] and 7" in shown
    assert "ValueError: cannot log in with password=[redacted:password]" in shown
    assert "KeyError" in shown and "in fail" in shown


def test_powertools_shows_no_secret(powertools: tuple[Logger, io.StringIO]) -> None:
    logger, stream = powertools
    log_everything(logger)
    logger.info({"fields": {"api_key": "staple", "n": 1}})
    shown = stream.getvalue()
    assert SECRET not in shown
    assert "staple" not in shown
    lines = [json.loads(line) for line in shown.splitlines()]
    assert lines[-1]["message"] == {"fields": {"api_key": "[redacted:api_key]", "n": 1}}
    failed = lines[3]
    assert failed["exception_name"] == "ValueError"
    assert failed["stack_trace"]["value"] == "cannot log in with password=[redacted:password]"
    assert failed["stack_trace"]["frames"][-1]["function"] == "fail"


def test_a_record_that_cannot_be_formatted_is_not_shown_and_not_lost(
    standard: tuple[logging.Logger, io.StringIO],
) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    logger, stream = standard
    logger.info("%s", Broken())
    too_few = "%d %d"
    logger.info(too_few, "wrong")
    assert stream.getvalue().count("could not be read") == 2


def test_a_record_without_secrets_stays_as_it_was() -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, "hello %s", ("x",), None)
    record.session_id = "ses_01"
    assert RedactingFilter().filter(record)
    assert record.getMessage() == "hello x"
    assert record.session_id == "ses_01"


def test_declared_names_and_installing_twice() -> None:
    logger = logging.Logger("n")
    stream = io.StringIO()
    logger.addHandler(logging.StreamHandler(stream))
    first = install(logger)
    assert install(logger) is first
    install(logger, Redactor({"badge"}))
    assert sum(isinstance(f, RedactingFilter) for f in logger.handlers[0].filters) == 1
    logger.info("badge=blue")
    assert "blue" not in stream.getvalue()
