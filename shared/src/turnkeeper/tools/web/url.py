"""One strict parse of a URL. What is checked is what is connected to and what goes onto the wire.

Parsers disagree about backslashes, control characters, userinfo, tabs inside hosts and short IPv4 forms, and
the disagreement is the attack. So nothing here is lenient: what is not plainly a URL is refused, and everything after
works on the parsed parts, never on the text again.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from turnkeeper.core.tools import ToolDenied
from turnkeeper.tools._common import shown
from turnkeeper.tools.web.address import normal

MAX_URL_CHARS = 4096
DEFAULT_PORTS = {"http": 80, "https": 443}
FORM = "Write it as http(s)://host[:port]/path?query."

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@%]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
#: A host whose last label looks like this is an IPv4 address to some resolver (``127.1``, ``0x7f.1``, ``2130706433``).
_NUMERIC = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)")
_SAFE = "/%:@!$&'()*+,;=~-._[]"


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL, normalised: ASCII host in lower case without a trailing dot, port filled in."""

    scheme: str
    host: str
    port: int
    #: Path and query as they go onto the wire: printable ASCII.
    path: str
    #: The host is an address, not a name.
    is_address: bool

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse(text: str, max_chars: int = MAX_URL_CHARS) -> Target:
    """The one parse of what the model, a user or a redirect gave as a URL.

    Raises:
        ToolDenied: anything but a plain http or https URL.
    """
    if len(text) > max_chars:
        raise ToolDenied(f"The URL is longer than {max_chars} characters.")
    if not clean(text):
        raise ToolDenied(f"{shown(text)} holds whitespace, control characters or a backslash. {FORM}")
    match = _URL.fullmatch(text)
    if not match:
        raise ToolDenied(f"{shown(text)} is not a URL that can be fetched. {FORM}")
    scheme = match["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise ToolDenied(f"Only http and https are allowed, not {shown(scheme)}.")
    if "@" in match["authority"]:
        # Not shown: what stands before the @ may be a password.
        raise ToolDenied(f"A user name or password in the URL is not allowed. {FORM}")
    parts = _AUTHORITY.fullmatch(match["authority"])
    if not parts:
        raise ToolDenied(f"{shown(match['authority'])} is not a host that can be fetched from. {FORM}")
    host, is_address = host_of(parts["host"])
    port = int(parts["port"]) if parts["port"] else DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise ToolDenied("A port is a number from 1 to 65535.")
    path = quote(match["path"] or "/", safe=_SAFE)
    if match["query"] is not None:
        path += "?" + quote(match["query"], safe=_SAFE + "?")
    return Target(scheme, host, port, path, is_address)


def follow(base: Target, location: str) -> Target:
    """Where a redirect leads, through the same parse.

    Raises:
        ToolDenied: the location is not a plain http or https URL.
    """
    # Looked at before it is joined: urljoin drops tabs and line ends, and what is dropped is not checked.
    if not location or len(location) > MAX_URL_CHARS or not clean(location):
        raise ToolDenied(
            "The server redirects to something that is not a plain URL; redirects are followed only to allowed hosts."
        )
    try:
        joined = urljoin(base.url, location)
    except ValueError as error:
        raise ToolDenied("The server redirects to something that is not a URL.") from error
    return parse(joined)


def clean(text: str) -> bool:
    return not any(c == "\\" or c.isspace() or not c.isprintable() for c in text)


def host_of(text: str) -> tuple[str, bool]:
    """The host in its one normal form, and whether it is an address.

    Raises:
        ToolDenied: not a host name, or an address in a form other than the usual one.
    """
    if text.startswith("["):
        try:
            return str(normal(str(ipaddress.IPv6Address(text[1:-1])))), True
        except ValueError as error:
            raise ToolDenied(f"{shown(text)} is not an IPv6 address.") from error
    host = _ascii(text).lower()
    host = host[:-1] if host.endswith(".") else host
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ToolDenied(f"{shown(text)} is not a host name.")
    if not _NUMERIC.fullmatch(labels[-1]):
        return host, False
    try:
        return str(ipaddress.IPv4Address(host)), True
    except ValueError as error:
        raise ToolDenied(f"{shown(text)} is an address in a form that is not accepted. Write a.b.c.d.") from error


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    import idna  # only for the rare host that needs it; keeps the import of the tools light

    try:
        return idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise ToolDenied(f"{shown(host)} is not a host name.") from error
