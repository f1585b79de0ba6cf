"""One runner's part of a turn that the program drives: it is told what is new, and what it does is written down as the
kit's own loop would have done it, before any tool takes effect."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from turnkeeper.core import decide
from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import CostCapExceeded, LeaseLost, TenantPaused, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import elsewhere
from turnkeeper.core.session import Entry, Head, Stop
from turnkeeper.core.transcript import GO_ON, UNKNOWN_OUTCOME, Block, all_text_of, answer, last_message, text_block
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.sessions import held
from turnkeeper.runtime.tool_answers import Answer
from turnkeeper.runtime.toolbox import early_answer
from turnkeeper.runtime.turn import Turn
from turnkeeper.sdk.declaration import SdkAgent
from turnkeeper.sdk.desk import Account, Desk, End, Means
from turnkeeper.sdk.gate import Gate
from turnkeeper.sdk.hardening import Given, hardened
from turnkeeper.sdk.hearing import Hearing
from turnkeeper.sdk.leash import Leash, Workspace, launcher_in
from turnkeeper.sdk.log import Line, SessionLog, blocks_of
from turnkeeper.sdk.tools import server_of
from turnkeeper.table import AnyOf, Cond

logger = logging.getLogger(__name__)

_NAMES = uuid.UUID("6f1f7c0e-6d0c-4d0a-9a52-3d1f0f6f2b7c")
#: How often the runner looks whether the turn is to end.
_LOOK_SECONDS = 0.2
#: The program's last words are waited for this long once it is to end.
_END_SECONDS = 10.0
#: After that long the thread that drives is left behind.
_GIVE_UP_SECONDS = 15.0
#: At the end of a turn, calls in flight are waited for this long: what is settled later is counted by the next turn.
_SETTLE_SECONDS = 5.0
#: Of what the program says on its standard error, what is logged.
_MOST_LINES = 1_000
_INTERRUPTED = "The run was interrupted and goes on here. Of the calls that were open then:"
#: The session has not been ended meanwhile.
_GOES_ON = AnyOf((Cond("status", "=", "running"), Cond("status", "=", "queued")))
#: What a program said before it ended is heard within so many looks.
_LAST_LOOKS = 10
_SILENT = Stop(reason="internal_error", detail={"hint": "The program ended without a word."})


class SdkRun:
    def __init__(self, means: Means, turn: Turn, agent: SdkAgent, user: Account | None = None) -> None:
        head = turn.sheet.head
        #: What the program knows the session by.
        self.id = str(uuid.uuid5(_NAMES, keys.session_pk(head.tenant_id, head.session_id)))
        self.workspace = Workspace(means.folder, head.tenant_id, head.session_id)
        self.leash: Leash | None = None
        self._calls = means.calls
        self._agent = agent
        self._user = user
        self._lines = 0
        self._heard = False
        log = SessionLog(
            means.table,
            means.blobs,
            head.tenant_id,
            head.session_id,
            checks=(held(turn.sheet.stored, _GOES_ON),),
            project="program",
        )
        self.desk = Desk(means, turn, log, token=means.calls.lease_token(turn.sheet.stored))
        self.gate = Gate(self.desk)
        self.hearing = Hearing(self.desk, self.gate)

    # ---- from beginning to end ----

    def run(self) -> Head:
        """Raises LeaseLost, StoreBusy, Unavailable: see ``runtime.engine``."""
        desk = self.desk
        # In a thread of its own: hooks and MCP servers of the author run there, and one that blocks holds up everything
        # in it. Nobody can end such a thread; but all else has to end without it.
        said = contextvars.copy_context()
        driving = threading.Thread(target=said.run, args=(self._drive_or_fail,), name="sdk", daemon=True)
        driving.start()
        self._look_after(driving)
        lost = isinstance(desk.fatal, LeaseLost) or desk.turn.lease.lost
        spent = self._calls.close_lease(desk.token, wait_seconds=0.0 if lost else _SETTLE_SECONDS)
        # Also where it failed: whoever ends the turn writes what it cost.
        desk.catch_up(spent)
        if desk.fatal is not None:
            raise desk.fatal
        return self._finished(desk.end or End(_SILENT))

    def _drive_or_fail(self) -> None:
        try:
            asyncio.run(self._drive())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            self.desk.fail(error)

    def _look_after(self, driving: threading.Thread) -> None:
        """Until the thread is done; or is to be, and shows no sign of it."""
        desk, clock = self.desk, time.monotonic
        until = None
        while driving.is_alive() and (until is None or clock() < until):
            driving.join(_LOOK_SECONDS)
            self._look()
            if until is None and (desk.end is not None or desk.fatal is not None):
                until = clock() + _GIVE_UP_SECONDS
                if not self.hearing.said_all:
                    self._leash_cut()
        if driving.is_alive():
            desk.abandoned = True
            logger.error("a hook or an MCP server of agent %s blocks its thread: it is left behind", self._agent.name)
            self._leash_cut()
            self.workspace.forget()

    def _leash_cut(self) -> None:
        if self.leash is not None:
            self.leash.cut()

    async def _drive(self) -> None:
        desk = self.desk
        known = await desk.log.load({"session_id": self.id}) or []
        desk.catch_up(self._calls.spent(desk.sheet.head))
        content = self._what_to_say(known)
        if content is None:
            desk.stop(Stop(reason="end_turn"))
            return
        leash = self.leash = self.workspace.make()
        talking = asyncio.create_task(self._talk(content, self._given(leash, resumes=bool(known)), leash))
        try:
            looks = 0
            while not talking.done() and desk.end is None and desk.fatal is None:
                await asyncio.wait({talking}, timeout=_LOOK_SECONDS)
                looks = looks + 1 if leash.over and not self._heard else 0
                if looks == _LAST_LOOKS:
                    # The SDK would wait for its answer for a minute.
                    desk.stop(_SILENT)
                    talking.cancel()
            if not self.hearing.said_all:
                leash.cut()
            await asyncio.wait({talking}, timeout=_END_SECONDS)
        finally:
            leash.cut()
            if not talking.done():
                talking.cancel()
            [error] = await asyncio.gather(talking, return_exceptions=True)
            if isinstance(error, Exception):
                desk.fail(error)
            await asyncio.to_thread(self.workspace.forget)

    def _given(self, leash: Leash, *, resumes: bool) -> Given:
        desk, box = self.desk, self.desk.turn.toolbox
        if self._calls.url is None:
            raise Unavailable("the gateway is not served in this process")
        kits = {tool.name: tool for tool in Agent.all_tools(self._agent) if tool.name in box.names}
        limits = desk.sheet.head.limits
        return Given(
            gateway_url=self._calls.url,
            token=desk.token,
            program_tools=set(box.names) - set(kits),
            kit_tools=set(kits),
            model=desk.sheet.spec.model,
            max_tokens=limits.max_tokens,
            max_turns=max(1, limits.max_iterations - desk.sheet.head.turn.iterations),
            session_id=self.id,
            resumes=resumes,
            work=self.workspace.work,
            home=self.workspace.home,
            launcher=launcher_in(desk.means.folder),
            leash=leash.path,
            user=self._user,
            store=desk.log,
            hooks={
                "PreToolUse": self.gate.ask,
                "PostToolUse": self.gate.saw,
                "PostToolUseFailure": self.gate.saw,
            },
            server=server_of(kits.values(), self.gate.run),
            stderr=self._log_line,
        )

    def _log_line(self, line: str) -> None:
        self._lines += 1
        if self._lines > _MOST_LINES:
            return
        if self._lines == _MOST_LINES:
            line = f"{line} (of what it says from here on nothing is logged)"
        logger.info("the program: %s", self.desk.turn.redactor.redact_text(line)[:500])

    async def _talk(self, content: list[Block], given: Given, leash: Leash) -> None:
        import claude_agent_sdk as sdk

        desk = self.desk
        said = {
            "type": "user",
            "uuid": self._name_of(max(entry.seq for entry in desk.sheet.entries if entry.type == "user")),
            "session_id": "",
            "message": {"role": "user", "content": content},
            "parent_tool_use_id": None,
        }

        async def prompt() -> AsyncIterator[dict[str, Any]]:
            yield said

        try:
            options = hardened(self._agent.options, given, sdk)
            async with contextlib.aclosing(sdk.query(prompt=prompt(), options=options)) as messages:
                async for message in messages:
                    self._heard = True
                    if desk.abandoned:
                        return
                    self.hearing.hear(message)
                    self._heed()
                    if desk.fatal is not None or (desk.end is not None and not self.hearing.said_all):
                        # Before the SDK waits for the program to end by itself.
                        leash.cut()
                        return
        except sdk.ClaudeSDKError as error:
            # It ends with an error after each that it tells. Who has the money knows better why than the program does.
            self._heed()
            text = desk.turn.redactor.redact_text(str(error))[:500]
            detail = {"error": type(error).__name__, "hint": f"The program failed: {text}"}
            desk.stop(self.hearing.failure or Stop(reason="internal_error", detail=detail))

    # ---- what the program is told ----

    def _what_to_say(self, known: list[Line]) -> list[Block] | None:
        """What it does not know yet; ``None`` where it has answered everything. Calls that an earlier runner left open
        are answered first."""
        sheet = self.desk.sheet
        told = {line["uuid"] for line in known if line.get("uuid")}
        users = [entry for entry in sheet.entries if entry.type == "user"]
        last = max((entry.seq for entry in users if self._name_of(entry.seq) in told), default=0)
        notes = self._answered(known)
        message = last_message(sheet.entries)
        new = [entry for entry in users if entry.seq > last]
        if not new and not notes and message is not None and message.type == "assistant":
            return None
        if not new:
            text = "\n\n".join((_INTERRUPTED, *notes, GO_ON)) if notes else GO_ON
            note = Entry(type="user", at=iso(sheet.now()), content=(text_block(text),), by_kit=True)
            sheet.write(elsewhere.was_told(sheet.head, sheet.now(), note))
            return [text_block(text)]
        before = [text_block("\n\n".join((_INTERRUPTED, *notes)))] if notes else []
        return [*before, *(block for entry in new for block in entry.content)]

    def _answered(self, known: list[Line]) -> list[str]:
        """Answer the calls that are open, each as far as anybody knows; what of it the program does not know itself."""
        sheet, log = self.desk.sheet, self.desk.log
        if not (calls := sheet.open_calls()):
            return []
        results = {block["tool_use_id"]: block for line in known for block in blocks_of(line, "tool_result")}
        answers: list[Answer] = []
        notes = []
        for call in calls:
            if (early := early_answer(sheet.early, call)) is not None:
                one = early
            elif call["id"] in results:
                one = self.hearing.seen(call, results[call["id"]])
            elif call["id"] in log.calls:
                one = answer(call, UNKNOWN_OUTCOME, "unknown")
            else:  # It waits to be written there before it runs.
                one = answer(call, "Not run: the run was interrupted before it began.")
            answers.append(one)
            if call["id"] not in results:
                notes.append(f"{call['name']} ({call['id']}): {all_text_of(one[0]['content'])}")
        self.hearing.write_results(self.desk.turn.tools.take(calls, answers))
        return notes

    def _name_of(self, seq: int) -> str:
        """What the program knows an entry by."""
        return str(uuid.uuid5(_NAMES, f"{self.id}/{seq}"))

    # ---- looking after it ----

    def _look(self) -> None:
        """Whether the turn is to end, for a reason that the program does not know of."""
        desk, turn = self.desk, self.desk.turn
        head, elapsed = desk.sheet.head, desk.sheet.elapsed_seconds()
        if turn.lease.lost:
            desk.fail(LeaseLost("the lease ended", session_id=head.session_id))
        elif turn.lease.cancelled:
            desk.stop(Stop(reason="cancelled"))
        elif turn.allowance.expired():
            desk.end = desk.end or End(hands_off=True)
        elif elapsed > head.limits.max_seconds:
            desk.stop(decide.time_up(head, elapsed))
        else:
            self._heed()

    def _heed(self) -> None:
        """What the gateway refused the latest call for, whichever of the turn's agents made it."""
        match self._calls.refusal(self.desk.token):
            case CostCapExceeded() as refused:
                self.desk.end = self.desk.end or End(refused=refused)
            case TenantPaused():
                self.desk.stop(Stop(reason="paused"))

    def _finished(self, end: End) -> Head:
        turn, sheet = self.desk.turn, self.desk.sheet
        self.gate.audit_what_is_open()
        calls = sheet.open_calls() if sheet.answers is None else []
        if end.hands_off:
            return turn.ending.hand_off(open_calls=bool(calls))
        answers = [self.gate.last_word(call) for call in calls]
        if end.stop is not None:
            return turn.ending.finish(end.stop, answers)
        if answers:
            self.hearing.write_results(turn.tools.take(calls, answers))
        assert end.refused is not None
        # Where it is told to stop meanwhile, the kit's own loop would look again; this runner is done.
        return turn.refused(end.refused) or turn.ending.hand_off()
