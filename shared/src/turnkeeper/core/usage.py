"""Tokens, as the model API counts them."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Usage(BaseModel):
    """Tokens of one call, or the sum of many. The three input counts do not overlap."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens + other.cache_read_input_tokens,
            cache_creation_input_tokens=self.cache_creation_input_tokens + other.cache_creation_input_tokens,
        )

    @property
    def read_tokens(self) -> int:
        """All that the model was sent: the exact floor of the next call's input."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens

    @classmethod
    def of(cls, raw: dict[str, Any] | None) -> Self:
        """From the API's ``usage`` object; what is missing or null counts as 0."""
        raw = raw or {}
        return cls(**{name: int(raw.get(name) or 0) for name in _NAMES})


_NAMES = tuple(Usage.model_fields)
