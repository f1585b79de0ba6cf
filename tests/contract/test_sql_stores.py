"""What the stores in a database promise beside the ports: contents, a schema that comes of itself, roles that may no
more than they need, and what is said of a database that is not there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from server.feeds import _Expired
from tests.support import postgresql as servers
from tests.support.feeds import follow, names, shown
from tests.support.installation import environment_here
from tests.support.repository import REPOSITORY
from turnkeeper.adapters.sql import feed, schema
from turnkeeper.adapters.sql.blobs import Folder, SqlBlobs
from turnkeeper.adapters.sql.database import Database, UnsuitableDatabase, refusals
from turnkeeper.adapters.sql.feed import Follower
from turnkeeper.adapters.sql.looking import holdings
from turnkeeper.adapters.sql.opening import UnknownDatabase, database_of
from turnkeeper.adapters.sql.queue import SqlQueue
from turnkeeper.adapters.sql.sqlite import SqliteDatabase
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.core.errors import Unavailable
from turnkeeper.settings import Settings
from turnkeeper.table import Key, Put, StoreBusy
from turnkeeper.testing.clock import ManualClock
from turnkeeper.wiring.sql import SqlPlatform

# ---- contents ----


def test_large_contents_are_outside_and_small_ones_are_not(fresh: Database, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    blobs = SqlBlobs(fresh, Folder(folder), most_bytes=10)
    blobs.put("t/a/small", b"x" * 10)
    blobs.put("t/a/large", b"x" * 11)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [b"x" * 11]
    assert files[0].stat().st_mode & 0o077 == 0
    assert SqlBlobs(fresh).get("t/a/small") == b"x" * 10
    with pytest.raises(Unavailable):
        SqlBlobs(fresh).get("t/a/large")
    with pytest.raises(Unavailable):
        SqlBlobs(fresh).delete_prefix("t/a/")
    assert blobs.delete_prefix("t/a/") == 2
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_content_outside_is_on_the_disk_with_its_name_before_the_database_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power failure leaves a session whose words are missing."""
    synced: list[int] = []
    sync = os.fsync

    def fsync(opened: int) -> None:
        synced.append(os.fstat(opened).st_ino)
        sync(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    Folder(tmp_path / "blobs").put("t/a/large", b"x")
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert synced == [path.stat().st_ino for path in (file.parent.parent, file, file.parent)]


# ---- the schema ----


def test_many_make_the_tables_at_once_and_one_does(url: str, opened: Callable[[str], Database]) -> None:
    databases = [opened(url) for _ in range(4)]
    with pytest.raises(UnsuitableDatabase, match="turnkeeper database migrate"):
        schema.check(databases[0])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(schema.migrate, databases))
    assert sorted(made) == [[], [], [], [*schema.steps(databases[0].kind)]]
    schema.check(databases[0])
    assert holdings(databases[1]) == {"items": 0, "feed": 0, "blobs": 0, "messages": {}, "behind_seconds": {}}


def test_both_kinds_have_the_same_tables() -> None:
    """Column by column: what is written once for both finds the same."""
    kinds = [schema.steps(kind) for kind in ("sqlite", "postgresql")]
    assert kinds[0].keys() == kinds[1].keys()
    for number in kinds[0]:
        shapes = [re.findall(r"(?:CREATE TABLE|CREATE INDEX|^    )\s*(\w+)", kind[number], re.M) for kind in kinds]
        assert shapes[0] == shapes[1]
        assert len(shapes[0]) > 30


