"""What how-tos tell a reader to run is run, in order, against one kit on this machine; the chat page talks to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_kit import running_kit
from tests.support.snippets import ROOT, blocks, pages

pytestmark = pytest.mark.stack

#: One block for one page that has them: the script of all blocks marked `<!-- run: kit -->`.
SCRIPTS = {
    page: "\n".join(block.text for block in blocks(page) if block.run == "kit")
    for page in pages()
    if any(block.run == "kit" for block in blocks(page))
}
CHAT = ROOT / "docs/how-to/chat-page.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("docs") / "kit"
    with running_kit(folder):
        yield folder


@pytest.mark.parametrize("page", SCRIPTS, ids=lambda page: page.stem)
def test_a_page_s_commands_work(page: Path, home: Path) -> None:
    program = Path(sys.executable).parent
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SCRIPTS[page]],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{program}:{os.environ['PATH']}", "TURNKEEPER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"


@pytest.fixture
def served(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page's own files, laid out as it says, and its server; the address of that."""
    for block in blocks(CHAT):
        if block.file is not None:
            path = tmp_path / block.file
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
    (tmp_path / ".turnkeeper").symlink_to(home)
    monkeypatch.chdir(tmp_path)
    page: dict[str, Any] = {"__name__": "serve"}
    exec((tmp_path / "web/serve.py").read_text(), page)
    server = ThreadingHTTPServer(("127.0.0.1", 0), page["Handler"])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


TALK = """
import { Conversation, words } from "./web/chat.mjs";
const [base, told] = [process.argv[2], []];
const conversation = new Conversation({ agent: "support", base, onEvent: (event) => told.push(event) });
const first = await conversation.say("[[say Good morning.]]");
const session = conversation.session;
const second = await conversation.say('[[tool get_invoice {"invoice_id": "INV-1001"}]] [[say It is paid.]]');
const missing = await new Conversation({ agent: "nosuch", base }).say("Hi").catch((problem) => problem.code);
console.log(JSON.stringify({ first, second, same: session === conversation.session, missing,
  seqs: told.map((event) => event.seq), words: told.flatMap(words) }));
"""


def test_the_chat_page_s_code_holds_a_conversation(served: str, tmp_path: Path) -> None:
    (tmp_path / "web/chat.mjs").write_text((tmp_path / "web/chat.js").read_text())
    (tmp_path / "talk.mjs").write_text(TALK)
    ran = subprocess.run(
        ["node", "talk.mjs", served], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["first"], told["second"], told["same"]) == ("idle", "idle", True)
    assert told["missing"] == "agent_not_found"
    assert told["seqs"] == sorted(set(told["seqs"])), "each event is told once, in order"
    assert {"Good morning.", "… get_invoice", "It is paid."} <= set(told["words"])
