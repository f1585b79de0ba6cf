"""What comes from outside, by HTTP or on the queue: one set of models, each rule written once.

Content blocks are those that the Messages API takes in a user message, less what a user has no business with: results
of tools, thoughts of the model, file ids (files of all tenants are in one place) and ``cache_control`` (the kit sets
its own; it is dropped).
"""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from turnkeeper.core.errors import InvalidRequest

#: Of a whole body, and of metadata.
MAX_DEPTH = 64
MAX_METADATA_DEPTH = 32
#: It is kept in the session's head, which is written with every step.
MAX_METADATA_BYTES = 16 * 1024
MAX_BLOCKS = 1_000
_MAX_ERRORS = 20


class Body(BaseModel):
    """Anything that is sent from outside. Unknown members are refused, and nothing is converted."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)


# ---- content blocks ----


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


Text = Annotated[str, AfterValidator(_not_blank), Field(json_schema_extra={"minLength": 1})]
Https = Annotated[str, Field(pattern=r"^https://\S+$")]
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/\r\n]+={0,2}\s*$")]


class InputBlock(Body):
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
    data: str


class UrlSource(Body):
    type: Literal["url"]
    url: Https


class TextBlock(InputBlock):
    """Blank ones are left out of what the model is sent, as the API refuses them."""

    type: Literal["text"]
    text: str
    citations: Annotated[list[Any], Field(max_length=0)] | None = Field(
        default=None, description="None: only the model's words have some."
    )


class TextPart(TextBlock):
    """Text inside another block, from which nothing is left out."""

    text: Text


class ImageBlock(InputBlock):
    type: Literal["image"]
    source: Annotated[Base64Image | UrlSource, Field(discriminator="type")]
    transformations: dict[Literal["oversized_image"], Literal["downsize", "error"]] | None = None


def _kind(value: Any) -> str:
    """Whether text is complained about, or content blocks."""
    return "<blocks>" if isinstance(value, list) else "<text>"


Part = Annotated[TextPart | ImageBlock, Field(discriminator="type")]


class ContentSource(Body):
    type: Literal["content"]
    content: Annotated[Annotated[str, Tag("<text>")] | Annotated[list[Part], Tag("<blocks>")], Discriminator(_kind)]


class DocumentBlock(InputBlock):
    type: Literal["document"]
    source: Annotated[Base64Pdf | PlainText | UrlSource | ContentSource, Field(discriminator="type")]
    title: str | None = Field(default=None, max_length=500)
    context: str | None = None
    citations: Citations | None = None


class SearchResultBlock(InputBlock):
    type: Literal["search_result"]
    source: Text
    title: Text
    content: list[TextPart] = Field(min_length=1)
    citations: Citations | None = None


ContentBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]


def _not_all_blank(blocks: Sequence[InputBlock]) -> Sequence[InputBlock]:
    if all(isinstance(block, TextBlock) and not block.text.strip() for block in blocks):
        raise ValueError("is empty")
    return blocks


def _as_json(value: str | Sequence[InputBlock]) -> str | list[dict[str, Any]]:
    return value if isinstance(value, str) else [block.model_dump(exclude_none=True) for block in value]


if TYPE_CHECKING:
    #: A string, or content blocks of a user message. It is checked as the models above and kept as plain JSON, which is
    #: what a transcript holds.
    Input = str | list[dict[str, Any]]
else:
    Blocks = Annotated[list[ContentBlock], Field(min_length=1, max_length=MAX_BLOCKS), AfterValidator(_not_all_blank)]
    Input = Annotated[
        Annotated[Text, Tag("<text>")] | Annotated[Blocks, Tag("<blocks>")],
        Discriminator(_kind),
        AfterValidator(_as_json),
    ]


# ---- what else both ways have ----


def _is_small(value: dict[str, Any]) -> dict[str, Any]:
    if is_deeper(value, MAX_METADATA_DEPTH):
        raise ValueError(f"is nested more than {MAX_METADATA_DEPTH} deep")
    if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) > MAX_METADATA_BYTES:
        raise ValueError(f"is larger than {MAX_METADATA_BYTES} bytes")
    return value


AgentName = Annotated[str, Field(min_length=1, max_length=63)]
Token = Annotated[str, Field(min_length=1, max_length=4_096)]
#: Whether it may be posted to is seen where plans are known.
Webhook = Annotated[
    str, Field(min_length=1, max_length=2_048, description="An address that is posted word of each turn that ends.")
]
Metadata = Annotated[
    dict[str, Any],
    AfterValidator(_is_small),
    Field(default_factory=dict, description=f"JSON of the caller's own, at most {MAX_METADATA_BYTES} bytes."),
]


# ---- reading it ----

B = TypeVar("B", bound=Body)


def parse_json(text: str) -> Any:
    """Raises ValueError for what is no JSON or cannot be written as such again: NaN, infinities, and numbers so large
    that they would become one, as ``1e999``."""
    try:
        return json.loads(text, parse_float=_finite, parse_constant=no_constant)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read(model: type[B], value: Any) -> B:
    """JSON as its model.

    Raises:
        InvalidRequest: ``errors`` says where and why, and repeats nothing of what was sent but names.
    """
    if is_deeper(value, MAX_DEPTH):
        raise invalid(f"The body is nested more than {MAX_DEPTH} deep.", "body", "nested too deep")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        errors = [
            {"where": _where(each["loc"], value), "why": each["msg"].removeprefix("Value error, ")[:300]}
            for each in found[:_MAX_ERRORS]
        ]
        raise InvalidRequest("The body does not fit.", errors=errors) from error


def invalid(detail: str, where: str, why: str) -> InvalidRequest:
    return InvalidRequest(detail, errors=[{"where": where, "why": why}])


def is_deeper(value: Any, most: int) -> bool:
    """Whether JSON is nested deeper than this; without recursion, which is what this is to prevent."""
    level = [value]
    for _ in range(most + 1):
        holders = [each for each in level if isinstance(each, dict | list)]
        if not holders:
            return False
        level = [item for each in holders for item in (each.values() if isinstance(each, dict) else each)]
    return True


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


def no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


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
