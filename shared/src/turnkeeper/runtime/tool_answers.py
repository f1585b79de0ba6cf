"""What a tool call came to, as the model is shown it: wrapped where nobody vouches for it, flagged where it looks as if
it carried instructions, without secrets where the tool speaks in words of its own, and never too long."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from turnkeeper.core.errors import ToolValueError
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import Flag, Head, ToolOutcome
from turnkeeper.core.suspicion import FLAG_AT
from turnkeeper.core.tools import ForeignToolError, Outcome, Tool, ToolDenied, ToolError, content_of
from turnkeeper.core.transcript import UNKNOWN_OUTCOME, Block, all_text_of, answer, outcome_of, text_block, tool_result
from turnkeeper.core.untrusted import wrap
from turnkeeper.ports import Ids, InjectionDetector, Redacts

logger = logging.getLogger(__name__)

#: Bytes of text that one result may bring into the conversation.
MAX_RESULT_BYTES = 200_000
#: Signs of an error's text, likewise.
MAX_ERROR_CHARS = 10_000
#: How far back a log tells what an error came of.
MAX_CAUSES = 5

Answer = tuple[Block, ToolOutcome]


class ToolAnswers:
    def __init__(self, ids: Ids, redactor: Redacts, detector: InjectionDetector) -> None:
        self._ids = ids
        self._redactor = redactor
        self._detector = detector

    def returned(self, head: Head, call: Block, tool: Tool, value: Any) -> Answer:
        """The answer to a call whose tool returned this."""
        try:
            return self._told(head, call, tool, self._redactor.without_given(content_of(value)), "ok")
        except Exception as error:  # noqa: BLE001 - what it returned is no JSON, or worse
            text = f"The tool ran, but what it returned cannot be shown: {type(error).__name__}."
            return answer(call, text)

    def observed(self, head: Head, call: Block, content: list[Block], outcome: Outcome) -> Answer:
        """The answer to a call that another engine made, and had answered before the kit saw it: flagged where it looks
        as if it carried instructions, cut to what an entry may hold, and else as it came."""
        flag = self._flag(head, call, all_text_of(content)[:MAX_RESULT_BYTES], forged=False)
        shown = tool_result(call["id"], _cut(content, MAX_RESULT_BYTES), is_error=outcome != "ok")
        return shown, outcome_of(call, content, outcome, flag=flag)

    def shown(self, tool: Tool, call: Block) -> Callable[[str], str]:
        """What a tool says in words of its own, as it may be shown: without secrets, by shape and by the arguments that
        it declares."""

        def shown(text: str) -> str:
            redactor = self._redactor.with_names(tool.secret_arguments) if tool.secret_arguments else self._redactor
            return redactor.redact_text(text, known=redactor.values(call["input"]))

        return shown

    def failed(self, head: Head, call: Block, tool: Tool, error: BaseException) -> Answer:
        """The answer to a call that raised; where it may have taken effect all the same, it says so."""
        block, outcome = self._failed(head, call, tool, error)
        if tool.effect == "read" or not (isinstance(error, ToolError) and error.may_have_run):
            return block, outcome
        return (
            {**block, "content": [*block["content"], text_block(UNKNOWN_OUTCOME)]},
            replace(outcome, outcome="unknown"),
        )

    def _failed(self, head: Head, call: Block, tool: Tool, error: BaseException) -> Answer:
        """Tools quote what they were given in their errors: secrets go out of them,
        by shape and by the arguments that the tool declares."""
        without_secrets = self.shown(tool, call)

        def shown(text: str) -> str:
            return without_secrets(text)[:MAX_ERROR_CHARS].strip()

        match error:
            case ToolDenied():
                return self._said(head, call, tool, shown(_words_of(error)) or "Denied.", "denied")
            case ForeignToolError():
                text = shown(_words_of(error)) or "The tool failed."
                return self._told(head, call, tool, [text_block(text)], "error")
            case ToolError():
                return self._said(head, call, tool, shown(_words_of(error)) or "The tool failed.", "error")
            case ToolValueError():
                # For those who deploy it. What the model could do about it is at most to ask again.
                logger.error("tool %s of agent %s: %s", tool.name, head.agent, shown(error.detail))
                again = "Try again later." if error.retryable else "Its operator sees why in the logs."
                return answer(call, f"The tool cannot be used now. {again}")
            case ValidationError():
                return answer(call, shown(_invalid_arguments(tool, error)))
        # Its words are in the transcript, for those who may read that.
        logger.warning("tool %s raised %s", tool.name, _without_words(error))
        text = shown(f"The tool failed: {type(error).__name__}: {_words_of(error)}")[:2000]
        return self._told(head, call, tool, [text_block(text)], "error")

    def _said(self, head: Head, call: Block, tool: Tool, text: str, outcome: Outcome) -> Answer:
        """The words of the tool itself stand as they are. But tools pass on what they were told: words that want to be
        obeyed, or to pass for the kit's, are data like any other."""
        wrapped = wrap([text_block(text)], tool=tool.name, nonce=self._ids.token()[:16], max_bytes=MAX_RESULT_BYTES)
        if tool.untrusted and self._flag(head, call, text, forged=wrapped.forged_ends > 0) is not None:
            return self._told(head, call, tool, [text_block(text)], outcome)
        return answer(call, text, outcome)

    def _told(self, head: Head, call: Block, tool: Tool, content: list[Block], outcome: Outcome) -> Answer:
        """A result as the model is shown it, or an error in words that nobody vouches for."""
        flag = None
        if tool.untrusted:
            wrapped = wrap(content, tool=tool.name, nonce=self._ids.token()[:16], max_bytes=MAX_RESULT_BYTES)
            flag = self._flag(head, call, all_text_of(content)[:MAX_RESULT_BYTES], forged=wrapped.forged_ends > 0)
            shown = list(wrapped.content)
        else:
            shown = _cut(content, MAX_RESULT_BYTES)
        return tool_result(call["id"], shown, is_error=outcome != "ok"), outcome_of(call, content, outcome, flag=flag)

    def _flag(self, head: Head, call: Block, text: str, *, forged: bool) -> Flag | None:
        """What in the result looks as if it wanted to be obeyed."""
        finding = self._detector.check(text)
        score = max(finding.score if finding else 0, FLAG_AT if forged else 0)
        if score < FLAG_AT:
            return None
        reasons = (*(("forged end of a result",) if forged else ()), *(finding.reasons if finding else ()))
        return Flag(seq=head.last_seq + 1, tool_use_id=call["id"], tool=call["name"], score=score, reasons=reasons[:5])


