"""How a command answers: for people, or for programs; and with which exit code.

    with Output(json_wanted) as out:
        out.answer(document, lambda console: console.print(...))

With ``--json``, standard output holds exactly one JSON document, or one a line where the command is a stream. An error
is such a document too: ``{"error": {"code", "detail", ...}}``. Progress and hints go to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli.errors import CliError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

FAILED = 1
USAGE = 2
INTERRUPTED = 130
_PIPED_WIDTH = 240
#: No room, no right, no place to write in: nothing that the program could have done better.
_OF_THE_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE})


class Output:
    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._answered = False

    @cached_property
    def console(self) -> Console:
        """Standard output, for people."""
        # Into a file or a pipe nothing is cut, unless somebody says how wide that is.
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
        return _console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=width)

    @cached_property
    def notes(self) -> Console:
        """Standard error: progress, hints, errors."""
        return _console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())

    @property
    def asks(self) -> bool:
        """Whether there is somebody to ask."""
        return not self.as_json and sys.stdin.isatty() and sys.stderr.isatty()

    # ---- answers ----

    def answer(self, document: Any, for_people: Callable[[Console], object]) -> None:
        """The command's one answer."""
        self._answered = True
        if self.as_json:
            write_line(document, indent=2)
        else:
            for_people(self.console)

    def line(self, document: Mapping[str, Any]) -> None:
        """One document of a stream; only with ``--json``."""
        self._answered = True
        if self.as_json:
            write_line(document)

    def note(self, text: str) -> None:
        """Something on the side, for people. Where it cannot be written, as to a terminal that was closed, the command
        goes on."""
        if not self.as_json:
            from rich.text import Text

            from turnkeeper_local.cli.called import as_called

            with contextlib.suppress(OSError):
                self.notes.print(Text(as_called(text), style="dim"))

    def fail(self) -> None:
        """End with exit code 1, after an answer that says why."""
        sys.exit(FAILED)

    # ---- errors ----

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SystemExit):
            return
        if isinstance(error, KeyboardInterrupt):
            self.note("interrupted")
            sys.exit(INTERRUPTED)
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has gone, as `| head` does: nothing is wrong, and nobody is there to tell.
            _write_no_more()
            sys.exit(0)
        explained = explain(error)
        if explained is None:
            return
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
            _write_no_more()
        self.tell(explained)
        sys.exit(USAGE if isinstance(explained, UsageError) else FAILED)

    def tell(self, error: CliError) -> None:
        """Say what went wrong."""
        from turnkeeper_local.cli.called import as_called

        if self.as_json:
            document = {"code": error.code, "detail": error.detail, **error.data}
            if error.hint:
                document["hint"] = as_called(error.hint)
            write_line({"error": document}, indent=None if self._answered else 2)
            return
        from rich.text import Text

        from turnkeeper_local.cli.text import plain

        self.notes.print(Text.assemble(("error  ", "bold red"), plain(as_called(error.detail))))
        for line in _reasons(error):
            self.notes.print(Text(f"       {plain(line)}"))
        if error.hint:
            self.notes.print(Text(f"       {plain(as_called(error.hint))}", style="dim"))


def _console(**options: Any) -> Console:
    """A console that says so where nobody reads it any more: by itself it would end the program, as failed."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # which is no failure: see __exit__

    return Piped(**options)


def _reasons(error: CliError) -> list[str]:
    """Where and why, one a line, of an error that says so (`errors` of a problem document)."""
    errors = error.data.get("errors")
    found = [each for each in errors if isinstance(each, Mapping)] if isinstance(errors, list) else []
    return [f"{each.get('where')}: {each.get('why')}" for each in found]


def _write_no_more() -> None:
    """What is left in the buffer of standard output goes nowhere, instead of failing once more at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_streams_fit() -> None:
    """For streams that were closed (``>&-``), and for those that cannot hold each character, as of a terminal in ISO
    8859-1: they show a ``?`` in place of one. A width that is none (``COLUMNS=0``), in which nothing is shown, counts
    as not said."""
    if not (os.environ.get("COLUMNS", "").isdecimal() and int(os.environ["COLUMNS"])):
        os.environ.pop("COLUMNS", None)
    sys.stdin = sys.stdin or Path(os.devnull).open()  # noqa: SIM115 - open until the end
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and not _is_utf8(sys.stdout):
        sys.stdout.reconfigure(errors="replace")


def end_by_exception() -> None:
    """Let SIGTERM, and a terminal that is closed, end this program as Ctrl-C does: by an exception, so that nothing
    half done is left running. A second one does not keep it from that."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    # One that is ignored, as by nohup, stays so.
    signals = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in signals:
        signal.signal(each, end)


def _is_utf8(stream: object) -> bool:
    return str(getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def write_line(document: Any, *, indent: int | None = None) -> None:
    # A program reads any character that the encoding has; a terminal may act on some.
    escaped = sys.stdout.isatty() or not _is_utf8(sys.stdout)
    text = json.dumps(document, indent=indent, ensure_ascii=escaped, default=str)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def explain(error: BaseException) -> CliError | None:
    """An error of ours, of the kit's or of AWS, as one to tell; ``None`` for what nobody foresaw."""
    if isinstance(error, CliError):
        return error
    from botocore.exceptions import BotoCoreError, ClientError

    from turnkeeper.adapters.table_values import InvalidOperation
    from turnkeeper.core.errors import TurnkeeperError
    from turnkeeper_local.kit.errors import KitError
    from turnkeeper_project import NoProject

    if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
        # Bytes of an argument that are no UTF-8; what a terminal cannot show has its encoding.
        return UsageError("an argument holds characters that are none: it is not UTF-8", code="usage")
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _OF_THE_MACHINE):
        # Of a file that is named: whichever way it is not as it should be.
        named = f"{error.filename}: " if error.filename is not None else ""
        return CliError(f"{named}{error.strerror}", code="os_error")
    if isinstance(error, FileNotFoundError):
        return CliError("the working directory is gone: change to one that is there", code="os_error")
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # Path.resolve, before Python 3.13
        return CliError(f"{error}: the link leads to itself", code="os_error")
    if isinstance(error, InvalidOperation):
        # A name of thousands of letters, as of a file that was pasted.
        return UsageError(f"an argument is none that can be stored: {error}", code="usage")
    if isinstance(error, NoProject):
        return UsageError(str(error), code="no_project")
    if isinstance(error, KitError):
        return CliError(str(error), code="kit_error")
    if isinstance(error, TurnkeeperError):
        return CliError(error.detail, **{**error.data, "code": error.code})
    if isinstance(error, BotoCoreError | ClientError):
        profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
        used = f" (the profile in use is {profile!r}, from AWS_PROFILE)" if profile else ""
        hint = "`turnkeeper doctor` looks at what is in the way"
        return CliError(f"AWS: {error}{used}", code="aws_error", hint=hint)
    return None
