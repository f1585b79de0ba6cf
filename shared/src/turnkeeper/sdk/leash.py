"""Where a program works, and what ends it: see ``launcher``."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import secrets
import stat
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from turnkeeper.runtime.store import keys

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4
_LEASH = "leash-"
#: What was killed may write for a moment still.
_TRIES, _PAUSE_SECONDS = 5, 0.1


@dataclass
class Leash:
    """Held by this process alone: whoever reads its other end finds out when this is cut, or when this process ends."""

    path: Path
    _fd: int | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        # By its name only once it is held: see :func:`_is_held`.
        made = self.path.with_name(f"new-{self.path.name}")
        os.mkfifo(made, 0o600)
        # For reading as well, or this would wait for a reader.
        self._fd = os.open(made, os.O_RDWR | os.O_CLOEXEC)
        made.rename(self.path)

    @property
    def over(self) -> bool:
        """The program has ended, and all that was below it."""
        return self.path.with_name(f"{self.path.name}.over").exists()

    def cut(self) -> None:
        """Everything that is held by it ends at once. Any thread may call it, at any time."""
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            # Said as well as let go of: a command of the program may have opened it too, and holds it then.
            with contextlib.suppress(OSError):
                os.write(fd, b".")
            os.close(fd)
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Workspace:
    """The folders of one session on this worker, for as long as this runner has it. They are scratch space: nothing of
    them is kept, nor seen by the session that comes next."""

    root: Path
    tenant_id: str
    session_id: str

    @property
    def _folder(self) -> Path:
        # By a hash, so that no name of a tenant leads elsewhere; and always the same, since the program goes by it.
        name = hashlib.sha256(keys.session_pk(self.tenant_id, self.session_id).encode()).hexdigest()[:24]
        return self.root / name

    @property
    def work(self) -> Path:
        return self._folder / "work"

    @property
    def home(self) -> Path:
        return self._folder / "home"

    def make(self) -> Leash:
        """Raises OSError: what an earlier runner left cannot be taken away."""
        _remove(self._folder)
        for folder in (self.root, self._folder, self.work, self.home, self.home / "tmp"):
            folder.mkdir(mode=0o711 if folder in (self.root, self._folder) else 0o700, parents=True, exist_ok=True)
        return Leash(self._folder / f"{_LEASH}{secrets.token_hex(8)}")

    def forget(self) -> None:
        """Once the leash is cut. Where another runner of this machine has begun here since, the folder is its own."""
        why = None
        for _ in range(_TRIES):
            if _is_somebodys(self._folder):
                return
            try:
                _remove(self._folder)
            except OSError as error:
                why = error.strerror
                time.sleep(_PAUSE_SECONDS)
            else:
                return
        logger.error("a session's folder is left behind: %s", why)


def forget_what_is_nobodys(root: Path) -> None:
    """Folders that a worker left behind which was killed: nobody reads from their leash any more."""
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.is_dir() and not _is_somebodys(folder):
            with contextlib.suppress(OSError):
                _remove(folder)


def _is_somebodys(folder: Path) -> bool:
    return any(map(_is_held, folder.glob(f"{_LEASH}*")))


def _is_held(leash: Path) -> bool:
    """A program of the worker's own user may have called something else so: nobody alive reads from that."""
    try:
        if not stat.S_ISFIFO(leash.lstat().st_mode):
            return False
        os.close(os.open(leash, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
    except OSError:
        return False
    return True


def _remove(folder: Path) -> None:
    """The folder and all that is in it, however deep it is, and whatever of it may not be written to: caches of some
    compilers are like that. What is below comes up before it is looked into, so no path grows.

    Raises:
        OSError: something stays.
    """
    if folder.is_symlink():
        folder.unlink()
    if not folder.exists():
        return
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        place.chmod(0o700)
        for each in list(place.iterdir()):
            if each.is_dir() and not each.is_symlink():
                each.chmod(0o700)  # or it could not be moved
                waiting.append(each.rename(folder / f"gone-{secrets.token_hex(8)}"))
            else:
                each.unlink()
        if place != folder:
            place.rmdir()
    folder.rmdir()


def launcher_in(root: Path) -> Path:
    """The launcher as something that can be executed, which a module in an installed package is not."""
    source = Path(__file__).with_name("launcher.py").read_text(encoding="utf-8")
    text = f"#!{sys.executable} -IS\n{source}"
    path = root / f"launch-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not path.exists():
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=root, delete=False, encoding="utf-8") as file:
            file.write(text)
        os.chmod(file.name, 0o755)  # noqa: S103, PTH101 - it holds nothing of anybody's
        os.replace(file.name, path)  # noqa: PTH105
    return path


def hide_this_process() -> None:
    """Others of the same user cannot read this process's memory and environment any more, the program's commands among
    them. Where the worker is root and the program is too, nothing is hidden."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
