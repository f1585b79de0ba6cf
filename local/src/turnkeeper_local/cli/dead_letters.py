"""What is on the dead-letter queue, why, whether that has been mended, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import SessionNotFound, TurnkeeperError
from turnkeeper.runtime.jobs import Job, parse, session_id_of_job
from turnkeeper_local.cli.deployed import Deployed
from turnkeeper_local.cli.errors import CliError

if TYPE_CHECKING:
    from turnkeeper.core.dead_letters import DeadLetter

Document = dict[str, Any]

#: The code of one that no worker rejected: SQS moved it after its last receive.
UNFINISHED = "received_too_often"
_SHORTEST_ID = 6
_SENT_ANEW = "the sender has to send it anew, as it has to be; then `turnkeeper dead discard {id}`"
_TODO = {
    "not_json": _SENT_ANEW,
    "unknown_schema": _SENT_ANEW,
    "invalid_job": _SENT_ANEW,
    "agent_not_found": "deploy the agent, or mend it; then `turnkeeper redrive {id}`",
    "unpriced_model": "give its model a price in policy.toml and deploy; then `turnkeeper redrive {id}`",
    "invalid_request": "let it be told of: `webhook_hosts` of the tenant's plan, `reply_queues` of the stage; then "
    "`turnkeeper redrive {id}`",
    "content_unusable": "mend what the address in its input gives; then `turnkeeper redrive {id}`",
    "continuation_expired": "`turnkeeper resume {session}` lets the session go on; then `turnkeeper dead discard {id}`",
    "unauthenticated": "its token was not signed here, or with a key that is gone: `turnkeeper dead discard {id}`",
    "session_not_found": "its session is gone: `turnkeeper dead discard {id}`",
}
_LOOK = "look for the session in the logs; once the reason is mended, `turnkeeper redrive {id}`"


@dataclass(frozen=True)
class Found:
    """A dead letter, and what was found out about it."""

    letter: DeadLetter
    agent: str | None = None
    tenant_id: str | None = None
    user_id: str | None = None
    job_id: str | None = None
    #: Only where there is one.
    session_id: str | None = None
    session_status: str | None = None
    #: Why it would come back at once; None where nothing is known to stand in its way.
    still: str | None = None

    @property
    def error_code(self) -> str:
        return self.letter.error_code or UNFINISHED

    def document(self) -> Document:
        letter = self.letter
        return {
            "id": letter.message_id,
            "error_code": self.error_code,
            "detail": letter.detail,
            "agent": self.agent,
            "tenant_id": self.tenant_id,
            "user_id": self.user_id,
            "job_id": self.job_id,
            "session_id": self.session_id,
            "session_status": self.session_status,
            "sent_at": letter.sent_at.isoformat(timespec="seconds"),
            "age_seconds": max(0, int((datetime.now(UTC) - letter.sent_at).total_seconds())),
            "receives": letter.receives,
            "still": self.still,
            "what_now": self.what_now,
        }

    @property
    def what_now(self) -> str:
        text = _TODO.get(self.error_code, _LOOK)
        return text.format(id=self.letter.message_id, session=self.session_id or "SESSION")


@dataclass(frozen=True)
class Moved:
    """What became of the letters that were meant."""

    moved: list[Found]
    held: list[Found]


class DeadLetterOffice:
    """``name`` makes who it is, for the audit trail."""

    def __init__(self, kit: Kit, name: Callable[[], str], deployed: Deployed) -> None:
        self._kit = kit
        self._name = name
        self._deployed = deployed
        self._recorded: set[tuple[str, str]] = set()

    def find(self, ids: Collection[str] = (), *, code: str | None = None, most: int | None = None) -> list[Found]:
        """The letters that are meant, all where neither ids nor a code is named.

        Raises:
            CliError: one that is named is not there, or may be several.
        """
        with self._chosen(ids, code) as chosen:
            found = []
            for letter in chosen:
                found.append(letter)
                if most is not None and len(found) == most:
                    break
            return found

    def discard(self, ids: Collection[str], *, code: str | None) -> list[Found]:
        """Delete the letters that are meant, for good; each goes onto its tenant's audit chain first."""
        done = []
        with self._chosen(ids, code) as chosen:
            for found in chosen:
                self._record("discard", found, error_code=found.error_code, job_id=found.job_id)
                self._kit.dead_letters.discard(found.letter)
                done.append(found)
        return done

    def redrive(self, ids: Collection[str], *, code: str | None, force: bool) -> Moved:
        """Give the letters that are meant back to the queue, save those that would come back at once."""
        done = Moved([], [])
        with self._chosen(ids, code) as chosen:
            for found in chosen:
                if found.still is not None and not force:
                    done.held.append(found)
                    continue
                # First the record, then the deed: the queue cannot take part in a transaction of the table.
                self._record("redrive", found)
                self._kit.dead_letters.give_back(found.letter)
                done.moved.append(found)
        return done

    @contextmanager
    def _chosen(self, ids: Collection[str], code: str | None) -> Iterator[Iterator[Found]]:
        with self._kit.dead_letters.held() as letters:
            found = map(self._found, letters)
            meant = self._named(found, ids) if ids else found
            yield (one for one in meant if code in (None, one.error_code))

    def _named(self, letters: Iterator[Found], ids: Collection[str]) -> Iterator[Found]:
        """The letters of these names. All are looked at before the first is given, so that nothing is done on a guess.

        Raises:
            CliError: a name is of none, or of several.
        """
        seen, unseen = [], set(ids)
        for found in letters:
            if any(_is_named(found, name) for name in ids):
                seen.append(found)
            unseen.discard(found.letter.message_id)
            if not unseen:  # by part of an id, or a job's, there may be more
                break
        meant = {found.letter.message_id for name in ids for found in _by_name(seen, name)}
        return (found for found in seen if found.letter.message_id in meant)

    def _found(self, letter: DeadLetter) -> Found:
        try:
            message = parse(letter.body)
        except TurnkeeperError as error:
            return Found(letter, still=f"the message is no job: {error.detail}")
        if isinstance(message, Job):
            session_id = session_id_of_job(message.tenant_id, message.job_id)
            status = self._status(message.tenant_id, session_id)
            why_not = self._deployed.why_not(message.agent, tenant_id=message.tenant_id, user_id=message.user_id)
            return Found(
                letter,
                agent=message.agent,
                tenant_id=message.tenant_id,
                user_id=message.user_id,
                job_id=message.job_id,
                session_id=session_id if status else None,
                session_status=status,
                # A session that exists goes on with what it was begun with.
                still=None if status else why_not,
            )
        try:
            token = self._kit.tokens.verify(message.continuation_token)
        except TurnkeeperError as error:
            return Found(letter, still=f"its token does not hold: {error.detail}")
        status = self._status(token.tenant_id, token.session_id)
        return Found(
            letter,
            tenant_id=token.tenant_id,
            session_id=token.session_id if status else None,
            session_status=status,
            still=None if status else f"there is no session {token.session_id}",
        )

    def _status(self, tenant_id: str, session_id: str) -> str | None:
        try:
            return self._kit.sessions.head(tenant_id, session_id).status
        except (SessionNotFound, ValueError):
            return None

    def _record(self, action: str, found: Found, **detail: str | None) -> None:
        """What is no message of ours moves nobody's session. A redrive is recorded once a tenant."""
        if found.tenant_id is None or (action, found.tenant_id) in self._recorded:
            return
        if action == "redrive":
            self._recorded.add((action, found.tenant_id))
        told = {name: value for name, value in detail.items() if value is not None}
        self._kit.tenants.audit(found.tenant_id, "operator_action", self._name(), {"action": action, **told})


def _by_name(letters: Collection[Found], name: str) -> list[Found]:
    """What one name means: the letter of this id; else all of one job, or the one whose id begins so."""
    found = [one for one in letters if _is_named(one, name)]
    if exact := [one for one in found if one.letter.message_id == name]:
        return exact
    if not found:
        raise CliError(
            f"there is no dead letter {name}", code="dead_letter_not_found", hint="`turnkeeper dead list` shows all"
        )
    jobs = {(one.tenant_id, one.job_id) if one.job_id == name else one.letter.message_id for one in found}
    if len(jobs) > 1:
        listed = ", ".join(one.letter.message_id for one in found)
        raise CliError(f"{name} names several, and none was touched: {listed}", code="ambiguous")
    return found


def _is_named(found: Found, name: str) -> bool:
    """By its id, the beginning of it, or its job's id."""
    message_id = found.letter.message_id
    return name in (message_id, found.job_id) or (len(name) >= _SHORTEST_ID and message_id.startswith(name))
