from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wiring import Folder


@pytest.fixture
def deployed(tmp_path: Path) -> Folder:
    """A folder to deploy from, with nothing in it."""
    return Folder(tmp_path / "deployed")
