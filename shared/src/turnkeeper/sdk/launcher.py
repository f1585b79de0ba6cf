"""Stands between the worker and the program, and ends with either: no process of an agent outlives its runner.

A program of its own, run with ``python -I -S`` in the place of ``claude``, with its arguments. Told by the environment:

    TURNKEEPER_LEASH     a FIFO that the worker holds open: where it lets go, or is killed, everything here ends at once
    TURNKEEPER_PROGRAM   what to run
    TURNKEEPER_USER      as whom (user:group, by number), where this is root
    TURNKEEPER_FOLDERS   what that user has to own, separated by colons

Empty variables and these four are not handed on. Commands of the program may have process groups of their own, and
parents that are gone: on Linux this process is the one that they fall to, and it ends all that are below it. They may
be of its own user: so the kernel refuses them what would end, stop or trace this process or the worker.
"""

import ctypes
import errno
import os
import platform
import select
import signal
import struct
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP, _FILTER = 22, 2
#: By the machine: how the kernel calls it, and the numbers of the calls below.
_MACHINES = {
    "x86_64": (0xC000003E, (62, 234, 129, 297, 434, 302, 101, 72, 16, 200, 424)),
    "aarch64": (0xC00000B7, (129, 131, 138, 240, 434, 261, 117, 25, 29, 130, 424)),
}
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


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
    spared = (os.getpid(), os.getppid())
    child = os.fork()
    if child == 0:
        _become(leash, linux, spared)
    if linux is not None:
        # Its files and environment are nothing to others of its user.
        linux.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    quiet = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(quiet, standard)
    code = _wait(child, leash, woken, ends)
    _end_all(child)
    _tell(os.environ["TURNKEEPER_LEASH"] + ".over")
    return code


def _tell(path: str) -> None:
    """That the program has ended. The SDK does not tell where it did so well, and before it had answered anything."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return  # Its folder is gone, or it is told already.


def _become(leash: int, linux: ctypes.CDLL | None, spared: tuple[int, int]) -> None:
    # Not in the launcher's group, which a command may name by 0.
    os.setsid()
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
            _spare(linux, spared)
        os.umask(0o077)
        os.execve(program, [program, *sys.argv[1:]], environment)  # noqa: S606
    except (OSError, KeyError, ValueError) as error:
        os.write(2, f"the program cannot be run: {error}\n".encode())
        os._exit(126)


def _spare(linux: ctypes.CDLL, pids: tuple[int, int]) -> None:
    """From here on the kernel refuses signals to these processes, and to all at once: the way to them is shut for this
    process and whatever comes of it. Calls that signal by something else than a number are refused altogether."""
    if platform.machine() not in _MACHINES:
        return
    groups = [os.getpgid(pid) for pid in pids]
    machine, numbers = _MACHINES[platform.machine()]
    kill, tgkill, queue, queue_thread, pidfd_open, prlimit, ptrace, fcntl, ioctl, tkill, pidfd_signal = numbers
    refused = [
        # The call, which of its arguments, and what that may not be.
        (kill, 0, [*pids, -1, *(-group for group in groups)]),
        *((number, 0, pids) for number in (tgkill, queue, queue_thread, pidfd_open, prlimit)),
        (ptrace, 1, pids),
        (fcntl, 1, [8, 10, 15]),  # F_SETOWN, F_SETSIG, F_SETOWN_EX
        (ioctl, 1, [0x8901, 0x8902]),  # FIOSETOWN, SIOCSPGRP
    ]
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, 0)]
    code += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _REFUSE)]
    for number in (tkill, pidfd_signal):
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number, argument, values in refused:
        block = [(_LOAD, 0, 0, 16 + 8 * argument)]
        for value in values:
            block += [(_EQUAL, 0, 1, value & 0xFFFFFFFF), (_RETURN, 0, 0, _REFUSE)]
        block.append((_RETURN, 0, 0, _ALLOW))
        code += [(_EQUAL, 0, len(block), number), *block]
    code.append((_RETURN, 0, 0, _ALLOW))
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(packed)))
    if linux.prctl(_PR_SET_SECCOMP, _FILTER, program, 0, 0) != 0:
        os.write(2, b"signals to the launcher cannot be refused here\n")


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
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code  # of one that a signal ended, as shells say it
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
