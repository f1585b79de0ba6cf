"""Scores each turn that has ended, from the table's stream, and begins the shadow and the judge that some are to have.

A function of its own beside the observer: an evaluator may be slow or broken, and alerts must not wait behind it; and
it writes the table, which the observer must not be able to, since it watches over the audit trail
(docs/decisions/0100).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from functions.observe.records import Changed, changed, each
from functions.process import kit as _kit
from turnkeeper.adapters.emf import Emf
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.scoring import Score
from turnkeeper.core.session import RESTING, Head
from turnkeeper.runtime.tracing import request_of
from turnkeeper.telemetry import fields
from turnkeeper.telemetry.metrics import Sample, sample


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Score each turn once, and ask for its trace. A turn that cannot be read or written now is given back, with those
    behind it, as a stream has it; one that can never be is set aside: counted, logged, and passed over."""
    kit = _kit()
    emf = Emf()

    def see(record: Mapping[str, Any]) -> None:
        if (head := _ended(changed(record))) is not None:
            fields.note(**fields.of_head(head))
            try:
                _score(kit, head, emf)
            except Exception as error:
                if isinstance(error, TurnkeeperError) and error.retryable:
                    raise
                # It is never scored; what it did is told all the same.
                _ask_for_trace(kit, head)
                raise
            _ask_for_trace(kit, head)

    given_back = each(event, see, passed_over=lambda: emf.add([sample("turns_set_aside")]))
    emf.flush()
    return given_back


def _score(kit: Kit, head: Head, emf: Emf) -> None:
    if (scores := kit.scorer.score(head)) is not None:
        emf.add(_told(head.agent, scores))
    of = head.companion.agent if head.companion else head.agent
    emf.add(_told(of, kit.companions.follow(head)))


def _ask_for_trace(kit: Kit, head: Head) -> None:
    if kit.settings.otlp_endpoint is not None:
        kit.trace_queue.send(request_of(head), group=head.tenant_id)


def _told(agent: str, scores: Iterable[Score]) -> Iterator[Sample]:
    """Without their reasons: those quote users. A check that nobody failed says so with a zero."""
    for score in scores:
        yield sample("score", score.value, agent=agent, evaluator=score.name)
        yield sample("checks_failed", score.passed is False, agent=agent, evaluator=score.name)


def _ended(change: Changed | None) -> Head | None:
    """The head of a session whose turn has just ended."""
    if change is None or change.sk != "HEAD" or change.old is None:
        return None
    ended = change.old["status"] not in RESTING and change.new["status"] in RESTING
    return change.head if ended and change.new["status"] != "erased" else None
