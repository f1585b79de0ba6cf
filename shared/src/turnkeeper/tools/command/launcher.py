"""Stands between the tool and the command: takes away what the command shall not have, then becomes the command.

A program of its own instead of ``preexec_fn``, because the worker has many threads: between fork and exec only one of
them lives on, and Python code that runs there can wait forever for a lock that another one held. Runs with ``python
-I -S``: standard library only, nothing from the environment or the working directory.

    launcher.py LIMITS PROGRAM NAME ARGUMENT...

LIMITS is JSON: ``{"cpu_seconds", "memory_bytes", "file_bytes", "open_files", "processes"}``. Exits with 126 where the
program cannot be executed.
"""

import ctypes
import json
import os
import resource
import sys

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_SIGKILL = 9


def main() -> None:
    limits = json.loads(sys.argv[1])
    program, argv = sys.argv[2], sys.argv[3:]
    if sys.platform == "linux":
        _harden(ctypes.CDLL(None, use_errno=True))
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
    ):
        _lower(name, value)
    os.umask(0o077)
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": os.getcwd()}  # noqa: PTH109
    try:
        os.execve(program, argv, environment)  # noqa: S606
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(126)


def _harden(libc: ctypes.CDLL) -> None:
    """No set-uid programs, no life after the tool, no network. What the platform refuses is gone without."""
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    # An empty network namespace has no way out, not even loopback. Root may have one for the asking, others need a
    # user namespace around it, and some platforms (AWS Lambda among them) give neither.
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWNET) == 0:
        return
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            try:
                with open(f"/proc/self/{file}", "w") as handle:  # noqa: PTH123
                    handle.write(text)
            except OSError:
                return


def _lower(name: int, value: int) -> None:
    hard = resource.getrlimit(name)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(name, (bound, bound))


if __name__ == "__main__":
    main()
