"""Stands between the worker and the program, and ends with either: no process of an agent outlives its runner.

A program of its own, run with ``python -I -S`` in the place of ``claude``, with its arguments. Told by the environment:

    TURNKEEPER_LEASH     a FIFO that the worker holds open: where it lets go, or is killed, everything here ends at once
    TURNKEEPER_PROGRAM   what to run
    TURNKEEPER_USER      as whom (user:group, by number), where this is root
    TURNKEEPER_FOLDERS   what that user has to own, separated by colons

Empty variables and these four are not handed on. Commands of the program may have process groups of their own, and
parents that are gone: on Linux this process is the one that they fall to, and it ends all that are below it.
"""

import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def main() -> int:
    leash = os.open(os.environ["TURNKEEPER_LEASH"], os.O_RDONLY)
    linux = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if linux is not None:
        linux.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        linux.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.setsid()
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    ends = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ends.append(True))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        _become(leash, linux)
    quiet = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(quiet, standard)
    code = _wait(child, leash, woken, ends)
    _end_all(child)
    return code


def _become(leash: int, linux: ctypes.CDLL | None) -> None:
    signal.set_wakeup_fd(-1)
    os.close(leash)
    environment = {k: v for k, v in os.environ.items() if v and not k.startswith("TURNKEEPER_")}
    program, user = os.environ["TURNKEEPER_PROGRAM"], os.environ.get("TURNKEEPER_USER")
    try:
        if user and os.geteuid() == 0:
            uid, gid = map(int, user.split(":"))
            folders = (*os.environ["TURNKEEPER_FOLDERS"].split(":"), environment["CLAUDE_CONFIG_DIR"])
            for folder in filter(os.path.exists, folders):
                _give(folder, uid, gid)
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        if linux is not None:
            linux.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            linux.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.umask(0o077)
        os.execve(program, [program, *sys.argv[1:]], environment)  # noqa: S606
    except (OSError, KeyError, ValueError) as error:
        os.write(2, f"the program cannot be run: {error}\n".encode())
        os._exit(126)


def _give(folder: str, uid: int, gid: int) -> None:
    """Never through a link: it may lead to what is somebody else's."""
    os.chown(folder, uid, gid, follow_symlinks=False)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(place, name), uid, gid, follow_symlinks=False)  # noqa: PTH118


def _wait(child: int, leash: int, woken: int, ends: list[bool]) -> int:
    """Until the program has ended, or is to."""
    while not ends:
        ready, _, _ = select.select([leash, woken], [], [], 5.0)
        if leash in ready:
            # Let go of, or told to end. Not read from: a command of the program might be quicker, and this would wait.
            break
        if woken in ready:
            os.read(woken, 1024)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) & 0xFF
    return 143


def _end_all(child: int) -> None:
    """Kill whatever is below, as often as something is: what is killed may have begun more."""
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        below = _below(os.getpid()) if sys.platform == "linux" else [child]
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _below(top: int) -> list[int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    below: list[int] = []
    found = {top}
    while found:
        found = {pid for pid, parent in parents.items() if parent in found}
        below.extend(found)
    return below


if __name__ == "__main__":
    sys.exit(main())
