"""The whole kit for tests: deployed on an emulator of its own, in a state folder of its own.

    from tests.support.running_kit import running_kit

    with running_kit(tmp_path, TURNKEEPER_TURN_SECONDS="5") as kit:
        httpx2.get(f"{kit.api_url}/v1/health")

Nothing of this machine's environment reaches it, so a key that happens to be set is never used. Tests of `tests/e2e`
that need no settings of their own share the fixture `stack`; a `kit` without more is always one in memory
(`tests.support.kit`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from turnkeeper_local.kit import Home, KitSettings, LocalKit, down, up


@contextlib.contextmanager
def running_kit(folder: Path, *, source_root: Path | None = None, **environment: str) -> Iterator[LocalKit]:
    """Bring a kit up in `folder` with these settings (`TURNKEEPER_...`), and down again, also after a failure.

    Its logs stay in `folder/logs`. A worker that died has been followed by another, which
    `LocalKit.read(Home(folder))` names.
    """
    settings = KitSettings.from_environment({"TURNKEEPER_PORT": "0", **environment})
    if source_root is not None:
        settings = dataclasses.replace(settings, project=source_root, source_root=source_root)
    home = Home(folder)
    try:
        yield up(settings, home=home)
    finally:
        down(home, forget=True)
