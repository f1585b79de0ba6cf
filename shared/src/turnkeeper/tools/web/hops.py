"""One request through the guard, redirects followed hop by hop: what the fetch tool and the contents of inputs share.

Every hop is admitted, resolved, checked and connected to anew. No proxy, cookie or credential goes along.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.tools._common import Deadline, Unreachable, plain
from turnkeeper.tools.web import body
from turnkeeper.tools.web.address import AddressPolicy
from turnkeeper.tools.web.url import Target, follow

if TYPE_CHECKING:
    import httpcore2

MAX_REDIRECTS = 5
READ_METHODS = frozenset({"GET", "HEAD"})
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Outgoing:
    """A request on its way from hop to hop."""

    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes = b""

    def redirected(self, status: int, location: str) -> Outgoing:
        target = follow(self.target, location)
        if self.target.scheme == "https" and target.scheme == "http":
            raise ToolDenied("The server redirects from https to http, which is not allowed.")
        if self.method in READ_METHODS or status in (307, 308):
            return Outgoing(self.method, target, self.headers, self.body)
        # As every browser does: what was posted has been taken, the answer is elsewhere.
        kept = {key: value for key, value in self.headers.items() if key != "content-type"}
        return Outgoing("GET", target, kept)


@dataclass(frozen=True)
class Guard:
    """What a request keeps to."""

    #: Raises ToolDenied for a hop that is not allowed. Asked for every one.
    admit: Callable[[Outgoing], None]
    addresses: AddressPolicy
    deadline: Deadline
    max_bytes: int
    #: Of each hop, for finding and reaching its host.
    reach_seconds: float | None = None
    #: Whether a redirect is followed; else it is the answer.
    follows: bool = True


@dataclass(frozen=True)
class Answer:
    """The last hop's answer, whose body is not read yet; good as long as :func:`answered` is not left."""

    request: Outgoing
    status: int
    #: By lower-case name, the first of each.
    headers: Mapping[str, str]
    _response: httpcore2.Response

    @property
    def has_body(self) -> bool:
        return self.request.method != "HEAD" and self.status not in (204, 304)

    @property
    def content_type(self) -> tuple[str, str | None]:
        """Media type in lower case (empty where none is named), and charset."""
        kind, _, parameters = self.headers.get("content-type", "").partition(";")
        charset = re.search(r"charset\s*=\s*\"?([\w.:-]+)", parameters, re.IGNORECASE)
        return plain(kind.strip().lower())[:100], charset[1] if charset else None

    def read(self, max_bytes: int) -> tuple[bytes, bool]:
        """The body, and whether there was more of it. Raises ToolError as :func:`body.read` does."""
        stream = self._response.stream
        if not isinstance(stream, Iterable):
            raise TypeError("a synchronous pool gives a synchronous stream")
        return body.read(stream, self.headers.get("content-encoding", ""), max_bytes)


@contextlib.contextmanager
def answered(guard: Guard, request: Outgoing) -> Iterator[Answer]:
    """Send a request, and follow where it is sent on to.

    Raises:
        ToolDenied: a hop is not allowed, or leads to an address that is not.
        Unreachable: nobody there answers now.
        ToolError: what is answered is no answer.
    """
    taken = _Taken()
    try:
        yield from _hops(guard, request, taken)
    except ToolError as error:
        error.may_have_run |= taken.changes
        raise


@dataclass
class _Taken:
    #: A request that may change something was answered.
    changes: bool = False


def _hops(guard: Guard, request: Outgoing, taken: _Taken) -> Iterator[Answer]:
    for _ in range(MAX_REDIRECTS + 1):
        guard.admit(request)
        with _sent(guard, request) as response:
            taken.changes |= request.method not in READ_METHODS
            # Of a header that comes twice the first one counts.
            headers = {
                key.lower().decode("latin-1"): value.decode("latin-1") for key, value in reversed(response.headers)
            }
            location = headers.get("location")
            if response.status not in _REDIRECTS or not location or not guard.follows:
                if response.status < 200:
                    raise ToolError("The server wants to switch protocols, which is not done here.")
                yield Answer(request, response.status, headers, response)
                return
        # Location is UTF-8 in practice where it is not ASCII.
        request = request.redirected(response.status, location.encode("latin-1").decode("utf-8", "replace"))
    raise ToolError(f"The server redirects more than {MAX_REDIRECTS} times.")


@contextlib.contextmanager
def _sent(guard: Guard, request: Outgoing) -> Iterator[httpcore2.Response]:
    """One hop: resolve, check, connect, send. A pool of its own, so no connection or cookie outlives it."""
    import httpcore2

    from turnkeeper.tools.web import network

    target, deadline = request.target, guard.deadline
    reaching = deadline if guard.reach_seconds is None else deadline.sooner(guard.reach_seconds)
    addresses = guard.addresses.choose(network.resolve(target, reaching))
    # Chunked encoding can cost several times the body; past that, somebody is playing.
    backend = network.CheckedBackend(addresses, deadline, guard.max_bytes * 8 + 512_000, reaching)
    headers = {"host": target.authority, "user-agent": "turnkeeper", "accept": "*/*", **request.headers}
    headers["accept-encoding"] = body.ENCODINGS
    if request.method in BODY_METHODS:
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
        late = network.timed_out(reaching if reaching.passed() and not deadline.passed() else deadline)
        late.may_have_run = request.method not in READ_METHODS and not isinstance(error, httpcore2.ConnectTimeout)
        raise late from error
    except network.TlsError as error:
        raise Unreachable(f"{target.host} has no valid TLS certificate for this name.") from error
    except httpcore2.ConnectError as error:
        raise Unreachable(f"{target.host} could not be reached on port {target.port}.") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        why = f"{target.host} broke the connection off or did not answer in HTTP."
        raise Unreachable(why, may_have_run=request.method not in READ_METHODS) from error
