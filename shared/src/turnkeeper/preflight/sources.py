"""Where an agent says something, for whoever has to change it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """The Python files of one agent's folder, then those beside it that agents share."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kept", {})

    def tool(self, name: str) -> tuple[Path, int | None]:
        """Where a tool is defined: the function of its name, else where its name stands."""
        for file, node in self._nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                return file, node.lineno
        return self.text(name)

    def text(self, text: str) -> tuple[Path, int | None]:
        """Where a text stands by itself, such as a model's name; else where the agent is made."""
        for file, node in self._nodes:
            if isinstance(node, ast.Constant) and node.value == text:
                return file, node.lineno
        return self.agent()

    def agent(self) -> tuple[Path, int | None]:
        for file, node in self._nodes:
            if file == self.folder / "agent.py" and "agent" in _assigned(node):
                return file, node.lineno  # type: ignore[attr-defined]
        return self.folder / "agent.py", None

    @cached_property
    def _nodes(self) -> list[tuple[Path, ast.AST]]:
        own = sorted(self.folder.rglob("*.py"), key=lambda file: (file.name != "agent.py", file))
        beside = sorted(self.folder.parent.glob("_*/**/*.py"))
        return [(file, node) for file in (*own, *beside) for node in _walk(file)]


def _walk(file: Path) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(ast.parse(file.read_bytes()))
    except (SyntaxError, ValueError):
        return


def _assigned(node: ast.AST) -> list[str]:
    match node:
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []
