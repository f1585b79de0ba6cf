"""What a Lambda carries: the code, and the dependencies that it imports.

They travel apart. The **code** (`turnkeeper` and `functions/` of the kit, `agents/` and `policy.toml` of the project)
is small and changes often. The **dependencies** are large, change with the lock file only, and come from a package
registry: in the cloud they are a Lambda layer, on the emulator a folder of this machine. The worker's image holds both;
what it is built from is laid out here too.

Both are file assets that the CDK *builds when it publishes them*, as it does with container images, by calling this
module as a program. So synthesizing needs neither network nor account nor an interpreter of Lambda's version
(docs/decisions/0031).

    python -m turnkeeper_infra.bundle code VERSION [AGENTS [TREE]]   # compiled for that Python: the path of a zip
    python -m turnkeeper_infra.bundle layer                          # for Lambda: the path of a zip
    python -m turnkeeper_infra.bundle host PYTHON                    # for an interpreter of this machine: a folder
    python -m turnkeeper_infra.bundle image [AGENTS [TREE]]          # what the worker's image is built from: a folder
    python -m turnkeeper_infra.bundle server [AGENTS [TREE]]         # the same, with `server` and `functions`
    python -m turnkeeper_infra.bundle vercel [AGENTS [TREE]]         # what `vercel deploy` is called in: a folder

Each prints its path, and is about the project of the working directory. AGENTS are further folders of agents, with
colons between; TREE is a tree of the kit's repository to take the kit from instead of the one that is installed.

What is built is cached by the hash of what it is built from, and appears under its final name only when complete.
"""

from __future__ import annotations

import compileall
import hashlib
import py_compile
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from turnkeeper_project import KitSource, Project, find_project, kit_source
from turnkeeper_project.asking import LOOKING_SECONDS, NotAsked, run_module
from turnkeeper_project.files import files_below
from turnkeeper_project.locking import locked_requirements
from turnkeeper_project.measuring import Layer, too_large, weigh
from turnkeeper_project.target import LAMBDA_PLATFORM, LAMBDA_PYTHON, find_uv, for_lambda

_EPOCH = (1980, 1, 1, 0, 0, 0)


def cache_folder() -> Path:
    """Where finished bundles are kept, for every local kit and every deploy of this project."""
    return find_project().cache / "bundles"


@dataclass(frozen=True, slots=True)
class Sources:
    """What code is made of: a project, with further folders of agents, and the kit."""

    project: Path
    kit: KitSource
    more_agents: tuple[Path, ...] = ()

    def parts(self, *entries: Path) -> Iterator[tuple[Path, str]]:
        """What is copied, and under which name; `entries` are the entry points of runners. What is not there is left
        out."""
        for source, name in (
            (self.kit.package, "turnkeeper"),
            *((entry, entry.name) for entry in entries),
            (self.project / "agents", "agents"),
            *zip(self.more_agents, further_names(len(self.more_agents)), strict=True),
            (self.project / "policy.toml", "policy.toml"),
        ):
            if source.exists():
                yield source, name

    def digest(self, entries: Sequence[Path], *words: str) -> str:
        """Changes with any of the parts, the words, or the way it is built."""
        digest = hashlib.sha256("\0".join(words).encode())
        digest.update(Path(__file__).read_bytes())
        for file, name in self.files(*entries):
            digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def copy(self, entries: Sequence[Path], folder: Path) -> None:
        folder.mkdir()
        _copy(self.files(*entries), folder)

    def files(self, *entries: Path) -> Iterator[tuple[Path, Path]]:
        """Every file of the parts, with its place where it is deployed. What only tests and evals read stays here."""
        for source, part in self.parts(*entries):
            for file in sorted(files_below(source)):
                inside = file.relative_to(source)
                if not _stays(part, inside.parts):
                    yield file, Path(part, inside)


def _copy(files: Iterable[tuple[Path, Path]], folder: Path) -> None:
    """Each file to its place in the folder."""
    for file, name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, folder / name)


