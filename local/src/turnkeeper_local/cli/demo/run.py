"""Bringing a kit up for the demo, playing the parts on it, and taking it down again, whatever happened."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from turnkeeper_local.cli.api import Api, connect
from turnkeeper_local.cli.demo.parts import CAPPED_TENANT, SDK_AGENT, CheckFailed, Part, Stage, all_parts
from turnkeeper_local.cli.demo.report import report, timeline, total
from turnkeeper_local.cli.demo.script import LIVE, SCRIPTED, Script, said
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.operator import connect as operate
from turnkeeper_local.cli.output import Output, explain
from turnkeeper_local.cli.place import Place, find, local_json
from turnkeeper_local.cli.text import plain
from turnkeeper_local.kit import Home, KitSettings, down, up
from turnkeeper_project import Project

Document = dict[str, Any]


def run(out: Output, *, keep: bool = False) -> None:
    """The demo. Ends the program with exit code 1 where any part did not work."""
    began = time.monotonic()
    settings, script = _settings()
    failed = True
    with _home() as home:
        try:
            _tell(out, f"Bringing a kit up: {_who(script)}, a turn Lambda that may work {script.turn_seconds} s")
            up(settings, home=home, progress=lambda step: out.note(f"  {step} ..."))
            place = find(None)
            up_seconds = time.monotonic() - began
            _tell(out, f"Up after {up_seconds:.0f} s: {place.api_url}")
            parts, stage = _play(out, place, script, has_sdk=Project(settings.project).agent_sdk is not None)
            failed = any(part.failure or not part.checks for part in parts)
            _answer(out, parts, stage, began=began, up_seconds=up_seconds)
        finally:
            if keep and not failed:
                out.note(f"still up: TURNKEEPER_HOME={home.path} turnkeeper sessions; `turnkeeper down` ends it")
            else:
                down(home, forget=True)
                _clean(out, home, keep_logs=failed)
    if failed:
        out.fail()


def _settings() -> tuple[KitSettings, Script]:
    """The settings of this machine, but for what the demo is about. With a key, Claude answers."""
    settings = KitSettings.from_environment(os.environ)
    script = LIVE if settings.anthropic_api_key else SCRIPTED
    free = settings.first_port if os.environ.get("TURNKEEPER_PORT", "").strip() else 0
    return dataclasses.replace(settings, first_port=free, turn_seconds=script.turn_seconds, scenario=None), script


def _who(script: Script) -> str:
    return "Claude answers" if script is LIVE else "no ANTHROPIC_API_KEY, so a stand-in model answers from a script"


@contextlib.contextmanager
def _home() -> Iterator[Home]:
    """A state folder of the demo's own, so that it leaves a kit that is up alone."""
    caches = Path(local_json().parent)
    caches.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=caches))
    before = os.environ.get("TURNKEEPER_HOME")
    os.environ["TURNKEEPER_HOME"] = str(folder)
    try:
        yield Home(folder)
    finally:
        if before is None:
            del os.environ["TURNKEEPER_HOME"]
        else:
            os.environ["TURNKEEPER_HOME"] = before


def _clean(out: Output, home: Home, *, keep_logs: bool) -> None:
    logs = home.path / "logs"
    if keep_logs and logs.is_dir():
        kept = home.path.parent / "demo-logs"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(logs, kept)
        out.note(f"the logs are in {kept}")
    shutil.rmtree(home.path, ignore_errors=True)


def _play(out: Output, place: Place, script: Script, *, has_sdk: bool) -> tuple[list[Part], Stage]:
    from turnkeeper_local.cli.transcript import Transcript

    api, capped = _apis(place)
    names = {each["name"] for each in api.agents()["agents"]}
    parts = all_parts(with_sdk=has_sdk and SDK_AGENT in names)
    current = parts[0]

    def on_check(what: str) -> None:
        current.checks.append(what)
        _mark(out, "✓", "green", what)

    transcript = Transcript(out.console, with_user=True)
    on_event: Callable[[Document], None] = (
        (lambda _: None) if out.as_json else lambda event: transcript.show(said(event))
    )
    stage = Stage(script, api, capped, operate(place), on_check, on_event)
    for number, current in enumerate(parts, start=1):
        _tell(out, f"{number}. {current.title}")
        began = time.monotonic()
        try:
            current.play(stage)
        except CheckFailed as failed:
            current.failure = str(failed)
        except Exception as error:  # noqa: BLE001 - a part that breaks is a part that did not work, and is told as such
            explained = explain(error) or CliError(f"{type(error).__name__}: {error}")
            current.failure = f"{explained.code}: {explained.detail}"
        current.seconds = time.monotonic() - began
        if current.failure is not None:
            _mark(out, "✗", "bold red", current.failure)
            break  # the parts that follow build on it
    return parts, stage


def _apis(place: Place) -> tuple[Api, Api]:
    return connect(place, tenant=None, user=None, role=None), connect(place, tenant=CAPPED_TENANT, user=None, role=None)


def _answer(out: Output, parts: list[Part], stage: Stage, *, began: float, up_seconds: float) -> None:
    sessions = {}
    for name, session_id in stage.sessions.items():
        api = stage.capped_api if name == "capped" else stage.api
        with contextlib.suppress(CliError):  # after a part that failed, the rest is told as far as it goes
            sessions[name] = (api.session(session_id), api.all_events(session_id))
    well = all(part.failure is None and part.checks for part in parts)
    took = time.monotonic() - began
    document = {
        "ok": well,
        "model": "claude" if stage.script is LIVE else "stand-in",
        "seconds": round(took, 1),
        "up_seconds": round(up_seconds, 1),
        "cost_usd": total(sessions),
        "parts": [part.document() for part in parts],
        "sessions": dict(stage.sessions),
        "timeline": timeline(sessions),
    }

    def for_people(console: Any) -> None:
        _tell(out, "What happened")
        console.print(report(sessions))
        done = sum(part.failure is None and bool(part.checks) for part in parts)
        times = f"{took:.0f} s ({up_seconds:.0f} s of them to bring the kit up)"
        summary = f"{done} of {len(parts)} parts worked, in {times}"
        console.print(summary, style="bold green" if well else "bold red")

    out.answer(document, for_people)


def _tell(out: Output, text: str) -> None:
    if not out.as_json:
        from rich.text import Text

        out.console.print(Text(f"\n{text}", style="bold"))


def _mark(out: Output, mark: str, style: str, text: str) -> None:
    if not out.as_json:
        from rich.text import Text

        out.console.print(Text.assemble((f"{mark} ", style), plain(text)))
