"""The CDK app, and the constructs that it is made of: `Kit` is all stacks of a deployment, `Config` what is chosen,
`from_context` how the stage's file and flags choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnkeeper_infra.config import Config
    from turnkeeper_infra.kit import Kit
    from turnkeeper_infra.stages import from_context

__all__ = ["Config", "Kit", "from_context"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: the bundler is a module of this package too, and must not start jsii."""
    if name == "Kit":
        from turnkeeper_infra.kit import Kit

        return Kit
    if name == "Config":
        from turnkeeper_infra.config import Config

        return Config
    if name == "from_context":
        from turnkeeper_infra.stages import from_context

        return from_context
    raise AttributeError(name)