def _stays(part: str, inside: tuple[str, ...]) -> bool:
    if part == "turnkeeper":
        return inside[0] == "testing"
    return part.startswith("agents") and inside[1:2] == ("evals",)


def further_names(count: int) -> list[str]:
    """What further folders of agents are called where they are deployed, in their order, beside `agents`."""
    return [f"agents_{number}" for number in range(2, count + 2)]


def code_hash(sources: Sources, version: str) -> str:
    """Changes when the code asset would: also with the lock, since the manifest is made by what is installed. Its
    prices are those of a price list, its tools' schemas those of pydantic."""
    locked = locked_requirements(Project(sources.project)).read_text()
    return sources.digest([sources.kit.functions], version, locked)


def build_code(sources: Sources, version: str) -> Path:
    """Copy the code as it is, compile it for Python `version`, and zip it; return the zip."""

    def build(folder: Path) -> None:
        code = folder / "code"
        sources.copy([sources.kit.functions], code)
        _compile(code, version)
        _tell_agents(code, len(sources.more_agents))
        _zip(code, folder / "code.zip", root=code)

    return _once(cache_folder() / f"code-{code_hash(sources, version)[:16]}", build) / "code.zip"


def image_context(sources: Sources, *, server: bool = False) -> Path:
    """Lay out what the worker's image is built from: its Dockerfile, the code below `app/`, the lock file. With
    `server`, the image of the shapes without AWS: the same one, which the other processes start from as well."""
    worker = sources.kit.worker
    entries = [worker, sources.kit.functions, sources.kit.server] if server else [worker]

    def build(folder: Path) -> None:
        sources.copy(entries, folder / "app")
        (folder / "app" / worker.name / "Dockerfile").rename(folder / "Dockerfile")
        shutil.copy(locked, folder / "requirements.txt")
        shutil.copy(sources.kit.agent_sdk_requirements, folder / "agent-sdk.txt")

    locked = locked_requirements(Project(sources.project))
    digest = sources.digest(entries, locked.read_text(), sources.kit.agent_sdk_requirements.read_text())
    return _once(cache_folder() / f"{'server' if server else 'image'}-{digest[:16]}", build)


def vercel_folder(sources: Sources) -> Path:
    """Lay out what is deployed to Vercel: its entry, page and settings, the code beside them, the lock file."""
    entries = [sources.kit.worker, sources.kit.functions, sources.kit.server]
    own = sources.kit.deploy / "vercel"
    beside = [(file, file.relative_to(own)) for file in sorted(files_below(own))]

    def build(folder: Path) -> None:
        sources.copy(entries, folder / "code")
        for part in (folder / "code").iterdir():
            part.rename(folder / part.name)
        (folder / "code").rmdir()
        _copy(beside, folder)
        shutil.copy(locked, folder / "requirements.txt")

    locked = locked_requirements(Project(sources.project))
    contents = [file.read_text() for file, _ in beside]
    return _once(cache_folder() / f"vercel-{sources.digest(entries, locked.read_text(), *contents)[:16]}", build)


