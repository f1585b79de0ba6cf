"""One model call: money reserved and the input written before it, the answer written and the money settled after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from turnkeeper.core.agent import Context
from turnkeeper.core.decide import Judgement
from turnkeeper.core.errors import ProviderError, Uncountable, UnpricedModel
from turnkeeper.core.fallbacks import model_of
from turnkeeper.core.ledger import Reservation, Resolution, iso
from turnkeeper.core.lifecycle import leaving, running
from turnkeeper.core.lifecycle.change import Reserved, Resolved
from turnkeeper.core.policy import Terms
from turnkeeper.core.remembered import remembered
from turnkeeper.core.schemas import Problem, tool_problem
from turnkeeper.core.session import Entry, EntryType, ToolDefinition
from turnkeeper.core.transcript import Block, says_nothing, text_block
from turnkeeper.core.usage import Usage
from turnkeeper.ports import Model, ModelReply, ModelRequest, OnEvent, Prices, Rates, Redacts
from turnkeeper.runtime import requests
from turnkeeper.runtime.store.holders import Holder, Want
from turnkeeper.runtime.store.treasury import Admitted, Treasury
from turnkeeper.runtime.threads import Parallel, run_one
from turnkeeper.runtime.toolbox import Toolbox
from turnkeeper.runtime.worksheet import Worksheet

#: One model call may take this long at most.
CALL_SECONDS = 1_200.0
#: The largest context window that there is: no call reads more, whatever it is sent. Reserved for documents where
#: nobody can count them.
MAX_INPUT_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a call may wait for money in flight, whether it then takes less, and what ends the wait."""

    seconds: float
    or_less: bool
    stop: Callable[[], bool]


