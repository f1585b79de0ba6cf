"""Requests that do not fit are refused before anything is started."""

from __future__ import annotations

import pytest

from tests.load.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--minutes", "0"], "--minutes"),
        (["--minutes", "soon"], "--minutes"),
        (["--users", "1.5"], "--users"),
        (["--rate", "inf"], "--rate"),
        (["--mix", "turns=5,dances=1"], "there is no kind 'dances'"),
        (["--mix", "turns=-1"], "--mix"),
        (["--kill-every", "often"], "--kill-every"),
        (["--url", "https://example.com"], "--stack"),
        (["--stack", "Turnkeeper"], "--agent"),
        (["--stack", "Turnkeeper", "--agent", "support", "--kill-every", "9"], "nothing is killed"),
        (["--stack", "Turnkeeper", "--local"], "not allowed with"),
        (["--agent", "support"], "--local and --stack"),
        (["--report", "/nowhere/soak.json"], "No such file"),
        (["--local"], "no local kit is up"),
    ],
)
def test_what_does_not_fit_is_a_two(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TURNKEEPER_HOME", str(tmp_path_factory.mktemp("nothing")))
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
