"""Prompts in files: one for each tenant, beside the agent that sends them."""

from __future__ import annotations

import sys
from pathlib import Path

from turnkeeper.core.prompts import Templates


def prompts(folder: str | Path, default: str | None = None) -> Templates:
    """A system prompt for each tenant, from the files of a folder: ``prompts/acme.md`` is the prompt of ``acme``.

        system=prompts("prompts", default="default.md")

    Placeholders are those of :func:`turnkeeper.by_tenant`. The files are read once, when the agent is loaded.

    Args:
        folder: relative to the file that calls this.
        default: the name of the file for every other tenant; without it their turns end as ``internal_error``.

    Raises:
        ValueError: no such folder or file, or a template that cannot be one; the text says which, and why.
    """
    caller = sys._getframe(1).f_globals.get("__file__")
    place = Path(caller).parent / folder if caller else Path(folder)
    if not place.is_dir():
        raise ValueError(f"prompts: there is no folder {place}")
    texts = {file.name: _read(file) for file in sorted(place.glob("[!.]*")) if file.suffix in (".md", ".txt")}
    if default is not None and default not in texts:
        raise ValueError(f"prompts: there is no {default} in {place}")
    by_tenant: dict[str, str] = {}
    for name, text in texts.items():
        if (tenant := Path(name).stem) in by_tenant:
            raise ValueError(f"prompts: {place} has two files of {tenant!r}")
        if name != default:
            by_tenant[tenant] = text
    return Templates(by_tenant, texts[default] if default is not None else None, f"prompts in {place.name}/")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"prompts: {file} is no text in UTF-8") from None
