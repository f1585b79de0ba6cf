"""The web in memory: pages that a test wrote, and nobody at any other address."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from turnkeeper.core.contents import Download
from turnkeeper.core.errors import NotFetched


class MemoryWeb:
    """A :class:`turnkeeper.ports.Web`. ``asked`` is what was fetched, in order."""

    def __init__(self, pages: Mapping[str, Download | NotFetched] | None = None) -> None:
        self.pages = dict(pages or {})
        self.asked: list[str] = []

    def get(self, url: str, *, most: Callable[[str], int], timeout_seconds: float) -> Download:  # noqa: ARG002
        self.asked.append(url)
        page = self.pages.get(url)
        if page is None:
            raise NotFetched("the host could not be found", retryable=True)
        if isinstance(page, NotFetched):
            raise page
        if len(page.data) > most(page.content_type):
            raise NotFetched("it is too large, or of a media type that is not taken", retryable=False)
        return page
