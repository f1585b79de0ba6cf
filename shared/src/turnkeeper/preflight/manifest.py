"""``python -m turnkeeper.preflight.manifest ROOT [FOLDER...]``: write what agents are beside them, before they are
deployed from there (:mod:`turnkeeper.runtime.manifest`); tells where.

Fails, and writes nothing, where one of them cannot be loaded, or not be told of: then the front door has to import
them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from turnkeeper.bootstrap import Kit
from turnkeeper.preflight.answering import answer_with
from turnkeeper.runtime.manifest import MANIFEST, differing, manifest_of
from turnkeeper.runtime.pricing import priced_by
from turnkeeper.settings import Settings


def write_manifest(root: Path, folders: list[Path]) -> Path:
    kit = Kit(Settings(root=root, agents=tuple(folders)))
    catalog = replace(kit.catalog, priced=priced_by(kit.prices, kit.catalog.agents.values()))
    if catalog.broken:
        sys.exit(f"cannot be loaded: {', '.join(sorted(catalog.broken))}")
    told = json.dumps(manifest_of(catalog)).encode()
    if changed := differing(catalog, told):
        sys.exit(f"cannot be told of in JSON: {', '.join(changed)}")
    (root / MANIFEST).write_bytes(told)
    return root / MANIFEST


def main(arguments: list[str]) -> None:
    root, *folders = map(Path, arguments)
    answer_with(lambda: str(write_manifest(root, folders)))


if __name__ == "__main__":
    main(sys.argv[1:])
