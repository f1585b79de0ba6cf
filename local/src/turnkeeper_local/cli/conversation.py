"""Turns as they happen: what is said goes in, events come out, until the session rests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli import prompting
from turnkeeper_local.cli.api import MAX_WAIT_SECONDS, RESTING, WELL, Api, Problem
from turnkeeper_local.cli.deployed import agents_of
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.output import Output

if TYPE_CHECKING:
    from turnkeeper_local.cli.transcript import Transcript

Document = dict[str, Any]
#: Posts the input and waits so many seconds: the turn.
Post = Callable[[int], Document]

_LEAVE = "Ctrl-D or /exit leaves, /help tells more"


def one_turn(out: Output, api: Api, post: Post, *, wait_seconds: float) -> None:
    """Post an input and answer with the turn, shown live to people. Ends the program where the turn went wrong."""
    deadline = time.monotonic() + wait_seconds
    if out.as_json:
        turn = post(min(int(wait_seconds), MAX_WAIT_SECONDS))
        turn = api.finish(turn, within_seconds=deadline - time.monotonic())
    else:
        turn = _watched(out, api, post, deadline)
    out.answer(turn, lambda _: None)
    if turn["status"] in RESTING and turn["status"] not in WELL:
        out.fail()


def resume_by_token(api: Api, session: Document, wait: int) -> Document:
    """Go on with a stopped session, as its user may.

    Raises:
        CliError: there is nothing to go on with.
    """
    token = session.get("continuation_token")
    if not token:
        session_id, status = session["session_id"], session["status"]
        hints = {
            "idle": f"`turnkeeper run {session['agent']} INPUT --session {session_id}` says something more in it",
            "running": f"`turnkeeper watch {session_id}` follows it",
            "queued": f"`turnkeeper watch {session_id}` follows it",
        }
        raise CliError(
            f"the session is {status}: there is nothing to go on with",
            code="session_ended",
            hint=hints.get(status, "nothing more can be said in it; `turnkeeper fork` begins one with a copy of it"),
            status=status,
        )
    return api.go_on(token, wait=wait)


def session_of(api: Api, session_id: str, agent: str) -> Document:
    """The session, which has to be one of this agent.

    Raises:
        CliError: it is another's.
    """
    session = api.session(session_id)
    if session["agent"] != agent and not _renamed(api, session["agent"], agent):
        raise CliError(
            f"session {session_id} is one of agent {session['agent']!r}, not of {agent!r}",
            code="wrong_agent",
            hint=f"`turnkeeper fork {session_id} INPUT --agent {agent}` goes on with a copy of it",
            agent=session["agent"],
        )
    return session


def _renamed(api: Api, before: str, now: str) -> bool:
    """Whether the agent ``now`` was once called ``before``, or the other way round."""
    agents = agents_of(api.agents())
    return before in agents and now in agents and agents[before]["name"] == agents[now]["name"]


def follow(out: Output, api: Api, session_id: str, *, after: int, until: float | None = None) -> None:
    """Show events as they happen: to people, or one a line."""
    transcript = None if out.as_json else _transcript(out, with_user=True)
    for event in _followed(out, api, session_id, transcript, after=after, until=until):
        if transcript is None:
            out.line(event)
        else:
            transcript.show(event)


def _watched(out: Output, api: Api, post: Post, deadline: float) -> Document:
    from turnkeeper_local.cli.transcript import turn_line

    turn = post(0)
    session_id = str(turn["session_id"])
    transcript = _transcript(out, with_user=False)
    out.note(f"session {session_id}")
    after = _turn_start(api, session_id, turn)
    for event in _followed(out, api, session_id, transcript, after=after, until=deadline):
        if event["type"] != "status" or event.get("status") not in RESTING:
            transcript.show(event)
    session = api.session(session_id)
    out.console.print(turn_line(session))
    if session["status"] not in RESTING:
        out.note(f"still at it; `turnkeeper watch {session_id}` follows it")
    elif session.get("continuation_token"):
        out.note(
            f"`turnkeeper explain {session_id}` says why, and what helps; `turnkeeper resume {session_id}` goes on"
        )
    return session


def _turn_start(api: Api, session_id: str, turn: Document) -> int:
    """The seq that this turn's events come behind: where it was quick, its answer is in the transcript already."""
    events = api.events(session_id, after=max(0, int(turn["last_seq"]) - 50))["events"]
    inputs = [event["seq"] for event in events if event["type"] == "user" and not event.get("by_kit")]
    return int(inputs[-1]) if inputs else 0


def _transcript(out: Output, *, with_user: bool) -> Transcript:
    from turnkeeper_local.cli.transcript import Transcript

    return Transcript(out.console, with_user=with_user)


