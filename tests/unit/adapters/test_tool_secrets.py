"""Secrets of tools from Secrets Manager: read when asked for, kept for some minutes, and known from then on."""

from __future__ import annotations

import html
import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from turnkeeper.adapters.known_secrets import KnownSecrets
from turnkeeper.adapters.redaction import Redactor
from turnkeeper.adapters.tool_secrets import SECRET_SECONDS, FolderValues, SecretsManagerValues
from turnkeeper.core.errors import MissingValue, ValueOutOfReach
from turnkeeper.testing.clock import ManualClock


class Manager:
    """Secrets Manager with one secret, or an error in its place."""

    def __init__(self, held: str | Exception) -> None:
        self.held = held
        self.asked: list[str] = []

    def get_secret_value(self, *, SecretId: str) -> dict[str, Any]:
        self.asked.append(SecretId)
        if isinstance(self.held, Exception):
            raise self.held
        return {"SecretString": self.held}


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetSecretValue",
    )


def values_of(manager: Manager, clock: ManualClock | None = None) -> tuple[SecretsManagerValues, KnownSecrets]:
    known = KnownSecrets()
    values = SecretsManagerValues(
        manager, {"crm": "arn:crm"}, {"url": "https://crm.example"}, clock or ManualClock(), known
    )
    return values, known


def test_one_that_was_rotated_is_noticed_and_both_stay_known() -> None:
    manager, clock = Manager("first-key"), ManualClock()
    values, known = values_of(manager, clock)
    assert [values.secret("crm"), values.secret("crm")] == ["first-key", "first-key"]
    assert manager.asked == ["arn:crm"]
    manager.held = "second-key"
    clock.advance(SECRET_SECONDS)
    assert values.secret("crm") == "second-key"
    assert known.hide("first-key, second-key") == "[redacted:secret crm], [redacted:secret crm]"


@pytest.mark.parametrize(
    "outage",
    [refusal("ThrottlingException"), refusal("InternalServiceError", 500), EndpointConnectionError(endpoint_url="x")],
)
def test_an_outage_is_outlived_with_what_is_at_hand(outage: Exception) -> None:
    manager, clock = Manager(outage), ManualClock()
    values, _ = values_of(manager, clock)
    with pytest.raises(ValueOutOfReach) as away:
        values.secret("crm")
    assert away.value.retryable
    manager.held = "first-key"
    assert values.secret("crm") == "first-key"
    manager.held = outage
    clock.advance(SECRET_SECONDS)
    assert values.secret("crm") == "first-key"


@pytest.mark.parametrize("held", [refusal("AccessDeniedException"), refusal("ResourceNotFoundException"), "", "short"])
def test_what_will_not_get_better_by_itself(held: str | Exception) -> None:
    values, _ = values_of(Manager(held))
    with pytest.raises(MissingValue, match="'crm'") as missing:
        values.secret("crm")
    assert not missing.value.retryable
    assert "short" not in str(missing.value).replace("as short as", "")


def test_what_the_deployment_does_not_name() -> None:
    values, _ = values_of(Manager("first-key"))
    assert values.setting("url") == "https://crm.example"
    with pytest.raises(MissingValue, match=r"below \[secrets\]"):
        values.secret("db")
    with pytest.raises(MissingValue, match=r"below \[settings\]"):
        values.setting("crm")


def test_a_secret_that_is_an_object() -> None:
    values, known = values_of(Manager('{"user": "postgres", "password": "pass-word", "port": 5432, "pin": "1"}'))
    assert values.secret("crm", "password") == "pass-word"
    assert known.hide("postgres pass-word") == "postgres [redacted:secret crm]"
    for key in ("port", "pin", "nothing"):
        with pytest.raises(MissingValue):
            values.secret("crm", key)
    fresh, known = values_of(Manager('{"user": "postgres", "password": "pass-word"}'))
    fresh.secret("crm")
    assert known.hide("postgres pass-word") == "postgres [redacted:secret crm]"
    plain, _ = values_of(Manager("first-key"))
    with pytest.raises(MissingValue) as refused:
        plain.secret("crm", "password")
    assert "first-key" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "held",
    [
        '{"db": {"password": "pass-word"}}',
        '{"accounts": [{"user": "postgres", "password": "pass-word"}]}',
        '{"password": ["pass-word", "other-word"]}',
    ],
)
def test_what_stands_deep_in_a_secret_is_known(held: str) -> None:
    values, known = values_of(Manager(held))
    values.secret("crm")
    assert known.hide("postgres pass-word") == "postgres [redacted:secret crm]"


def test_a_number_under_the_name_of_a_secret_is_known() -> None:
    values, known = values_of(Manager('{"port": 5432000, "password": 9876543}'))
    values.secret("crm")
    assert known.hide_in([5432000, 9876543]) == [5432000, "[redacted:secret crm]"]


