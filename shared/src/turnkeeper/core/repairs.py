"""What has to be left out of a conversation that the model API refuses."""

from __future__ import annotations

from collections.abc import Sequence

from turnkeeper.core.projection import Place, project
from turnkeeper.core.session import Entry, LeftOut
from turnkeeper.core.transcript import MESSAGES

#: What may work today and not tomorrow: contents that the API fetches or has to read itself.
_MEDIA = ("image", "document", "search_result", "container_upload")


def left_out(entries: Sequence[Entry], model: str, at: tuple[int, int | None] | None, why: str) -> list[LeftOut]:
    """The blocks that a refusal is about, and are sent still; empty where it is about something else.

    Args:
        at: message and block of the request that the refusal names. Where it names none, images and documents that
            came since the last answer are meant: all else the kit knows to be what the API takes.
    """
    projection = project(entries, model=model)
    places = _newest_media(entries) if at is None else projection.at(*at)
    sent = {place for message in projection.places for place in message if place is not None}
    known = {entry.seq: entry for entry in entries}
    marks = []
    for place in places:
        if place in sent:
            kind = str(known[place.seq].content[place.index].get("type"))
            marks.append(LeftOut(place.seq, place.index, f"left out, since the model API refused this {kind}: {why}"))
    return marks


def _newest_media(entries: Sequence[Entry]) -> tuple[Place, ...]:
    places: list[Place] = []
    for entry in reversed([entry for entry in entries if entry.type in MESSAGES]):
        if entry.type == "assistant":
            break
        for index, block in enumerate(entry.content):
            inner = block.get("content")
            parts = [block, *(inner if isinstance(inner, list) else ())]
            if any(isinstance(part, dict) and part.get("type") in _MEDIA for part in parts):
                places.append(Place(entry.seq, index))
    return tuple(places)
