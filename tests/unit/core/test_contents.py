"""What a content behind an address may be, and how it is kept and told of."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.core.contents import (
    MAX_IMAGE_BYTES,
    MAX_PDF_BYTES,
    MAX_TEXT_BYTES,
    Download,
    Kind,
    Named,
    Unusable,
    exchanged,
    kept,
    most_bytes,
    named,
    without_data,
)
from turnkeeper.core.projection import project
from turnkeeper.core.session import Entry

URL = "https://example.com/a?signed=yes"
FILES = {
    "image/png": b"\x89PNG\r\n\x1a\n...",
    "image/jpeg": b"\xff\xd8\xff\xe0...",
    "image/gif": b"GIF89a...",
    "image/webp": b"RIFF\0\0\0\0WEBP...",
    "application/pdf": b"%PDF-1.7 ...",
}
UNNAMED = ["", "application/octet-stream", "binary/octet-stream"]


def by_address(kind: Kind = "image", url: str = URL, **more: Any) -> dict[str, Any]:
    return {"type": kind, "source": {"type": "url", "url": url}, **more}


def kept_as(kind: Kind, content_type: str, data: bytes, codec: str = "utf-8", **more: Any) -> dict[str, Any]:
    block = by_address(kind, **more)
    [each] = named([block])
    return kept(each, block, Download(content_type, data, codec))


def test_every_address_of_an_input_is_found_where_it_stands() -> None:
    parts = [{"type": "text", "text": "see"}, by_address(url="https://b")]
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "https://not.this"},
        by_address("document", "https://a"),
        {"type": "document", "source": {"type": "content", "content": parts}},
        {"type": "document", "source": {"type": "content", "content": "https://nor.this"}},
        {"type": "search_result", "source": "https://nor.this.either", "title": "t", "content": [parts[0]]},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
    ]
    assert named(content) == [
        Named("document", "https://a", "body.input[1].source.url"),
        Named("image", "https://b", "body.input[2].source.content[1].source.url"),
    ]
    assert list(exchanged(content, lambda each, block: block)) == content


@pytest.mark.parametrize("header", ["", "application/octet-stream", "image/jpg", "image/png"])
@pytest.mark.parametrize("media_type", [name for name in FILES if name.startswith("image/")])
def test_an_image_is_what_its_first_bytes_say(media_type: str, header: str) -> None:
    data = FILES[media_type]
    block = kept_as("image", header, data, transformations={"oversized_image": "downsize"})
    assert block == {
        "type": "image",
        "source": {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()},
        "transformations": {"oversized_image": "downsize"},
        "fetched": {"from": URL, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
    }


def test_a_document_is_a_pdf_or_a_text() -> None:
    pdf = FILES["application/pdf"]
    block = kept_as("document", "application/pdf", pdf, title="T", citations={"enabled": True})
    assert block["source"] == {
        "type": "base64", "media_type": "application/pdf", "data": base64.b64encode(pdf).decode(),
    }  # fmt: skip
    assert (block["title"], block["citations"]) == ("T", {"enabled": True})
    words = "\ufeffGrüße\n"
    for header, codec in [("text/markdown", "utf-8"), ("", "utf-8"), ("application/json", "utf-16")]:
        block = kept_as("document", header, words.encode(codec), codec)
        assert block["source"] == {"type": "text", "media_type": "text/plain", "data": "Grüße\n"}


kinds: st.SearchStrategy[Kind] = st.sampled_from(["image", "document"])
headers = st.sampled_from([*UNNAMED, *FILES, "text/plain", "text/html", "image/svg+xml", "video/mp4", "nonsense"])
bodies = st.sampled_from([*FILES.values(), b"", b" \n", b"words", b"<html>", b"<svg/>", b"\0\1\2", b"PK\3\4\0"])


@given(kinds, headers, bodies | st.binary(max_size=40))
def test_what_is_kept_is_what_both_the_server_and_the_bytes_say(kind: Kind, header: str, data: bytes) -> None:
    try:
        source = kept_as(kind, header, data)["source"]
    except Unusable as why:
        assert str(why)
        return
    assert most_bytes(kind, header) > 0
    if source["type"] == "base64":
        assert data.lstrip().startswith(FILES[source["media_type"]][:3])
        assert header in UNNAMED or header.split("/", maxsplit=1)[0] == source["media_type"].split("/")[0]
        assert (kind == "image") == source["media_type"].startswith("image/")
    else:
        assert kind == "document" and (header == "" or header.startswith("text/"))
        assert source["data"].strip() and "\0" not in source["data"]


@pytest.mark.parametrize(
    ("kind", "header", "data"),
    [
        ("image", "image/png", b"<html>not found</html>"),
        ("image", "text/html", FILES["image/png"]),
        ("image", "image/svg+xml", b"<svg/>"),
        ("image", "application/pdf", FILES["application/pdf"]),
        ("image", "image/png", b""),
        ("document", "image/png", FILES["image/png"]),
        ("document", "application/pdf", b"<html>log in</html>"),
        ("document", "text/plain", FILES["image/png"]),
        ("document", "text/plain", FILES["application/pdf"]),
        ("document", "application/octet-stream", b"words"),
        ("document", "text/plain", b"\0\0\0"),
        ("document", "text/plain", b" \n"),
        ("document", "", b"x" * (MAX_TEXT_BYTES + 1)),
        ("document", "application/zip", b"PK"),
    ],
)
def test_anything_else_is_refused(kind: Kind, header: str, data: bytes) -> None:
    with pytest.raises(Unusable):
        kept_as(kind, header, data)


def test_a_content_has_room_by_what_the_server_says_that_it_is() -> None:
    assert most_bytes("image", "image/png") == most_bytes("image", "") == MAX_IMAGE_BYTES
    assert most_bytes("document", "application/pdf") == most_bytes("document", "") == MAX_PDF_BYTES
    assert most_bytes("document", "text/csv") == MAX_TEXT_BYTES
    assert most_bytes("image", "text/html") == most_bytes("document", "image/png") == 0


def nested(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "content", "content": list(parts)}}


def test_where_it_came_from_is_not_sent() -> None:
    image = kept_as("image", "", FILES["image/gif"])
    lookalike = {"type": "tool_use", "id": "toolu_1", "name": "n", "input": {"fetched": 1, "source": image}}
    plain = {"type": "image", "source": image["source"]}
    entries = [
        Entry(seq=1, type="user", at="2026-03-02T09:30:00.000Z", content=(image, nested(image))),
        Entry(seq=2, type="assistant", at="2026-03-02T09:30:00.000Z", content=(lookalike,)),
    ]
    first, second, _ = project(entries).messages
    assert first["content"] == [plain, nested(plain)]
    assert second["content"] == [lookalike]
    assert "fetched" in image, "the transcript is not changed"


def test_files_are_told_of_without_their_bytes() -> None:
    image = kept_as("image", "", FILES["image/gif"])
    text = kept_as("document", "text/plain", b"words")
    own = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    shown = {**image, "source": {"type": "base64", "media_type": "image/gif"}}
    assert without_data([image, text, own, nested(image)]) == [shown, text, own, nested(shown)]
