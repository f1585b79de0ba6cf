"""Models are built when they are first used (``defer_build``): a process waits for those that it uses."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel


def build_all() -> None:
    """Build the models that were imported so far, as before a snapshot of the process is taken."""
    for model in _below(BaseModel):
        if model.__module__.startswith(("turnkeeper.", "functions.")):
            model.model_rebuild()


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        yield each
        yield from _below(each)
