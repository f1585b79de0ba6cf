"""Recognizing that nothing changed: what a deployment is made of, as one hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from local.kit.home import REPOSITORY

CODE = ("agents", "fargate_worker", "functions", "policy.toml", "shared/src")
"""What runs."""
INFRA = ("cdk.json", "infra", "package-lock.json", "requirements/runtime.txt")
"""What says how it is deployed."""


def fingerprint(source_root: Path, values: Mapping[str, object], *also: str) -> str:
    """Changes when a file of the deployment does, or one of `values`, or a file below `also`."""
    digest = hashlib.sha256(repr(sorted(values.items())).encode())
    roots = [(source_root, name) for name in CODE] + [(REPOSITORY, name) for name in (*INFRA, *also)]
    for root, name in roots:
        for file in sorted(_files(root / name)):
            digest.update(f"\0{name}\0{file.relative_to(root)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path):
        folders[:] = _visible(name for name in folders if name != "__pycache__")
        yield from (Path(folder) / name for name in _visible(names) if not name.endswith(".pyc"))


def _visible(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]
