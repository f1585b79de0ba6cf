"""A sound project, with one thing broken at a time: each is found, under its name, in its file, on its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper.adapters.anthropic_model import _OURS
from turnkeeper.preflight import Finding, examine
from turnkeeper.preflight.models import _SAID_ELSEWHERE

POLICY = """\
default_plan = "one"
default_role = "user"

[plans.one]
task_usd = "1.00"
user_daily_usd = "2.00"
user_monthly_usd = "3.00"
tenant_monthly_usd = "4.00"
timezone = "Europe/Zurich"
agent_daily_usd = { desk = "1.00", lab = "unlimited" }
agents = ["desk", "lab"]
tools = ["look", "change"]

[plans.one.limits]
max_iterations = 10

[plans.two]
task_usd = "1.00"
user_daily_usd = "2.00"
user_monthly_usd = "3.00"
tenant_monthly_usd = "4.00"
tools = ["look"]

[tenants]
acme = "two"

[roles.user]
scopes = ["shop:read"]

[roles.chief]
scopes = ["shop:read", "shop:write"]
admin = true

[models.house-model]
input_usd_per_mtok = "3.00"
output_usd_per_mtok = "15.00"
"""
DESK = """\
from turnkeeper import Agent

from .tools import change, look

MODEL = "claude-sonnet-5-5"

