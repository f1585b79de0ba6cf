from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from turnkeeper.adapters.anthropic_model import AnthropicModel
from turnkeeper.adapters.secrets import EnvironmentKey, FileKey, KeyOutOfReach, MissingKey, SecretsManagerKey
from turnkeeper.core.errors import ProviderError
from turnkeeper.ports import ModelRequest


class Secrets:
    def __init__(self, text: str | None) -> None:
        self.text = text
        self.asked: list[str] = []

    def get_secret_value(self, *, SecretId: str) -> dict[str, Any]:
        self.asked.append(SecretId)
        return {} if self.text is None else {"SecretString": self.text}


@pytest.mark.parametrize("text", ["sk-1", " sk-1\n", '{"api_key": "sk-1"}', '{"api_key": " sk-1 ", "other": 1}'])
def test_a_plain_string_or_json(text: str) -> None:
    assert SecretsManagerKey("arn:secret", Secrets(text))() == "sk-1"


def test_read_once_and_again_when_told() -> None:
    client = Secrets("sk-1")
    key = SecretsManagerKey("arn:secret", client)
    assert [key(), key()] == ["sk-1", "sk-1"]
    client.text = "sk-2"
    assert key() == "sk-1"
    assert key.refresh() == "sk-2"
    assert key() == "sk-2"
    assert client.asked == ["arn:secret"] * 2


@pytest.mark.parametrize("text", [None, "", "  ", "{}", '{"api_key": ""}', '{"api_key": null}', '{"api_key": "sk-1'])
def test_no_key_in_the_secret(text: str | None) -> None:
    with pytest.raises(MissingKey) as caught:
        SecretsManagerKey("arn:secret", Secrets(text))()
    assert "arn:secret" in str(caught.value)
    assert "sk-1" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetSecretValue"), False),
        (ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow"}}, "GetSecretValue"), True),
        (EndpointConnectionError(endpoint_url="https://nowhere"), True),
    ],
)
def test_a_secret_that_cannot_be_read(error: Exception, retryable: bool) -> None:
    class Broken:
        def get_secret_value(self, **_: str) -> dict[str, Any]:
            raise error

    source = SecretsManagerKey("arn:secret", Broken())
    with pytest.raises(MissingKey, match="arn:secret") as caught:
        source()
    assert caught.value.retryable is retryable
    assert isinstance(caught.value, KeyOutOfReach) is retryable
    with pytest.raises(ProviderError) as failed:
        AnthropicModel(source, "http://127.0.0.1:1").call(ModelRequest("m", 1, [], [], []), timeout_seconds=1)
    assert (failed.value.retryable, failed.value.certainty) == (retryable, "unbilled")


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", " sk-1 ")
    assert EnvironmentKey("SOME_KEY")() == EnvironmentKey("SOME_KEY").refresh() == "sk-1"
    monkeypatch.setenv("SOME_KEY", "")
    with pytest.raises(MissingKey, match="SOME_KEY"):
        EnvironmentKey("SOME_KEY")()


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    key = FileKey(tmp_path / "key")
    for text in (None, "", " \n", b"\xff"):
        if text is not None:
            (tmp_path / "key").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(MissingKey, match="key"):
            key()
    for text in ("sk-1", "sk-2"):
        (tmp_path / "key").write_text(f" {text}\n")
        assert key() == key.refresh() == text
        assert text not in repr(key)


def test_keys_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    source = SecretsManagerKey("arn:secret", Secrets("sk-1"))
    source()
    assert "sk-1" not in repr(source) + repr(EnvironmentKey("SOME_KEY"))
