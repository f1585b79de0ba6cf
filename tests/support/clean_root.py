"""Runs commands in a root folder of their own, on a stand-in of the image's base.

The base is this machine's `/usr`, read-only, and a Python of the version that the image names. Both are mounted for
the time of one command, in a mount namespace of that command; so on the disk the root holds what was put there, and
mount points. `/tmp` is empty at each start and gone with the process. Needs Linux and root.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SEARCHED = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""`PATH` of the official Python images, where `/usr/local` holds the Python."""

_ENTER = """\
set -eu
root=$1 user=$2 folder=$3 mounts=$4
shift 4
path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while [ "$mounts" -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
    mounts=$((mounts - 1))
done
exec chroot --userspec="$user" --groups= "$root" /usr/bin/env -u PWD -C "$folder" PATH="$path" "$@"
"""
_BESIDE_USR = ("bin", "sbin", "lib", "lib64")
"""Links into `/usr` on most machines, folders on some."""
_PREFIX = "import sys; print('%d.%d' % sys.version_info[:2], sys.base_prefix)"


def why_not() -> str | None:
    """Why this machine cannot do that; None where it can."""
    if sys.platform != "linux":
        return "a clean root needs Linux"
    tried = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /tmp && chroot / true"]
    try:
        done = subprocess.run(tried, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        return f"a clean root needs util-linux: {error}"
    return f"a clean root needs to be root, and to mount: {done.stderr.strip()}" if done.returncode else None


@dataclass(frozen=True, slots=True)
class Base:
    """What stands in for the base image."""

    python: Path
    """Prefix of its Python."""
    version: str
    """Of that Python, as `3.13`: the one that was asked for, or the one that runs the tests."""
    files: Path
    """`etc` and `local` (for `/usr/local`) of the base."""

    @classmethod
    def make(cls, wanted: str, files: Path) -> Base:
        """With Python `wanted` where this machine has it; else with the one that runs this."""
        version, prefix = find_python(wanted)
        etc, programs = files / "etc", files / "local" / "bin"
        for folder in (etc, programs):
            folder.mkdir(parents=True)
        (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (etc / "group").write_text("root:x:0:\n")
        for name in ("hosts", "resolv.conf", "nsswitch.conf", "ld.so.cache"):
            if (source := Path("/etc") / name).exists():
                shutil.copy(source, etc / name)
        if Path("/etc/ssl/certs").is_dir():
            shutil.copytree("/etc/ssl/certs", etc / "ssl" / "certs", ignore_dangling_symlinks=True)
        interpreter = prefix / "bin" / f"python{version}"
        for name in ("python", "python3", f"python{version}"):
            (programs / name).symlink_to(interpreter)
        # Python looks for its library beside its programs, and would take another one's in /usr.
        (files / "local" / "lib").mkdir()
        (files / "local" / "lib" / f"python{version}").symlink_to(prefix / "lib" / f"python{version}")
        (programs / "pip").write_text(f'#!/bin/sh\nexec {interpreter} -m pip "$@"\n')
        (programs / "pip").chmod(0o755)
        return cls(prefix, version, files)

    def lay(self, root: Path) -> None:
        """Make `root`: the base's links, and empty folders for what is mounted."""
        for name in ("usr", "etc", "proc", "dev", "tmp", "root", str(self.python).lstrip("/")):
            (root / name).mkdir(parents=True, exist_ok=True)
        for name in _BESIDE_USR:
            if (found := Path("/") / name).is_symlink():
                (root / name).symlink_to(found.readlink())
            elif found.is_dir():
                (root / name).mkdir()
        for folder in (root, *(each for each in root.rglob("*") if not each.is_symlink())):
            folder.chmod(0o755)

    def mounts(self) -> list[tuple[Path, str]]:
        found = [(Path("/usr"), "/usr"), (self.files / "etc", "/etc")]
        beside = [Path("/") / name for name in _BESIDE_USR]
        found += [(path, str(path)) for path in beside if path.is_dir() and not path.is_symlink()]
        if not self.python.is_relative_to("/usr/local"):
            found.append((self.files / "local", "/usr/local"))
        if not self.python.is_relative_to("/usr"):
            found.append((self.python, str(self.python)))
        return found


def start(
    base: Base,
    root: Path,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    user: str = "0:0",
    folder: str = "/",
    more: Sequence[tuple[Path, str]] = (),
    output: IO[bytes] | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in `root` with exactly this environment. The process is the command itself: each step on the way
    there becomes the next one, so it gets the signals that are sent to the process returned here. `end` it."""
    mounts = [*base.mounts(), *more]
    words = [str(word) for mount in mounts for word in mount]
    shell = ["/bin/sh", "-c", _ENTER, "enter", str(root), user, folder, str(len(mounts)), *words, *command]
    return subprocess.Popen(
        ["/usr/bin/unshare", "--mount", *shell],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what `start` started, and what that started; one that has ended may have left some behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def find_python(wanted: str) -> tuple[str, Path]:
    """Version and prefix of Python `wanted`: on the PATH, or beside the one that runs this, as version managers keep
    them. Where there is none, of the one that runs this."""
    beside = sorted(Path(sys.base_prefix).parent.glob(f"{wanted}*/bin/python{wanted}"))
    for candidate in (sys.executable, shutil.which(f"python{wanted}"), *reversed(beside)):
        if candidate is None:
            continue
        done = subprocess.run([candidate, "-c", _PREFIX], check=False, capture_output=True, text=True)
        if not done.returncode and re.match(rf"{re.escape(wanted)} ", done.stdout):
            return wanted, Path(done.stdout.strip().split(" ", 1)[1])
    return "{}.{}".format(*sys.version_info), Path(sys.base_prefix)