def test_a_database_of_another_encoding_is_refused(
    postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    name = f"latin_{uuid.uuid4().hex}"
    with psycopg.connect(postgresql.url(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"  # type: ignore[call-overload]
        )
    with pytest.raises(UnsuitableDatabase, match="UTF8"):
        schema.migrate(opened(postgresql.url(name)))


def test_a_server_that_takes_no_writes_is_told_with_what_to_do(
    postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    url = postgresql.database()
    schema.migrate(opened(url))
    standby = database_of(f"{url}&options=-cdefault_transaction_read_only%3Don", busy_seconds=0.2)
    assert schema.version(standby) == schema.needed_version(standby)
    with pytest.raises(StoreBusy, match=r"takes no writes .*target_session_attrs=read-write"):
        SqlTable(standby).write([Put(Key("p", "a"), {})])
    standby.close()


@pytest.mark.parametrize("module", ["turnkeeper.adapters.sql", "server"])
def test_a_migration_that_is_let_in_nowhere_says_why(postgresql: servers.Server, module: str) -> None:
    """A role or a database that there is not is no database that is busy."""
    command = [sys.executable, "-m", module, *["migrate"] * (module == "server")]
    environment = environment_here(TURNKEEPER_DATABASE_URL=postgresql.url("nowhere"))
    ended = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'database "nowhere" does not exist' in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_a_backup_from_a_server_that_was_further_on_goes_on(
    postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    database = opened(postgresql.database())
    schema.migrate(database)
    table, follower = SqlTable(database), Follower(database, "observe")
    table.write([Put(Key("p", "before"), {})])
    assert names(shown(follower)) == ["before"]
    for name in ("feed", "followers"):
        sql = f"UPDATE turnkeeper_{name} SET transaction_number = transaction_number + 1000000"
        database.write(lambda statements, _, sql=sql: statements.many(sql, [()]))  # type: ignore[misc]
    table.write([Put(Key("p", "after"), {})])
    assert shown(follower) == []
    assert schema.migrate(database) == []
    assert names(shown(follower)) == ["before", "after"]


@pytest.fixture
def own_postgresql() -> Iterator[servers.Server]:
    """One that nobody else makes roles in."""
    with servers.needed_server() as server:
        yield server


def test_the_roles_of_the_documentation_are_enough_and_no_more(
    own_postgresql: servers.Server, opened: Callable[[str], Database]
) -> None:
    page = (REPOSITORY / "docs" / "databases.md").read_text()
    [grants] = re.findall(r"```sql\n(-- roles.*?)```", page, re.S)
    owner_url = own_postgresql.database()
    database = opened(owner_url)
    schema.migrate(database)
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(grants)
    app = opened(owner_url.replace("postgres@", "turnkeeper_app@"))
    chores_url = owner_url.replace("postgres@", "turnkeeper_chores@")
    chores = opened(chores_url)
    table, queue, blobs = SqlTable(app), SqlQueue(app), SqlBlobs(app)
    schema.check(app)
    table.write([Put(Key("p", "a"), {"expires_at_epoch": 1})])
    queue.send("x", group="g")
    [message] = queue.receive(most=1, wait_seconds=0, visibility_seconds=60)
    queue.delete(message)
    blobs.put("k/1", b"x")
    assert blobs.delete_prefix("k/") == 1
    # One that has written nothing is told at once.
    other = opened(owner_url.replace("postgres@", "turnkeeper_app@"))
    with pytest.raises(UnsuitableDatabase, match="42501"):
        SqlTable(other).expire()
    with pytest.raises(UnsuitableDatabase, match="42501"):
        feed.prune(other)
    for forbidden in ("DROP TABLE turnkeeper_items", "CREATE TABLE mine (a int)"):
        with pytest.raises(UnsuitableDatabase, match="42501"):
            other.write(lambda statements, _, sql=forbidden: statements.many(sql, [()]))  # type: ignore[misc]
    assert names(shown(Follower(chores, "observe"))) == ["a"]
    served = SqlPlatform(Settings(database_url=SecretStr(chores_url), database_migrate=True), ManualClock)
    assert follow(_Expired(served, ManualClock())) == 1
    served.opened.close()
    assert feed.prune(chores) == 0


# ---- addresses, and a database that is not there ----


def test_addresses() -> None:
    paths = {}
    for url in ("sqlite:///here.db", "sqlite:////tmp/there.db", "sqlite:///a%20b.db"):
        database = database_of(url)
        assert isinstance(database, SqliteDatabase)
        paths[url] = str(database.path)
    assert list(paths.values()) == ["here.db", "/tmp/there.db", "a b.db"]
    for url in ("", "mysql://a:secret@b/c", "sqlite://host/file", "sqlite:///", "a file"):
        with pytest.raises(UnknownDatabase) as refused:
            database_of(url)
        assert "secret" not in str(refused.value)


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = database_of(f"sqlite:///{tmp_path / 'new' / 'store.db'}")
    schema.migrate(database)
    files = list((tmp_path / "new").iterdir())
    assert files
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    database.close()


@pytest.mark.parametrize("what", ["a folder", "a file", "its folder"])
def test_a_file_that_cannot_be_used_is_named_with_why(tmp_path: Path, what: str) -> None:
    """SQLite says of each that it is unable to open it, as of one that is busy."""
    place = tmp_path / "kept"
    database = database_of(f"sqlite:///{place / 'store.db'}", busy_seconds=0.2)
    if what == "a folder":
        (place / "store.db").mkdir(parents=True)
    elif os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    else:
        database.make()
        (place / "store.db" if what == "a file" else place).chmod(0o500)
    told = r"store\.db is no file|cannot be (written to|used)"
    with pytest.raises((StoreBusy, UnsuitableDatabase), match=told), refusals(database):
        schema.migrate(database)
    place.chmod(0o700)


def test_a_database_out_of_reach_is_busy_and_its_password_is_said_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    database = database_of("postgresql://app:a-password@127.0.0.1:1/kit?connect_timeout=1", busy_seconds=0.2)
    with pytest.raises(StoreBusy) as failed:
        SqlTable(database).get(Key("a", "b"))
    with pytest.raises(Unavailable) as silent:
        SqlQueue(database).backlog()
    assert "a-password" not in f"{failed.value}{silent.value}{caplog.text}"
    database.close()
