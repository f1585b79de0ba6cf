"""Plays the worker's Dockerfile without Docker: each stage in a clean root, its RUN lines as they are written.

    base = Base.make("3.13", tmp_path / "base")         # tests/support/clean_root.py
    context = build_context(tmp_path / "assembly")      # tests/support/image_inputs.py
    image = Builder(base, context, wheels_for(base), tmp_path / "build").build(dockerfile_text)
    image.start(["python", "-c", "..."], {})

What comes out is what Docker would make of the same files on a base of this machine's processor. Layers are kept as
Docker keeps them, so that a second build that begins alike goes on from there.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.support import clean_root
from tests.support.dockerfile import DockerfileError, Instruction, read, substitute

_WHEELS = "/tmp/wheels"
_BUILD_SECONDS = 240


class BuildError(Exception):
    """A step that failed: the instruction, and what it printed."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a build makes: files, and what Docker calls the image's configuration."""

    base: clean_root.Base
    root: Path
    environment: Mapping[str, str]
    folder: str
    user: str
    entrypoint: Sequence[str]
    healthcheck: Sequence[str]
    stop_signal: str
    ports: Sequence[str]

    def start(
        self, command: Sequence[str], settings: Mapping[str, str], *, output: IO[bytes] | int | None = None
    ) -> subprocess.Popen[bytes]:
        """Run a command as a container of this image would: its environment, then what the task sets, and nothing of
        ours."""
        return clean_root.start(
            self.base,
            self.root,
            command,
            environment={**self.environment, **settings},
            user=self.user,
            folder=self.folder,
            output=output,
        )


@dataclass(slots=True)
class _Stage:
    root: Path
    key: str
    """Changes with whatever the files in `root` are made from."""
    variables: dict[str, str] = field(default_factory=dict)
    """Build arguments: they are seen by the build and not by what runs."""
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": clean_root.SEARCHED})
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"
    ports: list[str] = field(default_factory=list)


class Builder:
    """Builds images of one context on one base."""

    def __init__(self, base: clean_root.Base, context: Path, wheels: Path, folder: Path) -> None:
        self._base = base
        self._context = context
        self._wheels = wheels
        self._folder = folder
        self._count = 0
        self._layers: dict[str, Path] = {}
        self._stages: dict[str, _Stage] = {}
        self._plays: Mapping[str, Callable[[_Stage, Instruction], None]] = {
            "ARG": self._arg,
            "COPY": self._copy,
            "RUN": self._run,
            "ENV": self._env,
            "WORKDIR": self._workdir,
            "USER": self._user,
            "EXPOSE": self._expose,
            "STOPSIGNAL": self._stop_signal,
            "HEALTHCHECK": self._healthcheck,
            "ENTRYPOINT": self._entrypoint,
        }

    def build(self, dockerfile: str) -> Image:
        """The last stage of it, as an image.

        Raises:
            DockerfileError: what cannot be played, or names what is not there.
            BuildError: a RUN line that failed.
        """
        self._stages = {}
        arguments: dict[str, str] = {}
        stage: _Stage | None = None
        for instruction in read(dockerfile):
            if instruction.name == "FROM":
                stage = self._from(instruction, arguments)
            elif stage is not None:
                self._plays[instruction.name](stage, instruction)
            elif instruction.name == "ARG":
                arguments |= _argument(instruction, arguments)
            else:
                raise instruction.error("only ARG may stand before the first FROM")
        if stage is None or not stage.entrypoint:
            raise DockerfileError("no stage with an ENTRYPOINT")
        return Image(
            base=self._base,
            root=stage.root,
            environment=stage.environment,
            folder=stage.folder,
            user=stage.user,
            entrypoint=stage.entrypoint,
            healthcheck=stage.healthcheck,
            stop_signal=stage.stop_signal,
            ports=stage.ports,
        )

    # ---- instructions ----

    def _from(self, instruction: Instruction, arguments: Mapping[str, str]) -> _Stage:
        words = substitute(instruction, instruction.value, arguments).split()
        if len(words) not in {1, 3} or (len(words) == 3 and words[1].upper() != "AS"):
            raise instruction.error("not FROM image, nor FROM image AS name")
        if python_of(words[0]) is None:
            raise instruction.error("not an official Python image, which is what stands in for the base")
        stage = _Stage(self._new_folder("stage"), key=words[0])
        self._base.lay(stage.root)
        self._stages[words[2] if len(words) == 3 else str(len(self._stages))] = stage
        return stage

    def _arg(self, stage: _Stage, instruction: Instruction) -> None:
        stage.variables |= _argument(instruction, _seen(stage))

    def _copy(self, stage: _Stage, instruction: Instruction) -> None:
        *patterns, target = substitute(instruction, instruction.value, _seen(stage)).split()
        source = self._context
        if (name := instruction.flags.get("from")) is not None:
            if name not in self._stages:
                raise instruction.error("no such stage")
            source = self._stages[name].root
        found = [path for pattern in patterns for path in _matching(source, pattern, instruction)]
        into_folder = target.endswith("/") or len(found) > 1
        target_path = stage.root / str(Path(stage.folder, target)).lstrip("/")
        for path in found:
            to = target_path / path.name if into_folder and not path.is_dir() else target_path
            _place(path, to, linked=name is not None)
        content = self._stages[name].key if name is not None else "".join(_digest(path) for path in found)
        stage.key = _key(stage.key, "COPY", instruction.value, content)

    def _run(self, stage: _Stage, instruction: Instruction) -> None:
        stage.key = _key(stage.key, "RUN", instruction.value, stage.user, stage.folder, repr(_seen(stage)))
        if (kept := self._layers.get(stage.key)) is not None:
            shutil.rmtree(stage.root)
            _clone(kept, stage.root)
            return
        # Where pip gets its wheels from is the builder's affair, as a mirror's address would be.
        builder = {
            "HOME": "/root",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": _WHEELS,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        process = clean_root.start(
            self._base,
            stage.root,
            # It compiles on all cores; tests beside this one wait for their own processes.
            ["/usr/bin/nice", "-n", "15", "/bin/sh", "-c", instruction.value],
            environment={**builder, **_seen(stage)},
            user=stage.user,
            folder=stage.folder,
            more=[(self._wheels, _WHEELS)],
            output=subprocess.PIPE,
        )
        try:
            printed, _ = process.communicate(timeout=_BUILD_SECONDS)
        finally:
            clean_root.end(process)
        if process.returncode:
            raise BuildError(f"{instruction.error(f'exit code {process.returncode}')}\n{printed.decode()[-3000:]}")
        self._layers[stage.key] = self._new_folder("layer")
        _clone(stage.root, self._layers[stage.key])

    def _env(self, stage: _Stage, instruction: Instruction) -> None:
        before = _seen(stage)
        for word in shlex.split(instruction.value):
            name, equals, value = word.partition("=")
            if not equals:
                raise instruction.error("not NAME=VALUE")
            # As Docker does: one instruction sees what was set before it, not what it sets itself.
            stage.environment[name] = substitute(instruction, value, before)

    def _workdir(self, stage: _Stage, instruction: Instruction) -> None:
        stage.folder = str(Path(stage.folder, substitute(instruction, instruction.value, _seen(stage))))
        _make(stage.root / stage.folder.lstrip("/"))

    def _user(self, stage: _Stage, instruction: Instruction) -> None:
        if not re.fullmatch(r"\d+:\d+", instruction.value):
            raise instruction.error("not two numbers; a name is in no passwd file that is known here")
        stage.user = instruction.value

    def _expose(self, stage: _Stage, instruction: Instruction) -> None:
        stage.ports += instruction.value.split()

    def _stop_signal(self, stage: _Stage, instruction: Instruction) -> None:
        stage.stop_signal = instruction.value

    def _healthcheck(self, stage: _Stage, instruction: Instruction) -> None:
        word, _, command = instruction.value.partition(" ")
        if word != "CMD":
            raise instruction.error("not a CMD")
        stage.healthcheck = instruction.exec_form(command)

    def _entrypoint(self, stage: _Stage, instruction: Instruction) -> None:
        stage.entrypoint = instruction.exec_form()

    def _new_folder(self, kind: str) -> Path:
        self._count += 1
        folder = self._folder / f"{kind}-{self._count}"
        folder.mkdir(parents=True)
        return folder


