"""For tests of a team's own agents: a kit in memory, a scripted model, virtual time, crashes.

``docs/testing.md`` teaches it. Under pytest, the fixture ``turnkeeper`` is a :class:`Workbench` with its agents.
The modules below also hold the fakes of all ports, and ``conformance``, the suites that every adapter passes.
"""

from turnkeeper.testing.crashes import Crashed
from turnkeeper.testing.fakes import Execution, Fake, context
from turnkeeper.testing.faulty_table import Crash
from turnkeeper.testing.runs import Run
from turnkeeper.testing.script import ScriptedModel, ScriptError, answer, call, cut, fail, say
from turnkeeper.testing.workbench import Workbench

__all__ = [
    "Crash",
    "Crashed",
    "Execution",
    "Fake",
    "Run",
    "ScriptError",
    "ScriptedModel",
    "Workbench",
    "answer",
    "call",
    "context",
    "cut",
    "fail",
    "say",
]
