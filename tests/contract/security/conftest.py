"""A front door of a kit in memory."""

from __future__ import annotations

from tests.support.api import ann, kit

__all__ = ["ann", "kit"]
