"""docs/operations/runbook.md, read: its sections by the anchor that an alarm names, and the alarms that each lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.support.snippets import ROOT

PAGE = ROOT / "docs/operations/runbook.md"


def anchor(heading: str) -> str:
    """As a repository's pages make it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def sections(page: Path = PAGE) -> dict[str, str]:
    """Anchor of each second-level heading to what stands below it."""
    parts = re.split(r"^## (.*)$", page.read_text(), flags=re.MULTILINE)[1:]
    return {anchor(heading): text for heading, text in zip(parts[::2], parts[1::2], strict=True)}


def rows(section: str) -> Mapping[str, str]:
    """First cell to last cell of the tables of a section; `the same` stands for what is above."""
    found: dict[str, str] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if name := re.fullmatch(r"`(\w+)`", cells[0].strip()):
            found[name[1]] = list(found.values())[-1] if cells[-1] == "the same" else cells[-1]
    return found
