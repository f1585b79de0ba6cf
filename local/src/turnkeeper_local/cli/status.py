"""Whether a kit works, at a glance."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli.place import Place, find_if_up

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Status:
    well: bool
    document: dict[str, Any]

    def show(self, console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        if not console.is_terminal:  # for programs, and for copying: as it is, never cut or filled up
            for name, value in self.document.items():
                console.print(f"{name:<16}  {_said(value)}", markup=False, soft_wrap=True)
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for name, value in self.document.items():
            table.add_row(name, Text(_said(value)))
        console.print(table)


def look(stack: str | None) -> Status:
    """The kit's state; a local one that is down is an answer, not an error."""
    place = find_if_up(stack)
    if place is None:
        return Status(False, {"up": False})
    api = api_answers(place)
    document: dict[str, Any] = {"up": api, "api": api, **place.document}
    if not place.local:
        document["api_url"] = place.api_url
        return Status(api, document)
    worker = alive(int(place.document["worker_pid"]))
    return Status(api and worker, {**document, "up": api and worker, "worker": worker})


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def api_answers(place: Place) -> bool:
    from turnkeeper_local.cli.api import Api
    from turnkeeper_local.cli.errors import CliError

    try:
        Api(place.api_url).health()
    except CliError:
        return False
    return True


def alive(pid: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
