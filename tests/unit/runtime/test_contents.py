"""Contents are fetched side by side, once for an address, and within limits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from turnkeeper.adapters.system import SystemClock
from turnkeeper.core.contents import MAX_ADDRESSES, MAX_IMAGE_BYTES, MAX_TOTAL_BYTES, Download
from turnkeeper.core.errors import ContentUnusable, NotFetched
from turnkeeper.ports import Web
from turnkeeper.runtime import contents
from turnkeeper.runtime.contents import Contents
from turnkeeper.runtime.threads import Threads
from turnkeeper.testing.memory_web import MemoryWeb

PNG = Download("image/png", b"\x89PNG\r\n\x1a\n...")
A, B, C = "https://a.example/1", "https://b.example/2", "https://c.example/3"


def keeper(web: Web) -> Contents:
    return Contents(web, Threads(), SystemClock())


def image(url: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


def source_types(content: tuple[dict[str, Any], ...]) -> list[str]:
    return [block["source"]["type"] for block in content]


def refusal(web: Web, content: list[dict[str, Any]]) -> dict[str, str]:
    with pytest.raises(ContentUnusable) as refused:
        keeper(web).keep(content)
    [error] = refused.value.data["errors"]
    assert error["where"] in refused.value.detail and error["why"] in refused.value.detail
    return dict(error)


def test_an_address_is_fetched_once_for_every_place_where_it_stands() -> None:
    web = MemoryWeb({A: PNG, B: PNG})
    text = {"type": "text", "text": "see"}
    content = keeper(web).keep([image(A), text, image(B), image(A)])
    assert content[1] == text
    assert content[0] == content[3] and content[0]["fetched"]["from"] == A
    assert sorted(web.asked) == [A, B]


def test_without_an_address_nothing_is_asked() -> None:
    web = MemoryWeb()
    content = [{"type": "text", "text": A}]
    assert keeper(web).keep(content) == tuple(content)
    assert web.asked == []


def test_one_that_cannot_be_had_now_stays_an_address_beside_the_others() -> None:
    web = MemoryWeb({A: PNG, C: NotFetched("the server answers 503 now", retryable=True)})
    content = keeper(web).keep([image(A), image(B), image(C)])
    assert source_types(content) == ["base64", "url", "url"]
    assert content[1:] == (image(B), image(C))


def test_one_that_gives_nothing_refuses_the_input_and_is_named() -> None:
    web = MemoryWeb({A: PNG, C + "?k=v": NotFetched("The server answers 404.", retryable=False)})
    error = refusal(
        web, [image(A), {"type": "document", "source": {"type": "content", "content": [image(C + "?k=v")]}}]
    )
    assert error == {"where": "body.input[1].source.content[0].source.url", "why": "c.example: The server answers 404."}


def test_the_wrong_kind_refuses_the_input() -> None:
    web = MemoryWeb({A: Download("image/png", b"<html>log in</html>")})
    error = refusal(web, [{"type": "text", "text": "x"}, image(A)])
    assert error["where"] == "body.input[1].source.url"
    assert error["why"].startswith("a.example: ")


class Meeting(MemoryWeb):
    """Two that are fetched at the same time, or never."""

    def __init__(self) -> None:
        super().__init__({A: PNG, B: PNG})
        self._both = threading.Barrier(2, timeout=20)

    def get(self, url: str, *, most: Callable[[str], int], timeout_seconds: float) -> Download:
        self._both.wait()
        return super().get(url, most=most, timeout_seconds=timeout_seconds)


def test_addresses_are_fetched_side_by_side() -> None:
    assert source_types(keeper(Meeting()).keep([image(A), image(B)])) == ["base64", "base64"]


class Hanging(MemoryWeb):
    def __init__(self) -> None:
        super().__init__({A: PNG, B: PNG})
        self.go = threading.Event()

    def get(self, url: str, *, most: Callable[[str], int], timeout_seconds: float) -> Download:
        if url == B:
            self.go.wait(20)
        return super().get(url, most=most, timeout_seconds=timeout_seconds)


def test_one_that_takes_too_long_stays_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "FETCH_SECONDS", 0.3)
    web = Hanging()
    content = keeper(web).keep([image(A), image(B)])
    web.go.set()
    assert source_types(content) == ["base64", "url"]


def test_what_an_input_brings_is_limited_in_all() -> None:
    large = Download("image/png", PNG.data.ljust(MAX_IMAGE_BYTES))
    web = MemoryWeb({A: large, B: large, C: large})
    fits = [image(A)] * (MAX_TOTAL_BYTES // MAX_IMAGE_BYTES)
    assert set(source_types(keeper(web).keep(fits))) == {"base64"}
    for too_many in ([*fits, image(A)], [image(A), image(B), image(C)]):
        error = refusal(web, too_many)
        assert error["where"] == "body.input" and str(MAX_TOTAL_BYTES) in error["why"]


def test_so_are_its_addresses() -> None:
    web = MemoryWeb()
    many = [image(f"https://a.example/{number}") for number in range(MAX_ADDRESSES)]
    assert set(source_types(keeper(web).keep(many))) == {"url"}
    assert len(web.asked) == MAX_ADDRESSES
    assert refusal(web, [*many, image(B)])["where"] == "body.input"
    assert len(web.asked) == MAX_ADDRESSES, "nothing is fetched of an input that is refused by its size"


def test_a_defect_of_our_own_is_not_taken_for_an_answer() -> None:
    class Broken(MemoryWeb):
        def get(self, url: str, *, most: Callable[[str], int], timeout_seconds: float) -> Download:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        keeper(Broken()).keep([image(A)])