agent = Agent(
    name="desk",
    model=MODEL,
    system="s",
    tools=[look, change],
)
"""
TOOLS = '''\
from turnkeeper import tool


@tool(scopes={"shop:read"})
def look() -> str:
    """Look."""
    return ""


@tool(effect="once", scopes={"shop:write"})
def change() -> str:
    """Change."""
    return ""
'''
LAB = 'from turnkeeper import Agent\n\nagent = Agent(name="lab", model="house-model", system="s")\n'
SOUND = {
    "policy.toml": POLICY,
    "agents/desk/agent.py": DESK,
    "agents/desk/tools.py": TOOLS,
    "agents/desk/evals/first.yaml": "cases:\n  - ask: hello\n",
    "agents/lab/agent.py": LAB,
}


def project(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_sound_project_and_our_own_are_sound(tmp_path: Path) -> None:
    for provider in ("anthropic", "bedrock"):
        found = examine(REPOSITORY, provider)
        assert found.findings == () and len(found.agents) == 3
    assert examine(project(tmp_path, SOUND), "anthropic").findings == ()


@dataclass(frozen=True)
class Broken:
    """A text of the sound project, what takes its place, and what is found: code, severity, line, words."""

    file: str
    old: str
    new: str
    code: str
    line: int | None
    says: str
    severity: str = "error"
    where: str | None = None
    provider: str = "anthropic"


P, D, T, L = "policy.toml", "agents/desk/agent.py", "agents/desk/tools.py", "agents/lab/agent.py"
_TASK = '[plans.two]\ntask_usd = "1.00"\n'
_LOOK = '"shop:read"})\ndef look('
_LOOK_SECRETLY = '"shop:read"}, secret_arguments=["password"])\ndef look(password: str'
TABLE = [
    Broken(P, "[tenants]", "[tenants", "policy_syntax", 24, "is no TOML"),
    Broken(P, 'acme = "two"', 'acme = "two"\nacme = "one"', "policy_syntax", 26, "is no TOML"),
    Broken(P, _TASK, "[plans.two]\n", "policy_key", 17, "[plans.two] task_usd is missing"),
    Broken(P, 'task_usd = "1.00"', "task_usd = 1.0", "policy_key", 5, "a cap is a string"),
    Broken(P, 'task_usd = "1.00"', 'task_usd = "much"', "policy_key", 5, "[plans.one] task_usd"),
    Broken(P, "task_usd =", "task_dollars = 1\ntask_usd =", "policy_key", 5, "no key 'task_dollars'"),
    Broken(P, "[tenants]", "[tenant]", "policy_key", 24, "no key 'tenant' here|did you mean 'tenants'"),
    Broken(P, "max_iterations", "max_iteration", "policy_key", 15, "did you mean 'max_iterations'"),
    Broken(P, "= 10", "= 0", "policy_key", 15, "max_iterations has to be at least 1"),
    Broken(P, "= 10", '= "ten"', "policy_key", 15, "max_iterations has to be a whole number"),
    Broken(P, "= 10", "= true", "policy_key", 15, "max_iterations has to be a whole number"),
    Broken(P, _TASK, f"{_TASK}retention_days = true\n", "policy_key", 19, "retention_days has to be a whole number"),
    Broken(P, "admin = true", "admin = 1", "policy_key", 32, "admin has to be true or false"),
    Broken(P, '"15.00"', '"1e400"', "policy_price", 36, "at most 1000000"),
    Broken(P, '"15.00"', '"15.00"\ncontext_window = true', "policy_price", 37, "has to be a whole number"),
    Broken(P, "admin = true", 'admin = "of course"', "policy_key", 32, "admin has to be true or false"),
    Broken(P, '= ["shop:read"]', '= "shop:read"', "policy_key", 28, "scopes has to be a list of names"),
    Broken(P, '= ["shop:read"]', '= ["shop:*"]', "policy_key", 28, "without wildcards"),
    Broken(P, "Europe/Zurich", "Europe/Zürich", "policy_key", 9, "IANA name of a time zone"),
    Broken(P, 'default_plan = "one"', 'default_plan = "oen"', "policy_key", 1, "plan 'oen'|did you mean 'one'"),
    Broken(P, 'default_plan = "one"\n', "", "policy_key", None, "default_plan is missing"),
    Broken(P, 'acme = "two"', 'acme = "tow"', "policy_key", 25, "plan 'tow'|did you mean 'two'"),
    Broken(P, 'default_role = "user"', 'default_role = "usr"', "policy_role", 2, "'usr' is not described|'user'"),
    Broken(P, "[roles.user]", "[roles.person]", "policy_role", 2, "'user' is not described"),
    Broken(P, 'default_role = "user"\n\n', "", "none", None, ""),
    Broken(P, "desk = ", "desk2 = ", "policy_agent", 10, "names 'desk2', and no agent|did you mean 'desk'"),
    Broken(P, 'agents = ["desk", "lab"]', 'agents = ["desk", "lab", "bal"]', "policy_agent", 11, "names 'bal'"),
    Broken(P, "input_usd_per_mtok", "input_usd", "policy_price", 35, "did you mean 'input_usd_per_mtok'"),
    Broken(P, '"15.00"', "15.00", "policy_price", 36, "output_usd_per_mtok: write it as a string"),
    Broken(P, "[models.house-model]", "[models.hose-model]", "model_without_price", 3, "'house-model'", where=L),
    Broken(P, "[models.", '[models.other]\ninput_usd_per_mtok="1"\noutput_usd_per_mtok="1"\n[models.',
           "price_of_no_model", 34, "no agent calls a model 'other'", "warning"),
    Broken(D, 'system="s",', 'system="s", webhook="https://hooks.example.com/a",', "webhook_of_no_plan", 7,
           "'desk' names a webhook|do not name hooks.example.com", "warning", D),
    Broken(P, ', "shop:write"]', ', "shop:wirte"]', "scope_of_nobody", 11, "needs shop:write|wirte", "warning", T),
    Broken(P, ', "shop:write"]', ', "shop:wirte"]', "scope_of_no_tool", 31, "'shop:wirte'|'shop:write'", "warning"),
    Broken(T, '{"shop:write"}', '{"shop:write", "shop:admin"}', "scope_of_nobody", 11, "shop:admin, which", "warning"),
    Broken(T, _LOOK, _LOOK_SECRETLY, "none", None, ""),
    Broken(T, _LOOK, _LOOK_SECRETLY.replace("ssw", "sw", 1), "secret_of_no_argument", 5,
           "keeps 'pasword' secret|did you mean 'password'", "warning"),
    Broken(P, '"look", "change"', '"look", "chnage"', "tool_of_nobody", 11, "admitted by no plan", "warning", T),
    Broken(P, '"look", "change"', '"look", "change", "chnage"', "policy_tool", 12, "'chnage'|'change'", "warning"),
    Broken(D, "from .tools", "import nowhere_to_be_found\nfrom .tools", "agent_broken", 3, "requirements.txt"),
    Broken(T, "return", "retrun", "agent_broken", 7, "SyntaxError", where=T),
    Broken(T, '    """Look."""\n', "", "agent_broken", 4, "needs a docstring", where=T),
    Broken(D, "agent = Agent", "agnet = Agent", "agent_broken", None, "has to define agent = Agent"),
    Broken(D, "[look, change]", "[look, look]", "agent_broken", 7, "two tools named look"),
    Broken(L, '"lab"', '"desk"', "agent_broken", None, "already has an agent named 'desk'"),
    Broken(L, "from turnkeeper", "import os\nos.environ['KEY']\nfrom turnkeeper", "agent_broken", 2, "without the"),
    Broken(D, '"claude-sonnet-5-5"', '"claude-sonet-5-5"', "model_without_price", 5, "'claude-sonet-5-5'"),
    Broken(L, ")", ', fallback_models=["gpt-99"])', "model_without_price", 3, "'gpt-99'"),
    Broken(L, ")", ', fallback_models=["claude-3-opus-latest"])', "model_not_on_bedrock", 3, "Bedrock has no",
           provider="bedrock"),
    Broken(L, ")", ',\n    model_options={"max_tokens": 9, "thinking": {"type": "enabled", "budget_tokens": 1_024}})',
           "option_without_effect", 4, "'max_tokens' among its model_options|limits=Limits(max_tokens=", "warning"),
    Broken(L, ")", ', model_options={"model": "other"})', "option_without_effect", 3, "model= and fallback", "warning"),
    Broken(L, ")", ', model_options={"tools": [], "betas": [], "metadata": {}})', "none", None, ""),
    Broken("agents/desk/evals/first.yaml", "ask: hello", "ask: [hello", "evals_syntax", 3, "is no YAML", "warning"),
]  # fmt: skip


@pytest.mark.parametrize("broken", TABLE, ids=lambda one: f"{one.code}: {one.new[:30]!r}")
def test_one_thing_broken_at_a_time(broken: Broken, tmp_path: Path) -> None:
    assert broken.old in SOUND[broken.file], "the table means something that is there"
    files = {**SOUND, broken.file: SOUND[broken.file].replace(broken.old, broken.new, 1)}
    found = examine(project(tmp_path, files), broken.provider).findings
    if broken.code == "none":
        assert found == ()
        return
    told = [one for one in found if one.code == broken.code]
    assert told, found
    matching = [one for one in told if one.file == (broken.where or broken.file) and one.line == broken.line]
    assert matching, told
    assert matching[0].severity == broken.severity
    for words in broken.says.split("|"):
        assert words in f"{matching[0].text} {matching[0].hint}"
    check_words(found)


def test_the_options_without_effect_are_those_that_are_not_sent() -> None:
    assert _SAID_ELSEWHERE.keys() == _OURS - {"betas", "tools"}


def check_words(found: tuple[Finding, ...]) -> None:
    for one in found:
        assert one.text and one.hint
        for foreign in ("pydantic", "Input should", "validation error", "turnkeeper_agents", "Traceback"):
            assert foreign not in one.text + one.hint


def test_everything_that_is_wrong_with_a_policy_is_told_at_once(tmp_path: Path) -> None:
    text = POLICY.replace('task_usd = "1.00"\nuser_daily_usd = "2.00"\n', "surprise = 1\n").replace("true", '"t"')
    found = examine(project(tmp_path, {**SOUND, "policy.toml": text}), "anthropic").findings
    plan = [one.text for one in found if one.text.startswith("[plans.one]")]
    assert len(plan) == 3 and len([one for one in found if one.severity == "error"]) == 7
    assert any("task_usd is missing" in one for one in plan) and any("user_daily_usd is missing" in one for one in plan)


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    files = {name: text for name, text in SOUND.items() if name != "policy.toml"}
    [finding] = examine(project(tmp_path, files), "anthropic").findings
    assert (finding.code, finding.severity, finding.file) == ("policy_missing", "error", "policy.toml")


@pytest.mark.parametrize(
    ("written", "line", "says"),
    [
        (POLICY.encode("utf-8-sig"), 1, "byte order mark"),
        (POLICY.encode("utf-16"), 1, "UTF-8"),
        (POLICY.replace("Zurich", "Z\u00fcrich").encode("latin-1"), 9, "UTF-8"),
        (b"a = " + b"9" * 5_000, None, "too long"),
        (b"a = " + b"[" * 5_000 + b"]" * 5_000, None, "too deep"),
        (b"b = \na = " + b"9" * 5_000, 1, "is no TOML"),
    ],
)
def test_a_policy_that_is_no_text_of_ours(tmp_path: Path, written: bytes, line: int | None, says: str) -> None:
    (project(tmp_path, SOUND) / "policy.toml").write_bytes(written)
    [finding] = [one for one in examine(tmp_path, "anthropic").findings if one.file == "policy.toml"]
    assert (finding.code, finding.line) == ("policy_syntax", line)
    assert says in f"{finding.text} {finding.hint}"
    check_words((finding,))


def test_folders_that_are_no_agents_and_further_ones(tmp_path: Path) -> None:
    more = {"agents/typo/agnet.py": "", "agents/_shared/x.py": "", "agents/left/__pycache__/agent.pyc": ""}
    root = project(tmp_path / "here", {**SOUND, **more})
    away = project(tmp_path / "away", {"odd/agent.py": "agent = 1\n"})
    found = examine(root, "anthropic", [away, tmp_path / "nowhere"]).findings
    assert {(one.code, one.severity, one.file) for one in found} == {
        ("folder_missing", "error", str(tmp_path / "nowhere")),
        ("agent_broken", "error", str(away / "odd" / "agent.py")),
        ("folder_without_agent", "warning", "agents/typo"),
    }


def test_a_renamed_agent_is_named_by_both_names_or_told(tmp_path: Path) -> None:
    renamed = DESK.replace('name="desk"', 'name="table", formerly=["desk"]')
    found = examine(project(tmp_path, {**SOUND, D: renamed}), "anthropic").findings
    told = [one for one in found if one.severity == "error"]
    assert [one.code for one in told] == ["policy_agent", "policy_agent"]
    assert all("which is called 'table' now" in one.text for one in told)


def test_while_an_agent_is_broken_what_it_may_have_named_is_not_called_left_over(tmp_path: Path) -> None:
    found = examine(project(tmp_path, {**SOUND, T: "def ("}), "anthropic").findings
    assert [one.code for one in found] == ["agent_broken"]


def test_an_agent_tells_what_it_is_and_who_is_given_what(tmp_path: Path) -> None:
    desk, lab = examine(project(tmp_path, SOUND), "anthropic").agents
    assert (desk["name"], desk["model"], desk["file"], desk["line"]) == ("desk", "claude-sonnet-5-5", D, 7)
    assert [(tool["name"], tool["effect"], tool["scopes"]) for tool in desk["tools"]] == [
        ("look", "read", ["shop:read"]),
        ("change", "once", ["shop:write"]),
    ]
    given = {(row["plan"], row["role"]): row["tools"] for row in desk["grants"]}
    assert given["one", "chief"] == ["look", "change"] and given["two", "chief"] == ["look"]
    assert given["one", None] == [] and len(given) == 6
    assert lab["tools"] == []
