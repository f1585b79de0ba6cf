"""Posts to addresses that somebody outside named: the port ``Webhooks``, through the guard that ``http_fetch`` has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from turnkeeper.core.errors import NotPosted
from turnkeeper.core.inputs import invalid
from turnkeeper.core.tools import ToolError
from turnkeeper.ports import Posted
from turnkeeper.tools._common import Deadline, plain, shown
from turnkeeper.tools.web import body as bodies
from turnkeeper.tools.web.address import AddressPolicy, normal
from turnkeeper.tools.web.hops import Guard, Outgoing, answered
from turnkeeper.tools.web.url import Target, parse

#: Of an answer, what is read: enough to see what went wrong.
HEAD_BYTES = 1_000
#: For finding and reaching a host.
REACH_SECONDS = 5.0


class GuardedPosts:
    """A :class:`turnkeeper.ports.Webhooks`: by https to public addresses, checked when they are connected to. A
    redirect is an answer like any other: it is not followed.

    Args:
        allow_private: networks beside the public ones, whose addresses may be posted to without being named by a host's
            name, and without TLS. Nothing that is deployed names any: a kit on one's own machine does, for receivers
            beside it.
    """

    def __init__(self, allow_private: Collection[str] = ()) -> None:
        self._addresses = AddressPolicy.of(allow_private)

    def check(self, url: str, hosts: Collection[str]) -> None:
        target = self._target(url)
        if target.is_address and self._addresses.opens(normal(target.host)):
            return  # Opened for this machine.
        if target.scheme != "https" or target.authority not in hosts:
            why = f"the plan's webhook_hosts do not name {target.authority}, by https"
            raise invalid(why, "webhook", why)

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float) -> Posted:
        deadline = Deadline.after(timeout_seconds)
        guard = Guard(lambda _hop: None, self._addresses, deadline, HEAD_BYTES, REACH_SECONDS, follows=False)
        posted: Posted | None = None
        try:
            with answered(guard, Outgoing("POST", self._target(url), headers, body)) as answer:
                posted = Posted(answer.status, "", answer.headers.get("retry-after"))
                data, _ = answer.read(HEAD_BYTES) if answer.has_body else (b"", False)
                return posted._replace(head=plain(bodies.text_of(data, answer.content_type[1])))
        except ToolError as error:
            if posted is not None:  # It has said whether it took it, whatever comes of the rest.
                return posted
            raise NotPosted(str(error).replace(shown(url), "The address")) from error

    def _target(self, url: str) -> Target:
        try:
            return parse(url)
        except ToolError as error:
            why = str(error).replace(shown(url), "The address")
            raise invalid(why, "webhook", why) from error
