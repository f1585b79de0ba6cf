"""Addresses of databases: what can be read is, what cannot is refused, and no password is ever said."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.opening import UnknownDatabase, database_of, without_password
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper_local.databases import sqlite_url

#: Its letters occur nowhere else.
_PASSWORDS = st.text("QZJ57%@/#?&=[]: ", min_size=1, max_size=8)
_FORMS = ("postgresql://u:{}@h/d", "postgres://u:{}@h:1,i:2/d?sslmode=require", "postgresql://h/d?user=u&password={}")


def _said(text: str) -> set[str]:
    """Letters of the password that are in it."""
    return set(text) & set("QZJ")


@given(st.sampled_from(_FORMS), _PASSWORDS)
def test_a_password_that_is_escaped_is_kept_apart(form: str, password: str) -> None:
    url = form.format(quote(password, safe=""))
    said = without_password(url)
    assert not _said(said)
    assert conninfo_to_dict(said) == {k: v for k, v in conninfo_to_dict(url).items() if k != "password"}
    database_of(url).close()


@given(st.sampled_from(_FORMS[:2]), _PASSWORDS)
def test_a_password_that_is_not_escaped_is_read_or_refused_but_never_said(form: str, password: str) -> None:
    url = form.format(password)
    said = without_password(url)
    assert not _said(said)
    try:
        database_of(url).close()
    except UnknownDatabase as refused:
        assert not _said(str(refused))
    else:
        # What is opened has nothing of it but as a password: all else may be in a log.
        rest = {name: value for name, value in conninfo_to_dict(url).items() if name != "password"}
        assert not _said("".join(map(str, rest.values())))


@pytest.mark.parametrize("name", ["a b", "a#b", "a?b", "50%25", "é", "a%"])
def test_a_folder_may_be_called_as_it_likes(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "serve.db"
    database = database_of(sqlite_url(file))
    schema.migrate(database)
    database.close()
    assert file.stat().st_size > 0


@pytest.mark.parametrize(
    "url", ["sqlite:///:memory:", "sqlite:///a.db?mode=ro", "sqlite:///a#b", "sqlite:///%00", "a", ""]
)
def test_what_is_no_file_and_no_server_is_refused(url: str) -> None:
    with pytest.raises(UnknownDatabase):
        database_of(url)


def test_a_file_that_cannot_be_used_is_told_from_one_that_is_busy(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, for sure: this is text")
    (tmp_path / "file").touch()
    for path in ("text", "file/below"):
        with pytest.raises(TurnkeeperError, match=f"{path} cannot be") as refused:
            schema.migrate(database_of(sqlite_url(tmp_path / path)))
        assert not refused.value.retryable


def test_a_file_that_is_gone_takes_no_more_writes(tmp_path: Path) -> None:
    """SQLite itself goes on with it, and what it answers is gone with the process."""
    database = database_of(sqlite_url(tmp_path / "kit.db"))
    schema.migrate(database)
    (tmp_path / "kit.db").rename(tmp_path / "elsewhere.db")
    for _ in range(2):
        with pytest.raises(TurnkeeperError, match="removed or replaced"):
            schema.version(database)
    assert not (tmp_path / "kit.db").exists()
    (tmp_path / "elsewhere.db").rename(tmp_path / "kit.db")
    assert schema.version(database) == schema.needed_version(database)
    database.close()
