"""Keys that sign rotate while a process runs, and what is no key is not taken."""

from __future__ import annotations

import json

import pytest

from tests.support.wiring import Folder
from turnkeeper.core.continuation import Continuation
from turnkeeper.core.errors import (
    Unauthenticated,
    Unavailable,
)
from turnkeeper.testing.clock import ManualClock
from turnkeeper.wiring.aws import SIGNING_KEY_SECONDS

CONTINUATION = Continuation(tenant_id="acme", user_id="ann", session_id="ses_1", turn=1, seq=1)


def test_signing_keys_rotate(folder: Folder) -> None:
    """The current key signs, the previous one still verifies, and both are noticed without a new process."""
    process = folder.process()
    clock = process.kit.clock = ManualClock()

    def rotate(**keys: str) -> None:
        process.secrets.answer = lambda _: {"SecretString": json.dumps(keys)}

    rotate(current="a")
    first = process.kit.tokens.sign(CONTINUATION)
    rotate(current="b", previous="a")
    clock.advance(SIGNING_KEY_SECONDS)
    process.kit.tokens.sign(CONTINUATION)
    assert len(process.secrets.calls) == 1, "the secret is not read for every token"
    clock.advance(1)
    second = process.kit.tokens.sign(CONTINUATION)
    assert process.kit.tokens.verify(first) == process.kit.tokens.verify(second) == CONTINUATION
    rotate(current="c", previous="b")
    clock.advance(SIGNING_KEY_SECONDS + 1)
    assert process.kit.tokens.verify(second) == CONTINUATION
    with pytest.raises(Unauthenticated):
        process.kit.tokens.verify(first)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "abc",
        "[]",
        "{}",
        '"a"',
        '{"previous": "a"}',
        '{"current": ""}',
        '{"current": 7}',
        '{"current": "a", "previous": 1}',
    ],
)
def test_keys_that_are_written_wrongly_are_not_taken(written: str, folder: Folder) -> None:
    """Nothing is signed by no key, and those at hand stay in use; a process that has none says what is wrong."""
    process = folder.process(hook_secret_id="hooks")
    process.kit.clock = ManualClock()

    def write(text: str) -> None:
        process.secrets.answer = lambda _: {"SecretString": text}
        process.kit.clock.advance(max(SIGNING_KEY_SECONDS, 300) + 1)

    write(written)
    for read in (lambda: process.kit.tokens.sign(CONTINUATION), lambda: process.kit.hook_secrets.of("acme")):
        with pytest.raises(Unavailable, match="current"):
            read()
    write('{"current": "a", "previous": null}')
    token, secrets = process.kit.tokens.sign(CONTINUATION), process.kit.hook_secrets.of("acme")
    write(written)
    assert process.kit.tokens.verify(token) == CONTINUATION
    assert process.kit.hook_secrets.of("acme") == secrets