def _followed(
    out: Output,
    api: Api,
    session_id: str,
    transcript: Transcript | None,
    *,
    after: int,
    until: float | None = None,
) -> Iterator[Document]:
    """Events as they happen. People see in the transcript what comes before them, a sign of life while there is
    nothing, and where the runner gives none."""
    if transcript is None:
        yield from api.follow(session_id, after=after, until=until)
        return
    from turnkeeper_local.cli.transcript import silent_line

    told = ""

    def look(page: Document) -> None:
        nonlocal told
        if (line := silent_line(page)) != told:
            told = line
            if line:
                out.note(line)

    if not sys.stdout.isatty():
        yield from api.follow(session_id, after=after, until=until, on_page=look, on_delta=transcript.form)
        return
    with out.console.status("waiting") as sign:

        def form(delta: Document) -> None:
            sign.stop()  # A line that is still written leaves it no place.
            transcript.form(delta)

        for event in api.follow(session_id, after=after, until=until, on_page=look, on_delta=form):
            yield event
            sign.start()
            sign.update(_WAITING_FOR.get(event["type"], "waiting"))


_WAITING_FOR = {"user": "thinking", "tool_results": "thinking", "assistant": "running tools"}


class Conversation:
    """An interactive chat. One session, as many turns as the user likes."""

    def __init__(
        self, out: Output, api: Api, agent: str, session_id: str | None, banner: Callable[[], str] = str
    ) -> None:
        self._out = out
        self._api = api
        self._agent = agent
        self._session_id = session_id
        self._seen = 0
        self._banner = banner
        self._interactive = not out.as_json and prompting.is_interactive()
        self._transcript = None if out.as_json else _transcript(out, with_user=not self._interactive)

    def run(self) -> None:
        if self._session_id:
            self._catch_up(self._session_id)
        if self._interactive:
            self._out.note(
                f"{self._banner()}\nsession {self._session_id or 'begins with your first message'}\n{_LEAVE}"
            )
        for text in self._inputs():
            try:
                if not self._turn(text):
                    break
            except KeyboardInterrupt:
                if not self._interactive:
                    raise  # nobody is there for the next line, and what is in the pipe may have no end
                follows = f"`turnkeeper watch {self._session_id}` follows it" if self._session_id else ""
                self._out.note(f"left running; /exit ends the chat. {follows}")
            except Problem as problem:
                if not self._interactive:
                    raise
                self._out.tell(problem)  # a person can say something else, or later
        if self._session_id:
            self._out.note(f"`turnkeeper chat {self._agent} --session {self._session_id}` goes on from here")

    def _catch_up(self, session_id: str) -> None:
        session_of(self._api, session_id, self._agent)
        before = None if self._out.as_json else _transcript(self._out, with_user=True)
        for event in self._api.all_events(session_id):
            self._show(event, before)

    def _inputs(self) -> Iterator[str]:
        if not self._interactive:
            for line in sys.stdin:
                if line.strip():
                    yield line.strip()
            return
        for text in prompting.lines():
            if text == "/exit":
                return
            if not text.startswith("/"):
                yield text
            elif text.startswith("//"):
                yield text[1:]
            else:
                self._command(text)

    def _command(self, text: str) -> None:
        """A word to the chat itself."""
        if text == "/session" and self._session_id:
            from turnkeeper_local.cli.tables import session_table

            self._out.console.print(session_table(self._api.session(self._session_id)))
        elif text == "/session":
            self._out.note("there is none before the first message")
        else:
            unknown = "" if text == "/help" else f"{text.split(maxsplit=1)[0]} is none of these:\n"
            self._out.note(unknown + prompting.HELP)

    def _turn(self, text: str) -> bool:
        """Whether the conversation can go on after this turn."""
        turn = self._api.say(self._session_id, text) if self._session_id else self._api.start(self._agent, text)
        if self._session_id is None:
            self._out.note(f"session {turn['session_id']}")
        self._session_id = str(turn["session_id"])
        for event in _followed(self._out, self._api, self._session_id, self._transcript, after=self._seen):
            self._show(event, self._transcript)
        session = self._api.session(self._session_id)
        if not self._out.as_json:
            from turnkeeper_local.cli.transcript import turn_line

            self._out.console.print(turn_line(session))
        return session["status"] in {"idle", "stopped"}

    def _show(self, event: Document, transcript: Transcript | None) -> None:
        self._seen = int(event["seq"])
        if transcript is None:
            self._out.line(event)
        elif event["type"] != "status" or event.get("status") not in RESTING:
            transcript.show(event)
