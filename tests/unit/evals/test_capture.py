"""A session becomes a case that replays to the same scores, without the world and without what is nobody's business."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnkeeper.core.session import Spec, Transcript
from turnkeeper.evaluation import EVERY_TURN, evaluate
from turnkeeper.ports import Model
from turnkeeper.runtime.intake import Identity
from turnkeeper_local.evals.capture import Captured, capture, file_name
from turnkeeper_local.evals.case import Inputs
from turnkeeper_local.evals.cases import read
from turnkeeper_local.evals.play import CaseKit, Stage, _agent, play
from turnkeeper_local.evals.privacy import Privacy
from turnkeeper_local.evals.script import Answer, Faked, scripted
from turnkeeper_local.evals.standin import StandInModel

KEY = "sk-ant-api03-" + "a1B2" * 20
PASSWORD = "correct horse battery"


def session(
    project: Path, turns: list[str], model: list[Answer] | Model, role: str = "buyer", **tools: Faked
) -> tuple[Transcript, Spec]:
    """A session of the project's clerk, as production would have stored it."""
    stage = Stage.of(project)
    agent = _agent(stage, "clerk", Inputs(turns=["-"], tools=tools))
    kit = CaseKit(stage, agent, scripted(model, agent.model) if isinstance(model, list) else model)
    head = None
    for turn in turns:
        head = kit.turn(Identity("acme", "ann", role), agent, turn, head, {})
    assert head is not None
    transcript = kit.sessions.load(head.tenant_id, head.session_id)
    return transcript, kit.sessions.spec_of(transcript)


def replayed(project: Path, made: Captured) -> Any:
    path = project / "agents" / "clerk" / "evals" / file_name(made.name)
    made.write(path)
    [case] = read(path, "clerk").dataset.cases
    return play(Stage.of(project), "clerk", case.inputs)


def test_it_replays_to_the_same_scores_and_holds_no_secret(project: Path) -> None:
    large = {"rows": [{"item": f"part-{n}", "count": n} for n in range(3000)], "contact": "joe@example.com"}
    transcript, spec = session(
        project,
        [f"How many? My key is {KEY}, mail joe@example.com.", "And order some."],
        [
            Answer(call="count", arguments={"item": "nails"}),
            Answer(say="I ask once more.", call="count", arguments={"item": "screws"}),
            Answer(call="count", arguments={"thing": "wrong"}),
            Answer(say="There are 2999 of part-2999; I write to joe@example.com."),
            Answer(call="order", arguments={"item": "nails", "amount": 3}),
            Answer(say="Ordered 3 nails."),
        ],
        count=Faked(answers=[{"result": large}, {"result": {"password": PASSWORD, "count": 4}}]),  # type: ignore[list-item]
        order=Faked(error="The shop is closed."),
    )
    made = capture(transcript, spec, Privacy(), name="the odd day")
    judged = replayed(project, made)
    assert evaluate(EVERY_TURN, judged) != []
    was, now = ({score.name: score.value for score in scores} for scores in (made.scores, evaluate(EVERY_TURN, judged)))
    assert was == now
    assert [call.outcome for call in judged.calls] == ["ok", "ok", "error", "error"]
    folder = project / "agents" / "clerk" / "evals"
    written = "\n".join(file.read_text() for file in folder.rglob("*") if file.is_file())
    for secret in (KEY, PASSWORD, "joe@example.com"):
        assert secret not in written
    assert "[email-a]" in written
    assert list(folder.glob("recorded/the-odd-day-*")), "a large result stands in a file of its own"


def test_a_block_that_the_api_refused_stands_in_no_way(project: Path) -> None:
    large = "\n".join(f"row {n}: {n * 7} pieces" for n in range(2000))
    turn = (
        f'Which? My key is {KEY}. [[tool count {{"item": "all"}}]][[refuse 2.0 Could not process]][[say 13993 pieces.]]'
    )
    transcript, spec = session(project, [turn], StandInModel(), count=Faked(result=large))
    assert [entry.type for entry in transcript.entries].count("repair") == 1
    made = capture(transcript, spec, Privacy(), name="refused")
    judged = replayed(project, made)
    assert {score.name: score.value for score in made.scores} == {
        score.name: score.value for score in evaluate(EVERY_TURN, judged)
    }
    assert judged.output_text == "13993 pieces."
    assert KEY not in "".join(file.read_text() for file in (project / "agents").rglob("evals/**/*") if file.is_file())


