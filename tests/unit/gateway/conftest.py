from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import Rig, served, standin


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    """The stand-in's address."""
    with standin() as url:
        yield url


@pytest.fixture
def rig(model_url: str) -> Iterator[Rig]:
    """A gateway over a table in memory, without caps."""
    with served(model_url) as rig:
        yield rig


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_REGION", "eu-west-1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
