"""The values that tools of this process were given as secrets, so that they can be taken out of whatever they return.

A value is found as it is and in the forms that programs give it: escaped in JSON however deep, in a URL or in HTML, in
hexadecimal, and, as far as that can be, inside of base64 at any offset. One that a tool itself cuts up, encrypts or
spells otherwise is not.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections.abc import Iterator
from itertools import product
from typing import Any, Final
from urllib.parse import quote

#: A shorter one stands in words of which nobody would know that they are none.
MIN_SECRET_CHARS: Final = 6
#: Of a secret that was rotated, the latest ones stay known: a tool that runs may hold one still.
_KEPT_VALUES: Final = 8
_MIN_LINE_CHARS: Final = 16
#: Python writes no larger number as text, and no secret is one.
_MAX_BITS: Final = 10_000
_MIN_CORE_CHARS: Final = 7
#: What programs leave as it is in a URL, besides letters, digits and ``-._~``: nothing, Python, JavaScript's
#: ``encodeURIComponent`` and ``encodeURI``, and what RFC 3986 allows in a path and in its segments.
_URL_SAFE: Final = ("", "/", "!'()*", ";,/?:@&=+$!'()*#", "/:@!$&'()*+,;=", ":@!$&'()*+,;=")
_PERCENT: Final = re.compile("%[0-9A-F]{2}")
_UNIT: Final = re.compile(r"(\\u)([0-9a-f]{4})")
#: Go writes these in JSON as if it stood in HTML.
_FOR_HTML: Final = re.compile("[<>&\u2028\u2029]")


class KnownSecrets:
    """Grows as tools ask for secrets. May be used by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By name and text: the text and what was taken out of it.
        self._values: dict[str, dict[str, tuple[str, ...]]] = {}
        #: What is looked for, longest first, so that none leaves a rest, and what stands in its place.
        self._forms: tuple[tuple[str, str], ...] = ()
        self._escaped: tuple[tuple[re.Pattern[str], str], ...] = ()

    def add(self, name: str, text: str, *members: str) -> None:
        """From now on this text of a secret is not shown, nor what was taken out of it."""
        with self._lock:
            texts = self._values.setdefault(name, {})
            before = texts.get(text, ())
            if (values := tuple(dict.fromkeys((text, *before, *members)))) == before:
                return
            texts[text] = values
            for old in list(texts)[:-_KEPT_VALUES]:
                del texts[old]
            marked = [
                (each, f"[redacted:secret {owner}]")
                for owner, texts in self._values.items()
                for values in texts.values()
                for each in values
            ]
            forms = {form: mark for each, mark in marked for form in _forms(each)}
            self._forms = tuple(sorted(forms.items(), key=lambda item: -len(item[0])))
            escaped = {pattern: mark for each, mark in marked for pattern in _escaped_forms(each)}
            self._escaped = tuple(sorted(escaped.items(), key=lambda item: -len(item[0].pattern)))

    def hide(self, text: str) -> str:
        """The text without them."""
        if "\\" in text:  # First: what stands between two escapes of one may be all of another.
            for pattern, mark in self._escaped:
                text = pattern.sub(mark, text)
        for form, mark in self._forms:
            if form in text:
                text = text.replace(form, mark)
        return text

    def hide_in(self, value: Any) -> Any:
        """JSON without them, in texts, numbers and names."""
        if not self._forms:
            return value
        match value:
            case None | bool():
                return value
            case str():
                return self.hide(value)
            case int() if value.bit_length() > _MAX_BITS:
                return value
            case int() | float():
                return value if self.hide(str(value)) == str(value) else self.hide(str(value))
            case dict():
                return {self.hide(str(name)): self.hide_in(item) for name, item in value.items()}
            case list() | tuple():
                return [self.hide_in(item) for item in value]
        return value

    def __repr__(self) -> str:
        return f"KnownSecrets({len(self._values)})"


#: Of this process: its log is one, whoever writes to it.
KNOWN: Final = KnownSecrets()


def _parts(value: str) -> Iterator[str]:
    """The value, with and without blanks around it, and lines of it: a key of several lines may be shown a line at a
    time. Its first and last say only what it is."""
    yield from {value, value.strip()}
    for line in map(str.strip, value.strip().splitlines() if "\n" in value.strip() else ()):
        if len(line) >= _MIN_LINE_CHARS and not line.startswith("-----"):
            yield line


def _forms(value: str) -> set[str]:
    forms: set[str] = set()
    for part in _parts(value):
        raw = part.encode("utf-8", "surrogatepass")
        forms |= {part, raw.hex(), raw.hex().upper()}
        forms |= {*_in_html(part), *_in_url(raw)}
        forms |= set(_base64_cores(raw))
    return {form for form in forms if len(form) >= MIN_SECRET_CHARS}


def _in_html(part: str) -> Iterator[str]:
    """Of quotes all are escaped, those of one kind or none, by whatever names and numbers."""
    inside = html.escape(part, quote=False)
    for double, single in product(('"', "&quot;", "&#34;", "&#x22;"), ("'", "&#x27;", "&#39;", "&apos;")):
        yield inside.replace('"', double).replace("'", single)


def _in_url(raw: bytes) -> Iterator[str]:
    """By a program that escapes all that it may, or less, in large or in small digits."""
    for safe in _URL_SAFE:
        escaped = quote(raw, safe=safe)
        for form in (escaped, escaped.replace("%20", "+")):
            yield from (form, _PERCENT.sub(lambda octet: octet[0].lower(), form))


def _escaped_forms(value: str) -> Iterator[re.Pattern[str]]:
    """As a literal of JSON or Python has it. Where one stands in another, each level doubles its backslashes."""
    for part in _parts(value):
        raw = part.encode("utf-8", "surrogatepass")
        literals = [repr(part), repr(raw)[1:]]
        for literal in (json.dumps(part), json.dumps(part, ensure_ascii=False)):
            in_html = _FOR_HTML.sub(lambda sign: f"\\u{ord(sign[0]):04x}", literal)
            for form in (literal, literal.replace("/", r"\/"), in_html):
                literals += [form, _UNIT.sub(lambda unit: f"{unit[1]}{unit[2].upper()}", form)]
        for inside in sorted({literal[1:-1] for literal in literals}):
            if "\\" in inside:
                # A run of backslashes is looked at once, from where it begins, however long it is.
                first, *others = map(re.escape, re.split(r"\\+", inside))
                yield re.compile(r"\\++".join([first or r"(?<!\\)", *others]))


def _base64_cores(raw: bytes) -> Iterator[str]:
    """What base64 of a longer text has of it, wherever in it this stands."""
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # Characters that bits of the bytes before and behind go into say too little.
            core = encode(bytes(offset) + raw).decode()[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
            if len(core) >= _MIN_CORE_CHARS:
                yield core
