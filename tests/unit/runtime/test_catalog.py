"""Agents are found by their folders; a broken one is told by name and takes none of the others down."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from turnkeeper.core.errors import AgentNotFound
from turnkeeper.runtime.catalog import Catalog, load_agents

GOOD = """
from turnkeeper import Agent
agent = Agent(name={name!r}, model="m", system="s")
"""


def put(root: Path, folder: str, text: str, **others: str) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "agent.py").write_text(text)
    for name, content in others.items():
        (root / folder / f"{name}.py").write_text(content)
    return root


def whys(catalog: Catalog) -> dict[str, str]:
    return {name: str(broken) for name, broken in catalog.broken.items()}


BROKEN = {
    "syntax": "def (",
    "raises": "raise RuntimeError('no')",
    "exits": "import sys; sys.exit(3)",
    "imports": "import a_module_that_nobody_has",
    "nothing": "x = 1",
    "no_agent": "agent = 'me'",
    "bad_name": "from turnkeeper import Agent\nagent = Agent(name='Bad Name', model='m', system='s')",
    "relative": "from .missing import x",
    "beyond": "from ..other import x",
}


def test_broken_agents_are_named_and_the_others_load(tmp_path: Path) -> None:
    for folder, text in BROKEN.items():
        put(tmp_path, folder, text)
    put(tmp_path, "zebra", GOOD.format(name="zebra"))
    put(tmp_path, "ant", GOOD.format(name="ant"))
    catalog = load_agents([tmp_path])
    assert set(catalog.agents) == {"ant", "zebra"}
    assert set(catalog.broken) == set(BROKEN)
    assert str(catalog.broken["exits"]) == "SystemExit: 3"
    assert catalog.get("ant").name == "ant"


def test_who_asks_for_a_broken_agent_is_told_without_the_details(tmp_path: Path) -> None:
    put(tmp_path, "raises", "raise RuntimeError('the password is hunter2')")
    catalog = load_agents([tmp_path])
    with pytest.raises(AgentNotFound, match="broken") as refused:
        catalog.get("raises")
    assert "hunter2" not in str(refused.value)
    with pytest.raises(AgentNotFound, match="no agent"):
        catalog.get("nobody")


def test_where_an_agent_is_broken_is_told_in_its_authors_names(tmp_path: Path) -> None:
    """The last place in the agent's own code, not in what it calls; and no name that only we know."""
    put(tmp_path, "syntax", "x = 1\n\ndef (")
    put(tmp_path, "deep", "from . import tools", tools="import json\n\n\njson.loads('no')")
    put(tmp_path, "shared", "\nfrom .._shared.helper import x")
    put(tmp_path, "relative", "from ..nowhere import x")
    put(tmp_path, "nothing", "x = 1")
    (tmp_path / "_shared").mkdir()
    (tmp_path / "_shared" / "helper.py").write_text("\nraise RuntimeError('not today')")
    broken = load_agents([tmp_path]).broken
    places = {name: (one.file.relative_to(tmp_path).as_posix(), one.line) for name, one in broken.items()}
    assert places == {
        "syntax": ("syntax/agent.py", 3),
        "deep": ("deep/tools.py", 4),
        "shared": ("_shared/helper.py", 2),
        "relative": ("relative/agent.py", 1),
        "nothing": ("nothing/agent.py", None),
    }
    assert "not today" in broken["shared"].traceback and "helper.py" in broken["shared"].traceback
    assert not [one for one in broken.values() if "turnkeeper_agents" in one.why + one.traceback]


def test_two_agents_of_one_name_keep_the_first(tmp_path: Path) -> None:
    first = put(tmp_path / "first", "a", GOOD.format(name="same").replace('"s"', '"first"'))
    second = put(tmp_path / "second", "b", GOOD.format(name="same").replace('"s"', '"second"'))
    catalog = load_agents([first, second])
    assert catalog.get("same").system == "first"
    assert "already has an agent named 'same'" in str(catalog.broken["b"])


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (
            "from turnkeeper import Limits\nLimits(max_iterations=0, task_usd='much')",
            "ValidationError: Limits: max_iterations: Input should be greater than or equal to 1; "
            "task_usd: Value error, 'much' is not an amount in dollars such as '1.00'",
        ),
        (
            "from collections.abc import Callable\nfrom turnkeeper import tool\n"
            "@tool\ndef f(a: Callable[[int], int]) -> str:\n    'Call it.'\n    return ''",
            "PydanticInvalidForJsonSchema: Cannot generate a JsonSchema for core_schema.CallableSchema",
        ),
        ("raise ValueError('one\\n  two\\n')", "ValueError: one two"),
    ],
    ids=["values", "a type", "lines"],
)
def test_what_is_wrong_is_told_in_one_line(module: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "agent.py").write_text(module)
    assert load_agents([tmp_path]).broken["mine"].why == why


def test_an_agent_is_found_by_the_names_it_had_unless_another_has_them_now(tmp_path: Path) -> None:
    put(tmp_path, "a", GOOD.format(name="heir").replace("'heir'", "'heir', formerly=['old', 'taken']"))
    put(tmp_path, "b", GOOD.format(name="taken"))
    put(tmp_path, "c", GOOD.format(name="pretender").replace("'pretender'", "'pretender', formerly=['old']"))
    catalog = load_agents([tmp_path])
    assert [catalog.get(name).name for name in ("heir", "old", "taken")] == ["heir", "heir", "taken"]
    assert whys(catalog) == {"c": "ValueError: another agent was named old formerly as well"}


