"""What import-linter cannot see: what is imported when a process starts, and what only when it is needed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from local.kit.home import REPOSITORY


@pytest.mark.parametrize("module", ["functions.api.handler", "functions.sweep.handler", "functions.observe.handler"])
def test_only_runners_pay_for_importing_the_sdk(module: str) -> None:
    """Its import costs more than everything else together."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} does not exist yet")
    script = f"import {module}, sys; sys.exit(', '.join({{'anthropic', 'mcp', 'aws_cdk'}} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
