"""The commands of `turnkeeper`, built as soon as this is imported: before a process is forked for each of them."""

from __future__ import annotations

from tests.support.command_line import tree
from turnkeeper_local.cli.main import app

tree(app)
