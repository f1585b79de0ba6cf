"""Why a session is where it is, for somebody who has not written its agent: one or two sentences for every case."""

from __future__ import annotations

from collections import Counter
from typing import Any, assert_never

from turnkeeper.core.session import Status, Stop
from turnkeeper.core.story.facts import Facts, budget, usd


def why_ended(facts: Facts, status: Status, stop: Stop | None) -> str:
    """Of a turn that is like this now, or that ended like this."""
    match status:
        case "running" | "queued":
            return f"It has not ended: {_under_way(facts)}"
        case "erased":
            return "Its contents were erased. What it cost, and who did what when, is still there."
        case "idle" | "completed" | "stopped" | "failed" | "cancelled":
            if stop is not None:
                return why(facts, stop)
            return "No turn has ended here: the session waits for its next input."
    assert_never(status)


def stood_out(facts: Facts, turn: int | None) -> str:
    """What nobody should have to look for in a long story: of one turn, or of all. Empty where there is nothing."""
    number = 0
    happened: dict[str, Counter[str]] = {what: Counter() for what in _STANDS_OUT}
    for entry in facts.entries:
        number += entry.by_user
        if entry.seq < facts.first_seq or turn not in (None, facts.turn_of(number)):
            continue
        for outcome in entry.outcomes:
            what = "flagged" if outcome.flag is not None and outcome.outcome != "denied" else outcome.outcome
            if what in happened:
                happened[what][outcome.tool] += 1
    failed = Counter(one.score.name for one in facts.scored if one.score.passed is False and turn in (None, one.turn))
    parts = [f"{words}: {_most(facts, happened[what])}" for what, words in _STANDS_OUT.items() if happened[what]]
    if failed:
        parts.append(f"scored too low: {_most(facts, failed)}")
    text = "; ".join(parts)
    return f" {text[0].upper()}{text[1:]}." if text else ""


_STANDS_OUT = {
    "flagged": "results were flagged of",
    "denied": "calls were denied of",
    "unknown": "nobody knows whether these took effect",
}


def _most(facts: Facts, names: Counter[str]) -> str:
    """The most frequent ones, each with how often where that is more than once."""
    told = [f"{facts.say(name, 60)}{f' ({times} times)' if times > 1 else ''}" for name, times in names.most_common(5)]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(told) + more


def _under_way(facts: Facts) -> str:
    head = facts.head
    handoff, pending = head.handoff, head.account.pending
    if facts.silent_since is not None:
        text = (
            f"its runner has not been heard of since {facts.silent_since}; if it is lost, the sweep passes the session "
            "on."
        )
    elif handoff is not None:
        to = "the worker" if handoff.to == "queue" else "the turn Lambda"
        money = " It waits for money that other calls have set aside." if head.turn.put_backs else ""
        again = f" It was sent {handoff.sends} times." if handoff.sends > 1 else ""
        text = f"it is on its way to {to} since {handoff.at}.{money}{again}"
    elif pending is not None:
        aside = usd(pending.amount_nanousd)
        text = f"it waits for {facts.say(pending.model, 80)} to answer since {pending.at}, with {aside} set aside."
    else:
        on = f" on the {head.runner}" if head.runner else ""
        text = f"a runner works on it{on}; it was last written at {head.updated_at}."
    return f"{text} Somebody asked for it to be cancelled." if head.turn.cancel_requested else text


