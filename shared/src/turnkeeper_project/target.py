"""What runs the kit in an account, and the uv of this machine that installs for it."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

LAMBDA_PYTHON = "3.13"
LAMBDA_PLATFORM = "aarch64-manylinux_2_28"
"""Lambda's Python 3.13 runs on Amazon Linux 2023, with glibc 2.34; not every wheel goes back to manylinux2014."""
UNZIPPED_LIMIT_BYTES = 250 * 1024 * 1024
"""Lambda refuses more than this, function and layers together."""
LOWEST_PYTHON = "3.11"
"""What a lock holds for, at least: every Python that the kit runs on."""


class NoUv(Exception):
    """There is no uv here."""


def find_uv() -> str:
    """The uv of the environment that this runs in, or one on the PATH.

    Raises:
        NoUv: there is none; the text says what to do.
    """
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise NoUv("uv is not installed; it comes with turnkeeper, or `pip install uv`")
    return found


def for_lambda() -> list[str]:
    """Options of uv that choose what Lambda can import; only wheels, since there is no compiler for it here."""
    return ["--python-version", LAMBDA_PYTHON, "--python-platform", LAMBDA_PLATFORM, "--only-binary", ":all:"]