def test_agents_may_have_modules_of_their_own_also_of_the_same_names(tmp_path: Path) -> None:
    text = "from turnkeeper import Agent\nfrom .words import SYSTEM\nagent = Agent(name={!r}, model='m', system=SYSTEM)"
    for name in ("one", "two"):
        put(tmp_path, name, text.format(name), words=f"SYSTEM = 'I am {name}.'")
    catalog = load_agents([tmp_path])
    assert catalog.broken == {}
    assert [catalog.get(name).system for name in ("one", "two")] == ["I am one.", "I am two."]


# ---- what agents share ----

SHARING = """
from turnkeeper import Agent
from .._shared.words import SYSTEM
agent = Agent(name={name!r}, model="m", system=SYSTEM)
"""


def systems(*folders: Path) -> dict[str, str]:
    """What each agent says of itself; none is broken."""
    catalog = load_agents(folders)
    assert catalog.broken == {}
    return {name: agent.system for name, agent in catalog.agents.items()}


@pytest.mark.parametrize("initialized", [False, True])
def test_agents_share_what_is_beside_them(tmp_path: Path, initialized: bool) -> None:
    put(tmp_path, "one", SHARING.format(name="one"))
    put(tmp_path, "two", "from .own import agent", own=SHARING.format(name="two"))
    put(
        tmp_path,
        "_shared",
        "raise RuntimeError('this is no agent')",
        words="from .more import SYSTEM",
        more="SYSTEM = 'x'",
    )
    if initialized:
        (tmp_path / "_shared" / "__init__.py").touch()
    assert systems(tmp_path) == {"one": "x", "two": "x"}


def test_what_is_shared_is_loaded_once(tmp_path: Path) -> None:
    put(tmp_path, "_shared", "", words=f"open({str(tmp_path / 'loads')!r}, 'a').write('x')\nSYSTEM = 's'")
    for name in ("one", "two", "three"):
        put(tmp_path, name, SHARING.format(name=name))
    assert set(systems(tmp_path)) == {"one", "two", "three"}
    assert (tmp_path / "loads").read_text() == "x"


def test_each_folder_has_its_own(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        put(tmp_path / folder, f"of-{folder}", SHARING.format(name=folder))
        put(tmp_path / folder, "_shared", "", words=f"SYSTEM = 'I am of the {folder}.'")
    put(tmp_path / "third", "orphan", SHARING.format(name="orphan"))
    assert systems(tmp_path / "first", tmp_path / "second") == {
        "first": "I am of the first.",
        "second": "I am of the second.",
    }
    catalog = load_agents([tmp_path / "first", tmp_path / "third"])
    assert set(catalog.agents) == {"first"}
    assert "No module named" in str(catalog.broken["orphan"])


def test_a_folder_that_is_loaded_again_is_loaded_as_it_is_then(tmp_path: Path) -> None:
    """Also what is shared; and the first version stays whole, with what it imports later."""
    late = "def late():\n    from .._shared import words\n    return words.SYSTEM"
    put(tmp_path, "one", SHARING.format(name="one") + late)
    versions = []
    for word in ("old", "new"):
        put(tmp_path, "_shared", "", words=f"SYSTEM = {word!r}")
        # What is compiled is told from its source by time and size: this test is quicker than that.
        shutil.rmtree(tmp_path / "_shared" / "__pycache__", ignore_errors=True)
        versions.append(systems(tmp_path)["one"])
    assert versions == ["old", "new"]
    file = str(tmp_path / "one" / "agent.py")
    loaded = [module for module in sys.modules.values() if getattr(module, "__file__", None) == file]
    assert [module.late() for module in loaded] == ["old", "new"]


def test_a_broken_module_takes_down_those_that_use_it_and_no_other(tmp_path: Path) -> None:
    put(tmp_path, "_shared", "", words="SYSTEM = 's'", broken="raise RuntimeError('no')", leaves="raise SystemExit(3)")
    for name in ("a", "c"):
        put(tmp_path, name, SHARING.format(name=name).replace("words", "broken"))
    put(tmp_path, "b", SHARING.format(name="b"))
    put(tmp_path, "d", SHARING.format(name="d").replace("words", "leaves"))
    catalog = load_agents([tmp_path])
    assert set(catalog.agents) == {"b"}
    assert whys(catalog) == {"a": "RuntimeError: no", "c": "RuntimeError: no", "d": "SystemExit: 3"}


@pytest.mark.parametrize("name", ["_shared", "_", "_draft", ".hidden", "__pycache__"])
def test_names_that_are_no_agents(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, GOOD.format(name="nobody"))
    put(tmp_path, "some-body", GOOD.format(name="somebody"))
    assert set(systems(tmp_path)) == {"somebody"}


def test_folders_that_are_not_there_or_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    catalog = load_agents([tmp_path, tmp_path / "nowhere"])
    assert (dict(catalog.agents), dict(catalog.broken)) == ({}, {})


UNEXPECTED = {
    "half a character": "ValueError('half \\ud800')",
    "no words": "type('E', (Exception,), {'__str__': lambda s: 1 / 0})()",
    "no exception": "GeneratorExit",
    "an exit": "SystemExit",
}


@pytest.mark.parametrize("raised", UNEXPECTED.values(), ids=UNEXPECTED)
def test_an_agent_that_raises_what_nobody_expects_breaks_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raised: str
) -> None:
    caplog.set_level("CRITICAL")  # half a character could not be reported by a runner of tests
    good = "from turnkeeper import Agent\nagent = Agent(name='good', model='m', system='s')\n"
    for name, text in (("bad", f"raise {raised}\n"), ("good", good)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent.py").write_text(text)
    catalog = load_agents([tmp_path])
    assert set(catalog.agents) == {"good"}
    broken = catalog.broken["bad"]
    (broken.why + broken.traceback).encode()
    assert broken.line == 1
