"""Files beside agents that are read by programs of the kit, and by no turn: whether they can be."""

from __future__ import annotations

from collections.abc import Iterator

from turnkeeper.preflight.findings import Finding, place
from turnkeeper.preflight.seen import Seen


def unreadable_evals(seen: Seen) -> Iterator[Finding]:
    files = sorted(
        file for folder in seen.folders for file in folder.glob("[!_.]*/evals/**/*") if file.suffix in {".yaml", ".yml"}
    )
    if not files:
        return
    import yaml

    for file in files:
        try:
            with file.open("rb") as stream:
                list(yaml.safe_load_all(stream))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            words = getattr(error, "problem", None) or str(error)
            yield Finding(
                code="evals_syntax",
                severity="warning",
                file=place(file, seen.root),
                line=mark.line + 1 if mark else None,
                text=f"is no YAML: {words}",
                hint="correct that line; until then nothing in the file is tried",
            )
