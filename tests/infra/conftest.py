"""One synthesis for all tests of the stacks: starting jsii is what takes the time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.infra.variants import IAM, Synthesize, Variants, synthesize_all
from tests.support.repository import REPOSITORY
from tests.support.trees import make_tree

__all__ = ["Synthesize"]


@pytest.fixture(scope="session")
def source_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and the kit's parts, with an environment of its own as a project has it."""
    tree = make_tree(tmp_path_factory.mktemp("tree"))
    (tree / ".venv").symlink_to(REPOSITORY / ".venv")
    return tree


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory, source_root: Path) -> Synthesize:
    """Synthesize the app with this context on top of cdk.json's, without a stage's file; returns the assembly. What is
    not `validated` is not looked through by the CDK's own rules, which take ten seconds to load."""
    import aws_cdk as cdk

    from turnkeeper_infra.app import build  # jsii starts with this import

    def run(*, validated: bool = True, **context: str) -> Path:
        common = json.loads((REPOSITORY / "cdk.json").read_text())["context"]
        folder = tmp_path_factory.mktemp("assembly")
        usual = {"stage_file": "", "project": str(source_root), "source_root": str(source_root)}
        asked = {**common, **usual, "nag": str(validated).lower(), **context}
        app = cdk.App(outdir=str(folder), context=asked, builtin_cloud_formation_validation=validated)
        build(app)
        app.synth()
        return folder

    return run


@pytest.fixture(scope="session")
def assembly(synthesize: Synthesize) -> Path:
    """The app with little but its defaults: production, IAM identity, Anthropic's API."""
    return synthesize(**IAM)


@pytest.fixture(scope="session")
def templates(assembly: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name.removesuffix(".template.json"): json.loads(path.read_text())
        for path in sorted(assembly.glob("*.template.json"))
    }


@pytest.fixture(scope="session")
def variants(synthesize: Synthesize) -> Variants:
    """Every variant of `tests/infra/variants.py`, by name, with its templates by stack."""
    return synthesize_all(synthesize)
