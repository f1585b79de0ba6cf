"""Names that say that their value is a secret: as keys of JSON, and before ``=`` or ``:`` in running text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import Match, Pattern
from typing import Final

from turnkeeper.adapters import near
from turnkeeper.adapters.redaction_shapes import mark


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EXACT: Final = _words_of("""
    pass pwd auth pin otp cvv cvc cvv2 credential credentials cookie setcookie authorization proxyauthorization
    cardnumber creditcard creditcardnumber accesskey accountkey sharedaccesskey sharedaccesssignature sastoken
    secretaccesskey jwt bearer mnemonic seedphrase
""")
_ENDINGS: Final = tuple(
    _words_of("""
    password passwd passphrase passcode passwordhash secret secretkey token apikey privatekey signingkey
    encryptionkey connectionstring clientsecret accesskey secretvalue apitoken dbpass dsn
""")
)

#: The same in running text. Longer alternatives stand first; none can start inside another.
_WORDS: Final = (
    r"passw(?:or)?d(?:[_-]?hash)?|passphrase|passcode|(?<=[_-])pass|pwd"
    r"|(?:client|shared|app)[_-]?secret|secret[_-]?(?:access[_-]?)?key|secret(?:[_-]?(?:value|string))?"
    r"|(?:access|account|shared[_-]?access|private|signing|encryption|api)[_ -]?key|shared[_-]?access[_-]?signature"
    r"|connection[_ -]?string|credentials?|(?<=[?&])sig|x-amz-(?:signature|security-token)"
    r"|token(?:[_-]?value)?|cvv2?|cvc"
)
_SEPARATOR: Final = r"[\"'\\\]]{0,6}[ \t]{0,4}(?::=|=>|={1,3}|:|%3D)[ \t]{0,4}"
_VALUE: Final = (
    r"(?:(?P<escaped>\\{1,7}[\"'])(?P<inner>[^\"'\r\n]{1,2048})"
    r"|\"(?P<double>(?:[^\"\\\r\n]|\\.){1,2048})"
    r"|'(?P<single>(?:[^'\\\r\n]|\\.){1,2048})"
    r"|(?P<bare>(?:[^\s\"'<>,;&)\]}\\]|[,)\]}](?=[^\s\"'<>,;&)\]}\\])){1,512}))"
)
_ASSIGNMENT = re.compile(f"(?i)(?P<name>{_WORDS})(?P<separator>{_SEPARATOR}){_VALUE}")
_OPTION = near.late_pattern(
    r"(?i)(--[a-z-]{0,20}(?:password|passphrase|secret|token|api-key)[ \t]{1,4})([^\s\"'-][^\s\"']{3,511})"
)
_ELEMENT = near.late_pattern(
    r"(?i)(<[\w:.-]{0,40}(?:password|passphrase|secret|token|api_?key)(?:\s[^<>]{0,80})?>)([^<>]{1,512})(?=</)"
)
_SQL = near.late_pattern(r"(?i)(\b(?:identified\s{1,4}by|with\s{1,4}password|password)\s{1,4})'([^'\r\n]{1,256})'")
_SENTENCE = near.late_pattern(
    r"(?i)\b(password|passphrase|secret|api[ _-]?key|token)(\s{1,4}(?:is|was)\s{1,4})"
    r"(\"[^\"\r\n]{3,256}\"|'[^'\r\n]{3,256}'|[^\s\"',;]{4,256})"
)

#: What the names of assignments, and what secrets in sentences, options and elements, begin with.
_NAMES: Final = (
    *("passw", "passphrase", "passcode", "pass", "pwd", "client", "shared", "app", "secret", "access", "account"),
    *("private", "signing", "encryption", "api", "connection", "credential", "sig", "x-amz-", "token", "cvv", "cvc"),
)
_SAID: Final = ("password", "passphrase", "secret", "api", "token", "identified")

_PLACEHOLDER = near.late_pattern(
    r"\[redacted:|\$\{|\$\(|(?-i:\$[A-Z_]{2,}\b)|\{\{|%\(|<[^<>]*>?\Z|\*{3}|x{3,}\Z|\.{3}|os\.environ|process\.env|getenv|env\.",
    re.IGNORECASE,
)
_NO_VALUES: Final = _words_of("""
    none null nil true false yes no str string bool int integer number float bytes any object array optional required
    undefined missing invalid expired unknown empty secretstr wrong incorrect correct reset changed not set unset the a
    an is must should may see in for or and to of from your you this that it on off with bearer basic default
