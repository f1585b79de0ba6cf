"""Which model answers, where an agent names others for when its own is gone or overloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence

from turnkeeper.core.errors import ProviderError
from turnkeeper.core.session import Entry, Head, Spec
from turnkeeper.core.transcript import tool_uses

_DATE = re.compile(r"-\d{8}$")
_GONE = 404
_OVERLOADED = frozenset({503, 529})


def model_of(head: Head, spec: Spec) -> str:
    """The model that the turn's next call asks for."""
    return head.turn.model or spec.model


def next_model(head: Head, spec: Spec, failed: ProviderError) -> str | None:
    """The model that the turn goes on with after an attempt that failed; ``None`` where it stays with the one it has.

    A model that is gone is given up at once, and so is one that this process does not ask any more since it failed too
    often. One that is overloaded is given up after half of the attempts that the limits allow: the other half is left
    to those that follow. Attempts are counted over all models of a call.
    """
    models = (spec.model, *spec.fallback_models)
    following = models[models.index(model_of(head, spec)) + 1 :]
    if not following:
        return None
    half_used = 2 * head.turn.attempts >= head.limits.max_attempts
    if failed.status_code == _GONE or not failed.asked or (failed.status_code in _OVERLOADED and half_used):
        return following[0]
    return None


def answered_by(entry: Entry, model: str) -> bool:
    """Whether an answer was given to a request for this model, as far as is known. The API answers with the dated name
    of a model that may be asked for without its date."""
    asked = entry.requested_model or entry.model
    return asked is None or _DATE.sub("", asked) == _DATE.sub("", model)


def may_think(entries: Sequence[Entry], model: str) -> bool:
    """Whether the model may be asked to think. Not where it goes on with the tool calls of another: the API wants to
    see the thoughts that led to calls, and those were left out."""
    last = next((entry for entry in reversed(entries) if entry.type == "assistant"), None)
    return last is None or answered_by(last, model) or not tool_uses(last.content)
