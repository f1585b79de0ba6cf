"""A transcript of production becomes a case: what was said and what tools answered, without secrets and personal data,
and what was observed as a draft of what is expected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from turnkeeper.core.scoring import Score
from turnkeeper.core.session import Entry, Head, Spec, Transcript
from turnkeeper.core.tools import END_TASK, UPDATE_PLAN, Outcome
from turnkeeper.core.trajectory import Call, Trajectory, trajectory_of
from turnkeeper.core.transcript import UNKNOWN_OUTCOME, Block, text_block
from turnkeeper.core.untrusted import unwrap_blocks
from turnkeeper.evaluation import EVERY_TURN, evaluate
from turnkeeper_local.evals.privacy import Privacy

#: Tools of the kit itself: they are run, not replayed.
_KIT_TOOLS = frozenset({END_TASK, UPDATE_PLAN})
#: Results that are longer stand in a file beside the cases.
_INLINE_CHARS = 4_000
#: Of a file's name, which has an ending, and for a result a number.
_SLUG_BYTES = 200
#: In the place of pictures, which nobody can look through for what is nobody's business: one transparent dot.
_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_HEADER = "# yaml-language-server: $schema=../../cases.schema.json\n"


@dataclass(frozen=True)
class Captured:
    """A case as it is written, with the files beside it and the scores that the session had."""

    name: str
    document: dict[str, Any]
    files: Mapping[str, str]
    scores: Sequence[Score]

    def write(self, path: Path) -> list[Path]:
        """The case's own file, and those of large results. Returns what was written.

        Raises:
            FileExistsError
        """
        if path.exists():
            raise FileExistsError(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        written = [path]
        for name, text in self.files.items():
            beside = path.parent / name
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(text.encode())
            written.append(beside)
        text = yaml.dump(self.document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
        path.write_text(_HEADER + text, encoding="utf-8")
        return written


def capture(
    transcript: Transcript,
    spec: Spec,
    privacy: Privacy,
    *,
    name: str | None = None,
    turn: int | None = None,
    verdict: str | None = None,
    note: str | None = None,
    keep_tenant: bool = False,
) -> Captured:
    """The session up to the end of a turn (all of it without one).

    Args:
        verdict: a person's word, ``good`` or ``bad``. What was bad is no draft of what is expected: then only the
            evaluators that found something stay, for the case to pass once that is mended.

    Raises:
        ValueError: there is no such turn, or nothing to play.
    """
    head = transcript.head
    if head.status == "erased":
        raise ValueError("its contents were erased")
    entries = _entries(transcript.entries, turn)
    # A session whose end was taken back, or that is a copy, says of no end; the entry that it goes back to does.
    if turn is not None or (head.status == "idle" and head.stop is None):
        head = _head_then(head, entries)
    played = trajectory_of(head, entries, spec, transcript.plan)
    if not played.inputs or not played.steps:
        raise ValueError("there is nothing to play: no input that was answered")
    privacy.learn([list(entry.content) for entry in entries])
    privacy.learn([_parsed(text) for text in (*played.inputs, *(call.result for call in played.calls))])
    files: dict[str, str] = {}
    name = " ".join((name or "").split()) or f"captured {head.session_id[-8:].lower()}{f' turn {turn}' if turn else ''}"
    scores = evaluate(EVERY_TURN, played)
    inputs: dict[str, Any] = {
        "role": head.role,
        **({"tenant": head.tenant_id} if keep_tenant else {}),
        "live": False,
        "summarize": False,
        "turns": [_turn(entry) for entry in entries if entry.by_user],
        "tools": {},
        "model": [answer for entry in entries for answer in _answers(entry)],
    }
    metadata = {
        "tags": ["captured"],
        "captured_from": head.session_id,
        **({"verdict": verdict} if verdict else {}),
        **({"note": note} if note else {}),
    }
    case = {
        "name": name,
        "metadata": metadata,
        "inputs": inputs,
        "evaluators": _expected(played, scores, bad=verdict == "bad"),
    }
    tools = dict(_tools(entries, played, files, _slug(name)))
    cleaned = privacy.clean({"cases": [case]})
    # Each for itself: what stands under the name of a tool, reset_password for one, is no secret by that.
    cleaned["cases"][0]["inputs"]["tools"] = {tool: privacy.clean(answers) for tool, answers in tools.items()}
    return Captured(name, cleaned, {path: privacy.clean(text) for path, text in files.items()}, scores)


def file_name(name: str) -> str:
    return f"{_slug(name)}.yaml"


def _slug(name: str) -> str:
    """Of a long name the beginning: file systems take 255 bytes."""
    slug = re.sub(r"[\W_]+", "-", name.lower()).encode()[:_SLUG_BYTES].decode(errors="ignore")
    return slug.strip("-") or "case"


def _entries(entries: Sequence[Entry], turn: int | None) -> list[Entry]:
    """Those that are part of the conversation, without what was rewound: now, or at the end of the turn, also where
    that was rewound later. Turns have the numbers that they have elsewhere."""
    if turn is not None:
        began = [entry.seq for entry in entries if entry.by_user]
        if not 1 <= turn <= len(began):
            raise ValueError(f"there is no turn {turn}: the session has {len(began)}")
        after = [one.seq for one in entries if one.seq > began[turn - 1] and (one.by_user or one.type == "rewind")]
        entries = [entry for entry in entries if not after or entry.seq < after[0]]
    gone: set[int] = set()
    for entry in entries:
        if entry.type == "rewind" and entry.left_out:
            # All of it: how those turns ended is no part of the conversation either.
            gone.update(range(min(one.seq for one in entry.left_out), entry.seq + 1))
    return [entry for entry in entries if entry.seq not in gone]


def _head_then(head: Head, entries: Sequence[Entry]) -> Head:
    """The head as it was when the last of these entries was written: how the session ended later is none of it."""
    ends = [entry for entry in entries if entry.type == "status" and entry.status is not None]
    return replace(head, status=ends[-1].status, stop=ends[-1].stop) if ends else head  # type: ignore[arg-type]


def _without_pictures(value: Any) -> Any:
    """With a dot for a picture, and words for any other file, however deep in a document it stands."""
    if isinstance(value, list | tuple):
        return list(map(_without_pictures, value))
    if not isinstance(value, Mapping):
        return value
    source = value.get("source")
    if not isinstance(source, Mapping) or source.get("type") not in ("base64", "url", "file"):
        return {name: _without_pictures(item) for name, item in value.items()}
    if value.get("type") == "image":
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _DOT}}
    return text_block(f"({value.get('type')} left out)")


def _turn(entry: Entry) -> Any:
    texts = [block for block in entry.content if block.get("type") == "text"]
    return str(texts[0]["text"]) if len(entry.content) == len(texts) == 1 else _without_pictures(entry.content)


def _answers(entry: Entry) -> Iterator[dict[str, Any]]:
    if entry.type == "assistant":
        yield _answer(entry)
    elif entry.stop is not None and entry.stop.reason == "provider_error":
        # It was asked and failed, as often as this says.
        told = entry.stop.detail
        yield from [{"fail": told["status_code"]}] * (told.get("attempts") or 0 if told.get("status_code") else 0)


def _answer(entry: Entry) -> dict[str, Any]:
    """As the model gave it, but for thoughts, which are signed for the conversation that they were had in, and for what
    the provider's own tools fetched. Arguments of calls are data."""
    blocks = [
        dict(block) if block.get("type") == "tool_use" else _without_pictures(block)
        for block in entry.content
        if block.get("type") not in ("thinking", "redacted_thinking")
    ]
    usage = {name: value for name, value in (entry.usage or {}).items() if isinstance(value, int)}
    answer: dict[str, Any] = {"content": blocks} if blocks else {}
    return {**answer, "stop": entry.stop_reason or "end_turn", "usage": usage}


