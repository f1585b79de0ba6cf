"""What can go wrong with the local kit, said so that the reader can act on it."""

from __future__ import annotations

from pathlib import Path


class KitError(Exception):
    """The kit could not do what was asked; the message says why and what to look at."""


def with_log_tail(message: str, log: Path, lines: int = 25) -> KitError:
    """An error that brings along the end of the log that explains it."""
    try:
        tail = log.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        tail = []
    quoted = "\n".join(f"    {line}" for line in tail)
    return KitError(f"{message}\n  the end of {log}:\n{quoted}" if tail else message)
