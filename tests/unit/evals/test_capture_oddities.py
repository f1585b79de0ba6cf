"""What a session of production may hold that a made-up one does not: secrets and personal data wherever they can stand,
pictures, names in any script, turns that ended another way than the last one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.evals.conftest import AGENT
from tests.unit.evals.test_capture import replayed, session
from turnkeeper.core.trajectory import calls_of
from turnkeeper.evaluation import EVERY_TURN, evaluate
from turnkeeper.runtime.intake import Identity
from turnkeeper_local.cli.capturing import _secret_names
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.evals.capture import Captured, capture, file_name
from turnkeeper_local.evals.case import Inputs
from turnkeeper_local.evals.cases import CaseError, read
from turnkeeper_local.evals.play import CaseKit, Stage, _agent
from turnkeeper_local.evals.privacy import Privacy
from turnkeeper_local.evals.script import Answer, Faked, scripted

MORE_TOOLS = '''
@tool(effect="once", scopes={"stock:write"}, secret_arguments={"door"})
def reset_password(ctx: ToolContext, user: str, door: str) -> str:
    """Reset."""
    raise AssertionError("no case runs this for real")


@tool(effect="read", scopes={"stock:read"})
def look(ctx: ToolContext, q: dict[str, object]) -> dict[str, object]:
    """Look."""
    raise AssertionError("no case runs this for real")


agent = Agent'''
DOOR = "7391-open-sesame"


@pytest.fixture
def odd(project: Path) -> Path:
    text = AGENT.replace("[count, order]", "[count, order, reset_password, look]")
    (project / "agents" / "clerk" / "agent.py").write_text(text.replace("\nagent = Agent", MORE_TOOLS, 1))
    return project


def written(project: Path, made: Captured) -> str:
    """All that was written, once it is seen to replay to the same scores."""
    now = {score.name: score.value for score in evaluate(EVERY_TURN, replayed(project, made))}
    assert now == {score.name: score.value for score in made.scores}
    folder = project / "agents" / "clerk" / "evals"
    return "\n".join(one.read_text() for one in folder.rglob("*") if one.is_file() and one.name != "stock.yaml")


def test_declared_secrets_go_and_a_tool_that_is_called_like_one_stays(odd: Path) -> None:
    transcript = session(
        odd,
        [f"Reset it, the door says {DOOR}."],
        [Answer(call="reset_password", arguments={"user": "joe", "door": DOOR}), Answer(say=f"Done with {DOOR}.")],
        reset_password=Faked(result=f"{DOOR} is taken"),
    )
    names = _secret_names(Stage.of(odd), "clerk")
    assert names == {"door"}
    text = written(odd, capture(*transcript, Privacy(secret_names=names), name="reset"))
    assert DOOR not in text
    assert "reset_password:" in text


def test_without_the_agent_nothing_is_written_since_nobody_knows_its_secrets(odd: Path) -> None:
    (odd / "agents" / "clerk" / "agent.py").write_text("raise RuntimeError('not today')")
    with pytest.raises(CliError, match="not today"):
        _secret_names(Stage.of(odd), "clerk")


def test_a_secret_that_an_answer_quotes_goes_with_the_result_that_names_it(odd: Path) -> None:
    transcript = session(
        odd,
        ["What is it?"],
        [Answer(call="count", arguments={"item": "nails"}), Answer(say="It is horse battery staple9. Use it.")],
        count=Faked(result={"password": "horse battery staple9"}),
    )
    assert "staple9" not in written(odd, capture(*transcript, Privacy(), name="quoted"))


def test_calls_that_differed_in_a_secret_still_do(odd: Path) -> None:
    """Else the breaker for repeated calls would open in the replay."""
    asked = [Answer(call="look", arguments={"q": {"password": f"horse{n}battery"}}) for n in range(12)]
    answers: Any = [Faked(result={"n": n}) for n in range(12)]
    transcript = session(odd, ["Look."], [*asked, Answer(say="done")], look=Faked(answers=answers))
    assert "battery" not in written(odd, capture(*transcript, Privacy(), name="many"))


def test_personal_data_as_keys_numbers_and_in_lists(odd: Path) -> None:
    result: Any = {"joe@example.com": {"n": 3}, "full_name": ["Ann Smith", {"x": "Joe Doe"}], "badge": 445566778}
    transcript = session(
        odd,
        ["Who?"],
        [Answer(call="look", arguments={"q": {"ann@example.com": 1}}), Answer(say="Ann Smith, Joe Doe, 445566778.")],
        look=Faked(result=result),
    )
    text = written(odd, capture(*transcript, Privacy({"full_name": "name", "badge": "badge"}), name="people"))
    for known in ("example.com", "Smith", "Doe", "445566778"):
        assert known not in text


def test_an_earlier_turn_ended_as_it_did_then(odd: Path) -> None:
    transcript = session(odd, ["One.", "Two."], [Answer(say="one"), Answer(stop="refusal")])
    text = written(odd, capture(*transcript, Privacy(), name="first", turn=1))
    assert "refusal" not in text


def test_turns_that_were_taken_back_keep_their_numbers_and_can_be_captured(odd: Path) -> None:
    stage = Stage.of(odd)
    agent = _agent(stage, "clerk", Inputs(turns=["-"]))
    answers = [Answer(say="one"), Answer(stop="refusal"), Answer(say="three")]
    kit = CaseKit(stage, agent, scripted(answers, agent.model))
    who = Identity("acme", "ann", "buyer")
    head = kit.turn(who, agent, "First.", None, {})
    head = kit.turn(who, agent, "Second.", head, {})
    head = kit.branching.rewind(who, head)

    def captured(name: str, turn: int | None = None) -> tuple[list[str], str]:
        transcript = kit.sessions.load(head.tenant_id, head.session_id)
        made = capture(transcript, kit.sessions.spec_of(transcript), Privacy(), name=name, turn=turn)
        written(odd, made)
        [case] = made.document["cases"]
        return case["inputs"]["turns"], case["evaluators"][0]["Ended"]["reasons"][0]

    assert captured("behind a rewind") == (["First."], "end_turn")
    head = kit.turn(who, agent, "Third.", head, {})
    assert captured("all") == (["First.", "Third."], "end_turn")
    assert captured("what went wrong", 2) == (["First.", "Second."], "refusal")
    assert captured("the third", 3) == (["First.", "Third."], "end_turn")
    with pytest.raises(ValueError, match="no turn 4: the session has 3"):
        captured("none", 4)
    kit.erasure.erase(head, actor="ann")
    with pytest.raises(ValueError, match="erased"):
        captured("erased")


@pytest.mark.parametrize("status", [400, 529])
def test_a_turn_that_the_model_api_failed_fails_again(odd: Path, status: int) -> None:
    """As often as it was asked: what was said in later turns is not said too early."""
    failures = [Answer(fail=status)] * (1 if status == 400 else 40)
    transcript = session(odd, ["One.", "Two.", "Three."], [Answer(say="one"), *failures])
    made = capture(*transcript, Privacy(), name="failed")
    written(odd, made)
    [case] = made.document["cases"]
    assert {"fail": status} in case["inputs"]["model"]
    assert case["evaluators"][0] == {"Ended": {"reasons": ["provider_error" if status == 529 else "end_turn"]}}


def test_pictures_are_not_kept(odd: Path) -> None:
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    assert base64.b64decode(dot)
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": dot}}
    turn: Any = [{"type": "text", "text": "See."}, picture]
    transcript = session(odd, [turn], [Answer(say="Seen.")])
    text = written(odd, capture(*transcript, Privacy(), name="picture"))
    assert dot not in text
    assert "type: image" in text


def test_pictures_in_documents_are_not_kept_either(odd: Path) -> None:
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": dot}}
    album = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Ann."}, picture]}}
    turn: Any = [{"type": "text", "text": "See."}, album]
    fetched = {"type": "web_fetch_result", "content": album}
    answers = [
        Answer(call="count", arguments={"item": "nails"}),
        Answer(content=[fetched, {"type": "text", "text": "Seen."}]),
    ]
    transcript = session(odd, [turn], answers, count=Faked(result=[album]))
    text = json.dumps(capture(*transcript, Privacy(), name="album").document)
    assert (dot in text, text.count("Ann.")) == (False, 3)


@pytest.mark.parametrize("name", ["日本語", "---", "Zürich", "a" * 300, "é" * 300, "of two\nlines", " "])
def test_a_name_in_any_script_is_one_of_a_file(odd: Path, name: str) -> None:
    transcript = session(odd, ["Hello."], [Answer(say="Hello.")])
    made = capture(*transcript, Privacy(), name=name)
    assert not file_name(made.name).startswith((".", "-"))
    written(odd, made)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6).map(lambda text: f"q{text}q"))
def test_what_stands_under_a_secret_name_stands_nowhere(secret: str) -> None:
    privacy = Privacy(secret_names=["door"])
    value = {"door": secret, "said": [f"it is {secret}, yes"], secret: 1}
    privacy.learn(value)
    assert secret not in repr(list(_leaves(privacy.clean(value))))


def _leaves(value: Any) -> Any:
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def test_an_address_that_only_the_answer_names_is_no_fact_in_the_replay(odd: Path) -> None:
    """None of it was one, and a placeholder with a digit would be."""
    said = "There are 17. Write to help@example.com or to Ann Smith."
    transcript = session(
        odd,
        ["How many nails?"],
        [Answer(call="count", arguments={"item": "nails"}), Answer(say=said)],
        count=Faked(result={"count": 17, "full_name": "Ann Smith"}),
    )
    made = capture(*transcript, Privacy({"full_name": "full_name"}), name="address")
    assert "example.com" not in written(odd, made)
    assert {score.name: score.value for score in made.scores}["grounded"] == 1


ODD_TEXT = "one\x85two\r\nthree\rfour\u2028\x00\ufeff\nfive \U0001f600"


@pytest.mark.parametrize("times", [1, 300])
def test_a_result_is_read_as_the_tool_gave_it(odd: Path, times: int) -> None:
    """Whatever it holds, in the case's file or in one beside it."""
    transcript = session(
        odd,
        [ODD_TEXT, "See\x85"],
        [Answer(call="count", arguments={"item": ODD_TEXT}), Answer(say="Seen."), Answer(say="Seen\x85")],
        count=Faked(result=ODD_TEXT * times),
    )
    told = transcript[0].entries
    played = replayed(odd, capture(*transcript, Privacy(), name="odd"))
    assert list(played.inputs) == [ODD_TEXT, "See\x85"]
    [given] = played.calls
    [was] = calls_of(told)
    assert (given.arguments, given.result, given.outcome) == (was.arguments, was.result, "ok")
    assert ODD_TEXT.count("\x85") * times == given.result.count("\x85") > 0