""")


def is_secret_name(name: str) -> bool:
    """Whether a key is called like a secret by convention, in any case and with any separators."""
    flat = re.sub(r"[^a-z0-9]", "", name.lower()[:200])
    return flat in _EXACT or flat.endswith(_ENDINGS)


def kind_of(name: str) -> str:
    flat = re.sub(r"[^a-z0-9]", "", name.lower())
    for part, kind in (
        ("pass", "password"),
        ("pwd", "password"),
        ("connection", "connection_string"),
        ("dsn", "connection_string"),
        ("private", "private_key"),
        ("cookie", "cookie"),
        ("auth", "authorization"),
        ("card", "card"),
        ("cv", "card"),
        ("token", "token"),
        ("apikey", "api_key"),
        ("key", "key"),
    ):
        if part in flat:
            return kind
    return "secret"


def declared_pattern(names: Iterable[str]) -> Pattern[str] | None:
    """The pattern of assignments to these names in running text."""
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    if not words:
        return None
    return re.compile(f"(?i)(?<![\\w-])(?P<name>{words})(?P<separator>{_SEPARATOR}){_VALUE}")


def assigned(text: str) -> str:
    """Values that follow a secret's name: in code, JSON, query strings, options, markup, SQL and sentences."""
    text = near.sub(_ASSIGNMENT, _replace, text, _NAMES)
    if near.any_of(text, _SAID):
        if "--" in text:
            text = near.sub(_OPTION, _marked, text, ("--",))
        if "</" in text:
            text = near.sub(_ELEMENT, _marked, text, ("<",))
        text = near.sub(_SQL, _quoted_marked, text, ("identified", "with", "password"))
        text = near.sub(_SENTENCE, _said, text, _SAID)
    return text


def _marked(found: Match[str]) -> str:
    return found[0] if _no_value(found[2]) else found[1] + mark(kind_of(found[1]))


def _quoted_marked(found: Match[str]) -> str:
    return found[0] if _no_value(found[2]) else f"{found[1]}'{mark('password')}'"


def assigned_to(text: str, pattern: Pattern[str]) -> str:
    """The same for declared names, where every value counts."""
    return pattern.sub(lambda found: _with_value(found, "secret_argument"), text)


def _replace(found: Match[str]) -> str:
    name, bare = found["name"].lower(), found["bare"]
    value = bare or found["inner"] or found["double"] or found["single"] or ""
    if _no_value(value, quoted=bare is None):
        return found[0]
    if bare is not None and not name.startswith("pass") and _only_prose(found, bare):
        return found[0]
    if "token" in name and value.isdigit() and len(value) < 6:
        return found[0]  # a count or a fencing token
    return _with_value(found, kind_of(name))


def _only_prose(found: Match[str], bare: str) -> bool:
    """After a colon and a blank, a plain word is prose ("Secret: love never dies"); so is a call in code."""
    after = found.string[found.end() : found.end() + 1]
    call = after == "(" or "(" in bare
    prose = found["separator"].strip("\"'\\ ") == ":" and found["separator"].endswith(" ")
    return call or (prose and bare.rstrip(".,;:!?").isalpha() and bare == bare.lower())


def _with_value(found: Match[str], kind: str) -> str:
    head = found["name"] + found["separator"]
    if found["bare"] is not None:
        return head + mark(kind)
    if found["inner"] is not None:
        inner = found["inner"]
        return head + found["escaped"] + mark(kind) + inner[len(inner.rstrip("\\")) :]
    return head + ('"' if found["double"] is not None else "'") + mark(kind)


def _said(found: Match[str]) -> str:
    value = found[3].strip("\"'")
    quoted = found[3] != value
    if _no_value(value, quoted=quoted) or not (quoted or any(sign.isdigit() for sign in value)):
        return found[0]
    return found[1] + found[2] + mark(kind_of(found[1]))


def _no_value(value: str, *, quoted: bool = False) -> bool:
    if not value.strip() or _PLACEHOLDER.match(value):
        return True
    return not quoted and value.rstrip(".,;:!?)").lower() in _NO_VALUES
