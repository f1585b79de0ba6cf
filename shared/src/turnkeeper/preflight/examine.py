"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from turnkeeper.preflight import describe, evals, folders, grants, models, values
from turnkeeper.preflight.findings import Finding, Findings
from turnkeeper.preflight.policies import PolicyFile
from turnkeeper.preflight.seen import Seen
from turnkeeper.runtime.catalog import load_agents

Check = Callable[[Seen], Iterable[Finding]]

#: What is looked for. A new one is a function, and its line here.
CHECKS: Sequence[Check] = (
    folders.broken_agents,
    folders.folders_without_agent,
    grants.agents_of_plans,
    grants.tools_of_nobody,
    grants.webhooks_of_no_plan,
    grants.names_of_nothing,
    grants.default_role,
    models.models_without_price,
    models.options_without_effect,
    models.judges_without_plan,
    models.prices_without_model,
    models.models_without_name,
    evals.unreadable_evals,
    values.values_not_given,
    values.secret_arguments_of_nothing,
)


def examine(root: Path, provider: str, further: Sequence[Path] = ()) -> Findings:
    """Look at everything that is deployed from a project. Agents are imported into this process."""
    every = [root / "agents", *further]
    seen = Seen(root, provider, every, load_agents(every), PolicyFile.read(root))
    found = [*seen.file.findings, *(finding for check in CHECKS for finding in check(seen))]
    found.sort(key=lambda one: (one.severity != "error", one.file, one.line or 0))
    return Findings(tuple(found), describe.documents(seen))
