"""Posts to addresses that somebody outside named: the port ``Webhooks``, through the guard that ``http_fetch`` has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from turnkeeper.core.errors import NotPosted
from turnkeeper.core.inputs import invalid
from turnkeeper.core.tools import ToolError
from turnkeeper.ports import Posted
from turnkeeper.tools._common import Deadline, plain, shown
from turnkeeper.tools.web import body as bodies
from turnkeeper.tools.web.address import AddressPolicy
from turnkeeper.tools.web.hops import Guard, Outgoing, answered
from turnkeeper.tools.web.url import Target, parse

#: Of an answer, what is read: enough to see what went wrong.
HEAD_BYTES = 1_000
#: For finding and reaching a host.
REACH_SECONDS = 5.0


class GuardedPosts:
    """A :class:`turnkeeper.ports.Webhooks`: by https to public addresses, which are checked when they are connected to. A
    redirect is an answer like any other: it is not followed.

    Args:
        allow_private: networks beside the public ones, which may be posted to without TLS. Nothing that is deployed
            names any: a kit on one's own machine does, for receivers beside it.
    """

    def __init__(self, allow_private: Collection[str] = ()) -> None:
        self._addresses = AddressPolicy.of(allow_private)
        self._schemes = frozenset({"https", "http"} if allow_private else {"https"})

    def authority(self, url: str) -> str:
        return self._target(url).authority

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float) -> Posted:
        deadline = Deadline.after(timeout_seconds)
        guard = Guard(lambda _hop: None, self._addresses, deadline, HEAD_BYTES, REACH_SECONDS, follows=False)
        try:
            with answered(guard, Outgoing("POST", self._target(url), headers, body)) as answer:
                data, _ = answer.read(HEAD_BYTES) if answer.has_body else (b"", False)
                return Posted(answer.status, plain(bodies.text_of(data, answer.content_type[1])))
        except ToolError as error:
            raise NotPosted(str(error).replace(shown(url), "The address")) from error

    def _target(self, url: str) -> Target:
        try:
            target = parse(url)
        except ToolError as error:
            why = str(error).replace(shown(url), "The address")
            raise invalid(why, "webhook", why) from error
        if target.scheme not in self._schemes:
            why = "An address of a webhook begins with https://."
            raise invalid(why, "webhook", why)
        return target