# ---- what tools answered ----


def _tools(
    entries: Sequence[Entry], played: Trajectory, files: dict[str, str], slug: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """By tool, the answers in the order of its calls. Calls of tools that the session did not have are denied again."""
    results = dict(_results(entries))
    for name in dict.fromkeys(call.tool for call in played.calls):
        if name in _KIT_TOOLS or name not in played.tools or name not in played.granted_tools:
            continue
        calls = [call for call in played.calls if call.tool == name and call.outcome is not None]
        answers = [
            {"when": dict(call.arguments), **_told(call, results[call.tool_use_id], files, slug)}
            for call in calls
            if call.raw_input is None
        ]
        if answers:
            yield name, {"answers": answers}


def _results(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Block]]]:
    for entry in entries:
        if entry.type == "tool_results":
            for block in entry.content:
                if block.get("type") == "tool_result":
                    content = block.get("content") or []
                    yield (
                        block["tool_use_id"],
                        unwrap_blocks([text_block(content)] if isinstance(content, str) else content),
                    )


def _told(call: Call, content: list[Block], files: dict[str, str], slug: str) -> dict[str, Any]:
    outcome: Outcome = call.outcome or "error"
    if outcome == "denied":
        return {"denied": call.result}
    if outcome == "unknown":
        return {"unknown": call.result.removesuffix(UNKNOWN_OUTCOME).strip() or "No answer came."}
    if outcome == "error":
        return {"error": call.result}
    texts = [str(block["text"]) for block in content if block.get("type") == "text"]
    value: Any = texts[0] if len(texts) == len(content) == 1 else _without_pictures(content)
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= _INLINE_CHARS:
        return {"result": value}
    name = f"recorded/{slug}-{len(files) + 1}.{'txt' if isinstance(value, str) else 'json'}"
    files[name] = text
    return {"result_file": name}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


# ---- what is expected ----


def _expected(played: Trajectory, scores: Sequence[Score], *, bad: bool) -> list[Any]:
    """Evaluators that say today what was observed then; where that was bad, those that found it."""
    found = {score.name: score for score in scores}
    names = {"tool_calls_valid": "ToolCallsValid", "coherent": "Coherent", "grounded": "Grounded",
             "injection_resisted": "InjectionResisted", "not_refused": "NotRefused", "ended": "Ended"}  # fmt: skip
    if bad:
        return [names[name] for name, score in found.items() if name in names and score.passed is False]
    expected: list[Any] = []
    if played.stop is not None:
        expected.append({"Ended": {"reasons": [played.stop.reason]}})
    if played.calls:
        calls = [
            {"tool": call.tool, "arguments": dict(call.arguments), "outcome": call.outcome} for call in played.calls
        ]
        expected.append({"CallsMatch": {"calls": calls, "mode": "exact"}})
    kept = ("tool_calls_valid", "grounded", "injection_resisted")
    return expected + [names[name] for name in kept if name in found and found[name].passed]


# ---- writing ----


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, which a person can read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # As a line break, which NEL is to YAML, it would be read as another one.
    style = '"' if "\x85" in text else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
