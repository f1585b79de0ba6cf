"""The CDK app, and the constructs that it is made of: `Kit` is all stacks of a deployment, `Config` what is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnkeeper_infra.config import Config
    from turnkeeper_infra.kit import Kit

__all__ = ["Config", "Kit"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: the bundler is a module of this package too, and must not start jsii."""
    if name == "Kit":
        from turnkeeper_infra.kit import Kit

        return Kit
    if name == "Config":
        from turnkeeper_infra.config import Config

        return Config
    raise AttributeError(name)
