"""What a layer weighs before there is one: the kit's own part is known from its lock, what a project adds is installed
for Lambda and weighed. The lock says the result, so that nobody has to install it to know."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from turnkeeper_project.target import UNZIPPED_LIMIT_BYTES, find_uv, for_lambda

_LAYER = re.compile(r"^# layer: (?P<total>\d+) bytes unzipped(?: \((?P<largest>[^)]*)\))?$", re.MULTILINE)
_LARGEST = 5


@dataclass(frozen=True, slots=True)
class Layer:
    """What a lock weighs on Lambda, unzipped and compiled."""

    total_bytes: int
    packages: dict[str, int]
    """The largest first; in a lock that was read, those that it tells."""

    def header(self) -> str:
        largest = ", ".join(f"{name} {size}" for name, size in list(self.packages.items())[:_LARGEST])
        return f"# layer: {self.total_bytes} bytes unzipped" + (f" ({largest})" if largest else "") + "\n"


def layer_of(lock: Path) -> Layer | None:
    """What a lock says of its layer, in its first lines."""
    found = _LAYER.search(lock.read_text())
    if found is None:
        return None
    named = [part.rsplit(" ", 1) for part in (found["largest"] or "").split(", ") if " " in part]
    return Layer(int(found["total"]), {name: int(size) for name, size in named})


def too_large(layer: Layer) -> str | None:
    """What to say of a layer that Lambda would refuse."""
    if layer.total_bytes <= UNZIPPED_LIMIT_BYTES:
        return None
    largest = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in list(layer.packages.items())[:_LARGEST])
    return (
        f"the layer would be {layer.total_bytes / 1e6:.1f} MB unzipped; "
        f"Lambda takes {UNZIPPED_LIMIT_BYTES / 1e6:.1f} MB, code included. "
        f"The largest: {largest}. Leave one out, or take a smaller one."
    )


def measure(lock: Path, known: Path | None, folder: Path, root: Path) -> Layer:
    """Install for Lambda into `folder` what a lock holds over `known`, and weigh it; `known` says its own weight."""
    base = layer_of(known) if known else None
    more = _entries(lock.read_text())
    if base and known:
        more = [entry for entry in more if _pin(entry) not in {_pin(other) for other in _entries(known.read_text())}]
    sizes = {"turnkeeper's own": base.total_bytes} if base else {}
    if more:
        part = folder.with_suffix(".txt")
        part.write_text("".join(more))
        command = ["pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", str(folder), *for_lambda()]
        subprocess.run([find_uv(), *command, "-r", str(part)], cwd=root, check=True, capture_output=True)  # noqa: S603
        sizes |= weigh(folder)
    ordered = dict(sorted(sizes.items(), key=lambda item: -item[1]))
    return Layer(sum(ordered.values()), ordered)


def weigh(folder: Path) -> dict[str, int]:
    """The bytes of each package that is installed in a folder, with what compiling adds: as much as its source."""
    sizes: dict[str, int] = {}
    for record in folder.glob("*.dist-info/RECORD"):
        name = record.parent.name.split("-")[0].lower().replace("_", "-")
        files = (folder / line.rsplit(",", 2)[0].strip('"') for line in record.read_text().splitlines())
        weights = ((file.stat().st_size, file.suffix) for file in files if file.is_file())
        sizes[name] = sum(size * 2 if suffix == ".py" else size for size, suffix in weights)
    return sizes


def _entries(text: str) -> list[str]:
    """The packages of a lock, each with the lines of its hashes."""
    return re.findall(r"^[A-Za-z0-9].*\n(?:[ \t]+.*\n)*", text, re.MULTILINE)


def _pin(entry: str) -> str:
    return re.sub(r"\[.*?\]", "", re.split(r"[\s;\\]", entry, maxsplit=1)[0])


def main(path: Path) -> None:
    """Write what a whole lock weighs into its first line: for the kit's own."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        layer = measure(path, None, Path(folder) / "packages", path.parent)
    path.write_text(layer.header() + _LAYER.sub("", path.read_text()).lstrip("\n"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
