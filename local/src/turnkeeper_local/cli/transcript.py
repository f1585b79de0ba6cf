"""A transcript for people: what was said, which tools ran, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from turnkeeper_local.cli.text import arguments, clock, plain, seconds, short, usd

Document = Mapping[str, Any]

_MARKS = {"ok": ("✓", "green"), "error": ("✗", "red"), "denied": ("⊘", "red"), "unknown": ("?", "yellow")}
_STATUS_STYLES = {
    "idle": "green",
    "completed": "green",
    "running": "cyan",
    "queued": "cyan",
    "stopped": "yellow",
    "failed": "red",
    "cancelled": "yellow",
    "erased": "dim",
}


class Transcript:
    """Prints events one by one, and remembers what they cost."""

    def __init__(self, console: Console, *, with_user: bool = True) -> None:
        self._console = console
        self._with_user = with_user
        #: Blocks of the answer to come whose text was shown as it came, and whether a line of it is open.
        self._shown: set[int] = set()
        self._open = False

    def form(self, delta: Document) -> None:
        """Show what comes of an event before it is there."""
        kind = delta["type"]
        if kind == "text":
            self._go_on(int(delta["index"]), plain(str(delta["text"])))
            return
        self._close()
        if kind == "tool_progress":
            share = f" {float(delta['fraction']):.0%}" if "fraction" in delta else ""
            words = f"{delta['tool']}{share}  {short(str(delta['text']), 200)}"
            self._print("… ", "magenta", Text(plain(words), style="dim"), indent=2)
        elif kind == "waiting":
            what = "money in flight" if delta.get("for") == "money" else "the provider"
            self._print("… ", "yellow", Text(f"waits for {what}", style="dim"))
        elif kind == "reset" and self._shown:
            cut_off = delta.get("reason") == "cut off"
            words = "the connection was lost: once more" if cut_off else "this was not kept"
            self._print("↶ ", "yellow", Text(words, style="dim"))
            self._shown.clear()

    def _go_on(self, index: int, text: str) -> None:
        """A text goes on where it was left, or begins."""
        if index not in self._shown:
            self._close()
            self._shown.add(index)
            self._console.print(Text("● ", style="blue"), end="")
        self._console.print(Text(text.replace("\n", "\n  ")), end="", soft_wrap=True)
        self._open = True

    def _close(self) -> None:
        if self._open:
            self._console.print()
            self._open = False

    def show(self, event: Document) -> None:
        self._close()
        self._show(event)
        self._shown.clear()

    def _show(self, event: Document) -> None:
        match event["type"]:
            case "user":
                self._user(event)
            case "assistant":
                self._assistant(event)
            case "tool_results":
                self._results(event)
            case "repair" | "rewind":
                seqs = sorted({mark["seq"] for mark in event.get("left_out") or ()})
                entries = ", ".join(map(str, seqs)) or "nothing"
                words = f"{event['type']}: the model is not sent entries {entries} any more, {event.get('reason')}"
                self._print("↶ ", "yellow", Text(plain(words), style="yellow"))
            case "compaction":
                self._compaction(event)
            case "runner_lost":
                self._print("! ", "yellow", Text(lost_line(event), style="yellow"))
            case "status":
                self._console.print(status_line(event.get("status"), event.get("stop"), event.get("runner")))

    def _compaction(self, event: Document) -> None:
        """What the model no longer sees, and what it sees instead."""
        marks = event.get("left_out") or ()
        whole = [mark["seq"] for mark in marks if mark.get("index") is None]
        what = f"entries {min(whole)} to {max(whole)}" if whole else f"{len(marks)} old results"
        instead = ", but this summary:" if event.get("summary") else ""
        self._print("↶ ", "yellow", Text(f"compaction: the model is not sent {what} any more{instead}", style="yellow"))
        if event.get("summary"):
            self._print("  ", "", Text(plain(str(event["summary"])), style="dim"))
            self._console.print(Text(f"  {spent_line(event)}", style="dim"))

    def _user(self, event: Document) -> None:
        by_kit = bool(event.get("by_kit"))
        if self._with_user or by_kit:
            style = "dim" if by_kit else "bold"
            self._print("› ", style, Text(text_of(event.get("content", ())), style=style))
        if removed := event.get("removed_tools"):
            words = f"the agent has no {', '.join(map(str, removed))} any more: taken from this session for good"
            self._print("⊘ ", "yellow", Text(plain(words), style="yellow"))

    def _assistant(self, event: Document) -> None:
        for index, block in enumerate(event.get("content", ())):
            match block.get("type"):
                case "text" if index not in self._shown:
                    self._print("● ", "blue", Text(plain(str(block.get("text", "")))))
                case "thinking" if block.get("thinking"):
                    self._print("∴ ", "dim", Text(short(str(block["thinking"]), 300), style="dim italic"))
                case "tool_use":
                    call = Text.assemble(
                        (plain(str(block.get("name"))), "bold"), "(", arguments(block.get("input")), ")"
                    )
                    self._print("⚙ ", "magenta", call)
        self._console.print(Text(f"  {spent_line(event)}", style="dim"))

    def _results(self, event: Document) -> None:
        for result in event.get("results", ()):
            mark, style = _MARKS.get(str(result.get("outcome")), ("?", "yellow"))
            line = Text.assemble(
                (plain(str(result.get("tool"))), "bold"),
                f" {seconds(result.get('duration_ms'))}  ",
                (_first(result), "dim"),
            )
            self._print(f"{mark} ", style, line, indent=2)
            if words := _denied(result.get("denial") or {}):
                self._print("! ", "yellow", Text(words, style="dim"), indent=4)
        for note in event.get("notes") or ():
            self._print("! ", "yellow", Text(short(str(note), 300), style="dim"), indent=2)

    def _print(self, mark: str, style: str, body: Text, *, indent: int = 0) -> None:
        lines = body.split("\n")
        self._console.print(Text.assemble(" " * indent, (mark, style), lines[0]))
        for line in lines[1:]:
            self._console.print(Padding(line, (0, 0, 0, indent + 2)))


def text_of(content: Sequence[Document] | str) -> str:
    """The text blocks of a message; other blocks by their type, and by where the kit has them from."""
    if isinstance(content, str):
        return plain(content)
    return plain(
        "\n".join(str(block.get("text", "")) if block.get("type") == "text" else _named(block) for block in content)
    )


def _named(block: Document) -> str:
    fetched = block.get("fetched") or {}
    origin = f" from {short(str(fetched['from']), 200)}, {fetched.get('bytes'):,} bytes" if "from" in fetched else ""
    return f"[{block.get('type')}{origin}]"


def spent_line(event: Document) -> str:
    """What one answer took: tokens, money, time."""
    usage = event.get("usage") or {}
    cached = int(usage.get("cache_read_input_tokens") or 0)
    read = int(usage.get("input_tokens") or 0) + cached + int(usage.get("cache_creation_input_tokens") or 0)
    parts = [
        plain(str(event.get("model") or "")),
        f"{read:,} in" + (f" ({cached:,} cached)" if cached else ""),
        f"{int(usage.get('output_tokens') or 0):,} out",
        usd(event.get("cost_usd")) + in_doubt(event),
        seconds(event.get("duration_ms")),
    ]
    return " · ".join(part for part in parts if part)


def in_doubt(document: Document) -> str:
    """How much of a cost may not have been spent, in brackets; nothing where all of it was."""
    amount = document.get("in_doubt_usd")
    return f" ({usd(amount)} of it in doubt)" if amount and Decimal(amount) else ""


_RUNNERS = {"lambda": "turn Lambda", "fargate": "worker"}


def lost_line(event: Document) -> str:
    """Who was lost, who took over, and what is not known because of it."""

    def named(kind: Any, name: Any) -> str:
        words = f"the {_RUNNERS.get(str(kind), 'runner')}"
        return f"{words} {short(str(name), 80)}" if name else words

    heard, at = str(event.get("last_heard_at") or ""), str(event.get("at") or "")
    text = f"{named(event.get('runner'), event.get('runner_id'))} was lost"
    if heard:
        text += f", last heard of at {clock(heard)}"
    by = event.get("taken_over_by")
    if by == "sweep":
        text += "; the sweep put the session on its way to another one"
    elif by:
        text += f"; taken over by {named(by, event.get('taken_over_by_id'))}"
    if heard and at:
        late = datetime.fromisoformat(at) - datetime.fromisoformat(heard)
        text += f" {max(0, round(late.total_seconds()))} s later"
    text += "."
    amount = event.get("in_doubt_usd")
    if amount and Decimal(amount):
        text += f" Its model call was cut off: {usd(amount)} counts as spent, and may not have been (in doubt)."
    if calls := event.get("open_calls"):
        names = ", ".join(short(str(call.get("tool")), 60) for call in calls)
        text += f" It may have made calls of: {names}."
    return text


def silent_line(page: Document) -> str:
    """That a runner has not been heard of for too long, and what happens next; nothing where it was."""
    since, until = page.get("runner_silent_since"), page.get("lease_expires_at")
    if not since or not until:
        return ""
    return f"no word from the runner since {clock(str(since))}: another one may take over from {clock(str(until))} on"


def _denied(denial: Document) -> str:
    """What would have to be given, and who has it."""
    if not (scopes := denial.get("missing_scopes")):
        return ""
    roles = ", ".join(map(str, denial.get("given_to_roles") or ())) or "no role"
    words = f"role {denial.get('role')} has no {', '.join(map(str, scopes))}; policy.toml gives it to: {roles}"
    return short(words, 300)


def status_line(status: Any, stop: Document | None, runner: Any = None) -> Text:
    style = _STATUS_STYLES.get(str(status), "")
    line = Text.assemble(("■ ", style), (str(status), style))
    if status == "queued":
        line.append(" handed over to the worker, with a continuation token", style="dim")
    if stop:
        line.append(f"  {plain(str(stop.get('reason')))}", style="dim")
        if words := _detail(stop):
            line.append(f"  {words}", style="dim")
    if runner:
        line.append(f"  on {runner}", style="dim")
    return line


def turn_line(turn: Document) -> Text:
    """The closing line of a turn."""
    line = status_line(turn.get("status"), turn.get("stop"), turn.get("runner"))
    steps = turn.get("steps")
    line.append(
        f"  {steps} {'step' if steps == 1 else 'steps'}, {usd(turn.get('cost_usd'))} in all{in_doubt(turn)}",
        style="dim",
    )
    return line


def _detail(stop: Document) -> str:
    detail = stop.get("detail") or {}
    if stop.get("reason") == "cost_cap":
        spent, reserved, limit, needed = (
            usd(detail.get(f"{name}_usd")) for name in ("spent", "reserved", "limit", "needed")
        )
        scope = plain(str(detail.get("scope")))
        return f"{scope}: {spent} spent and {reserved} reserved of {limit}; a call may cost {needed}"
    reason = detail.get("summary") or detail.get("hint") or detail.get("error")
    return short(str(reason), 300) if reason else ""


def _first(result: Document) -> str:
    """The beginning of what a tool returned."""
    content = result.get("content")
    if isinstance(content, str):
        text = content
    else:
        text = next((str(block.get("text", "")) for block in content or () if block.get("type") == "text"), "")
    return short(text, 100)
