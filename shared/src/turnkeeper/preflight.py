"""What is wrong with agents and policy together, found before they are deployed.

    python -m turnkeeper.preflight ROOT PROVIDER [FOLDER...]   # findings as JSON

ROOT holds ``agents/`` and ``policy.toml``, FOLDER is a further folder of agents, PROVIDER is ``anthropic`` or
``bedrock``. The CDK app asks this way, since it imports nothing of what it deploys.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from turnkeeper.adapters.bedrock_names import bedrock_name
from turnkeeper.core.policy import misnamed_caps, policy_of
from turnkeeper.runtime.catalog import Catalog, load_agents


@dataclass(frozen=True)
class Findings:
    agents: tuple[str, ...]
    #: What must not be deployed, each in a sentence that says what to do.
    problems: list[str] = field(default_factory=list)
    #: Agents that could not be loaded here, and why: nothing else is known of them.
    broken: Mapping[str, str] = field(default_factory=dict)


def examine(root: Path, provider: str, folders: Sequence[Path] = ()) -> Findings:
    """Look at everything that is deployed from a folder."""
    catalog = load_agents([root / "agents", *folders])
    problems = unnamed_models(catalog) if provider == "bedrock" else []
    if (file := root / "policy.toml").exists():
        try:
            policy = policy_of(tomllib.loads(file.read_text()))
            problems += misnamed_caps(policy, catalog.agents.values(), catalog.broken)
        except ValueError as error:
            problems.append(f"policy.toml cannot be read: {error}")
    return Findings(tuple(sorted(catalog.agents)), problems, catalog.broken)


def unnamed_models(catalog: Catalog) -> list[str]:
    """Models of agents, other models that may answer among them, that Bedrock has no name for."""
    problems = []
    for agent in catalog.agents.values():
        for model in (agent.model, *agent.fallback_models):
            try:
                bedrock_name(model)
            except ValueError as error:
                problems.append(f"agent {agent.name!r}: {error}")
    return problems


if __name__ == "__main__":
    _root, _provider, *_folders = sys.argv[1:]
    sys.stdout.write(json.dumps(asdict(examine(Path(_root), _provider, [Path(each) for each in _folders]))) + "\n")
