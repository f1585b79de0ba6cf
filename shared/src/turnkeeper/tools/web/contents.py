"""Contents that inputs name by address: the port ``Web``, through the guard that ``http_fetch`` has."""

from __future__ import annotations

from collections.abc import Callable

from turnkeeper.core.contents import Download
from turnkeeper.core.errors import NotFetched
from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.tools._common import Deadline, Unreachable, shown
from turnkeeper.tools.web import body
from turnkeeper.tools.web.address import AddressPolicy
from turnkeeper.tools.web.hops import Answer, Guard, Outgoing, answered
from turnkeeper.tools.web.url import parse

#: Signed addresses are long.
MAX_URL_CHARS = 16_384
#: For finding and reaching a host: where there is no way out, whoever waits is told so soon.
REACH_SECONDS = 2.0
#: Answers that say nothing about the address: too early, too many, or a fault of the other side.
_LATER = frozenset({408, 425, 429})


class GuardedWeb:
    """A :class:`turnkeeper.ports.Web`: public addresses only, each hop of which is checked.

    Args:
        addresses, schemes: what is allowed beside public addresses, and by which schemes. Nothing that is deployed
            names others than these: the tests do, for servers of their own.
    """

    def __init__(self, addresses: AddressPolicy | None = None, schemes: frozenset[str] = frozenset({"https"})) -> None:
        self._addresses = addresses or AddressPolicy()
        self._schemes = schemes

    def get(self, url: str, *, most: Callable[[str], int], timeout_seconds: float) -> Download:
        largest = max(most(""), most("text/plain"))
        guard = Guard(self._admit, self._addresses, Deadline.after(timeout_seconds), largest, REACH_SECONDS)
        try:
            target = parse(url, MAX_URL_CHARS)
        except ToolError as error:
            raise NotFetched(str(error).replace(shown(url), "The address"), retryable=False) from error
        try:
            request = Outgoing("GET", target, {})
            with answered(guard, request) as answer:
                return _download(answer, most)
        except Unreachable as error:
            raise NotFetched(str(error), retryable=True) from error
        except ToolError as error:
            raise NotFetched(str(error), retryable=False) from error

    def _admit(self, hop: Outgoing) -> None:
        if hop.target.scheme not in self._schemes:
            raise ToolDenied(f"Only {' and '.join(sorted(self._schemes))} is allowed.")


def _download(answer: Answer, most: Callable[[str], int]) -> Download:
    if answer.status >= 500 or answer.status in _LATER:
        raise Unreachable(f"The server answers {answer.status} now.")
    if answer.status != 200:
        raise ToolError(f"The server answers {answer.status}.")
    content_type, charset = answer.content_type
    max_bytes = most(content_type)
    if not max_bytes:
        raise ToolError(f"What stands there is of a media type that is not taken here: {content_type!a}.")
    data, truncated = answer.read(max_bytes)
    if truncated:
        raise ToolError(f"What stands there is larger than {max_bytes} bytes.")
    return Download(content_type, data, body.codec_of(charset))
