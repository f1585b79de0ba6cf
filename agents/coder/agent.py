"""An agent on the Claude Agent SDK to copy from: takes a small repository, makes its tests pass, proposes a patch.

make sdk && turnkeeper up
turnkeeper submit coder "The tests of the repository fail. Find out why, and propose a patch."
"""

from __future__ import annotations

import difflib
from pathlib import Path

from claude_agent_sdk import ClaudeAgentOptions

from turnkeeper import Limits, ToolContext, ToolError, tool
from turnkeeper.sdk import SdkAgent

REPOSITORY = Path(__file__).parent / "repository"
MAX_BYTES = 50_000

SYSTEM = """\
You mend small Python repositories.

- Your working directory is empty and yours. Get the files with get_repository, and write them there as they are.
- Run the tests with `python3 -m unittest`, before you change anything and after.
- Change as little as mends it. Never change a test.
- When the tests pass, hand the files that you changed to propose_patch, once.
- Say in two sentences what was wrong."""


def files() -> dict[str, str]:
    return {str(file.relative_to(REPOSITORY)): file.read_text() for file in sorted(REPOSITORY.rglob("*.py"))}


@tool(effect="read", timeout_seconds=10)
def get_repository() -> dict[str, str]:
    """Get all files of the repository: their text, by path."""
    return files()


@tool(effect="idempotent", timeout_seconds=10)
def propose_patch(ctx: ToolContext, title: str, changed: dict[str, str]) -> dict[str, str]:
    """Propose a patch: a title of one line, and the whole new text of each changed file, by its path. People look at
    it; nothing is changed by it."""
    before, diff = files(), ""
    for path, text in sorted(changed.items()):
        if path not in before:
            raise ToolError(f"There is no file {path}. There are: {', '.join(before)}")
        if path.startswith("test_"):
            raise ToolError(f"{path} is a test: those stay as they are.")
        old, new = before[path].splitlines(keepends=True), text.splitlines(keepends=True)
        diff += "".join(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}"))
    if not diff or len(diff.encode()) > MAX_BYTES:
        raise ToolError(f"A patch changes something, and is at most {MAX_BYTES} bytes.")
    return {"proposal": ctx.idempotency_key, "title": title, "diff": diff}


agent = SdkAgent(
    name="coder",
    options=ClaudeAgentOptions(
        model="claude-sonnet-5-5",
        system_prompt=SYSTEM,
        tools=["Bash", "Read", "Write", "Edit", "Glob", "Grep"],
        # Of Bash only the tests: the program refuses other commands.
        allowed_tools=["Read", "Write", "Edit", "Glob", "Grep", "Bash(python3 -m unittest:*)"],
    ),
    tools=[get_repository, propose_patch],
    # Commands run in the worker's task: whoever may have them run is named in policy.toml.
    scopes={"Bash": {"code:run"}},
    limits=Limits(max_iterations=40, task_usd="1.00", max_seconds=1_800),
)