def _cut(content: Sequence[Block], max_bytes: int) -> list[Block]:
    """Results that are trusted are not wrapped, but no less limited."""
    kept: list[Block] = []
    for block in content:
        text = block["text"] if block.get("type") == "text" else ""
        encoded = text.encode("utf-8", "replace")
        if len(encoded) > max_bytes:
            shown = encoded[:max_bytes].decode("utf-8", "ignore")
            kept.append(text_block(f"{shown}\n[truncated: {max_bytes} of {len(encoded)} bytes]"))
        else:
            kept.append(block)
        max_bytes -= min(len(encoded), max_bytes)
    return kept


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - somebody else's __str__
        return type(error).__name__


def _without_words(error: BaseException) -> str:
    """Its type, and what it came of, each with the lines of code that it came through."""
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(told) < MAX_CAUSES:
        told.append(f"{type(cause).__name__} at\n{''.join(traceback.format_tb(cause.__traceback__))}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "because of ".join(told)[:MAX_ERROR_CHARS].rstrip()


def _invalid_arguments(tool: Tool, invalid: ValidationError) -> str:
    """Where and why, and what the tool takes instead, in words that the model can act on; without the values, which may
    be secret."""
    problems = "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in invalid.errors()[:10]
    )
    text = f"The arguments do not fit: {problems}. Nothing was run."
    if callable(tool.input_schema):
        return text
    return f"{text} It takes: {', '.join(tool.input_schema.get('properties', ())) or 'no arguments'}."
