"""Tokens and the prompt cache: the numbers that must hold together."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from turnkeeper_local.standin.cache import InputSplit, PromptCache
from turnkeeper_local.standin.tokens import (
    MESSAGE_TOKENS,
    block_tokens,
    count,
    cut_to_tokens,
    segments,
    text_tokens,
)

CACHE = {"type": "ephemeral"}
LONG = {"type": "ephemeral", "ttl": "1h"}
_any_text = st.text(st.characters(exclude_categories=["Cs"]))


def text(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **fields}


def ask(*messages: Any, **fields: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": c} for i, c in enumerate(messages)], **fields}


def total(request: dict[str, Any]) -> int:
    return count(segments(request))


@given(_any_text, st.integers(0, 50))
def test_a_cut_text_fits_and_is_a_beginning(value: str, limit: int) -> None:
    cut = cut_to_tokens(value, limit)
    assert text_tokens(cut) <= limit
    assert value.startswith(cut)
    assert cut == value or text_tokens(value) > limit


@given(_any_text)
def test_never_more_tokens_than_bytes(value: str) -> None:
    assert text_tokens(value) <= len(value.encode())


def test_a_conversation_grows_by_what_is_added() -> None:
    answer = [text("let me look"), {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "日本"}}]
    before, after = total(ask("hello")), total(ask("hello", answer))
    assert after - before == MESSAGE_TOKENS + sum(map(block_tokens, answer))


def test_a_string_counts_as_its_text_block_and_markers_count_nothing() -> None:
    tool = {"name": "a", "input_schema": {"type": "object"}}
    plain = ask("hello", system="be good", tools=[tool])
    marked = ask(
        [text("hello", cache_control=CACHE)],
        system=[text("be good", cache_control=CACHE)],
        tools=[{**tool, "cache_control": CACHE}],
    )
    assert total(plain) == total(marked)


def test_every_kind_of_block_counts() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [text("seen"), image]}
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "four" * 10}}
    assert block_tokens(result) > block_tokens(image) > 1000
    assert block_tokens(document) == 10
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 4_000_000}}
    assert block_tokens(image) < block_tokens(pdf) < 200_000, "a file is not read as text"
    assert block_tokens({"type": "search_result", "title": "x"}) > 0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def split(cache: PromptCache, request: dict[str, Any], model: str = "m") -> InputSplit:
    found = cache.split(model, segments(request))
    assert found.total == total(request)
    assert min(found.fresh, found.read, found.written_5m, found.written_1h) >= 0
    return found


def test_a_prefix_is_written_once_and_then_read() -> None:
    cache = PromptCache()
    first = split(cache, ask("hi", system=[text("x" * 400, cache_control=CACHE)]))
    second = split(cache, ask("other", system=[text("x" * 400, cache_control=CACHE)]))
    assert (first.read, first.written_5m) == (0, 100)
    assert (second.read, second.written) == (100, 0)
    assert split(cache, ask("hi", system=[text("x" * 400, cache_control=CACHE)]), model="other").read == 0
    assert split(cache, ask("hi", system=[text("y" + "x" * 399, cache_control=CACHE)])).read == 0


def test_a_moving_marker_reads_what_the_last_one_wrote() -> None:
    cache = PromptCache()
    first = split(cache, ask([text("one " * 50, cache_control=CACHE)]))
    second = split(cache, ask("one " * 50, "two", [text("three", cache_control=CACHE)]))
    assert first.written == second.read > 0
    assert second.written > 0


def test_no_marker_no_cache() -> None:
    cache = PromptCache()
    split(cache, ask([text("hi", cache_control=CACHE)]))
    assert split(cache, ask("hi")).read == 0


def test_looks_back_only_so_far() -> None:
    cache = PromptCache()
    split(cache, ask([text("start", cache_control=CACHE)]))
    near = [text("start"), *[text(str(n)) for n in range(18)], text("end", cache_control=CACHE)]
    far = [text("start"), *[text(str(n)) for n in range(30)], text("end", cache_control=CACHE)]
    assert split(cache, ask(near)).read > 0
    assert split(cache, ask(far)).read < split(cache, ask(near)).read


def test_ages_are_told_apart_and_pass() -> None:
    clock = Clock()
    cache = PromptCache(clock)
    request = ask([text("b" * 40, cache_control=CACHE)], system=[text("a" * 80, cache_control=LONG)])
    first = split(cache, request)
    assert (first.written_1h, first.written_5m) == (20, 10 + MESSAGE_TOKENS)
    clock.now = 299
    assert split(cache, request).written == 0
    clock.now = 299 + 299  # reading kept it alive
    assert split(cache, request).written == 0
    clock.now += 301
    later = split(cache, request)
    assert (later.read, later.written_5m) == (20, 10 + MESSAGE_TOKENS)
    clock.now += 3601
    assert split(cache, request).read == 0


def test_top_level_marker_stands_on_the_last_block() -> None:
    cache = PromptCache()
    assert split(cache, ask("hi " * 40, cache_control=CACHE)).written > 0
    assert split(cache, ask("hi " * 40, cache_control=CACHE)).read > 0


def test_a_marker_inside_a_tool_result_counts_for_the_block() -> None:
    cache = PromptCache()
    result = {"type": "tool_result", "tool_use_id": "a", "content": [text("seen", cache_control=LONG)]}
    assert split(cache, ask("hi", [text("x")], [result])).written_1h > 0
