"""An agent whose model nobody can price."""

from __future__ import annotations

from turnkeeper import Agent

agent = Agent(name="unpriced", model="nobody-knows-this-model-1", system="You are free.")
