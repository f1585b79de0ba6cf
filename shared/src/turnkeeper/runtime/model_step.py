"""One model call: money reserved and the input written before it, the answer written and the money settled after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from turnkeeper.core.decide import Judgement
from turnkeeper.core.errors import ProviderError, UnpricedModel
from turnkeeper.core.ledger import Resolution
from turnkeeper.core.policy import Terms
from turnkeeper.core.session import Entry, Reservation, Usage
from turnkeeper.core.transcript import says_nothing
from turnkeeper.ports import ModelReply, ModelRequest, Rates
from turnkeeper.runtime import requests
from turnkeeper.runtime.store.changes import Resolved
from turnkeeper.runtime.store.treasury import Want
from turnkeeper.runtime.toolbox import Toolbox
from turnkeeper.runtime.worksheet import Worksheet

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnkeeper.runtime.engine import World

#: One model call may take this long at most.
CALL_SECONDS = 1_200.0


class ModelStep:
    def __init__(self, world: World, sheet: Worksheet, terms: Terms, toolbox: Toolbox) -> None:
        self._world = world
        self._sheet = sheet
        self._terms = terms
        self._toolbox = toolbox

    def begin(self, *, wait_seconds: float, stop: Callable[[], bool]) -> tuple[ModelRequest, Reservation]:
        """The write before the call: the input, the iteration, and the money in every scope.

        Raises:
            CostCapExceeded, TenantPaused, UnpricedModel: not admitted; nothing was written.
            ProviderError: the provider had to be asked for a count, and did not answer.
        """
        sheet = self._sheet
        conversation = sheet.conversation()
        schemas = self._remote_schemas()
        rates = self._world.prices.rates(sheet.spec.model, sheet.spec.model_options)
        wanted = sheet.head.limits.max_tokens
        usable = self._toolbox.names
        request = requests.build(sheet.head, sheet.spec, conversation, schemas, wanted, usable)
        want = self._want(rates, request, conversation, schemas, wanted)

        def write(reservation: Reservation, terms: Terms) -> Reservation:
            self._terms = terms  # Where they have changed, the next call starts from the new ones.
            # Not of the sheet's own head: it also counts those that failed before anything was written.
            first_attempt = sheet.stored.attempts == 0
            sheet.write(
                *sheet.waiting(),
                reserved=reservation,
                caps=terms.caps,
                price_version=rates.version,
                calls=reservation.call,
                pending=reservation,
                iterations=sheet.head.iterations + (1 if first_attempt else 0),
                put_backs=0,
                # A call that is only begun is nothing yet: it may be what kills its runners.
                claims=0 if sheet.answers is not None else sheet.head.claims,
            )
            return reservation

        reserved = self._world.treasury.admit(
            sheet.head, self._terms, want, wait_seconds=wait_seconds, stop=stop, write=write
        )
        return requests.build(sheet.head, sheet.spec, conversation, schemas, reserved.max_tokens, usable), reserved

    def _want(
        self,
        rates: Rates,
        request: ModelRequest,
        conversation: list[Entry],
        schemas: Mapping[str, Mapping[str, Any]],
        wanted: int,
    ) -> Want:
        bound = requests.input_bound(self._sheet.head, request, conversation, schemas)
        if bound is None:
            return Want(rates, self._counted(request), wanted)

        def count() -> int:
            try:
                return self._counted(request)
            except ProviderError:
                return bound  # Then the cheap bound has to do.

        return Want(rates, bound, wanted, count)

    def _counted(self, request: ModelRequest) -> int:
        """The provider's count, with a little room for what it adds by itself."""
        counted = self._world.model.count_tokens(request)
        return counted + counted // 50 + 64

    def _remote_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """Schemas of tools that live elsewhere. One that cannot be had now is left out of this call."""
        schemas: dict[str, Mapping[str, Any]] = {}
        for definition in self._sheet.spec.tools:
            tool = self._toolbox.get(definition.name)
            if definition.input_schema is None and tool is not None:
                try:
                    schemas[definition.name] = tool.schema()
                except Exception as error:  # noqa: BLE001 - somebody else's server
                    self._world.warn(f"tool {definition.name} is left out: {type(error).__name__}")
        return schemas

    def call(self, request: ModelRequest, *, left_seconds: float | None, stop: Callable[[], bool]) -> ModelReply:
        """One attempt, given up where ``stop`` says so or this runner's time runs out.

        Raises:
            ProviderError: no complete answer.
            LeaseLost: another runner took the session meanwhile.
        """
        timeout = CALL_SECONDS if left_seconds is None else max(1.0, min(CALL_SECONDS, left_seconds))
        [done] = self._world.parallel.run_all(
            [lambda: self._world.model.call(request, timeout_seconds=timeout)],
            timeouts=[timeout + 5.0],
            stop=stop,
            done=lambda *_: None,
        )
        self._sheet.raise_if_lost()
        if done is None:
            raise ProviderError("the call was given up", retryable=True, certainty="unknown")
        reply = done.result()
        if reply.stop_reason == "end_turn" and says_nothing(reply.content):
            raise ProviderError("the model answered nothing", retryable=True, certainty="known", usage=reply.usage)
        return reply

    def settle(
        self,
        reservation: Reservation,
        reply: ModelReply,
        judged: Judgement,
        rest: Callable[[int], tuple[Entry, Mapping[str, Any]]] | None,
        duration_ms: int,
    ) -> None:
        """The write after the call: the answer with its usage and cost, the reservation settled, and where the turn
        ends with it (``rest`` makes its status entry and the head's fields at rest), that too."""
        sheet = self._sheet
        head = sheet.head
        resolution, cost = self._cost(reply.usage, reservation)
        entries = [self._answer_entry(reply, cost, duration_ms)]
        if judged.answers:
            entries.append(sheet.results_entry(entries[-1].seq + 1, judged.answers))
        if judged.note is not None:
            entries.append(sheet.note_entry(entries[-1].seq + 1, judged.note))
        fields: dict[str, Any] = {
            "pending": None,
            "steps": head.steps + 1,
            "usage": head.usage + reply.tokens,
            "cost_nanousd": head.cost_nanousd + cost,
            "untold_nanousd": 0,
            "context_tokens": reply.tokens.read_tokens,
            "attempts": 0,
            "breakers": judged.breakers,
            "nudged": judged.nudged,
            "step_millis": (*head.step_millis, duration_ms)[-8:],
        }
        sheet.change(untold_nanousd=0)  # The answer tells it; a status entry behind it has nothing left to tell.
        if rest is not None:
            status_entry, resting = rest(entries[-1].seq + 1)
            entries.append(status_entry)
            fields.update(resting)
        resolved = Resolved(reservation, resolution, cost, self._told(reply.usage, reply.request_id))
        sheet.write(*entries, resolved=resolved, **fields)

    def _answer_entry(self, reply: ModelReply, cost: int, duration_ms: int) -> Entry:
        head = self._sheet.head
        return Entry(
            seq=head.last_seq + 1,
            type="assistant",
            at=self._sheet.now(),
            content=tuple(reply.content),
            model=reply.model,
            usage=dict(reply.usage),
            cost_nanousd=cost + head.untold_nanousd,
            stop_reason=reply.stop_reason,
            duration_ms=duration_ms,
            request_id=reply.request_id,
            attempts=head.attempts + 1 if head.attempts else None,
        )

    def book_failure(self, reservation: Reservation, failed: ProviderError) -> None:
        """Settle, void or doubt an attempt that brought no answer; the next entry tells its cost."""
        resolution: Resolution = "voided"
        spent = 0
        if failed.certainty == "known":
            resolution, spent = self._cost(failed.usage or {}, reservation)
        elif failed.certainty == "unknown":
            resolution, spent = "in_doubt", reservation.amount_nanousd
        detail = {
            **self._told(failed.usage, failed.request_id),
            "error": self._world.redactor.redact_text(failed.detail)[:500],
            "status_code": failed.status_code,
        }
        # One that was not made is no attempt, or a session waits for the provider until it has none left. It still is
        # the beginning of this call: the next one is no new iteration.
        before = self._sheet.head.attempts
        attempts = before + 1 if failed.asked else max(before, 1)
        self.book(Resolved(reservation, resolution, spent, detail), attempts=attempts)

    def book(self, resolved: Resolved, **fields: Any) -> None:
        head = self._sheet.head
        self._sheet.write(
            resolved=resolved,
            pending=None,
            cost_nanousd=head.cost_nanousd + resolved.spent_nanousd,
            untold_nanousd=head.untold_nanousd + resolved.spent_nanousd,
            **fields,
        )

    def _cost(self, usage: Mapping[str, Any], reservation: Reservation) -> tuple[Resolution, int]:
        """What the usage costs; where the answer names something that nobody can price, all that was reserved."""
        spec = self._sheet.spec
        try:
            return "settled", self._world.prices.cost_nanousd(spec.model, usage, spec.model_options)
        except UnpricedModel:
            return "in_doubt", reservation.amount_nanousd

    @staticmethod
    def _told(usage: Mapping[str, Any] | None, request_id: str | None) -> dict[str, Any]:
        return {"usage": Usage.of(dict(usage or {})).model_dump(), "request_id": request_id}
