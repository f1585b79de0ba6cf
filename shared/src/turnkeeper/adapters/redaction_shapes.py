"""What secrets look like in running text: the patterns, and the checks that keep look-alikes out.

Every pattern here takes linear time: repetitions are bounded or followed by nothing that could fail, and no two
neighbouring repetitions accept the same sign. That is why only those patterns of detect-secrets are taken over that
name a token by its own shape; its assignment patterns are quadratic on hostile input, and its entropy detectors take
hashes and ids for secrets.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib
import re
from collections.abc import Callable, Iterable
from re import Match, Pattern
from typing import Final

from turnkeeper.adapters import near

Replace = Callable[[Match[str]], str]

#: Module and class of the detect-secrets plugins that are used, the kind that stands in the replacement, and what each
#: of its tokens holds: one of these words (in any case where they are in lower case), and so many signs together. Where
#: no text holds that, the library is never imported.
_PLUGINS: Final = (
    ("artifactory", "ArtifactoryDetector", "artifactory_token", ("AKC", "AP"), 11),
    ("aws", "AWSKeyDetector", "aws_access_key", ("A3T", "ABIA", "ACCA", "AKIA", "ASIA", "aws"), 16),
    ("azure_storage_key", "AzureStorageKeyDetector", "azure_key", ("AccountKey=",), 1),
    ("discord", "DiscordBotTokenDetector", "discord_token", (".",), 24),
    ("github_token", "GitHubTokenDetector", "github_token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), 36),
    ("gitlab_token", "GitLabTokenDetector", "gitlab_token", ("gl", "GR1348941"), 24),
    ("mailchimp", "MailchimpDetector", "mailchimp_key", ("-us",), 32),
    ("pypi_token", "PypiTokenDetector", "pypi_token", ("pypi-Ag",), 70),
    ("sendgrid", "SendGridDetector", "sendgrid_key", ("SG.",), 22),
    ("slack", "SlackDetector", "slack_token", ("xox", "hooks.slack"), 1),
    ("square_oauth", "SquareOAuthDetector", "square_token", ("sq0csp-",), 7),
    ("stripe", "StripeDetector", "stripe_key", ("k_live_",), 24),
    ("telegram_token", "TelegramBotTokenDetector", "telegram_token", (":",), 35),
    ("twilio", "TwilioKeyDetector", "twilio_key", ("AC", "SK"), 34),
)


#: Of the library's tokens, Slack's.
_SHORTEST_TOKEN: Final = len("xoxb-1-a")


def mark(kind: str) -> str:
    return f"[redacted:{kind}]"


@functools.cache
def library_patterns(module: str, name: str) -> tuple[Pattern[str], ...]:
    """The token patterns of a plugin of detect-secrets, imported at first use (that costs a tenth of a second).

    Only the compiled patterns are kept. The library's scanning functions go through process-wide settings, which
    threads cannot share, and give back values, or parts of them, instead of places; compiled patterns are safe.
    """
    return tuple(getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name).denylist)


#: Tokens that say by a prefix what they are, where the library has no shape, an older one, or a quadratic one.
_TOKENS: Final = (
    ("anthropic_key", r"sk-ant-[A-Za-z0-9_-]{6,}"),
    ("api_key", r"sk-(?=[A-Za-z_-]{0,60}\d)[A-Za-z0-9_-]{20,}"),
    ("gateway_token", r"tkgw\.[A-Za-z0-9_-]{1,300}\.[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{8,}|tkgl\.[A-Za-z0-9_-]{20,}"),
    ("stripe_key", r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,}|whsec_[A-Za-z0-9+/]{16,}"),
    ("github_token", r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"),
    ("slack_token", r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}|xoxe\.[A-Za-z0-9.-]{10,}"),
    ("google_key", r"AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}"),
    ("npm_token", r"npm_[A-Za-z0-9]{30,}"),
    ("huggingface_token", r"hf_[A-Za-z0-9]{30,}"),
    ("vault_token", r"hv[sb]\.[A-Za-z0-9_-]{20,}"),
    ("digitalocean_token", r"do[opr]_v1_[a-f0-9]{40,}"),
    ("shopify_token", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{30,}"),
    ("jwt", r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?"),
)
_TOKEN = re.compile(
    "(?<![A-Za-z0-9])(?:" + "|".join(f"(?P<{kind}_{i}>{p})" for i, (kind, p) in enumerate(_TOKENS)) + ")"
)

#: What each of them begins with.
_TOKEN_WORDS: Final = (
    *("sk-", "tkg", "sk_", "rk_", "pk_", "whsec_", "gho_", "ghp_", "ghu_", "ghs_", "ghr_", "github_pat_", "xox"),
    *("xapp-", "aiza", "ya29.", "gocspx-", "npm_", "hf_", "hvs.", "hvb.", "doo_v1_", "dop_v1_", "dor_v1_", "shpat_"),
    *("shpca_", "shppa_", "shpss_", "eyj"),
)

_ACCESS_KEY_ID = near.late_pattern(r"(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[0-9A-Z]{16}")
_FORTY = near.late_pattern(r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")

_BEARER = re.compile(r"(?i)\b(bearer[ \t]{1,4})([A-Za-z0-9._~+/=-]{8,})")
_BASIC = re.compile(r"(?i)\b(basic[ \t]{1,4})([A-Za-z0-9+/_-]{6,}={0,2})")
_AUTHORIZATION = re.compile(
    r"(?i)(authorization[\"'\\]{0,4}[ \t]{0,4}[:=][ \t]{0,4}[\"'\\]{0,4})"
    r"((?:basic|bearer|digest|token|apikey|negotiate|key|aws4-hmac-sha256)[ \t]{1,4}[^\"'\\\r\n]{1,4096}"
    r"|[^\s\"'\\,;]{8,4096})"
)
_COOKIE = re.compile(r"(?i)(\bcookie[\"'\\]{0,4}[ \t]{0,4}:[ \t]{0,4}[\"'\\]{0,4})([\w.-]{1,64}=[^\"'\\\r\n]{1,4096})")

_URL_LOGIN = near.late_pattern(r"://([^\s/@:\"'<>\\]{0,128}):([^\s/\"'<>\\]{1,256})@")
#: Passwords of databases are often not escaped, so a slash does not end them; in web addresses it does.
_DATABASE_LOGIN = near.late_pattern(
    r"(?i)((?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|oracle|clickhouse|snowflake|cockroachdb|ldaps?)"
    r"(?:\+[a-z0-9]{1,20})?://)([^\s@:\"'<>\\/]{0,128}):([^\s\"'<>\\]{1,256})@"
)
_DATABASES: Final = (
    *("postgres", "mysql", "mariadb", "mongodb", "redis", "amqp", "mssql", "oracle", "clickhouse", "snowflake"),
    *("cockroachdb", "ldap"),
)
_URL_TOKEN = near.late_pattern(r"://(?=[A-Za-z_-]{0,60}\d)[A-Za-z0-9_-]{20,256}@")
_CLI_LOGIN = re.compile(r"(?<!\S)((?:-u|--user)[ =][\"']?[^\s:\"']{1,64}:)([^\s\"']{1,256})")

_CARD = near.late_pattern(
    r"(?<![\w.+-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|\.\d)"
)
_CARD_BRANDS = near.late_pattern(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}|35\d{14}|62\d{14,17}|(?:50|5[6-9])\d{14}"
)

_PEM_BEGIN = near.late_pattern(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = near.late_pattern(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_LINES = near.late_pattern(
    r"(?:(?:\\+[nr]|\s){1,8}[A-Za-z0-9+/=]{16,}|(?:\\+[nr]|\s){1,8}[A-Z][A-Za-z0-9-]{1,30}: [^\r\n\\]{0,200})*"
)
#: What is left of a line that was cut; a plain word is the text that goes on after the key.
_PEM_REST = near.late_pattern(r"(?:\\+[nr]|\s){0,8}(?=[A-Za-z]{0,80}[0-9+/=]|[A-Za-z]{16})[A-Za-z0-9+/=]+")
_BASE64_SIGNS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
_PUTTY = near.late_pattern(r"PuTTY-User-Key-File-\d: (?:[^\r\n]{0,400}(?:\r?\n|\Z)){1,80}")

_BASE64 = near.late_pattern(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{24,8192}={0,2}")
_MAX_BASE64: Final = 200


def private_keys(text: str) -> str:
    """PEM private keys: whole, cut at either end, over many lines, or with their line ends escaped."""
    if "PRIVATE KEY" not in text and "PuTTY" not in text:
        return text
    text = _PUTTY.sub(mark("private_key"), text)
    pieces: list[str] = []
    last = 0
    ends = [found.span() for found in _PEM_END.finditer(text)]
    upcoming = 0
    begins = list(_PEM_BEGIN.finditer(text))
    for number, begin in enumerate(begins):
        if begin.start() < last:
            continue
        limit = begins[number + 1].start() if number + 1 < len(begins) else len(text)
        while upcoming < len(ends) and ends[upcoming][0] < begin.end():
            upcoming += 1
        if upcoming < len(ends) and ends[upcoming][0] < min(limit, begin.end() + 20_000):
            stop = ends[upcoming][1]
        else:
            lines = _PEM_LINES.match(text, begin.end(), limit)
            stop = lines.end() if lines else begin.end()
            rest = _PEM_REST.match(text, stop, limit)
            stop = rest.end() if rest else stop
        pieces += [text[last : begin.start()], mark("private_key")]
        last = stop
    return _key_tails("".join([*pieces, text[last:]]))


def _key_tails(text: str) -> str:
    """Keys whose beginning was cut off: the lines before an end that has no beginning."""
    pieces: list[str] = []
    last = 0
    for end in _PEM_END.finditer(text):
        start = place = end.start()
        shortest = 1  # the last line of a key may be short; the others are not, and words are
        while place > last:
            line_end = _without_line_ends(text, last, place)
            place = line_end
            while place > last and text[place - 1] in _BASE64_SIGNS:
                place -= 1
            if place > last and text[place - 1] == "\\" and text[place : place + 1] in {"n", "r"}:
                place += 1
            if line_end - place < shortest:
                break
            start, shortest = place, 32
        pieces += [text[last:start], mark("private_key")]
        last = end.end()
    return "".join([*pieces, text[last:]])


def _without_line_ends(text: str, first: int, last: int) -> int:
    """Where the text before ``last`` ends when its line ends, written or escaped, are taken off."""
    while last > first:
        if text[last - 1].isspace():
            last -= 1
        elif text[last - 1] in "nr" and text[last - 2 : last - 1] == "\\" and last - 2 >= first:
            last -= 2
            while last > first and text[last - 1] == "\\":
                last -= 1
        else:
            break
    return last


def logins(text: str) -> str:
    """User and password in addresses and on command lines."""
    if "://" in text and "@" in text:
        text = near.sub(_DATABASE_LOGIN, lambda found: f"{found[1]}{mark('url_credentials')}@", text, _DATABASES)
        text = near.sub(_URL_LOGIN, lambda _: f"://{mark('url_credentials')}@", text, ("://",))
        text = near.sub(_URL_TOKEN, lambda _: f"://{mark('url_credentials')}@", text, ("://",))
    return near.sub(_CLI_LOGIN, lambda found: found[1] + mark("password"), text, ("-u", "--user"))


def headers(text: str) -> str:
    """Authorization and Cookie headers, and their values where they stand alone."""
    text = near.sub(_AUTHORIZATION, _authorization, text, ("authorization",))
    text = near.sub(_COOKIE, lambda found: found[1] + mark("cookie"), text, ("cookie",))
    text = near.sub(_BEARER, _bearer, text, ("bearer",))
    return near.sub(_BASIC, _basic, text, ("basic",))


def _bearer(found: Match[str]) -> str:
    return found[1] + mark("bearer_token") if _mixed(found[2]) else found[0]


def _basic(found: Match[str]) -> str:
    return found[1] + mark("basic_auth") if ":" in decoded(found[2]) else found[0]


def _authorization(found: Match[str]) -> str:
    scheme, space, rest = found[2].partition(" ")
    if space and rest.strip() and not rest.lstrip().startswith("[redacted:"):
        # Two words may be prose ("Authorization: token required"); credentials are no plain words.
        return found[1] + mark("authorization") if _mixed(rest) or scheme.lower() in {"basic", "digest"} else found[0]
    return found[1] + mark("authorization") if _mixed(found[2]) else found[0]


def tokens(text: str) -> str:
    """Tokens that show by their own shape what they are."""
    had_access_key = near.run(text, 20) and _ACCESS_KEY_ID.search(text) is not None
    text = near.sub(_TOKEN, lambda found: mark(str(found.lastgroup).rpartition("_")[0]), text, _TOKEN_WORDS)
    for module, name, kind, words, least in _PLUGINS if len(text) >= _SHORTEST_TOKEN else ():
        # Beyond ASCII there are digits that a library's pattern may take for some.
        if (near.run(text, least) or not text.isascii()) and near.any_of(text, words):
            for pattern in library_patterns(module, name):
                text = pattern.sub(functools.partial(_library_token, kind), text)
    if had_access_key:
        # The secret half has no shape of its own: forty mixed signs count only beside the other half.
        text = _FORTY.sub(lambda found: mark("aws_secret_key") if _very_mixed(found[0]) else found[0], text)
    return text


def _library_token(kind: str, found: Match[str]) -> str:
    whole, text, start = found[0], found.string, found.start()
    if start and text[start - 1].isalnum() and whole[0].isalnum():
        return whole  # in the middle of something longer: a hash, an id, base64
    if kind == "artifactory_token" and not _mixed(whole.strip('"=: \n\t')):
        return whole
    value = found[1] if found.re.groups == 1 and len(found[1] or "") >= 16 else whole
    return whole.replace(value, mark(kind))


def cards(text: str) -> str:
    if not near.card(text):
        return text
    return _CARD.sub(lambda found: mark("card") if is_card(found[0]) else found[0], text)


def is_card(number: str) -> bool:
    """A card number of a known brand, with its check digit right."""
    digits = re.sub(r"[ -]", "", number)
    if not (digits.isascii() and digits.isdigit() and _CARD_BRANDS.fullmatch(digits)):
        return False
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def base64_wrapped(text: str, is_secret: Callable[[str], bool]) -> str:
    """Base64 whose contents hold a secret. The first two hundred candidates are looked at."""
    if not near.run(text, 24):
        return text
    left = _MAX_BASE64

    def replace(found: Match[str]) -> str:
        nonlocal left
        if left <= 0:
            return found[0]
        left -= 1
        inside = decoded(found[0])
        return mark("base64") if inside and is_secret(inside) else found[0]

    return _BASE64.sub(replace, text)


def decoded(text: str) -> str:
    """Base64 (either alphabet, padding optional) as text; empty where it is none."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        inside = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return inside if all(sign.isprintable() or sign in "\r\n\t" for sign in inside) else ""


def known(text: str, values: Iterable[str]) -> str:
    """Values that are known to be secret, plain or in base64, longest first so that none leaves a rest."""
    forms: set[str] = set()
    for value in values:
        if len(value) >= 4:
            forms |= {value, base64.b64encode(value.encode("utf-8", "replace")).decode().rstrip("=")}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, mark("secret_argument"))
    return text


def _mixed(value: str) -> bool:
    """Not a plain word: holds a digit, or both cases in the middle of it, or is long."""
    body = value[1:]
    return any(c.isdigit() for c in value) or (body != body.lower() and body != body.upper()) or len(value) >= 32


def _very_mixed(value: str) -> bool:
    return any(c.isdigit() for c in value) and any(c.islower() for c in value) and any(c.isupper() for c in value)
