"""The ``http_fetch`` tool: what is allowed, and the answer for the model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field

from turnkeeper.core.tools import Tool, ToolContext, ToolDenied
from turnkeeper.tools._common import Arguments, Deadline, cut, guarded, listed, plain, positive, shown, strings
from turnkeeper.tools.web import body
from turnkeeper.tools.web.address import AddressPolicy
from turnkeeper.tools.web.hops import BODY_METHODS, READ_METHODS, Answer, Guard, Outgoing, answered
from turnkeeper.tools.web.url import Target, host_of, parse

MAX_REQUEST_BYTES = 100_000
_MAX_HEADER_CHARS = 1000
_METHODS = READ_METHODS | BODY_METHODS | {"DELETE", "OPTIONS"}
#: None of these says who is asking. Authorization, Cookie and everything else stay out.
_HEADERS = frozenset({"accept", "accept-language", "content-type", "if-modified-since", "if-none-match"})
CONTENT_TYPES = ("text/*", "application/json", "application/*+json", "application/xml", "application/*+xml")

_DESCRIPTION = (
    "Fetch a URL over HTTP and return status, url, content_type, text and truncated as JSON. "
    "Allowed hosts: {hosts}. Methods: {methods}. Ports: {ports}. At most {max_bytes} bytes of text are returned."
)


class FetchArguments(Arguments):
    url: str = Field(description="Full http or https URL on an allowed host.")
    method: str = Field(default="GET", description="HTTP method.")
    headers: dict[str, str] = Field(
        default_factory=dict, description=f"Request headers; only {', '.join(sorted(_HEADERS))}."
    )
    body: str | None = Field(default=None, description="Request body, for POST, PUT and PATCH.")


def http_fetch(
    domains: Iterable[str],
    methods: Iterable[str] = ("GET",),
    ports: Iterable[int] = (443, 80),
    *,
    max_bytes: int = 200_000,
    timeout_seconds: float = 10,
    allow_private: Iterable[str] = (),
    content_types: Iterable[str] = CONTENT_TYPES,
    name: str = "http_fetch",
    scopes: Iterable[str] = (),
    description: str | None = None,
) -> Tool:
    """A tool that fetches from listed hosts. Effect ``read`` with GET and HEAD only, else ``once``.

    ``domains`` are whole host names or addresses: ``example.com`` is that host alone, and there are no wildcards,
    because a wildcard opens names that nobody has looked at. ``allow_private`` opens networks (CIDR) that are not
    public; the host must be listed as well. ``content_types`` may hold ``*``.

    The tool answers ``{"status", "url", "content_type", "text", "truncated"}``, whatever the status; ``text`` has at
    most ``max_bytes`` bytes of UTF-8. It raises ToolDenied for what is not allowed (also when a redirect
    leads there) and ToolError where the fetch fails or takes longer than ``timeout_seconds`` in all.

    Raises:
        ValueError: a domain, method, port, network or limit that cannot be.
    """
    policy = Policy(
        hosts=frozenset(_listed_host(domain) for domain in strings("domains", domains)),
        methods=tuple(_listed_method(method) for method in strings("methods", methods)),
        ports=tuple(_listed_port(port) for port in ports),
        max_bytes=max_bytes,
        timeout_seconds=timeout_seconds,
        addresses=AddressPolicy.of(strings("allow_private", allow_private)),
        content_types=tuple(kind.lower() for kind in strings("content_types", content_types)),
    )
    positive("max_bytes", max_bytes)
    return guarded(
        name=name,
        description=description
        or _DESCRIPTION.format(
            hosts=listed(sorted(policy.hosts)),
            methods=listed(policy.methods),
            ports=listed(map(str, policy.ports)),
            max_bytes=max_bytes,
        ),
        effect="read" if set(policy.methods) <= READ_METHODS else "once",
        arguments=FetchArguments,
        run=lambda ctx, arguments: _fetch(policy, ctx, arguments),
        scopes=scopes,
        timeout_seconds=timeout_seconds,
    )


@dataclass(frozen=True)
class Policy:
    """What one ``http_fetch`` tool allows."""

    hosts: frozenset[str]
    methods: tuple[str, ...]
    ports: tuple[int, ...]
    max_bytes: int
    timeout_seconds: float
    addresses: AddressPolicy
    content_types: tuple[str, ...]

    def admit(self, method: str, target: Target) -> None:
        """Raises ToolDenied where method, host or port is not listed. Asked for every hop."""
        if method not in self.methods:
            raise ToolDenied(f"The method {shown(method)} is not allowed. Allowed: {listed(self.methods)}.")
        if target.host not in self.hosts:
            raise ToolDenied(f"The host {shown(target.host)} is not allowed. Allowed: {listed(sorted(self.hosts))}.")
        if target.port not in self.ports:
            raise ToolDenied(f"The port {target.port} is not allowed. Allowed: {listed(map(str, self.ports))}.")

    def admit_content_type(self, content_type: str) -> None:
        if not any(fnmatchcase(content_type, kind) for kind in self.content_types):
            raise ToolDenied(
                f"The content type {shown(content_type)} is not allowed. Allowed: {listed(self.content_types)}."
            )


def _fetch(policy: Policy, ctx: ToolContext, arguments: FetchArguments) -> dict[str, Any]:
    first = Outgoing(arguments.method.upper(), parse(arguments.url), _headers(arguments), _body(arguments))
    policy.admit(first.method, first.target)
    deadline = Deadline.of(ctx, policy.timeout_seconds)
    guard = Guard(lambda hop: policy.admit(hop.method, hop.target), policy.addresses, deadline, policy.max_bytes)
    with answered(guard, first) as answer:
        return _told(policy, answer)


def _told(policy: Policy, answer: Answer) -> dict[str, Any]:
    content_type, charset = answer.content_type
    if answer.has_body and content_type:
        policy.admit_content_type(content_type)
    data, truncated = answer.read(policy.max_bytes) if answer.has_body else (b"", False)
    if data and not content_type:
        if not body.looks_like_text(data):
            raise ToolDenied(f"The server names no content type. Allowed: {listed(policy.content_types)}.")
        content_type = "text/plain"
        policy.admit_content_type(content_type)
    text, cut_again = cut(plain(body.text_of(data, charset)), policy.max_bytes)
    return {
        "status": answer.status,
        "url": answer.request.target.url,
        "content_type": content_type,
        "text": text,
        "truncated": truncated or cut_again,
    }


def _headers(arguments: FetchArguments) -> dict[str, str]:
    headers: dict[str, str] = {}
    for key, value in arguments.headers.items():
        if key.lower() not in _HEADERS:
            raise ToolDenied(f"The header {shown(key)} is not allowed. Allowed: {listed(sorted(_HEADERS))}.")
        if len(value) > _MAX_HEADER_CHARS or not re.fullmatch(r"[\x20-\x7e]*", value):
            raise ToolDenied(f"A header value is at most {_MAX_HEADER_CHARS} printable ASCII characters.")
        headers[key.lower()] = value.strip()
    return headers


def _body(arguments: FetchArguments) -> bytes:
    if arguments.body is None:
        return b""
    if arguments.method.upper() not in BODY_METHODS:
        raise ToolDenied(f"A body is allowed with {listed(sorted(BODY_METHODS))} only.")
    data = arguments.body.encode("utf-8", "replace")
    if len(data) > MAX_REQUEST_BYTES:
        raise ToolDenied(f"A body may have at most {MAX_REQUEST_BYTES} bytes.")
    return data


def _listed_host(domain: str) -> str:
    try:
        return host_of(f"[{domain}]" if domain.count(":") > 1 and not domain.startswith("[") else domain)[0]
    except ToolDenied as error:
        raise ValueError(f"{domain!r} is not a whole host name or address (no wildcards, ports or URLs)") from error


def _listed_method(method: str) -> str:
    if method.upper() not in _METHODS:
        raise ValueError(f"{method!r} is not one of {', '.join(sorted(_METHODS))}")
    return method.upper()


def _listed_port(port: int) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise ValueError(f"{port!r} is not a port from 1 to 65535")
    return port
