"""`turnkeeper dev`: the kit up, edits live, logs of all parts in one stream."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from turnkeeper_local.cli.logs import Stream, since_now
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.passed_over import tell_what_is_passed_over
from turnkeeper_local.cli.place import find
from turnkeeper_local.kit import Home, KitError, KitSettings, LocalKit, down, up
from turnkeeper_local.kit.edits import Broken, Edits, make_edits_live
from turnkeeper_local.kit.record import Record
from turnkeeper_local.kit.settings import VARIABLES, still_meant
from turnkeeper_project.place import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK_SECONDS = 0.25
"""How often files are looked at. An editor that writes several within it has them made live together."""


def bring_up(out: Output, *, reset_settings: bool, strict: bool = False) -> tuple[KitSettings, LocalKit]:
    """`up`, with what the last one was told where the environment says nothing; that is told."""
    home = Home.from_environment()
    remembered = {} if reset_settings else Record.read(home).settings
    recalled = still_meant(remembered, os.environ)
    if recalled:
        told = ", ".join(f"{name}={value}" if value != "kept" else name for name, value in sorted(recalled.items()))
        out.note(f"as at the last up: {told}  (set to nothing, or --reset-settings, for the default)")
    tell_what_is_passed_over(out, VARIABLES)
    settings = KitSettings.from_environment(remembered=remembered)
    if strict:
        settings = dataclasses.replace(settings, allow_broken=False)
    return settings, up(settings, home=home, progress=lambda step: out.note(step if "\n" in step else f"{step} ..."))


def follow_edits(out: Output, *, reset_settings: bool, down_after: bool) -> None:
    """Until Ctrl-C."""
    home = Home.from_environment()
    settings, kit = bring_up(out, reset_settings=reset_settings)
    out.line({"event": "up", **dataclasses.asdict(kit)})
    out.note(f"{kit.api_url}  edits are made live; Ctrl-C ends this" + ("" if down_after else ", the kit stays up"))
    edits = Edits(settings)
    ended = threading.Event()
    logs = threading.Thread(target=_follow_logs, args=(out, ended), daemon=True)
    logs.start()
    # Also where nobody can press Ctrl-C, and where a shell has its background jobs ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        while True:
            time.sleep(_LOOK_SECONDS)
            if changed := edits.changed():
                make_live(out, settings, changed, home)
    except KeyboardInterrupt:
        out.note("ended; the kit is taken down" if down_after else "ended; the kit stays up: `turnkeeper down` ends it")
    finally:
        ended.set()
        logs.join(timeout=2)
        if down_after:
            down(home)


def make_live(out: Output, settings: KitSettings, changed: Sequence[Path], home: Home) -> None:
    """One round of edits; tells what became of it, and goes on whatever that is."""
    began = time.monotonic()
    names = [shown(file, settings.project) for file in changed]
    files = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    try:
        make_edits_live(settings, changed, home=home, progress=lambda step: out.note(f"{step} ..."))
    except Broken as broken:
        out.line({"event": "broken", "files": names, "detail": str(broken)})
        _tell(out, str(broken), "red")
        _tell(out, f"✗ not deployed, what ran before still runs: {files}", "bold red")
    except KitError as error:
        out.line({"event": "failed", "files": names, "detail": str(error)})
        _tell(out, str(error), "red")
    else:
        seconds = round(time.monotonic() - began, 2)
        out.line({"event": "live", "files": names, "seconds": seconds})
        _tell(out, f"✓ live after {seconds:.1f} s: {files}", "bold green")


def _follow_logs(out: Output, ended: threading.Event) -> None:
    """Print what all parts log. The kit may be deployed anew meanwhile, so it is looked for again after an error."""
    from turnkeeper_local.cli.errors import CliError

    stream: Stream | None = None
    while not ended.wait(0.5):
        try:
            stream = stream or Stream(find(None), since=since_now())
            for entry in stream.read():
                entry.show(out)
        except (CliError, OSError, ValueError):
            stream = None
        except Exception as error:  # noqa: BLE001 - the AWS client has many errors; logs are not worth ending for
            out.note(f"logs: {type(error).__name__}: {error}")
            stream = None


def _tell(out: Output, text: str, style: str) -> None:
    if not out.as_json:
        from rich.text import Text

        from turnkeeper_local.cli.text import plain

        out.console.print(Text(plain(text), style=style))
