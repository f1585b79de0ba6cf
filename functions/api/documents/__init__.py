"""What callers get: every document as a model, in one module with those that the same calls answer with. The OpenAPI
document is made of the same models, and calls each by its title."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
