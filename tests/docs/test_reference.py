"""The reference leaves nothing out: every type of event, kind of audit record and setting is explained somewhere."""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path

from tests.support.reference import NOT_OF_A_STAGE, fields_of
from tests.support.snippets import ROOT
from turnkeeper.core.audit import AuditKind
from turnkeeper.core.session import EntryType
from turnkeeper_infra.config import Config
from turnkeeper_local.kit.settings import KitSettings

DOCS = ROOT / "docs"


def first_cells(page: Path) -> set[str]:
    """What the tables of a page are about: the names in their first cells."""
    rows = re.findall(r"^\| ([^|]+) \|", page.read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_type_of_event_is_explained() -> None:
    assert set(typing.get_args(EntryType)) <= first_cells(DOCS / "reference/events.md")


def test_every_kind_of_audit_record_is_explained() -> None:
    assert set(typing.get_args(AuditKind)) <= first_cells(DOCS / "reference/audit.md")


def test_every_variable_of_the_local_kit_is_explained() -> None:
    read = set(re.findall(r'"((?:TURNKEEPER|ANTHROPIC)_[A-Z_]+)"', inspect.getsource(KitSettings)))
    refused = {"TURNKEEPER_MODEL_PROVIDER"}
    of_the_model = {"ANTHROPIC_BASE_URL"}
    assert read - refused - of_the_model <= first_cells(DOCS / "local-kit.md")


def test_every_setting_of_a_stage_is_explained() -> None:
    told = fields_of(Config)
    assert [name for name in Config.model_fields if name not in NOT_OF_A_STAGE and not told.get(name)] == []