def python_of(image: str) -> str | None:
    """The Python of an official image, as `3.13`; None where its name does not say."""
    found = re.match(r"python:(\d+\.\d+)\b", image)
    return found[1] if found else None


def files_of(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """Every file and folder below `root` with what tells that it was written: mode, owner, size, time."""
    return {
        str(path.relative_to(root)): (found.st_mode, found.st_uid, found.st_size, found.st_mtime_ns)
        for path in root.rglob("*")
        if (found := path.lstat())
    }


def _seen(stage: _Stage) -> dict[str, str]:
    """What instructions and RUN lines can name: ENV wins over ARG."""
    return {**stage.variables, **stage.environment}


def _argument(instruction: Instruction, known: Mapping[str, str]) -> dict[str, str]:
    name, equals, value = instruction.value.partition("=")
    if not equals:
        raise instruction.error("has no default, and nobody gives it a value here")
    return {name: substitute(instruction, value, known)}


def _matching(source: Path, pattern: str, instruction: Instruction) -> Iterator[Path]:
    """Docker's patterns do not cross a `/`, and neither do these without `**`."""
    if "**" in pattern or ".." in Path(pattern).parts:
        raise instruction.error("a pattern that is not known here")
    found = sorted(source.glob(pattern.lstrip("/")))
    if not found:
        raise instruction.error(f"{pattern} is not in what is copied from")
    yield from found


def _place(source: Path, target: Path, *, linked: bool) -> None:
    """As COPY does: a folder's contents, links as links, modes as they are, all of it root's.

    Out of another stage as hard links, which are quick: nobody reads a stage again that was copied from.
    """
    copy = _link if linked else shutil.copy2
    if source.is_dir():
        _make(target)
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=copy)
    else:
        _make(target.parent)
        copy(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    Path(target).unlink(missing_ok=True)
    Path(target).hardlink_to(source)


def _make(folder: Path) -> None:
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir()
            path.chmod(0o755)


def _clone(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", str(target)], check=True)


def _digest(path: Path) -> str:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_mode}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
