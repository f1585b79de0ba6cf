"""Reads a Dockerfile of the few instructions that the worker's uses, and refuses every other.

What Docker would do differently from those who play it here must not pass unseen: an instruction, a flag or a form that
is not known is an error, not skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

FLAGS: Mapping[str, frozenset[str]] = {
    "ARG": frozenset(),
    "FROM": frozenset(),
    "COPY": frozenset({"from"}),
    "RUN": frozenset(),
    "ENV": frozenset(),
    "WORKDIR": frozenset(),
    "USER": frozenset(),
    "EXPOSE": frozenset(),
    "STOPSIGNAL": frozenset(),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "retries"}),
    "ENTRYPOINT": frozenset(),
}
"""The instructions that are known, and the flags that each may have."""

_INSTRUCTION = re.compile(r"(?P<name>[A-Za-z]+)\s+(?P<rest>.+)", re.DOTALL)
_FLAG = re.compile(r"--(?P<name>[a-z-]+)(?:=(?P<value>\S+))?\s+")
_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<braced>\w+)\}|(?P<odd>.|$))")


class DockerfileError(Exception):
    """A Dockerfile that cannot be played as Docker would, or that Docker refuses too; names the line."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined, nothing substituted yet."""

    line: int
    name: str
    value: str
    flags: Mapping[str, str] = field(default_factory=dict)

    def error(self, what: str) -> DockerfileError:
        return DockerfileError(f"line {self.line}: {self.name} {self.value[:80]}: {what}")

    def exec_form(self, text: str | None = None) -> list[str]:
        """The command of the JSON form; the shell form would put a shell between the process and its signals."""
        try:
            command = json.loads(self.value if text is None else text)
        except ValueError:
            command = None
        if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
            raise self.error("not in exec form, a JSON list of words")
        return command


def read(text: str) -> list[Instruction]:
    """The instructions in their order.

    Raises:
        DockerfileError: one that is not known here, or a flag of it, or a form that is not.
    """
    return [_instruction(line, joined) for line, joined in _joined(text)]


def substitute(instruction: Instruction, text: str, variables: Mapping[str, str]) -> str:
    """`text` with `$NAME` and `${NAME}` replaced. One that is not set is an error: Docker would take nothing for it."""

    def value(found: re.Match[str]) -> str:
        name = found["bare"] or found["braced"]
        if name is None or name not in variables:
            raise instruction.error(f"{found[0]!r} is not set, or a form that is not known here")
        return variables[name]

    return _VARIABLE.sub(value, text)


def _joined(text: str) -> list[tuple[int, str]]:
    """Each instruction's first line number and text. Comments go, also from between continued lines."""
    found: list[tuple[int, str]] = []
    begun: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"#\s*(escape|syntax)\s*=", line):
            raise DockerfileError(f"line {number}: parser directives are not known here")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first, so_far = begun or (number, "")
        if line.rstrip().endswith("\\"):
            begun = first, so_far + line.rstrip()[:-1]
        else:
            found.append((first, (so_far + line).strip()))
            begun = None
    if begun is not None:
        raise DockerfileError(f"line {begun[0]}: goes on after the last line")
    return found


def _instruction(line: int, text: str) -> Instruction:
    found = _INSTRUCTION.fullmatch(text)
    name = found["name"].upper() if found else text
    if found is None or name not in FLAGS:
        raise DockerfileError(f"line {line}: {name} is not known here")
    rest, flags = found["rest"], {}
    while flag := _FLAG.match(rest):
        flags[flag["name"]] = flag["value"] or ""
        rest = rest[flag.end() :]
    read = Instruction(line, name, rest, flags)
    if unknown := flags.keys() - FLAGS[name]:
        raise read.error(f"--{', --'.join(sorted(unknown))} is not known here")
    if name in {"RUN", "COPY"} and "<<" in rest:
        raise read.error("here-documents are not known here")
    return read