@pytest.mark.parametrize("by_key", [True, False])
def test_all_that_one_secret_holds_stays_known_however_much_that_is(by_key: bool) -> None:
    held = {f"{number}_password": f"pass-word-{number}" for number in range(20)}
    values, known = values_of(Manager(json.dumps(held)))
    for key in held if by_key else (None,):
        values.secret("crm", key)
    for value in held.values():
        assert known.hide(f"({value})") == "([redacted:secret crm])"


def test_lines_of_a_key_are_known_one_by_one() -> None:
    known = KnownSecrets()
    known.add("tls", "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n")
    assert known.hide("> AQEFAASCBKcwggSjAgEAAoIB <") == "> [redacted:secret tls] <"
    assert known.hide("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_one_is_known_as_markup_has_it() -> None:
    known = KnownSecrets()
    secret = """a<b>&"c"'d'&amp;"""
    known.add("crm", secret)
    for form in (secret, html.escape(secret), html.escape(secret, quote=False)):
        assert known.hide(f"<p>{form}</p>") == "<p>[redacted:secret crm]</p>"


@pytest.mark.parametrize(
    "escaped",
    [
        # Markup: of Jinja and Go, and of XML.
        """q&amp;s&lt;&#34;&#39;é /+w""",
        """q&amp;s&lt;&quot;&apos;é /+w""",
        # URLs: in small digits, of a path, of JavaScript's encodeURIComponent.
        """q%26s%3c%22%27%c3%a9%20%2f%2bw""",
        """q&s%3C%22'%C3%A9%20/+w""",
        """q%26s%3C%22'%C3%A9%20%2F%2Bw""",
        # JSON: of PHP, of Go, and in large digits.
        r"""q&s<\"'\u00e9 \/+w""",
        r"""q\u0026s\u003c\"'é /+w""",
        r"""q&s<\"'\u00E9 /+w""",
    ],
)
def test_programs_do_not_agree_on_what_they_escape(escaped: str) -> None:
    known = KnownSecrets()
    known.add("crm", """q&s<"'é /+w""")
    assert known.hide(f"({escaped})") == "([redacted:secret crm])"


def test_a_run_of_backslashes_is_looked_at_once() -> None:
    known = KnownSecrets()
    known.add("crm", r"""\"quoted\"""")
    began = time.process_time()
    assert known.hide("\\" * 200_000 + '"q') == "\\" * 200_000 + '"q'
    assert time.process_time() - began < 2, "each of them was looked at from each of them"


@pytest.mark.parametrize("names", [("long", "short", "odd"), ("odd", "short", "long")])
def test_a_secret_within_another_leaves_no_rest_of_it(names: tuple[str, ...]) -> None:
    secrets = {"long": 'abcdef"gh"rest', "odd": 'abcdef"gh', "short": "abcdef"}
    known = KnownSecrets()
    for name in names:
        known.add(name, secrets[name])
    for spelled in (str, json.dumps, lambda text: json.dumps(json.dumps(text)), html.escape):
        assert known.hide(f"({spelled(secrets['long'])})").strip('()\\"') == "[redacted:secret long]"


def test_a_number_is_no_way_out() -> None:
    known = KnownSecrets()
    known.add("pin", "12345678")
    redactor = Redactor(known_secrets=known)
    assert redactor.redact({"a": 12345678, "b": 7, "c": True}) == {"a": "[redacted:secret pin]", "b": 7, "c": True}
    assert redactor.without_given({"a": [12345678, 1.5]}) == {"a": ["[redacted:secret pin]", 1.5]}
    huge = 10**5_000
    assert redactor.redact({"a": huge}) == redactor.without_given({"a": huge}) == {"a": huge}
    assert redactor.with_names(["x"]).redact_text("12345678") == "[redacted:secret pin]"


def test_of_many_rotations_the_latest_stay_known() -> None:
    known = KnownSecrets()
    for number in range(20):
        known.add("crm", f"value-number-{number:03}")
    assert "redacted" not in known.hide("value-number-000")
    assert "redacted" in known.hide("value-number-019")
    assert "value" not in repr(known)


def folder_values(folder: Path | None, **files: str) -> tuple[FolderValues, KnownSecrets]:
    known = KnownSecrets()
    return FolderValues(folder, files, {}, ManualClock(), known), known


def test_secrets_of_a_folder_are_known_like_others(tmp_path: Path) -> None:
    (tmp_path / "crm-key").write_text('{"token": "a-token-of-crm"}\n')
    values, known = folder_values(tmp_path, crm="crm-key")
    assert values.secret("crm", "token") == "a-token-of-crm"
    assert "a-token-of-crm" not in known.hide("it is a-token-of-crm")
    assert "a-token" not in repr(values)


@pytest.mark.parametrize("file", ["../outside", "/etc/hostname", "sub/file", "..", "", "absent"])
def test_no_name_leads_out_of_the_folder(file: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("a-secret-outside")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("a-secret-below")
    with pytest.raises((MissingValue, ValueOutOfReach)):
        folder_values(folder, crm=file)[0].secret("crm")


def test_without_a_folder_there_are_no_secrets() -> None:
    with pytest.raises(MissingValue, match="no folder"):
        folder_values(None, crm="crm-key")[0].secret("crm")
