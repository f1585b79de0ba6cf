"""Making room before a conversation is too long: old results left out, the oldest part summarized by the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from turnkeeper.core import summary
from turnkeeper.core.compaction import TOKEN_BYTES, Compaction, Room, next_compaction
from turnkeeper.core.decide import WINDOW_FULL
from turnkeeper.core.errors import ProviderError, TurnkeeperError, Uncountable, UnpricedModel
from turnkeeper.core.ledger import Reservation, iso
from turnkeeper.core.lifecycle import running
from turnkeeper.core.session import Entry
from turnkeeper.core.transcript import Block, text_block, text_of
from turnkeeper.core.untrusted import wrap
from turnkeeper.ports import Ids, ModelReply, ModelRequest
from turnkeeper.runtime import requests
from turnkeeper.runtime.model_step import ModelStep, Waits
from turnkeeper.runtime.store.holders import Want
from turnkeeper.runtime.store.treasury import Admitted
from turnkeeper.runtime.worksheet import Worksheet

#: Options of the agent's that say where a call is made: what it summarizes is not to be read elsewhere.
_PLACES = frozenset({"inference_geo", "service_tier"})
WHY = "to save room"
#: Refusals of any request, whatever is in it: the key, the bill, the rights, the model.
_NOT_ABOUT_THE_REQUEST = frozenset({401, 402, 403, 404})


class TooLong(TurnkeeperError):
    """Nothing is left that a request could go without."""

    code = "context_window"


@dataclass
class Compacting:
    sheet: Worksheet
    model: ModelStep
    ids: Ids
    #: The API said that the next call, as it stands, is too long.
    refused: bool = False

    def due(self) -> Compaction | None:
        """What has to make room before the next call; ``None`` where nothing has to.

        Raises:
            TooLong: it has to, and nothing is left that could be left out.
        """
        context = self.model.context
        if context is None:
            return None
        try:
            window = self.model.window(self.model.rates())
        except UnpricedModel:
            return None  # Which the call itself will say.
        refused = self.refused or self._was_cut_off()
        about = requests.estimate(self.sheet.head, self.sheet.conversation(), self.model.model_name())
        if not refused and (window is None or (about or self._at_most()) < window * context.clear_at):
            return None
        request = self.model.built()
        around = requests.estimate_of(request.system, request.tools)
        tokens = about or self._tokens(request)
        # Whatever is believed of the window, it is smaller than what was refused.
        if self.refused or window is None:
            window = min(window or tokens, tokens * 9 // 10)
        room = Room(context, window, around, self.sheet.head.limits.max_tokens)
        compaction = next_compaction(self._numbered(), room, tokens=tokens, refused=refused)
        if refused and compaction is None:
            raise TooLong("the conversation is longer than the model can read")
        return compaction

    def _was_cut_off(self) -> bool:
        """The window ended the last answer, and nothing has happened since that may have made room."""
        for entry in reversed(self.sheet.entries):
            if entry.type != "tool_results":
                return entry.stop_reason == WINDOW_FULL
        return False

    def _at_most(self) -> int:
        """Tokens of everything that the transcript holds, sent or not: where this is little, nothing is counted."""
        spec = self.sheet.spec
        around = len(spec.system) + len(spec.model_dump_json()) + requests.FRAME_TOKENS
        return around // TOKEN_BYTES + requests.estimate_of(*(entry.content for entry in self.sheet.conversation()))

    def _tokens(self, request: ModelRequest) -> int:
        """The provider's count; about as many as the bytes say where it cannot be asked."""
        try:
            return self.model.counted(request)
        except (ProviderError, Uncountable):
            return requests.estimate_of(
                request.system, request.tools, *(message["content"] for message in request.messages)
            )

    def _numbered(self) -> list[Entry]:
        """The conversation with what waits for the next write in its place."""
        last = self.sheet.head.last_seq
        waiting = [replace(each, seq=last + index) for index, each in enumerate(self.sheet.waiting(), start=1)]
        return [*self.sheet.entries, *waiting]

    def clear(self, compaction: Compaction) -> None:
        """Leave old results out; nothing is paid for that."""
        self._leave_out(compaction)

    # ---- the summary ----

    def begin(self, compaction: Compaction, waits: Waits) -> tuple[ModelRequest, Admitted]:
        """The write before the call that summarizes. Raises what :meth:`ModelStep.begin` raises."""
        rates = self.model.rates()
        most = compaction.summary_tokens
        text = summary.render(compaction.summarized, compaction.read_tokens)
        wrapped = wrap(
            [text_block(text)], tool="conversation", nonce=self.ids.token(), max_bytes=len(text.encode()) + 1_000
        )
        request = ModelRequest(
            model=self.model.model_name(),
            max_tokens=most,
            system=[text_block(summary.SYSTEM)],
            tools=[],
            messages=[{"role": "user", "content": [*wrapped.content, text_block(summary.ASK)]}],
            options={
                "metadata": {"user_id": self.sheet.head.session_id},
                **{name: value for name, value in self.sheet.spec.model_options.items() if name in _PLACES},
            },
        )
        bound = requests.bytes_of(request.system, request.messages) + requests.FRAME_TOKENS
        admitted = self.model.reserve(Want(rates, bound, most, lambda: self._count(request, bound)), waits)
        return replace(request, max_tokens=admitted.reservation.max_tokens), admitted

    def _count(self, request: ModelRequest, bound: int) -> int:
        try:
            return self.model.counted(request)
        except (ProviderError, Uncountable):
            return bound

    def settle(self, compaction: Compaction, reservation: Reservation, reply: ModelReply) -> None:
        """The write after it: the summary, and its money."""
        # What it says where it declines is no summary.
        words = None if reply.stop_reason == "refusal" else text_of(reply.content)
        content = self._content(compaction, words)
        entry = replace(self.model.entry("compaction", reply, content), left_out=compaction.left_out, reason=WHY)
        resolved = self.model.resolved(reservation, reply)
        self.refused = False
        self.sheet.write(running.summarize(self.sheet.head, self.sheet.now(), entry, resolved, reply.tokens))

    def go_without(self, compaction: Compaction) -> None:
        """The model would not write the summary: the plan and the names of things have to do."""
        self._leave_out(compaction, self._content(compaction, None))

    def _content(self, compaction: Compaction, words: str | None) -> tuple[Block, ...]:
        return summary.content(words, compaction.summarized, self.sheet.kept_plan, compaction.summary_tokens)

    def _leave_out(self, compaction: Compaction, content: tuple[Block, ...] = ()) -> None:
        now = self.sheet.now()
        entry = Entry(type="compaction", at=iso(now), content=content, left_out=compaction.left_out, reason=WHY)
        self.refused = False
        self.sheet.write(running.clear(self.sheet.head, now, entry, self.sheet.waiting()))


def is_refused(failed: ProviderError) -> bool:
    """Asked for a summary again, the model would fail again: it cannot read what it is shown, or says nothing."""
    status = failed.status_code or 0
    refused = 400 <= status < 500 and not failed.retryable and status not in _NOT_ABOUT_THE_REQUEST
    return refused or bool(failed.data.get("empty"))
