from __future__ import annotations

from typing import Any

import pytest

from turnkeeper.adapters.secrets import EnvironmentKey, MissingKey, SecretsManagerKey


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


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", " sk-1 ")
    assert EnvironmentKey("SOME_KEY")() == EnvironmentKey("SOME_KEY").refresh() == "sk-1"
    monkeypatch.setenv("SOME_KEY", "")
    with pytest.raises(MissingKey, match="SOME_KEY"):
        EnvironmentKey("SOME_KEY")()


def test_keys_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    source = SecretsManagerKey("arn:secret", Secrets("sk-1"))
    source()
    assert "sk-1" not in repr(source) + repr(EnvironmentKey("SOME_KEY"))
