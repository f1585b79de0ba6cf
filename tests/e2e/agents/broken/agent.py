"""An agent that cannot be loaded."""

raise RuntimeError("this agent is broken on purpose")
