"""The ``http_fetch`` tool: what is allowed, redirects hop by hop, and the answer for the model."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pydantic import Field

from turnkeeper.core.tools import Tool, ToolContext, ToolDenied, ToolError
from turnkeeper.tools._common import Arguments, Deadline, cut, guarded, listed, plain, positive, shown, strings
from turnkeeper.tools.web import body
from turnkeeper.tools.web.address import AddressPolicy
from turnkeeper.tools.web.url import Target, follow, host_of, parse

if TYPE_CHECKING:
    import httpcore2

MAX_REDIRECTS = 5
MAX_REQUEST_BYTES = 100_000
_MAX_HEADER_CHARS = 1000
_READ_METHODS = frozenset({"GET", "HEAD"})
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_METHODS = _READ_METHODS | _BODY_METHODS | {"DELETE", "OPTIONS"}
#: None of these says who is asking. Authorization, Cookie and everything else stay out.
_HEADERS = frozenset({"accept", "accept-language", "content-type", "if-modified-since", "if-none-match"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
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
        effect="read" if set(policy.methods) <= _READ_METHODS else "once",
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


@dataclass(frozen=True)
class _Outgoing:
    """A request on its way from hop to hop."""

    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes

    def redirected(self, status: int, location: str) -> _Outgoing:
        target = follow(self.target, location)
        if self.target.scheme == "https" and target.scheme == "http":
            raise ToolDenied("The server redirects from https to http, which is not allowed.")
        if self.method in _READ_METHODS or status in (307, 308):
            return _Outgoing(self.method, target, self.headers, self.body)
        # As every browser does: what was posted has been taken, the answer is elsewhere.
        kept = {key: value for key, value in self.headers.items() if key != "content-type"}
        return _Outgoing("GET", target, kept, b"")


def _fetch(policy: Policy, ctx: ToolContext, arguments: FetchArguments) -> dict[str, Any]:
    request = _Outgoing(arguments.method.upper(), parse(arguments.url), _headers(arguments), _body(arguments))
    policy.admit(request.method, request.target)
    deadline = Deadline.of(ctx, policy.timeout_seconds)
    for _ in range(MAX_REDIRECTS + 1):
        policy.admit(request.method, request.target)
        with _sent(policy, request, deadline) as response:
            headers = {key.lower(): value.decode("latin-1") for key, value in reversed(response.headers)}
            location = headers.get(b"location")
            if response.status not in _REDIRECTS or not location:
                return _answer(policy, request, response, headers)
        # Location is UTF-8 in practice where it is not ASCII.
        request = request.redirected(response.status, location.encode("latin-1").decode("utf-8", "replace"))
    raise ToolError(f"The server redirects more than {MAX_REDIRECTS} times.")


@contextlib.contextmanager
def _sent(policy: Policy, request: _Outgoing, deadline: Deadline) -> Iterator[httpcore2.Response]:
    """One hop: resolve, check, connect, send. A pool of its own, so no connection or cookie outlives it."""
    import httpcore2

    from turnkeeper.tools.web import network

    target = request.target
    addresses = policy.addresses.choose(network.resolve(target, deadline))
    # Chunked encoding can cost several times the body; past that, somebody is playing.
    backend = network.CheckedBackend(addresses, deadline, policy.max_bytes * 8 + 512_000)
    headers = {"host": target.authority, "user-agent": "turnkeeper", "accept": "*/*", **request.headers}
    headers["accept-encoding"] = body.ENCODINGS
    if request.method in _BODY_METHODS:
        headers["content-length"] = str(len(request.body))
    outgoing = httpcore2.Request(
        request.method,
        httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
        headers=[(key.title(), value) for key, value in headers.items()],
        content=request.body or None,
    )
    try:
        with (
            httpcore2.ConnectionPool(
                ssl_context=network.tls() if target.scheme == "https" else None,
                max_connections=1,
                retries=0,
                network_backend=backend,
            ) as pool,
            contextlib.closing(pool.handle_request(outgoing)) as response,
        ):
            yield response
    except httpcore2.TimeoutException as error:
        raise network.timed_out(deadline) from error
    except network.TlsError as error:
        raise ToolError(f"{target.host} has no valid TLS certificate for this name.") from error
    except httpcore2.ConnectError as error:
        raise ToolError(f"{target.host} could not be reached on port {target.port}.") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise ToolError(f"{target.host} broke the connection off or did not answer in HTTP.") from error


def _answer(
    policy: Policy, request: _Outgoing, response: httpcore2.Response, headers: Mapping[bytes, str]
) -> dict[str, Any]:
    if response.status < 200:
        raise ToolError("The server wants to switch protocols, which is not done here.")
    content_type, charset = _content_type(headers.get(b"content-type", ""))
    has_body = request.method != "HEAD" and response.status not in (204, 304)
    if has_body and content_type:
        policy.admit_content_type(content_type)
    data, truncated = b"", False
    if has_body:
        stream = response.stream
        if not isinstance(stream, Iterable):
            raise TypeError("a synchronous pool gives a synchronous stream")
        data, truncated = body.read(stream, headers.get(b"content-encoding", ""), policy.max_bytes)
    if data and not content_type:
        if not body.looks_like_text(data):
            raise ToolDenied(f"The server names no content type. Allowed: {listed(policy.content_types)}.")
        content_type = "text/plain"
        policy.admit_content_type(content_type)
    text, cut_again = cut(plain(body.text_of(data, charset)), policy.max_bytes)
    return {
        "status": response.status,
        "url": request.target.url,
        "content_type": content_type,
        "text": text,
        "truncated": truncated or cut_again,
    }


def _content_type(header: str) -> tuple[str, str | None]:
    kind, _, parameters = header.partition(";")
    charset = re.search(r"charset\s*=\s*\"?([\w.:-]+)", parameters, re.IGNORECASE)
    return plain(kind.strip().lower())[:100], charset[1] if charset else None


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
    if arguments.method.upper() not in _BODY_METHODS:
        raise ToolDenied(f"A body is allowed with {listed(sorted(_BODY_METHODS))} only.")
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
