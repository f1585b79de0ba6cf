"""The ``shell`` tool."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from turnkeeper.core.tools import Effect, Tool, ToolContext, ToolError
from turnkeeper.tools._common import Arguments, Deadline, cut, guarded, plain, positive
from turnkeeper.tools.command.arguments import Commands, find
from turnkeeper.tools.command.process import Limits, Outcome, run

_DESCRIPTION = (
    "Run one command with a list of arguments (no shell: no pipes, variables, wildcards or redirection) and return "
    "exit_code, stdout, stderr and truncated as JSON. Allowed commands, each with regular expressions that its "
    "arguments must match whole: {commands}."
)


class CommandArguments(Arguments):
    command: str = Field(description="Name of an allowed command, without a path.")
    args: list[str] = Field(default_factory=list, description="Arguments, each a string of its own.")


def shell(
    commands: Mapping[str, Sequence[str]],
    cwd: str | Path,
    timeout_seconds: float = 5,
    max_bytes: int = 64_000,
    *,
    roots: Sequence[str | Path] = (),
    effect: Effect = "once",
    memory_bytes: int = 512 * 1024 * 1024,
    file_bytes: int = 16 * 1024 * 1024,
    name: str = "shell",
    scopes: Iterable[str] = (),
    description: str | None = None,
) -> Tool:
    """A tool that runs listed commands. Effect ``once``, unless the author knows that all of them only read.

    ``commands`` maps a command to the regular expressions of which every argument must match one, whole. An
    absolute ``cwd`` is used by all sessions; a relative one is a folder of the session's own, below the temporary
    folder. It is created where it is missing. Arguments may lead into ``cwd``, and into the further absolute folders
    ``roots``, once links are followed. ``max_bytes`` bounds stdout and stderr together.

    The tool answers ``{"exit_code", "stdout", "stderr", "truncated"}``, also for an exit code other than 0. It raises
    ToolDenied for what is not allowed and ToolError where the command is not installed or takes too long.

    Raises:
        ValueError: a command, pattern, folder or limit that cannot be.
    """
    allowed = Commands.of(commands)
    folder = Path(cwd)
    if not folder.is_absolute() and (".." in folder.parts or not folder.parts):
        raise ValueError("a relative cwd names a folder of the session's own, so it cannot be empty or hold ..")
    further = [Path(root) for root in ([roots] if isinstance(roots, str | Path) else roots)]
    for root in further:
        if not root.is_absolute() or root == Path("/"):
            raise ValueError(f"roots are absolute folders other than /, not {str(root)!r}")
    for what, value in (("max_bytes", max_bytes), ("memory_bytes", memory_bytes), ("file_bytes", file_bytes)):
        positive(what, value)
    limits = Limits(max_bytes, memory_bytes, file_bytes)

    def body(ctx: ToolContext, arguments: CommandArguments) -> dict[str, Any]:
        where = _working_directory(folder, ctx)
        allowed.admit(arguments.command, arguments.args, where, further)
        program = find(arguments.command)
        deadline = Deadline.of(ctx, timeout_seconds)
        try:
            outcome = run(program, [arguments.command, *arguments.args], where, limits, deadline)
        except OSError as error:
            raise ToolError("The command could not be started.") from error
        return _answer(outcome, limits, deadline)

    return guarded(
        name=name,
        description=description or _DESCRIPTION.format(commands=allowed.described() or "none"),
        effect=effect,
        arguments=CommandArguments,
        run=body,
        scopes=scopes,
        timeout_seconds=timeout_seconds,
    )


def _working_directory(folder: Path, ctx: ToolContext) -> Path:
    """Where the command runs. Relative: below a folder that only this user can read and only this session uses.

    Raises:
        ToolError: the folder cannot be had.
    """
    try:
        if folder.is_absolute():
            folder.mkdir(parents=True, exist_ok=True)
            return folder.resolve(strict=True)
        base = Path(tempfile.gettempdir()) / f"turnkeeper-work-{os.geteuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        status = base.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            # Somebody else was there first, and might be reading along.
            raise ToolError("The working directory is not available.")
        session = hashlib.sha256(f"{ctx.tenant_id}\0{ctx.session_id}".encode()).hexdigest()[:40]
        home = base / session
        home.mkdir(mode=0o700, exist_ok=True)
        where = (home / folder).resolve()
        if not where.is_relative_to(home.resolve()):
            raise ToolError("The working directory is not available.")
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError("The working directory is not available.") from error
    return where


def _answer(outcome: Outcome, limits: Limits, deadline: Deadline) -> dict[str, Any]:
    stdout, cut_out = cut(plain(outcome.stdout.decode("utf-8", "replace")), limits.max_bytes)
    stderr, cut_err = cut(plain(outcome.stderr.decode("utf-8", "replace")), limits.max_bytes - len(stdout.encode()))
    if outcome.timed_out:
        output, _ = cut(stdout + stderr, 2_000)
        raise ToolError(
            f"The command took longer than {deadline.timeout_seconds:.3g} s and was stopped."
            + (f" It had said:\n{output}" if output else ""),
            may_have_run=True,
        )
    return {
        "exit_code": outcome.exit_code,
        "stdout": stdout,
        "stderr": stderr,
        "truncated": outcome.truncated or cut_out or cut_err,
    }
