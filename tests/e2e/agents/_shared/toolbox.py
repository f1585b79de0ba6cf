"""Tools of the test agents. What one of them does is seen from outside: it appends a line to the file it is told."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from turnkeeper import ToolContext, ToolError, tool


def append(file: str, *words: str) -> None:
    """One line, in one write: processes that die in the middle of it leave a whole one or none."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (" ".join(words) + "\n").encode())
    finally:
        os.close(descriptor)


class Point(BaseModel):
    x: int
    y: int = 0


@tool(effect="read")
def look(ctx: ToolContext, what: str = "", file: str = "") -> str:
    """Look at something. Changes nothing that counts."""
    if file:
        append(file, ctx.session_id, ctx.tool_use_id, what)
    return f"saw {what}"


@tool(effect="read", volatile={"at"})
def look_at(ctx: ToolContext, what: str, at: str = "") -> str:
    """Look at something at some time."""
    return f"saw {what}"


@tool(effect="idempotent")
def stamp(ctx: ToolContext, file: str, what: str, seconds: float = 0) -> str:
    """Write the call's idempotency key down."""
    append(file, ctx.session_id, ctx.tool_use_id, ctx.idempotency_key, what)
    time.sleep(seconds)
    return f"stamped {what}"


@tool(effect="once")
def pay(ctx: ToolContext, file: str, what: str, seconds: float = 0) -> str:
    """Pay for something. Cannot be taken back."""
    append(file, ctx.session_id, ctx.tool_use_id, what)
    time.sleep(seconds)
    return f"paid {what}"


@tool(effect="read", timeout_seconds=60)
def wait(ctx: ToolContext, seconds: float, file: str = "") -> str:
    """Take some time."""
    if file:
        append(file, ctx.session_id, ctx.tool_use_id, f"{time.time():.3f}")
    time.sleep(seconds)
    return f"waited {seconds}"


@tool(effect="read", timeout_seconds=1)
def hang(ctx: ToolContext) -> str:
    """Hang for longer than it may."""
    time.sleep(20)
    return "never told"


@tool(effect="read")
def refuse(ctx: ToolContext, why: str = "because") -> str:
    """Fail in words that the model can act on."""
    raise ToolError(why)


@tool(effect="read")
def crash(ctx: ToolContext) -> str:
    """Fail by a defect."""
    raise RuntimeError("a secret of the inside")


@tool(effect="read")
def fails_first(ctx: ToolContext, file: str, times: int, what: str = "") -> str:
    """Fail so many times, then work."""
    append(file, "tried")
    if len(Path(file).read_text().splitlines()) <= times:
        raise ToolError("not yet")
    return "at last"


@tool(effect="read")
def garbage(ctx: ToolContext) -> Any:
    """Return what nobody can write as JSON."""
    return object()


@tool(effect="read")
def big(ctx: ToolContext, size: int) -> str:
    """Return a long text."""
    return "0123456789abcdef" * (size // 16)


@tool(effect="read")
def typed(ctx: ToolContext, points: list[Point], label: str) -> str:
    """Take structured arguments."""
    return f"{label}: {sum(point.x + point.y for point in points)}"


@tool(effect="read", polls=True)
def progress(ctx: ToolContext, file: str) -> str:
    """Ask how far a job is: it is further each time."""
    append(file, "asked")
    return f"{len(Path(file).read_text().splitlines())} of many"


@tool(effect="read", polls=True)
def standstill(ctx: ToolContext) -> str:
    """Ask how far a job is that does not move."""
    return "0 of many"


@tool(effect="read", scopes={"billing:read"})
def ledger(ctx: ToolContext) -> str:
    """Read what a role may read."""
    return "the ledger"


@tool(effect="read", scopes={"nobody:has-this"})
def vault(ctx: ToolContext) -> str:
    """Read what no role may read."""
    return "the vault"


TOOLS = [
    *(look, look_at, stamp, pay, wait, hang, refuse, crash, fails_first, garbage, big, typed),
    *(progress, standstill, ledger, vault),
]
