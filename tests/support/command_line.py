"""A Typer application's tree of commands, built once a process: that takes longer than most commands do."""

from __future__ import annotations

from functools import cache

from typer.main import get_command

tree = cache(get_command)
