"""Contents behind addresses are fetched once, when an input comes in, and kept (docs/decisions/0072)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from turnkeeper.core.contents import (
    MAX_ADDRESSES,
    MAX_TOTAL_BYTES,
    Download,
    Kind,
    Named,
    Unusable,
    exchanged,
    kept,
    most_bytes,
    named,
)
from turnkeeper.core.errors import ContentUnusable, NotFetched
from turnkeeper.core.transcript import Block
from turnkeeper.ports import Clock, Web
from turnkeeper.runtime.threads import Parallel

logger = logging.getLogger(__name__)

#: For all addresses of an input together: a front door that has 29 seconds must still begin the turn.
FETCH_SECONDS = 8.0
#: Addresses that are fetched side by side.
_LANES = 8

#: One and the same address may stand for an image in one place and for a document in another.
_Address = tuple[Kind, str]


@dataclass(eq=False, repr=False)
class Contents:
    web: Web
    parallel: Parallel
    clock: Clock

    def keep(self, content: Sequence[Block]) -> tuple[Block, ...]:
        """An input with the contents that it names by address, fetched now, in their places. An address that nobody
        answers at now stays as it is: the model API may reach it.

        Raises:
            ContentUnusable: an address gives nothing, or nothing that can be used; says which and why.
        """
        places = named(content)
        if not places:
            return tuple(content)
        addresses = list(dict.fromkeys((each.kind, each.url) for each in places))
        if len(addresses) > MAX_ADDRESSES:
            raise _unusable("body.input", f"it names more than {MAX_ADDRESSES} addresses")
        found = self._fetched(addresses)
        total = sum(len(one.data) for each in places if isinstance(one := found.get(_of(each)), Download))
        if total > MAX_TOTAL_BYTES:
            raise _unusable("body.input", f"what stands behind its addresses has more than {MAX_TOTAL_BYTES} bytes")
        content = exchanged(content, partial(_kept, found))
        if staying := named(content):
            logger.warning("%d of %d addresses of an input stay: nobody answers there now", len(staying), len(places))
        return content

    def _fetched(self, addresses: Sequence[_Address]) -> dict[_Address, Download | NotFetched]:
        """What came of each; those that are not in it took too long."""
        ends = self.clock.monotonic() + FETCH_SECONDS
        found: dict[_Address, Download | NotFetched] = {}

        def fetch(lane: Sequence[_Address]) -> None:
            for kind, url in lane:
                left = ends - self.clock.monotonic()
                too_much = sum(len(one.data) for one in list(found.values()) if isinstance(one, Download))
                if left <= 0 or too_much > MAX_TOTAL_BYTES:
                    return
                try:
                    found[kind, url] = self.web.get(url, most=partial(most_bytes, kind), timeout_seconds=left)
                except NotFetched as error:
                    found[kind, url] = error

        lanes: list[Callable[[], None]] = [partial(fetch, addresses[at::_LANES]) for at in range(_LANES)]
        lanes = lanes[: len(addresses)]
        timeouts = [FETCH_SECONDS] * len(lanes)
        for done in self.parallel.run_all(lanes, timeouts=timeouts, stop=lambda: False, done=lambda *_: None):
            if done is not None:
                done.result()
        return dict(found)


def _of(each: Named) -> _Address:
    return each.kind, each.url


def _host(each: Named) -> str:
    """Of the address no more than this: its path and query may be what somebody is let in by."""
    try:
        return (urlsplit(each.url).hostname or "")[:100]
    except ValueError:
        return "no host"


def _kept(found: dict[_Address, Download | NotFetched], each: Named, block: Block) -> Block:
    one = found.get(_of(each))
    if isinstance(one, Download):
        try:
            return kept(each, block, one)
        except Unusable as why:
            raise _unusable(each.where, f"{_host(each)}: {why}") from why
    if one is not None and not one.retryable:
        raise _unusable(each.where, f"{_host(each)}: {one.detail}") from one
    return block


def _unusable(where: str, why: str) -> ContentUnusable:
    detail = f"A content that the input names by its address cannot be used. {where}: {why}"
    return ContentUnusable(detail, errors=[{"where": where, "why": why}])
