"""The system prompt of a turn, where it is made of the session's context: made once, and the same from then on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import PromptFailed
from turnkeeper.core.lifecycle import running
from turnkeeper.core.periods import zone_of
from turnkeeper.core.prompts import SessionContext, read_only, rendered
from turnkeeper.ports import Ids
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.threads import Parallel, run_one
from turnkeeper.runtime.worksheet import Worksheet

logger = logging.getLogger(__name__)

#: A function that makes a prompt may take this long: the turn waits for it.
PROMPT_SECONDS = 10.0


@dataclass
class Prompting:
    sheet: Worksheet
    sessions: Sessions
    #: As it is deployed here.
    agent: Agent | None
    #: Of the tenant's days.
    timezone: str
    parallel: Parallel
    ids: Ids

    def take(self) -> None:
        """Have the prompt on the worksheet before the first call of this runner. What is made goes into the table with
        the next write, which comes before the call.

        Raises:
            PromptFailed: it cannot be made; the text is for whoever reads the session.
        """
        sheet = self.sheet
        if sheet.spec.prompt is None or sheet.spec.system:
            return
        text = self._kept()
        if text is None or not sheet.head.turn.prompted:
            text = self._made() if text is None else text
            sheet.keep(running.take_prompt(sheet.head, text, self.ids.token))
        sheet.spec = sheet.spec.model_copy(update={"system": text})

    def _kept(self) -> str | None:
        """What the turn was sent already, or, where the agent pins its sessions, the session ever was."""
        head = self.sheet.head
        pinned = self.agent is not None and self.agent.pin == "session"
        if head.prompt is None or not (head.turn.prompted or pinned):
            return None
        return self.sessions.prompt(head.tenant_id, head.session_id, head.prompt)

    def _made(self) -> str:
        """By the agent as it is deployed here: of one that is gone, a version holds no more than the name."""
        agent = self.agent
        if agent is None:
            raise PromptFailed("the agent is not deployed any more")
        if isinstance(agent.system, str):
            return agent.system
        prompt, context = agent.system, self._context(agent)
        done = run_one(self.parallel, lambda: rendered(prompt, context), seconds=PROMPT_SECONDS)
        why = f"the system prompt of agent {agent.name!r} cannot be made"
        if done is None:
            raise PromptFailed(f"{why}: it took more than {PROMPT_SECONDS:g} seconds")
        if done.error is None:
            return done.result()
        logger.error("session %s: %s", context.session_id, why, exc_info=done.error)
        if isinstance(done.error, PromptFailed):
            raise PromptFailed(f"{why}: {done.error.detail}")
        # Of somebody else's error no more than its kind: its words may quote what no user is to read.
        raise PromptFailed(f"{why}: {type(done.error).__name__}")

    def _context(self, agent: Agent) -> SessionContext:
        head = self.sheet.head
        return SessionContext(
            tenant_id=head.prompted_tenant,
            user_id=head.user_id,
            role=head.turn.role or head.role,
            agent=agent.name,
            session_id=head.session_id,
            metadata=read_only(head.metadata),
            now=datetime.fromisoformat(head.turn.started_at).astimezone(zone_of(self.timezone)),
        )