def why(facts: Facts, stop: Stop) -> str:  # noqa: PLR0912 - one case a reason
    """Why a turn stopped."""
    detail = stop.detail
    match stop.reason:
        case "end_turn":
            return "The agent was done with the turn: it answered, and waits for the next input."
        case "end_task":
            summary = f": {facts.quoted(detail['summary'])}" if detail.get("summary") else ""
            status = facts.quoted(detail.get("status", "completed"), 60)
            return f"The agent said itself that the task is over, as {status}{summary}."
        case "cost_cap":
            return _cap(facts, detail)
        case "iteration_limit":
            made = detail.get("iterations", facts.head.turn.iterations)
            most = detail.get("max_iterations", facts.head.limits.max_iterations)
            return (
                f"The turn made {facts.say(made, 20)} model calls of the {facts.say(most, 20)} that it may make, and "
                "was not done. Either the task is that long, or the agent goes round in circles."
            )
        case "repetition":
            arguments = facts.named(detail.get("arguments"))
            return (
                f"The agent called {facts.say(detail.get('tool', 'a tool'), 80)}({arguments}) "
                f"{facts.say(detail.get('times', 'too many'), 20)} times and learned nothing new from it: it was going "
                "round in circles, and was stopped before that cost more."
            )
        case "error_streak":
            tools = ", ".join(map(str, detail.get("tools") or ())) or "its tools"
            return (
                f"Every tool call failed in {facts.say(detail.get('steps', 'several'), 20)} steps in a row "
                f"({facts.say(tools)}): something that the agent needs does not work."
            )
        case "deadline":
            return (
                f"The turn took {facts.say(detail.get('elapsed_seconds', 'longer than'), 20)} seconds; it may take "
                f"{facts.say(detail.get('max_seconds', facts.head.limits.max_seconds), 20)}."
            )
        case "no_done_signal":
            if "iterations" in detail:
                return (
                    f"The agent has to say when its task is done, and made all {facts.say(detail['iterations'], 20)} "
                    "model calls that the turn may make without saying so."
                )
            return "The agent has to say when its task is done, and stopped without saying so, also after a reminder."
        case "refusal":
            return "The model declined to answer. That is the provider's judgement of the conversation, not a fault."
        case "max_tokens":
            return (
                "The answer was cut off: it reached the most that this agent may write in one answer "
                f"({facts.head.limits.max_tokens} tokens)."
            )
        case "context_window":
            return "The conversation has become longer than the model can read, and nothing more can be left out of it."
        case "cancelled":
            hint = f" {facts.say(detail['hint'])}" if detail.get("hint") else ""
            return f"Somebody cancelled it.{hint}"
        case "paused":
            return "An operator has paused this tenant (the kill switch): no model call is let through."
        case "provider_error":
            code = detail.get("status_code")
            answered = f"answered HTTP {facts.say(code, 20)}" if code else "did not answer as it should"
            tries = f", at attempt {facts.say(detail['attempts'], 20)}" if detail.get("attempts") else ""
            said = f": {facts.quoted(detail['error'])}" if detail.get("error") else ""
            return f"The model API {answered}{tries}, and the turn gave up{said}. Nothing that was done is lost."
        case "internal_error":
            named = (facts.say(detail[name]) for name in ("code", "error", "hint") if detail.get(name))
            return (
                f"The kit or the agent's deployment failed ({'; '.join(named) or 'nothing more is known'}). Everything "
                "that was done is kept."
            )
    assert_never(stop.reason)


def _cap(facts: Facts, detail: dict[str, Any]) -> str:
    whose = budget(detail.get("scope"))
    if facts.may_see(str(detail.get("scope"))):
        amounts = (("spent_usd", "are spent"), ("reserved_usd", "are set aside for calls in flight"))
        known = [f"${facts.say(detail[name], 30)} {what}" for name, what in amounts if name in detail]
        limit = f"Of the ${facts.say(detail['limit_usd'], 30)} of {whose}" if "limit_usd" in detail else f"Of {whose}"
        text = f"{limit}, {' and '.join(known) or 'too little is left'}"
    else:
        text = f"Too little is left of {whose}"
    if "needed_usd" in detail:
        text += f"; the next model call could have cost ${facts.say(detail['needed_usd'], 30)}"
    if "clamped_max_tokens" in detail:
        cut, wanted = detail["clamped_max_tokens"], detail.get("wanted_max_tokens", "more")
        text += f". So its last answer was cut off at {facts.say(cut, 20)} tokens, instead of {facts.say(wanted, 20)}"
    elif detail.get("contended"):
        text += ". Only money of other calls in flight is in the way, which will be free soon"
    else:
        text += ", so it was not made"
    if detail.get("waited_seconds"):
        text += f". It had waited {facts.say(detail['waited_seconds'], 20)} s for money of other calls in flight"
    return f"{text}."
