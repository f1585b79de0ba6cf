"""Agents written on the Claude Agent SDK, run by the worker under the kit: docs/agent-sdk.md.

The SDK and the program that it brings are an optional extra, ``turnkeeper[agent-sdk]``, which only the worker needs.
This module is what an agent's author imports, and needs neither.
"""

from turnkeeper.sdk.declaration import ENGINE, SdkAgent

__all__ = ["ENGINE", "SdkAgent"]