@dataclass
class ModelStep:
    sheet: Worksheet
    toolbox: Toolbox
    #: The tenant's, as they were last known.
    terms: Terms
    model: Model
    prices: Prices
    treasury: Treasury
    redactor: Redacts
    parallel: Parallel
    warn: Callable[[str], None]
    #: What the agent says about long conversations; ``None``: they end.
    context: Context | None
    #: What the API said a request may have, while this runner has the session.
    learned_window: int | None = None

    def begin(self, waits: Waits) -> tuple[ModelRequest, Admitted]:
        """The write before the call: the input, the iteration, and the money in every scope. See
        :meth:`turnkeeper.runtime.store.treasury.Treasury.admit`.

        Raises:
            CostCapExceeded, TenantPaused, UnpricedModel: not admitted; nothing was written.
            ProviderError: the provider had to be asked for a count, and did not answer.
        """
        schemas = self._remote_schemas()
        rates = self.rates()
        request = self._built(schemas)
        admitted = self.reserve(self._want(rates, request, schemas), waits)
        return requests.shortened(request, self.sheet.spec, admitted.reservation.max_tokens), admitted

    def reserve(self, want: Want, waits: Waits) -> Admitted:
        """Write the session with a reservation for one call."""
        sheet = self.sheet

        def write(admitted: Admitted) -> Admitted:
            self.terms = admitted.terms  # Where they have changed, the next call starts from the new ones.
            reserved = Reserved(admitted.reservation, self.terms.caps, want.rates.version, admitted.waited_ms)
            # Not of the sheet's own head: it also counts attempts that failed before anything was written.
            first_attempt = sheet.stored.turn.attempts == 0
            window = self.window(want.rates) or 0
            sheet.write(
                running.begin_call(
                    sheet.head, sheet.now(), sheet.waiting(), reserved, first_attempt=first_attempt, window=window
                )
            )
            return admitted

        return self.treasury.admit(
            Holder.of(sheet.head),
            self.terms,
            want,
            wait_seconds=waits.seconds,
            or_less=waits.or_less,
            stop=waits.stop,
            write=write,
        )

    def built(self) -> ModelRequest:
        """The next call as it would be made now."""
        return self._built(self._remote_schemas())

    def _built(self, schemas: Mapping[str, Mapping[str, Any]]) -> ModelRequest:
        sheet = self.sheet
        wanted = sheet.head.limits.max_tokens
        return requests.build(
            sheet.head,
            sheet.spec,
            sheet.conversation(),
            schemas,
            wanted,
            self._usable,
            now=sheet.now(),
            kept=sheet.kept,
        )

    def rates(self) -> Rates:
        """Raises UnpricedModel."""
        return self.prices.rates(self.model_name(), self.sheet.spec.model_options)

    def window(self, rates: Rates) -> int | None:
        """Tokens that a request may have: what the agent allows, and what the model can read, as far as is known."""
        own = self.context.window if self.context is not None else None
        return min((tokens for tokens in (rates.window, own, self.learned_window) if tokens), default=None)

    def model_name(self) -> str:
        return model_of(self.sheet.head, self.sheet.spec)

    def _want(self, rates: Rates, request: ModelRequest, schemas: Mapping[str, Mapping[str, Any]]) -> Want:
        wanted = request.max_tokens
        bound = requests.input_bound(self.sheet.head, request, self.sheet.conversation(), schemas)
        if bound is None:
            try:
                return Want(rates, self.counted(request), wanted)
            except Uncountable:
                return Want(rates, MAX_INPUT_TOKENS, wanted)

        def count() -> int:
            try:
                return self.counted(request)
            except ProviderError:
                return bound  # Then the cheap bound has to do.

        return Want(rates, bound, wanted, count)

    def counted(self, request: ModelRequest) -> int:
        """The provider's count, as far as it can be believed."""
        return requests.with_room(self.model.count_tokens(request))

    def _remote_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """Schemas of tools that live elsewhere. One that cannot be had now, or that the API would refuse the whole
        request for, is left out of this call."""
        schemas: dict[str, Mapping[str, Any]] = {}
        for definition in self.sheet.spec.tools:
            tool = self.toolbox.get(definition.name)
            if definition.input_schema is None and tool is not None:
                try:
                    schema = tool.schema()
                    problem = tool_problem(definition.description, schema)
                except Exception as error:  # noqa: BLE001 - somebody else's server
                    self.warn(f"tool {definition.name} is left out: {type(error).__name__}")
                    continue
                if problem is None:
                    schemas[definition.name] = schema
                else:
                    self.warn(f"tool {definition.name} is left out: it {problem}")
        return schemas

    @cached_property
    def _usable(self) -> frozenset[str]:
        """Tools of this turn but those whose stored definition the API does not take: an agent of today has none, but a
        session may keep the version that it was made with."""
        definitions = [each for each in self.sheet.spec.tools if each.input_schema is not None]
        odd = {each.name: _problem(each) for each in definitions}
        for name, problem in odd.items():
            if problem is not None:
                self.warn(f"tool {name} is left out: it {problem}")
        return frozenset(name for name in self.toolbox.names if odd.get(name) is None)

    def call(
        self,
        request: ModelRequest,
        *,
        left_seconds: float | None,
        stop: Callable[[], bool],
        on_event: OnEvent | None = None,
    ) -> ModelReply:
        """One attempt, given up where ``stop`` says so or this runner's time runs out.

        Raises:
            ProviderError: no complete answer.
            LeaseLost: another runner took the session meanwhile.
        """
        timeout = CALL_SECONDS if left_seconds is None else max(1.0, min(CALL_SECONDS, left_seconds))
        done = run_one(
            self.parallel,
            lambda: self.model.call(request, timeout_seconds=timeout, on_event=on_event),
            seconds=timeout + 5.0,
            stop=stop,
        )
        self.sheet.raise_if_lost()
        if done is None:
            raise ProviderError("the call was given up", retryable=True, certainty="unknown")
        reply = done.result()
        if reply.stop_reason == "end_turn" and says_nothing(reply.content):
            nothing = ProviderError("the model answered nothing", retryable=True, certainty="known", usage=reply.usage)
            nothing.data["empty"] = True
            raise nothing
        return reply

    def settle(self, reservation: Reservation, reply: ModelReply, judged: Judgement, duration_ms: int) -> None:
        """The write after the call: the answer with its usage and cost, the reservation settled, and where the turn
        ends with it, that too."""
        sheet = self.sheet
        now = sheet.now()
        entries = [self.entry("assistant", reply, tuple(reply.content), duration_ms)]
        if judged.answers:
            entries.append(sheet.results_entry(list(judged.answers)))
        if judged.note is not None:
            entries.append(Entry(type="user", at=iso(now), content=(text_block(judged.note),), by_kit=True))
        change = running.answer(
            sheet.head,
            now,
            entries,
            self.resolved(reservation, reply),
            reply.tokens,
            breakers=judged.breakers,
            nudged=judged.nudged,
            took_millis=duration_ms,
        )
        sheet.write(change if judged.stop is None else leaving.ending(change, now, judged.stop))

    def resolved(self, reservation: Reservation, reply: ModelReply) -> Resolved:
        """What an answer costs."""
        resolution, cost = self._cost(reply.usage, reservation)
        return Resolved(reservation, resolution, cost, self._ledger_detail(reply.usage, reply.request_id))

    def entry(
        self, kind: EntryType, reply: ModelReply, content: tuple[Block, ...], duration_ms: int | None = None
    ) -> Entry:
        """An entry that a call brought, with what the API said of the call."""
        return Entry(
            type=kind,
            at=iso(self.sheet.now()),
            content=content,
            model=reply.model,
            requested_model=requested if (requested := self.model_name()) != reply.model else None,
            usage=dict(reply.usage),
            stop_reason=reply.stop_reason,
            duration_ms=duration_ms,
            request_id=reply.request_id,
            prompt=self.sheet.head.prompt if kind == "assistant" and self.sheet.spec.prompt is not None else None,
            container=reply.container,
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
            **self._ledger_detail(failed.usage, failed.request_id),
            "error": self.redactor.redact_text(failed.detail)[:500],
        }
        if failed.asked:
            detail["status_code"] = failed.status_code
        resolved = Resolved(reservation, resolution, spent, detail)
        self.sheet.write(running.fail_attempt(self.sheet.head, self.sheet.now(), resolved, asked=failed.asked))

    def _cost(self, usage: Mapping[str, Any], reservation: Reservation) -> tuple[Resolution, int]:
        """What the usage costs; where it tells nothing, or what nobody can price, all that was reserved."""
        if not usage:
            return "in_doubt", reservation.amount_nanousd
        try:
            return "settled", self.prices.cost_nanousd(self.model_name(), usage, self.sheet.spec.model_options)
        except UnpricedModel:
            return "in_doubt", reservation.amount_nanousd

    @staticmethod
    def _ledger_detail(usage: Mapping[str, Any] | None, request_id: str | None) -> dict[str, Any]:
        return {"usage": Usage.of(dict(usage or {})).model_dump(), "request_id": request_id}


@remembered
def _problem(definition: ToolDefinition) -> Problem:
    return tool_problem(definition.description, definition.input_schema)
