"""What a Lambda carries: the code, and the dependencies that it imports.

They travel apart. The **code** (`turnkeeper`, `functions/`, `agents/`, `policy.toml`) is small and changes often. The
**dependencies** are large, change with the lock file only, and come from a package registry: in the cloud they are a
Lambda layer, on the emulator a folder of this machine.

Both are file assets that the CDK *builds when it publishes them*, as it does with container images, by calling this
module as a program. So synthesizing needs neither network nor account nor an interpreter of Lambda's version
(docs/decisions/0031).

    python -m infra.bundle code SOURCE_ROOT VERSION  # compiled for that Python, prints the path of the zip
    python -m infra.bundle layer                     # for Lambda, prints the path of the zip
    python -m infra.bundle host PYTHON               # for an interpreter of this machine, prints the folder

What is built is cached by the hash of what it is built from, and appears under its final name only when complete.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from infra.config import REPOSITORY

LAMBDA_PYTHON = "3.13"
LAMBDA_PLATFORM = "aarch64-manylinux_2_28"
"""Lambda's Python 3.13 runs on Amazon Linux 2023, with glibc 2.34; not every wheel goes back to manylinux2014."""
REQUIREMENTS = REPOSITORY / "requirements" / "runtime.txt"
UNZIPPED_LIMIT_BYTES = 250 * 1024 * 1024
"""Lambda refuses more than this, function and layers together."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_JUNK = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info")


def cache_folder() -> Path:
    """Where finished bundles are kept, for every local kit and every deploy from this clone."""
    return REPOSITORY / ".turnkeeper" / "bundles"


def code_parts(source_root: Path) -> Iterator[tuple[Path, str]]:
    """What is copied into the code asset, and under which name. Parts that a source tree lacks are left out."""
    for source, name in (
        (source_root / "shared" / "src" / "turnkeeper", "turnkeeper"),
        (source_root / "functions", "functions"),
        (source_root / "agents", "agents"),
        (source_root / "policy.toml", "policy.toml"),
    ):
        if source.exists():
            yield source, name


def code_hash(source_root: Path, version: str) -> str:
    """Changes when the code asset would."""
    digest = hashlib.sha256(f"{version}\0".encode())
    digest.update(Path(__file__).read_bytes())
    for source, name in code_parts(source_root):
        for file in sorted(_files(source)):
            digest.update(f"{name}/{file.relative_to(source)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def build_code(source_root: Path, version: str) -> Path:
    """Copy the code as it is, compile it for Python `version`, and zip it; return the zip."""

    def build(folder: Path) -> None:
        code = folder / "code"
        code.mkdir()
        for source, name in code_parts(source_root):
            if source.is_dir():
                shutil.copytree(source, code / name, ignore=_JUNK)
            else:
                shutil.copy(source, code / name)
        _compile(code, version)
        _zip(code, folder / "code.zip", root=code)

    return _once(cache_folder() / f"code-{code_hash(source_root, version)[:16]}", build) / "code.zip"


def layer_hash() -> str:
    """Changes when the layer would: with the lock file, the platform, or the way it is built."""
    digest = hashlib.sha256(f"{LAMBDA_PYTHON} {LAMBDA_PLATFORM}\0".encode())
    digest.update(REQUIREMENTS.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def build_layer() -> Path:
    """Install the locked dependencies for Lambda, compile them, and zip them as a layer; return the zip."""
    folder = _once(cache_folder() / f"layer-{layer_hash()[:16]}", _fill_layer)
    return folder / "layer.zip"


def install_for_host(python: Path) -> Path:
    """Install the locked dependencies for an interpreter of this machine; return the folder to import from."""
    version = subprocess.run(  # noqa: S603 - an interpreter that the caller names
        [python, "-c", "import sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_platform())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    digest = hashlib.sha256(version.encode() + b"\0" + REQUIREMENTS.read_bytes()).hexdigest()[:16]

    def build(folder: Path) -> None:
        _uv_install(folder, "--python", str(python), "--compile-bytecode")

    return _once(cache_folder() / f"host-{digest}", build)


def find_uv() -> str:
    """The uv of the project's environment, or one on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise RuntimeError("uv is not installed; `make setup` installs it")
    return found


def _fill_layer(folder: Path) -> None:
    packages = folder / "python"
    _uv_install(
        packages, "--python-version", LAMBDA_PYTHON, "--python-platform", LAMBDA_PLATFORM,
        "--only-binary", ":all:",
    )  # fmt: skip
    shutil.rmtree(packages / "bin", ignore_errors=True)
    _compile(packages, LAMBDA_PYTHON)
    size_bytes = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file())
    if size_bytes > UNZIPPED_LIMIT_BYTES:
        raise RuntimeError(f"the layer is {size_bytes:,} bytes unzipped; Lambda takes {UNZIPPED_LIMIT_BYTES:,}")
    _zip(packages, folder / "layer.zip", root=folder)


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
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    shutil.rmtree(folder)


def _uv_install(target: Path, *options: str) -> None:
    command = [find_uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes",
               "--target", str(target), *options, "-r", str(REQUIREMENTS)]  # fmt: skip
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


def _files(path: Path) -> Iterator[Path]:
    """The files that travel, of a folder or of a single file."""
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        skip = _JUNK(folder, names)
        yield from (Path(folder) / name for name in names if name not in skip)


def main(arguments: list[str]) -> int:
    """The builder's command line; prints nothing but the path."""
    match arguments:
        case ["code", source_root, version]:
            sys.stdout.write(f"{build_code(Path(source_root), version)}\n")
        case ["layer"]:
            sys.stdout.write(f"{build_layer()}\n")
        case ["host", python]:
            sys.stdout.write(f"{install_for_host(Path(python))}\n")
        case _:
            sys.stderr.write("usage: python -m infra.bundle code SOURCE_ROOT VERSION | layer | host PYTHON\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
