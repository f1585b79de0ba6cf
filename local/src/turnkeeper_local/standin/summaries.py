"""Requests for a summary of a conversation, as the kit makes them when one grows too long.

They are known by their system prompt. What is to be summarized stands in them as one text, with a line before each
message that says whose it is. The answer is a summary that also says how much of the script was played before, so that
the script goes on behind it, and that there was one: the stand-in remembers nothing itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from turnkeeper_local.standin.conversation import text_of

_ASKS = "You write the summary that takes the place of the older part of a conversation"
_SPEAKER = re.compile(r"^<(user|kit|assistant|tool_results|earlier_summary)>$", re.MULTILINE)
_PLAYED = re.compile(r"\(Answers (?:of the script )?that were given before: (\d+)\.\)")
_SCRIPTED = re.compile(r"\(Answers of the script that were given before: \d+\.\)")


def summary_of(request: Mapping[str, Any]) -> str | None:
    """What to answer to a request for a summary; ``None`` where it is no such request."""
    if not text_of(request.get("system")).startswith(_ASKS):
        return None
    words = "\n".join(text_of(message.get("content")) for message in request["messages"])
    parts = _SPEAKER.split(words)[1:]
    answers = carried = 0
    scripted = False
    for speaker, text in zip(parts[::2], parts[1::2], strict=True):
        if speaker == "user" and "[[" in text:
            answers = carried = 0
            scripted = True
        elif speaker == "earlier_summary":
            carried = played_before(text)
            scripted = scripted or bool(_SCRIPTED.search(text))
        elif speaker == "assistant":
            answers += 1
    answered = "Answers of the script" if scripted else "Answers"
    return f"The assistant works on what the user wants. ({answered} that were given before: {carried + answers}.)"


def played_before(text: str) -> int:
    """How much of the script a summary in this text says was played."""
    found = _PLAYED.findall(text)
    return int(found[-1]) if found else 0


def was_scripted(messages: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a summary in these messages says that there was a script."""
    return any(_SCRIPTED.search(text_of(message.get("content"))) for message in messages)
