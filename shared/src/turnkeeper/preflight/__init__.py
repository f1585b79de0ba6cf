"""What would fail in every turn, or silently takes something away, found before it is deployed.

    python -m turnkeeper.preflight ROOT PROVIDER [FOLDER...]     # the findings as JSON

ROOT holds ``agents/`` and ``policy.toml``, FOLDER is a further folder of agents, PROVIDER is ``anthropic`` or
``bedrock``. The command line, the local kit and the CDK app ask this way (``turnkeeper_project.asking``): agents are
imported in a process of their own, and the CDK app imports nothing of what it deploys.
"""

from turnkeeper.preflight.examine import examine
from turnkeeper.preflight.findings import Finding, Findings

__all__ = ["Finding", "Findings", "examine"]