def layer_hash(project: Path) -> str:
    """Changes when the layer would: with the project's lock, the platform, or the way it is built."""
    digest = hashlib.sha256(f"{LAMBDA_PYTHON} {LAMBDA_PLATFORM}\0".encode())
    digest.update(locked_requirements(Project(project)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def build_layer() -> Path:
    """Install the locked dependencies for Lambda, compile them, and zip them as a layer; return the zip."""
    folder = _once(cache_folder() / f"layer-{layer_hash(find_project().root)[:16]}", _fill_layer)
    return folder / "layer.zip"


def install_for_host(python: Path) -> Path:
    """Install the locked dependencies for an interpreter of this machine; return the folder to import from."""
    version = subprocess.run(  # noqa: S603 - an interpreter that the caller names
        [python, "-c", "import sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_platform())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    digest = hashlib.sha256(version.encode() + b"\0" + locked_requirements(find_project()).read_bytes()).hexdigest()[
        :16
    ]

    def build(folder: Path) -> None:
        _uv_install(folder, "--python", str(python), "--compile-bytecode")

    return _once(cache_folder() / f"host-{digest}", build)


def _fill_layer(folder: Path) -> None:
    packages = folder / "python"
    _uv_install(packages, *for_lambda())
    shutil.rmtree(packages / "bin", ignore_errors=True)
    _compile(packages, LAMBDA_PYTHON)
    size_bytes = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file())
    largest = dict(sorted(weigh(packages).items(), key=lambda item: -item[1]))
    if text := too_large(Layer(size_bytes, largest)):
        raise RuntimeError(text)
    _zip(packages, folder / "layer.zip", root=folder)


def _tell_agents(code: Path, more: int) -> None:
    """Add the manifest of the agents, which the front door reads instead of importing them (docs/decisions/0144).
    It is made of this copy, so it tells of these agents and no others. Where one of them cannot be told of, there is
    none."""
    folders = [str(code / name) for name in further_names(more)]
    command = ["turnkeeper.preflight.manifest", str(code), *folders]
    try:
        run_module(command, package=code / "turnkeeper", seconds=LOOKING_SECONDS)
    except NotAsked as error:
        sys.stderr.write(f"The front door imports agents itself, and is slower to start: {error}\n")


def _compile(folder: Path, version: str) -> None:
    """Compile with the Python that will run it: a cold start has no time to, and Lambda's disk is read-only.

    The compiled files carry the hash of their source, not its time, so unzipping cannot make them stale.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(folder, quiet=2, stripdir=folder, invalidation_mode=mode)
        return
    command = [find_uv(), "run", "--no-project", "--python", version, "python", "-m", "compileall",
               "-qq", "-j0", "--invalidation-mode", "unchecked-hash", "-s", str(folder), str(folder)]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    # compileall also fails for a single file that is not meant for this Python (templates do that); having no
    # interpreter at all leaves nothing compiled.
    if not any(folder.rglob("*.pyc")):
        raise RuntimeError(
            f"Python {version} is needed to compile what Lambda imports: without, a cold start takes three times "
            f"as long. Install it, for example with `uv python install {version}`.\n{done.stderr}"
        )


def _zip(folder: Path, target: Path, *, root: Path) -> None:
    """Zip a folder and remove it; the same files give the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), _EPOCH)
            entry.external_attr = (0o755 if file.suffix == ".sh" else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    shutil.rmtree(folder)


def _uv_install(target: Path, *options: str) -> None:
    command = [find_uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes",
               "--target", str(target), *options, "-r", str(locked_requirements(find_project()))]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"the dependencies cannot be installed:\n{done.stderr}")


def _once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Build into a folder beside and rename: a reader sees all of it or nothing, also when two build at once."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)
        build(draft)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _sources(more: list[str]) -> Sources:
    agents, tree, *_ = (*more, "", "")
    project = find_project().root
    folders = tuple(project / part for part in agents.split(":") if part)
    return Sources(project, kit_source(project / tree if tree else None), folders)


def main(arguments: list[str]) -> int:
    """The builder's command line; prints nothing but the path."""
    match arguments:
        case ["code", version, *more]:
            sys.stdout.write(f"{build_code(_sources(more), version)}\n")
        case ["layer"]:
            sys.stdout.write(f"{build_layer()}\n")
        case ["host", python]:
            sys.stdout.write(f"{install_for_host(Path(python))}\n")
        case ["image", *more]:
            sys.stdout.write(f"{image_context(_sources(more))}\n")
        case ["vercel", *more]:
            sys.stdout.write(f"{vercel_folder(_sources(more))}\n")
        case ["server", *more]:
            sys.stdout.write(f"{image_context(_sources(more), server=True)}\n")
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