def test_a_result_file_that_is_no_text_is_said_to_be_none(odd: Path) -> None:
    folder = odd / "agents" / "clerk" / "evals"
    (folder / "picture.txt").write_bytes(b"\xff\xfe")
    case = {"name": "a", "inputs": {"turns": ["x"], "tools": {"count": {"result_file": "picture.txt"}}}}
    (folder / "odd.yaml").write_text(json.dumps({"cases": [case]}))
    with pytest.raises(CaseError, match=r"picture\.txt: 'utf-8'"):
        read(folder / "odd.yaml", "clerk")


def test_no_two_people_have_one_placeholder() -> None:
    people = [f"{chr(97 + n % 26)}{'x' * (n // 26)}@example.com" for n in range(60)]
    cleaned = Privacy().clean(people)
    assert len(set(cleaned)) == 60
    assert (cleaned[0], cleaned[25], cleaned[26], cleaned[52]) == ("[email-a]", "[email-z]", "[email-aa]", "[email-ba]")


def test_who_is_called_like_the_end_of_another_is_somebody_else() -> None:
    privacy = Privacy({"full_name": "name"})
    privacy.learn({"full_name": "bob@example.com of sales"})
    cleaned = privacy.clean(["ann@example.com", "joann@example.com, +41 44 668 18 00, v+41 44 668 18 00"])
    assert cleaned == ["[email-a]", "[email-b], [phone-1], v[phone-1]"]
    assert privacy.clean("bob@example.com of sales, bob@example.com") == "[name-a], [email-c]"
