"""Secrets here are made up, and put together at run time so that no scanner takes this file for a leak."""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnkeeper.adapters import near
from turnkeeper.adapters import redaction_names as names
from turnkeeper.adapters import redaction_shapes as shapes
from turnkeeper.adapters.redaction import Redactor

REDACTOR = Redactor()


def fake(*parts: str) -> str:
    return "".join(parts)


MIX = "FAKE0fake1FAKE2fake3FAKE4fake5FAKE6fake7"  # forty signs
HUNTER = fake("hun", "ter2", "Fake!")
PEM_BODY = "\n".join(fake("MIIFAKEfake", MIX, "abcdefghijklm") for _ in range(4))
BEGIN, FINISH = fake("-----BEGIN RSA PRI", "VATE KEY-----"), fake("-----END RSA PRI", "VATE KEY-----")

TOKENS = {
    "anthropic": fake("sk-", "ant-api03-", MIX, "-AA"),
    "openai": fake("sk-", "proj-", MIX),
    "aws id": fake("AK", "IA", "FAKEFAKEFAKE1234"),
    "aws temporary id": fake("AS", "IA", "FAKEFAKEFAKE1234"),
    "github": fake("gh", "p_", MIX[:36]),
    "github fine-grained": fake("github", "_pat_", MIX),
    "gitlab": fake("gl", "pat-", MIX[:20]),
    "slack": fake("xo", "xb-", "123456789012-123456789012-", MIX[:24]),
    "slack hook": fake("https://hooks.", "slack.com/services/", "T0FAKE/B0FAKE/", MIX[:24]),
    "stripe": fake("sk", "_live_", MIX[:24]),
    "stripe test": fake("sk", "_test_", MIX[:24]),
    "google": fake("AI", "za", MIX[:35]),
    "google oauth": fake("ya", "29.", MIX),
    "jwt": fake("ey", "JhbGciOiJIUzI1NiJ9.", "ey", "JzdWIiOiJmYWtlIn0.", MIX),
    "jwt cut": fake("ey", "JhbGciOiJIUzI1NiJ9.", "ey", "JzdWIiOiJmYWtl"),
    "npm": fake("np", "m_", MIX[:36]),
    "pypi": fake("py", "pi-AgEIcHlwaS5vcmc", MIX, MIX),
    "sendgrid": fake("S", "G.", MIX[:22], ".", MIX, "abc"),
    "azure": fake("Account", "Key=", MIX, MIX, "abcdef=="),
    "twilio": fake("S", "K", "0123456789abcdef" * 2),
    "telegram": fake("123456789", ":AA", MIX[:33]),
    "hugging face": fake("h", "f_", MIX),
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
@pytest.mark.parametrize(
    "frame", ["{}", "got {} from it", "x={};", '{{"v": "{}"}}', "({})", "'{}',", "Error: {}\n  at x"]
)
def test_tokens_go_wherever_they_stand(token: str, frame: str) -> None:
    shown = REDACTOR.redact_text(frame.replace("{{", "{").replace("}}", "}").replace("{}", token))
    assert token not in shown
    assert token[-12:] not in shown
    assert "[redacted:" in shown


ASSIGNMENTS = [
    "password={}",
    "password: {}",
    "PASSWORD = {}",
    'password="{}"',
    "password='{}'",
    '{"password": "{}"}',
    "{'password': '{}'}",
    '{"outer": "{\\"password\\": \\"{}\\"}"}',
    '{\\"db_password\\":\\"{}\\"}',
    '{\\\\\\"password\\\\\\":\\\\\\"{}\\\\\\"}',
    "DB_PASSWORD={}",
    "dbPassword={}",
    "passwd={}",
    "pwd={};",
    "Server=db;User Id=sa;Password={};Encrypt=true",
    "Server=db;Uid=sa;Pwd={}",
    "client_secret={}",
    "clientSecret: {}",
    "api_key={}",
    "api-key: {}",
    "x-api-key: {}",
    "apiKey => {}",
    "aws_secret_access_key = {}",
    "access_token={}&expires=3600",
    "https://x.example/?a=1&token={}&b=2",
    "https://x.example/blob?sv=2020&sig={}",
    "SharedAccessKey={}",
    "postgres://app:{}@db.example:5432/app",
    "postgresql+psycopg://app:{}@db/app",
    "mongodb+srv://app:{}@cluster.example/?w=1",
    "redis://:{}@cache:6379/0",
    "https://user:{}@example.com/path",
    "amqp://u:{}@mq",
    "Authorization: Bearer {}",
    "authorization: {}",
    '"Authorization": "Basic {}"',
    "{'authorization': 'token {}'}",
    "Authorization: AWS4-HMAC-SHA256 Credential=a/b, Signature={}",
    "Cookie: sid={}; theme=dark",
    "Set-Cookie: session={}; HttpOnly",
    "curl -u admin:{} https://x.example",
    "mysql --password {} -h db",
    "tool --api-key {} run",
    "<password>{}</password>",
    '<api_key type="x">{}</api_key>',
    "CREATE USER x IDENTIFIED BY '{}'",
    "the password is '{}'",
    "password is {}, try again",
    "login failed for sa (password={})",
    "token%3D{}",
]


@pytest.mark.parametrize("frame", ASSIGNMENTS)
def test_values_under_a_secret_name_go(frame: str) -> None:
    secret = fake("Zq7", "hunter2", "Fake") if "://" not in frame else fake("Zq7", "hunter2")
    shown = REDACTOR.redact_text(frame.replace("{}", secret))
    assert secret not in shown
    assert "hunter2" not in shown
    assert "[redacted:" in shown
    assert REDACTOR.redact_text(shown) == shown


def test_passwords_with_signs_go_whole() -> None:
    for secret in (fake("p@ss", "/w0rd"), fake("p@ss", ":w0rd")):
        assert secret[-4:] not in REDACTOR.redact_text(f"postgres://app:{secret}@db.example/app")
    assert "tail" not in REDACTOR.redact_text('{"password": "with \\"quote\\" tail"}')
    assert "tail" not in REDACTOR.redact_text('password="with blanks and tail"')


@pytest.mark.parametrize(
    "text",
    [
        f"{BEGIN}\n{PEM_BODY}\n{FINISH}",
        f"{BEGIN}\r\n{PEM_BODY}\r\n{FINISH}".replace("\n", "\r\n"),
        f"{BEGIN}\n{PEM_BODY}\n{FINISH}".replace("\n", "\\n"),
        f"{BEGIN}\n{PEM_BODY}\n{FINISH}".replace("\n", "\\\\n"),
        f"{BEGIN}\n{PEM_BODY}",
        f"{BEGIN}\n{PEM_BODY[:-70]}",
        f"{BEGIN}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00FAKE\n\n{PEM_BODY}\n{FINISH}",
        f"{PEM_BODY}\n{FINISH}",
        f"{PEM_BODY}\n{FINISH}".replace("\n", "\\n"),
        f"{BEGIN} {PEM_BODY} {FINISH}".replace("\n", " "),
        f"{BEGIN}\n{PEM_BODY}\n{FINISH}\n".replace("RSA ", "OPENSSH ") * 2,
    ],
)
def test_private_keys_go_whole_cut_or_escaped(text: str) -> None:
    shown = REDACTOR.redact_text(f"before it\n{text}\nafter it all")
    assert "FAKE" not in shown
    assert shown.startswith("before it\n")
    assert shown.endswith("after it all")
    assert "[redacted:private_key]" in REDACTOR.redact_text(json.dumps({"note": text}))


def card(*groups: str) -> str:
    return "".join(groups)


@pytest.mark.parametrize(
    "number",
    [
        card("4111", "1111", "1111", "1111"),
        card("4111 ", "1111 ", "1111 ", "1111"),
        card("5500-", "0000-", "0000-", "0004"),
        card("3400", "000000", "00009"),
        card("3714 ", "496353 ", "98431"),
        card("6011", "0009", "9013", "9424"),
        card("3530", "1113", "3330", "0000"),
    ],
)
def test_cards_go(number: str) -> None:
    assert REDACTOR.redact_text(f"paid with {number}.") == "paid with [redacted:card]."
    digits = int(number.replace(" ", "").replace("-", ""))
    assert REDACTOR.redact({"n": digits}) == {"n": "[redacted:card]"}


HARMLESS = [
    "550e8400-e29b-41d4-a716-446655440000",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "ses_01HZXABCDEFGHJKMNPQRSTVWXY",
    "toolu_01A09q90qw90lq917835lq9",
    "msg_01XFDUDYJgAACzvnptvVoYEL",
    "2026-11-22T09:00:00.000000Z",
    "20261122093000",
    "$1,234.56 and 0.000123 USD, EUR 12.345,67",
    "4111 items, 1111 of them new, 1111 gone",
    "4111111111111112",
    "1763800000000",
    "978-3-16-148410-0",
    "+49 170 1234567 and 0049 89 123456789012",
    "arn:aws:iam::123456789012:role/turnkeeper-worker",
    "https://example.com:8443/a/b@2x.png?page=2",
    "git@github.com:owner/repo.git",
    "mailto:someone@example.com",
    '{"max_tokens": 4096, "input_tokens": 120, "fencing_token": 7, "token_type": "x"}',
    "The password is required. Your token is invalid. Authorization: required",
    "def login(user: str, password: str, token: str | None = None) -> None:",
    "password=${DB_PASSWORD} token={{ token }} secret=os.environ['X']",
    "Bearer authentication and Basic authentication are supported.",
    "bearer of good news",
    "secretary: Bob; tokenizer=bpe; keyboard: qwerty",
    "Secret: love never dies",
    "A token: the unit that a model reads",
    "sk-learn-is-not-a-real-key-but-a-library",
    "commit 5c0a55b1f2d34a5b6c7d8e9f0a1b2c3d4e5f6a7b by someone",
    "base64: " + base64.b64encode(b"just a harmless sentence, nothing more").decode(),
    "AKC is a club and AP News is an agency; APDISPLAYNAMES",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
    '{"idempotency_key": "job-2026-11-22", "key": "value", "invoice": "I-1"}',
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert REDACTOR.redact_text(text) == text
    assert REDACTOR.redact({"x": [text]}) == {"x": [text]}


def test_basic_auth_and_base64_of_secrets_go() -> None:
    login = base64.b64encode(f"admin:{HUNTER}".encode()).decode()
    assert login not in REDACTOR.redact_text(f"sent Basic {login} to it")
    wrapped = base64.b64encode(f'{{"password": "{HUNTER}"}}'.encode()).decode()
    assert REDACTOR.redact_text(f"config {wrapped} loaded") == "config [redacted:base64] loaded"
    assert TOKENS["github"] not in base64.b64decode(wrapped).decode()


def test_an_aws_secret_key_goes_beside_its_id() -> None:
    secret = fake("wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYFAKEfake00")
    assert len(secret) == 40
    assert secret not in REDACTOR.redact_text(f"{TOKENS['aws id']} {secret}")


@pytest.mark.parametrize(
    "name",
    [
        *("password", "Password", "db_password", "userPassword", "passwd", "PASSPHRASE", "secret", "clientSecret"),
        *("access_token", "X-Api-Key", "apiKey", "Authorization", "Set-Cookie", "private_key", "connection_string"),
        *("ConnectionString", "aws_secret_access_key", "credentials", "cvv", "card_number", "auth"),
    ],
)
def test_values_under_secret_keys_go_whatever_they_are(name: str) -> None:
    for value in ("x y", {"a": ["b"]}, ["c"]):
        assert str(REDACTOR.redact({name: value, "kept": 1})[name]).startswith("[redacted:")
    assert REDACTOR.redact({name: None}) == {name: None}
    assert REDACTOR.redact({name: True}) == {name: True}


def test_a_text_that_is_json_is_read_as_who_prints_it_reads_it() -> None:
    """Powertools' formatter, and ours, print what a line's JSON holds: of a string as of an object."""
    for text in (
        r'"\u0070assword=hunter2hunter2"',
        r'{"\u0070assword": "hunter2hunter2"}',
        r'["\u0070assword=hunter2hunter2"]',
    ):
        assert "hunter2" not in str(json.loads(REDACTOR.redact_text(text)))
    assert REDACTOR.redact_text('"so" it said') == '"so" it said'
    assert REDACTOR.redact_text(r'"caf\u00e9"') == r'"caf\u00e9"'


def test_json_keeps_its_shape() -> None:
    value: dict[str, Any] = {"a": [1, 2.5, None, True, "text", {"b": "c"}], "max_token": 5, "n": 10**5000}
    assert REDACTOR.redact(value) == value
    assert REDACTOR.redact({"password": 1234}) == {"password": "[redacted:password]"}
    assert REDACTOR.redact([{"name": "DB_PASSWORD", "value": "x"}]) == [
        {"name": "DB_PASSWORD", "value": "[redacted:password]"}
    ]
    assert REDACTOR.redact({TOKENS["github"]: 1}) == {"[redacted:github_token]": 1}
    assert TOKENS["github"] not in str(REDACTOR.redact({"b": TOKENS["github"].encode(), "s": {TOKENS["github"]}}))


def test_declared_names_are_secret_in_json_and_in_text() -> None:
    redactor = Redactor({"badge"})
    assert redactor.redact({"Badge": 7, "x": {"badge": "a"}}) == {
        "Badge": "[redacted:secret_argument]",
        "x": {"badge": "[redacted:secret_argument]"},
    }
    assert redactor.redact_text("badge=blue, size=3") == "badge=[redacted:secret_argument], size=3"
    assert redactor.redact_text("badger=blue") == "badger=blue"
    assert "blue" not in redactor.redact_text('{"q": "{\\"badge\\": \\"blue\\"}"}')
    assert REDACTOR.with_names(["badge"]).redact({"badge": 1}) == {"badge": "[redacted:secret_argument]"}


def test_known_values_are_taken_out_of_errors() -> None:
    redactor = Redactor({"badge"})
    arguments = {"badge": "blue-horse", "deep": [{"password": "staple"}], "other": "kept"}
    known = redactor.values(arguments)
    assert sorted(known) == ["blue-horse", "staple"]
    encoded = base64.b64encode(b"blue-horse").decode()
    shown = redactor.redact_text(f"no such blue-horse ({encoded}) with staple, kept", known=known)
    assert (
        shown
        == "no such [redacted:secret_argument] ([redacted:secret_argument]==) with [redacted:secret_argument], kept"
    )


def test_large_and_deep_inputs_are_bounded() -> None:
    redactor = Redactor(max_chars=1000)
    shown = redactor.redact_text("word " * 400 + TOKENS["github"])
    assert len(shown) < 1100
    assert shown.endswith("characters not examined]")
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    assert "too_large" in str(redactor.redact(deep))
    assert REDACTOR.redact_text("[" * 100_000) == "[" * 100_000


HOSTILE = [
    "a",
    " ",
    "password",
    "password=",
    'password:\\"',
    "token ",
    "://",
    "://a:",
    "-----",
    BEGIN,
    FINISH,
    "4",
    "4 ",
]
HOSTILE += [
    "eyJ",
    "eyJaaaaaa.",
    "sk-",
    "sk-ant-",
    "aws",
    "awskey'",
    "xoxb-1-",
    "AKIA",
    "<password ",
    "Basic ",
    "\\",
    '"',
]
HOSTILE += [
    "cookie:",
    "authorization: ",
    "is ",
    "password is ",
    "--token ",
    "A=",
    "1:",
    "PuTTY-User-Key-File-2: \n",
    "((",
    "\n",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_input_of_a_megabyte_ends(unit: str) -> None:
    REDACTOR.redact_text(unit * (1_000_000 // len(unit)))


@settings(max_examples=200)
@given(st.lists(st.one_of(st.sampled_from([*TOKENS.values(), *ASSIGNMENTS, " ", "\n", "="]), st.text(max_size=10))))
def test_redacting_twice_changes_nothing_more_and_no_token_is_left(parts: list[str]) -> None:
    text = " ".join(parts)
    shown = REDACTOR.redact_text(text)
    for token in TOKENS.values():
        if token in parts:
            assert token not in shown
    again = REDACTOR.redact_text(shown)
    assert again.count("[redacted:") <= shown.count("[redacted:") + 1


def test_many_threads_share_one_redactor() -> None:
    texts = [f"{token} and password={HUNTER} {index}" for index, token in enumerate(list(TOKENS.values()) * 20)]
    expected = [REDACTOR.redact_text(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(Redactor().redact_text, texts)) == expected


LIBRARY = [pattern for module, name, *_ in shapes._PLUGINS for pattern in shapes.library_patterns(module, name)]
ANYTHING = st.one_of(
    st.sampled_from(
        [*TOKENS.values(), *(frame.replace("{}", "hunter2Zq7x") for frame in ASSIGNMENTS), *HARMLESS, *HOSTILE]
    ),
    st.sampled_from(LIBRARY).flatmap(lambda pattern: st.from_regex(pattern, fullmatch=True)),
    st.sampled_from([shapes._TOKEN, shapes._CLI_LOGIN, shapes._DATABASE_LOGIN, names._OPTION, names._SQL]).flatmap(
        lambda pattern: st.from_regex(re.compile(pattern.pattern, pattern.flags), fullmatch=True)
    ),
    st.sampled_from(
        ["4111 1111 1111 1111", "4111111111111111", "paſsword: hunter22", "to\u212aen=hunter22", "APİ-KEY=hunter22"]
    ),
    st.text(max_size=10),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(ANYTHING, st.sampled_from(["", " ", "\n", '"', "="])), max_size=6))
def test_looking_for_words_first_changes_nothing(parts: list[tuple[str, str]]) -> None:
    text = "".join(part + end for part, end in parts)
    shown = REDACTOR.redact_text(text)
    with pytest.MonkeyPatch.context() as everything:
        everything.setattr(near, "sub", lambda pattern, replace, text, _words: pattern.sub(replace, text))
        for cheap in ("any_of", "run", "card"):
            everything.setattr(near, cheap, lambda *_: True)
        assert REDACTOR.redact_text(text) == shown