def test_what_was_denied_is_denied_again(project: Path) -> None:
    transcript, spec = session(
        project,
        ["Order nails."],
        [Answer(call="order", arguments={"item": "nails", "amount": 1}), Answer(say="I cannot.")],
        role="reader",
    )
    made = capture(transcript, spec, Privacy())
    judged = replayed(project, made)
    assert [(call.tool, call.outcome) for call in judged.calls] == [("order", "denied")]
    assert judged.role == "reader"


def test_what_nobody_knew_is_not_known_again(project: Path) -> None:
    transcript, spec = session(
        project,
        ["Order nails."],
        [Answer(call="order", arguments={"item": "nails", "amount": 1}), Answer(say="It may have been ordered.")],
        role="buyer",
        order=Faked(unknown="The shop said nothing."),
    )
    judged = replayed(project, capture(transcript, spec, Privacy()))
    assert [(call.tool, call.outcome) for call in judged.calls] == [("order", "unknown")]
    assert "The shop said nothing." in judged.calls[0].result


def test_one_turn_of_several(project: Path) -> None:
    turns = ["one", "two", "three"]
    transcript, spec = session(project, turns, [Answer(say=f"This is {turn}.") for turn in turns])
    made = capture(transcript, spec, Privacy(), turn=2)
    assert made.document["cases"][0]["inputs"]["turns"] == ["one", "two"]
    assert replayed(project, made).output_text == "This is two."
    with pytest.raises(ValueError, match="there is no turn 4: the session has 3"):
        capture(transcript, spec, Privacy(), turn=4)


def test_what_was_bad_expects_that_it_is_not(project: Path) -> None:
    transcript, spec = session(
        project,
        ["How many nails?"],
        [Answer(call="count", arguments={"item": "nails"}), Answer(say="There are 4711 nails.")],
    )
    made = capture(transcript, spec, Privacy(), verdict="bad", note="It made the number up.")
    [case] = made.document["cases"]
    assert case["evaluators"] == ["Grounded"]
    assert (case["metadata"]["verdict"], case["metadata"]["note"]) == ("bad", "It made the number up.")


def test_nothing_is_written_over(project: Path, tmp_path: Path) -> None:
    transcript, spec = session(project, ["hi"], [Answer(say="hello")])
    made = capture(transcript, spec, Privacy())
    made.write(tmp_path / "a.yaml")
    with pytest.raises(FileExistsError):
        made.write(tmp_path / "a.yaml")


# ---- personal data ----


def test_names_and_shapes_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "evals.toml").write_text('[personal]\nnames = ["full_name"]\n[personal.shapes]\nbadge = "B-\\\\d{4}"\n')
    privacy = Privacy.of(tmp_path)
    privacy.learn({"customer": {"full_name": "Ada Lovelace"}})
    assert privacy.clean("Ada Lovelace has B-1234, not B-9999; B-1234 is hers.") == (
        "[full_name-a] has [badge-1], not [badge-2]; [badge-1] is hers."
    )
    (tmp_path / "evals.toml").write_text("[personal.shapes]\nbroken = '('\n")
    with pytest.raises(ValueError, match=r"evals\.toml"):
        Privacy.of(tmp_path)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('[personal]\nnames = "full_name"', "personal.names"),
        ('[personal]\nname = ["full_name"]', "personal.name"),
        ('[personals]\nnames = ["full_name"]', "personals"),
        ("[personal.shapes]\nbadge = 5", "personal.shapes.badge"),
        ("[personal.shapes]\nbadge = '\\d*'", "everywhere"),
    ],
)
def test_what_a_project_says_and_would_not_be_done_is_refused(tmp_path: Path, said: str, told: str) -> None:
    """Else what it means stays in every case, and nobody is told."""
    (tmp_path / "evals.toml").write_text(said)
    with pytest.raises(ValueError, match=told):
        Privacy.of(tmp_path)


PERSONAL = st.sampled_from(["joe@example.com", "+41 44 668 18 00", "CH93 0076 2011 6238 5295 7", "123-45-6789"])
VALUES = st.recursive(
    PERSONAL | st.text(max_size=10) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES, PERSONAL)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_place_keeps_personal_data_and_one_is_always_the_same(value: Any, known: str) -> None:
    privacy = Privacy()
    cleaned = privacy.clean({"value": value, "text": f"<{known}>"})
    written = json.dumps(cleaned, ensure_ascii=False)
    assert known not in written
    assert privacy.clean(known) == cleaned["text"][1:-1] == privacy.clean(known)
