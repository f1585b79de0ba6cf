"""What callers send: every body as a model, checked strictly. The OpenAPI document is made from the same models.

User content blocks are those of the Messages API, less what a user has no business with: results of tools, thoughts of
the model, file ids (files of all tenants are in one place) and ``cache_control`` (the kit sets it; it is dropped).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, ValidationError
from pydantic.functional_validators import AfterValidator

from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.inputs import is_deeper

MOST_METADATA_BYTES = 8 * 1024
_MOST_DEPTH = 32
_MOST_BLOCKS = 1_000
_MOST_ERRORS = 20


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_says_something)]
Https = Annotated[str, StringConstraints(pattern=r"^https://\S{1,2000}$")]
Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/\r\n]+={0,2}\s*$")]


def _kind(value: Any) -> str:
    """Whether text is complained about, or content blocks."""
    return "<blocks>" if isinstance(value, list) else "<text>"


# ---- content blocks ----


class Block(Body):
    cache_control: Any = Field(default=None, exclude=True, description="Dropped: the kit sets its own.")


class Citations(Body):
    enabled: bool = False


class Base64Image(Body):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Base64


class Base64Pdf(Body):
    type: Literal["base64"]
    media_type: Literal["application/pdf"]
    data: Base64


class PlainText(Body):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: Text


class UrlSource(Body):
    type: Literal["url"]
    url: Https


class TextBlock(Block):
    type: Literal["text"]
    text: Text


class ImageBlock(Block):
    type: Literal["image"]
    source: Annotated[Base64Image | UrlSource, Field(discriminator="type")]


Part = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]
Parts = Annotated[list[Part], Field(min_length=1, max_length=_MOST_BLOCKS)]


class ContentSource(Body):
    type: Literal["content"]
    content: Annotated[
        Annotated[Text, Tag("<text>")] | Annotated[Parts, Tag("<blocks>")],
        Discriminator(_kind),
    ]


class DocumentBlock(Block):
    type: Literal["document"]
    source: Annotated[Base64Pdf | PlainText | UrlSource | ContentSource, Field(discriminator="type")]
    title: str | None = Field(default=None, max_length=500)
    context: str | None = None
    citations: Citations | None = None


class SearchResultBlock(Block):
    type: Literal["search_result"]
    source: Text
    title: Text
    content: list[TextBlock] = Field(min_length=1, max_length=_MOST_BLOCKS)
    citations: Citations | None = None


ContentBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]
Blocks = Annotated[list[ContentBlock], Field(min_length=1, max_length=_MOST_BLOCKS)]


#: A string, or content blocks of a user message.
Input = Annotated[Annotated[Text, Tag("<text>")] | Annotated[Blocks, Tag("<blocks>")], Discriminator(_kind)]


# ---- bodies ----


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if is_deeper(value, _MOST_DEPTH):
        raise ValueError(f"is nested more than {_MOST_DEPTH} deep")
    if len(json.dumps(value, ensure_ascii=False).encode()) > MOST_METADATA_BYTES:
        raise ValueError(f"is larger than {MOST_METADATA_BYTES} bytes")
    return value


class CreateSession(Body):
    agent: str = Field(min_length=1, max_length=63)
    input: Input
    metadata: Annotated[dict[str, Any], AfterValidator(_small)] = Field(
        default_factory=dict, description=f"JSON of the caller's own, at most {MOST_METADATA_BYTES} bytes."
    )
    placement: Literal["auto", "interactive", "background"] | None = None


class PostTurn(Body):
    input: Input


class RaisedLimits(Body):
    max_iterations: int = Field(ge=1, le=1_000, description="Model calls of the turn, those made so far included.")


class ContinueSession(Body):
    continuation_token: str = Field(min_length=1, max_length=4_096)
    limits: RaisedLimits | None = None


# ---- reading them ----

B = TypeVar("B", bound=Body)


def read(model: type[B], value: Any) -> B:
    """A body as its model.

    Raises:
        InvalidRequest: ``errors`` says where and why.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # Inputs and contexts repeat what was sent.
        found = error.errors(include_url=False, include_context=False, include_input=False)
        errors = [
            {"where": _where(each["loc"], value), "why": each["msg"].removeprefix("Value error, ")[:300]}
            for each in found[:_MOST_ERRORS]
        ]
        raise InvalidRequest("The body does not fit.", errors=errors) from error


def content(value: str | Sequence[Block]) -> str | list[dict[str, Any]]:
    """An input as the transcript takes it."""
    return value if isinstance(value, str) else [block.model_dump(exclude_none=True) for block in value]


def _where(location: tuple[int | str, ...], value: Any) -> str:
    """A path that leads through what was sent. Pydantic's own also names which member of a union it took."""
    path, taken = "body", None
    for index, part in enumerate(location):
        if isinstance(part, str) and part.startswith("<"):
            continue
        if isinstance(value, dict) and value.get("type") == part and taken is not value:
            taken = value
        elif isinstance(part, int) and isinstance(value, list):
            path, value = f"{path}[{part}]", value[part] if part < len(value) else None
        elif isinstance(value, dict) and (part in value or index == len(location) - 1):
            path, value = f"{path}.{part}", value.get(part)
    return path
