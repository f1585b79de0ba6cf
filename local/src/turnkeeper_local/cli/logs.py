"""What the parts of a kit log, as one stream of entries.

Functions log to CloudWatch, on the emulator too, and so does the worker of a deployed kit; the local kit's processes
write files. Both hold JSON lines, as Powertools writes them, among others.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli.errors import CliError, UsageError
from turnkeeper_local.cli.place import Place, find, local_json

if TYPE_CHECKING:
    from turnkeeper_local.cli.output import Output

_GROUPS = {
    "FrontDoorLogs": "api", "TurnLogs": "turn", "ObserverLogs": "observe", "ScorerLogs": "score",
    "SweepLogs": "sweep", "TraceLogs": "trace", "DeliverLogs": "deliver", "StreamLogs": "stream", "Logs": "worker",
}  # fmt: skip
"""Parts by how the logical ids of their log groups begin, without the hash at the end."""
_FILES = {
    "worker": "worker", "front_door": "stream", "standin": "standin", "supervisor": "supervisor",
    "ministack": "emulator", "serve": "serve",
}  # fmt: skip
PARTS = (*dict.fromkeys([*_GROUPS.values(), *_FILES.values()]),)
_QUIET = {"emulator": ("ERROR", "CRITICAL"), "standin": ("WARNING", "ERROR", "CRITICAL")}
"""What is shown of a part that nobody named: these say much that is about no session."""
_COLOURS = {
    "api": "cyan", "turn": "green", "worker": "magenta", "observe": "blue", "score": "blue", "sweep": "yellow",
    "trace": "blue", "deliver": "blue", "stream": "cyan", "standin": "white", "supervisor": "white",
    "emulator": "bright_black", "serve": "cyan",
}  # fmt: skip
_LEVELS = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
_RUNTIME = re.compile(r"(START|END|REPORT|INIT_START) ")
_PLAIN = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\S* (?P<level>[A-Z]+) \[(?P<name>[\w.]+)\] (?P<message>.*)"
)
_KNOWN = frozenset(
    {"level", "location", "message", "timestamp", "service", "exception", "exception_name", "stack_trace", "tenant_id"}
    | {"session_id", "errorType", "errorMessage", "stackTrace", "requestId", "function_request_id", "xray_trace_id"}
)
_OF_A_TURN = frozenset({"user_id", "turn", "step", "agent", "version", "trace_id", "request_id"})
"""Of a line's fields, what people ask for with --json: with every line it would be noise."""
_ROUND_SECONDS = 0.5
_AGE = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass
class Entry:
    """One thing that was logged."""

    at: float
    """Seconds since the epoch."""
    part: str
    level: str
    message: str
    session_id: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    trace: str = ""
    fields: Mapping[str, Any] | None = None
    """All that a structured line says; None for one that is only text."""

    def names(self, wanted: str) -> bool:
        """Whether it is about a session, or a trace: a structured line has it in a field, of any other it is text."""
        if self.fields is not None:
            return _has(self.fields, wanted)
        return wanted in f"{self.message}{self.trace}"

    def document(self) -> dict[str, Any]:
        found = {
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds"),
            "part": self.part,
            "level": self.level,
            "session_id": self.session_id,
            "message": self.message,
            **({"more": dict(self.more)} if self.more else {}),
            **({"trace": self.trace} if self.trace else {}),
        }
        return {key: value for key, value in found.items() if value is not None}

    def show(self, out: Output) -> None:
        if out.as_json:
            out.line({"event": "log", **self.document()})
            return
        from rich.text import Text

        from turnkeeper_local.cli.text import plain

        clock = datetime.fromtimestamp(self.at, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        more = " ".join(f"{key}={value}" for key, value in self.more.items() if key not in _OF_A_TURN)
        line = Text.assemble(
            (f"{clock} ", "dim"),
            (f"{self.part:<10} ", _COLOURS.get(self.part, "white")),
            (f"{self.level:<7} ", _LEVELS.get(self.level, "dim")),
            (f"{self.session_id} " if self.session_id else "", "dim"),
            plain(self.message),
            (f"  {plain(more)}" if more else "", "dim"),
        )
        out.console.print(line, soft_wrap=True)
        if self.trace:
            out.console.print(Text(plain(self.trace.rstrip()), style="red"), soft_wrap=True)


def _has(value: Any, wanted: str) -> bool:
    if isinstance(value, Mapping):
        return any(_has(inner, wanted) for inner in value.values())
    if isinstance(value, list):
        return any(_has(inner, wanted) for inner in value)
    return bool(value == wanted)


def parse(part: str, line: str, at: float) -> Entry | None:
    """The entry that a line is; None for what says nothing to people, such as metrics and a runtime's own reports. `at`
    is when it was logged, where it does not say so itself."""
    text = line.rstrip()
    if not text or _RUNTIME.match(text):
        return None
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return _from_json(part, found, at)
    if match := _PLAIN.match(text):
        when = datetime.fromisoformat(match["time"]).astimezone().timestamp()
        return Entry(when, part, match["level"], match["message"])
    level = "ERROR" if "Traceback" in text or "[ERROR]" in text or "Task timed out" in text else "INFO"
    return Entry(at, part, level, text)


def _from_json(part: str, found: dict[str, Any], at: float) -> Entry | None:
    if "_aws" in found or str(found.get("type", "")).startswith("platform."):
        record = found.get("record", {})
        status = record.get("status") if isinstance(record, dict) else None
        return Entry(at, part, "ERROR", f"the runtime says: {status}") if status in {"error", "timeout"} else None
    if "message" not in found and "errorMessage" not in found:
        return None
    trace = str(found.get("exception") or "")
    if isinstance(found.get("stackTrace"), list):
        trace = "".join(str(part) for part in found["stackTrace"])
    message = str(found.get("message") or found["errorMessage"])
    if found.get("errorType"):
        message = f"{found['errorType']}: {found.get('errorMessage', message)}"
    more = {key: value for key, value in found.items() if key not in _KNOWN}
    level = str(found.get("level", "ERROR" if trace else "INFO")).upper()
    return Entry(_when(found.get("timestamp"), at), part, level, message, found.get("session_id"), more, trace, found)


def _when(stamp: Any, otherwise: float) -> float:
    for form in ("%Y-%m-%d %H:%M:%S,%f%z", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z"):
        try:
            return datetime.strptime(str(stamp), form).timestamp()  # noqa: DTZ007 - each form has %z
        except ValueError:
            continue
    return otherwise


class FileSource:
    """A log file of this machine. Lines that continue an entry, as a traceback's do, belong to it."""

    def __init__(self, part: str, file: Path) -> None:
        self._part = part
        self._file = file
        self._offset = 0

    def read(self) -> Iterator[Entry]:
        """What was written since it was last asked."""
        try:
            size, now = self._file.stat().st_size, self._file.stat().st_mtime
        except FileNotFoundError:
            return
        if size < self._offset:  # begun anew
            self._offset = 0
        with self._file.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        whole, newline, _ = content.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        entry: Entry | None = None
        for line in whole.decode(errors="replace").splitlines():
            begins = line.startswith("{") or _PLAIN.match(line)
            if entry is not None and not begins:
                entry.trace += f"{line}\n"
                continue
            if entry is not None:
                yield entry
            entry = parse(self._part, line, now)
        if entry is not None:
            yield entry


class GroupSource:
    """A log group of CloudWatch."""

    def __init__(self, part: str, client: Any, group: str, since: float) -> None:
        self._part, self._client, self._group = part, client, group
        self._from_ms = max(0, int(since * 1000))
        self._seen: set[object] = set()

    def read(self) -> Iterator[Entry]:
        """What came since it was last asked."""
        for at, message in self.events():
            entry = parse(self._part, message, at)
            if entry is not None:
                yield entry

    def events(self) -> Iterator[tuple[float, str]]:
        """The same as it was logged, and when. CloudWatch may list it late, so the last ones are asked for again."""
        from botocore.exceptions import ClientError

        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=self._group, startTime=self._from_ms
        )
        newest, seen = self._from_ms, set[object]()
        try:
            for page in pages:
                for event in page["events"]:
                    known = _identity(event, seen)
                    seen.add(known)
                    newest = max(newest, event["timestamp"])
                    if known not in self._seen:
                        yield event["timestamp"] / 1000, event["message"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
        self._seen = seen
        self._from_ms = max(self._from_ms, newest - 10_000)


def _identity(event: Mapping[str, Any], seen: set[object]) -> object:
    """What an event is recognized by when it is listed again. The emulator gives no ids: there it is what it says, and
    which of several that say the same."""
    if "eventId" in event:
        return event["eventId"]
    count = 0
    while (known := (event.get("logStreamName"), event["timestamp"], event["message"], count)) in seen:
        count += 1
    return known


class Stream:
    """The logs of a kit, those of all parts in the order of their times."""

    def __init__(self, place: Place | None, *, parts: Sequence[str] = (), since: float, about: Sequence[str] = ()):
        """``about``: sessions or traces, all of which an entry has to name."""
        self._parts, self._since, self._about = frozenset(parts), since, tuple(about)
        self._sources: list[FileSource | GroupSource] = []
        if place is not None and place.database_url is None:
            self._sources += groups(place, since, self._wants)
        if place is None or place.local:
            folder = local_json().parent / "logs"
            self._sources += [
                FileSource(part, folder / f"{name}.log") for name, part in _FILES.items() if self._wants(part)
            ]

    def read(self) -> list[Entry]:
        """What is new."""
        entries = [entry for source in self._sources for entry in source.read() if self._shows(entry)]
        return sorted(entries, key=lambda entry: entry.at)

    def _wants(self, part: str) -> bool:
        return not self._parts or part in self._parts

    def _shows(self, entry: Entry) -> bool:
        if entry.at < self._since or not all(map(entry.names, self._about)):
            return False
        return bool(self._parts) or entry.level in _QUIET.get(entry.part, (entry.level,))


def groups(place: Place, since: float, wants: Callable[[str], bool]) -> Iterator[GroupSource]:
    """The log groups of a kit's parts, of those that are wanted."""
    make: Any = place.session.client
    stacks, logs = (make(name, endpoint_url=place.endpoint_url) for name in ("cloudformation", "logs"))
    for stack in (f"{place.stacks}Api", f"{place.stacks}Worker"):
        for resource in _log_groups(stacks, stack):
            part = part_of(resource["LogicalResourceId"])
            if part and wants(part):
                yield GroupSource(part, logs, resource["PhysicalResourceId"], since)


def part_of(group: str) -> str | None:
    """The part that logs into the group of this logical id; None where it is none of the kit's."""
    return _GROUPS.get(re.sub(r"[0-9A-F]{8}$", "", group))


def _log_groups(client: Any, stack: str) -> Iterator[dict[str, Any]]:
    """The log groups of a stack; none of one that is not there, as the worker's is not on this machine."""
    from botocore.exceptions import ClientError

    try:
        for page in client.get_paginator("list_stack_resources").paginate(StackName=stack):
            yield from (
                each for each in page["StackResourceSummaries"] if each["ResourceType"] == "AWS::Logs::LogGroup"
            )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise


def since_now() -> float:
    return time.time()


def since_of(age: str) -> float:
    """The time that was `age` ago.

    Raises:
        UsageError: it is none.
    """
    match = _AGE.fullmatch(age.strip())
    if match is None:
        raise UsageError(f"--since takes an age such as 30s, 5m, 2h or 1d, not {age!r}", code="usage")
    return time.time() - int(match[1]) * _SECONDS[match[2]]


def show_logs(
    out: Output, parts: Sequence[str], *, follow: bool, about: Sequence[str], since: str, stack: str | None
) -> None:
    """Print what was logged; with `follow` go on with what comes."""
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"there is no part {part!r}; there are {', '.join(PARTS)}", code="usage")
    place = find(stack) if stack else _local()
    stream = Stream(place, parts=parts, since=since_of(since), about=about)
    _show(out, stream.read())
    while follow:
        time.sleep(_ROUND_SECONDS if place is None or place.local else 2.0)
        _show(out, stream.read())


def _show(out: Output, entries: Iterable[Entry]) -> None:
    for entry in entries:
        entry.show(out)


def _local() -> Place | None:
    """The local kit, also one that is down: its files are there."""
    from turnkeeper_local.cli.place import find_if_up
    from turnkeeper_local.cli.status import api_answers

    place = find_if_up(None)
    if place is not None and place.database_url is not None and not place.local:
        raise CliError(
            "the processes of this kit log where they were started: Compose, Kubernetes, systemd", code="no_logs"
        )
    return place if place is not None and api_answers(place) else None
