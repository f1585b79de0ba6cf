"""Links lead somewhere: to files of the repository, to headings of pages. Addresses elsewhere are not asked."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support.snippets import ROOT

PAGES = sorted(
    [page for page in (ROOT / "docs").rglob("*.md") if "node_modules" not in page.parts]
    + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "agents/README.md")]
)
INDEX = ROOT / "docs/index.md"
_MARKDOWN = MarkdownIt("commonmark").enable("table")


@cache
def tokens(page: Path) -> list[Token]:
    return _MARKDOWN.parse(page.read_text())


def links(page: Path) -> list[str]:
    inner = (child for token in tokens(page) for child in token.children or ())
    return [
        str(child.attrs.get("href") or child.attrs.get("src"))
        for child in inner
        if child.type in {"link_open", "image"}
    ]


@cache
def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for before, token in zip(tokens(page), tokens(page)[1:], strict=False):
        if before.type == "heading_open":
            text = "".join(child.content for child in token.children or () if child.type in {"text", "code_inline"})
            name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            number = 0
            while (numbered := f"{name}-{number}" if number else name) in found:
                number += 1
            found.add(numbered)
    return found


def broken(page: Path, found: list[str]) -> list[str]:
    """Those of a page's links that lead nowhere."""
    wrong = []
    for link in found:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        elsewhere = re.match(r"[a-z]+:", link)
        if not elsewhere and (not target.exists() or (anchor and anchor not in anchors(target))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert broken(page, links(page)) == []


def test_a_broken_link_is_found() -> None:
    planted = ["nosuch.md", "money.md#nosuch", "#nosuch", "../nosuch"]
    whole = ["money.md#scopes", "#scopes", "../policy.toml", "https://example.com/nosuch"]
    assert broken(ROOT / "docs/money.md", planted + whole) == planted


def listed() -> set[Path]:
    """What the site's navigation names, page by page or by pattern."""
    entries = [
        entry for token in tokens(INDEX) if token.type == "fence" for entry in token.content.splitlines()
        if entry and not entry.startswith(":")
    ]  # fmt: skip
    patterns = [entry for entry in entries if "*" in entry]
    named = {(INDEX.parent / entry).resolve() for entry in entries if entry not in patterns}
    return named | {page for pattern in patterns for page in INDEX.parent.glob(f"{pattern}.md")}


def test_the_navigation_names_every_page_and_no_other() -> None:
    pages = {page for page in PAGES if page != INDEX}
    assert {str(page.relative_to(ROOT)) for page in listed() ^ pages} == set()
