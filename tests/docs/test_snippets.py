"""Every command, snippet and file that a page shows is one that works, or says why it cannot be tried here.

A page that is added is looked at without being named anywhere. What tells a block apart is in `tests.support.snippets`.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.snippet_checks import json_problems, python_problems, shell_problems, toml_problems
from tests.support.snippets import ROOT, Block, blocks, guess, pages

CHECKS = {"shell": shell_problems, "python": python_problems, "toml": toml_problems, "json": json_problems}
SHELLS = {"sh", "bash", "console"}
#: Shown, and not held to anything: drawn by the site, read by people.
SHOWN = {"mermaid", "sql", "text", "{toctree}", "html", "js", "yaml"}
#: Made from the code, so there is nothing to hold them to.
GENERATED = {"python.md", "commands.md", "http.md"}
PAGES = [page for page in pages() if not (page.parent.name == "reference" and page.name in GENERATED)]


def of_page(page: Path) -> list[Block]:
    return blocks(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_exists(page: Path) -> None:
    problems = []
    for block in of_page(page):
        language = "shell" if block.language in SHELLS else block.language
        if language not in CHECKS:
            assert language in SHOWN, f"{block}: {language!r} is a language that nothing looks at"
        else:
            problems += list(CHECKS[language](block))
    assert not problems, "\n" + "\n".join(problems)


WITH_PYTHON = [page for page in PAGES if any(block.language == "python" and block.fenced for block in of_page(page))]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_runs(page: Path, tmp_path: Path) -> None:
    """A page's blocks in order, as one program: what an earlier one defines, a later one may use.

    Files of a project are put where they say, and its agents are loaded as a runner loads them.
    """
    program = ["page = {'__name__': 'page'}"]
    for block in of_page(page):
        # An app of the CDK starts a program of Node.js; what is in one is held by `tests/infra`.
        of_cdk = "import aws_cdk" in block.text or "from aws_cdk" in block.text
        if block.language != "python" or not block.fenced or block.not_run is not None or of_cdk:
            continue
        path = tmp_path / (block.file or f"at_line_{block.line}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(block.text))
        if path.relative_to(tmp_path).parts[0] != "agents":
            compiled = f"compile(open({str(path)!r}).read(), {str(path)!r}, 'exec', dont_inherit=True)"
            program.append(f"exec({compiled}, page)")
    if (tmp_path / "agents").is_dir():
        program.append("from pathlib import Path\nfrom turnkeeper.runtime.catalog import load_agents")
        program.append(
            "catalog = load_agents([Path('agents')])\nassert catalog.agents and not catalog.broken, catalog.broken"
        )
    (tmp_path / "page.py").write_text("\n".join(program) + "\n")
    ran = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env={
            "PYTHONPATH": ":".join(str(ROOT / part) for part in ("shared/src", "infra/src", "local/src", ".")),
            "PATH": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_what_is_not_run_says_what_it_lacks(record_property: pytest.RecordProperty) -> None:
    left_out = [block for page in PAGES for block in of_page(page) if block.not_run is not None]
    record_property("blocks that are not run", len(left_out))
    vague = [str(block) for block in left_out if not str(block.not_run).startswith(("needs ", "part of "))]
    assert not vague, f"`<!-- not run: needs ... -->` or `part of ...`: {vague}"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("turnkeeper up\n", "shell"),
        ("make up   # the kit\n", "shell"),
        ('"$(jq -r .x f)"\n', "text"),
        ('name = "x"\nstage = "prod"\n', "toml"),
        ("from turnkeeper import Agent\nAgent()\n", "python"),
        ('{"a": 1}\n{"a": 2}\n', "json"),
        ("● Aurora owes 49.00\n", "text"),
    ],
)
def test_a_block_without_a_language_is_told_apart(text: str, language: str) -> None:
    assert guess(text) == language


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("shell", "turnkeeper nosuch"),
        ("shell", "turnkeeper run support hi --nosuch 3"),
        ("shell", "turnkeeper show"),
        ("shell", "echo $(turnkeeper nosuch)"),
        ("shell", "make nosuch"),
        ("shell", "aws cloudwatch set-alarm-stat --alarm-name x"),
        ("shell", "aws cloudwatch set-alarm-state --alarm-nam x"),
        ("shell", "nosuchprogram"),
        ("python", "from turnkeeper import Agnt"),
        ("python", "from turnkeeper import Agent\nAgent(nam='x')"),
        ("python", "http_fetch(domain=['x'])"),
        ("toml", "[plans.standard]\ntask_dollars = '1.00'"),
        ("toml", "[plans.standard]\ntask_usd = 'a lot'"),
        ("toml", "nosuch_setting = 1"),
        ("json", '{"session_idd": "x"}'),
        ("json", "{not json"),
    ],
)
def test_a_mistake_on_a_page_is_found(language: str, text: str) -> None:
    assert list(CHECKS[language](Block(ROOT / "docs/planted.md", 1, language, text, True)))
