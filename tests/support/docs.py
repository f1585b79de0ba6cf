"""The parts of the documentation that are made from the code: ``python -m tests.support.docs`` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks import _charts
from tests.support import reference
from turnkeeper.core import scopes, stops
from turnkeeper.telemetry import metrics

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generated() -> dict[Path, str]:
    """Each page with its generated parts as they should be."""
    parts = {
        DOCS / "concepts.md": ("statuses and stop reasons", stops.documentation()),
        DOCS / "money.md": ("scopes", scopes.documentation()),
        DOCS / "reference/policy.md": ("keys", reference.policy_keys()),
        DOCS / "reference/stages.md": ("settings", reference.stage_settings()),
        DOCS / "reference/events.md": ("members", reference.event_members()),
        DOCS / "reference/audit.md": ("members", reference.audit_fields()),
        DOCS / "operations/metrics.md": ("metrics", metrics.documentation()),
    }
    whole = {
        DOCS / "reference/commands.md": reference.commands_page(),
        DOCS / "reference/http.md": reference.http_page(),
        DOCS / "reference/python.md": reference.python_page(),
    }
    drawn = {DOCS / "performance" / f"{name}.svg": svg for name, svg in _charts.charts().items()}
    performance = {DOCS / "performance.md": _with_parts("performance.md", _charts.documentation())}
    return {page: _with_part(page.read_text(), *part) for page, part in parts.items()} | whole | performance | drawn


def cost_page() -> str:
    """docs/cost.md as it should be. Apart from the others, because it takes a synthesis."""
    from benchmarks.cost import documentation

    return _with_parts("cost.md", documentation())


def _with_parts(page: str, parts: Mapping[str, str]) -> str:
    text = (DOCS / page).read_text()
    for name, part in parts.items():
        text = _with_part(text, name, part)
    return text


def _with_part(text: str, name: str, part: str) -> str:
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"{name} has no place of its own"
    return pattern.sub(lambda _: f"{begin}\n\n{part}\n{end}", text)


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (DOCS / "cost.md").write_text(cost_page())
