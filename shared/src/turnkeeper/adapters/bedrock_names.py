"""What Amazon Bedrock calls the models that agents name as Anthropic does.

Names are those of Bedrock's global inference profiles: every commercial region has them, and they cost what Anthropic's
own API costs, which is what a call is priced at. Who wants calls to stay in a geography, which costs more, gives the
agent Bedrock's own name (``eu.anthropic.claude-...``); it is sent, and priced, as it is.
"""

from __future__ import annotations

import re

from turnkeeper.adapters.tariff import on_bedrock

#: The day of those that Anthropic also names without one; Bedrock does not.
_DAYS = {
    "claude-haiku-4-5": "20251001",
    "claude-opus-4-5": "20251101",
    "claude-sonnet-4-5": "20250929",
}
#: Bedrock's names that follow no rule.
_ODD = {"claude-opus-4-6": "claude-opus-4-6-v1", "claude-sonnet-4-0": "claude-sonnet-4-20250514-v1:0"}
#: Models that have regional profiles only.
_REGIONAL = re.compile(r"claude-([0-3v]|instant|opus-4(-[01])?(-\d{8})?$)")
_DATED = re.compile(r".*-\d{8}")


def bedrock_name(model: str) -> str:
    """The name to send to Bedrock. A name or ARN of Bedrock's own stays as it is.

    Raises:
        ValueError: no model of Anthropic's, or one that Bedrock does not have in every region; says what to write.
    """
    if on_bedrock(model):
        return model
    if not model.startswith("claude-") or _REGIONAL.match(model) or model.endswith("-latest"):
        raise ValueError(
            f"Bedrock has no {model} in every region. Give the agent the name that Bedrock has for it where you are, "
            "such as us.anthropic.claude-..., or another model."
        )
    name = f"{model}-{_DAYS[model]}" if model in _DAYS else model
    name = _ODD.get(name, f"{name}-v1:0" if _DATED.fullmatch(name) else name)
    return f"global.anthropic.{name}"
