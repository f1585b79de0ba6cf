"""The chat page of docs/how-to/chat-page.md, in a browser, against a kit on this machine."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.support.needed import needed
from tests.support.running_kit import running_kit
from tests.support.snippets import ROOT, blocks
from turnkeeper_local.kit import Home, LocalKit
from turnkeeper_local.kit.record import Record

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.stack

PAGE = ROOT / "docs/how-to/chat-page.md"
PATIENCE_SECONDS = 60.0
WORDS = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    needed("chromium", program and driver)
    from selenium import webdriver  # Which takes half a second to import, in each process that collects tests.

    options = webdriver.ChromeOptions()
    options.binary_location = str(program)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"):
        options.add_argument(argument)
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield made
    made.quit()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page is served from: a server that knows nothing but it."""
    [page] = [block.text for block in blocks(PAGE) if block.language == "html"]
    assert len(page.splitlines()) < 60
    folder = tmp_path_factory.mktemp("web")
    (folder / "index.html").write_text(page)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def home(browser: WebDriver, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Of a kit that lets the page call; Lambda has little time, so that long turns move to the worker."""
    folder = tmp_path_factory.mktemp("browser") / "kit"
    with running_kit(
        folder,
        TURNKEEPER_CORS_ORIGINS=origin,
        TURNKEEPER_TURN_SECONDS="6",
        TURNKEEPER_LEASE_SECONDS="5",
    ):
        yield Home(folder)


class Chat:
    def __init__(self, browser: WebDriver, address: str) -> None:
        self._browser = browser
        self._address = address

    def open(self) -> None:
        self._browser.get(self._address)

    def reload(self) -> None:
        self._browser.refresh()

    def say(self, text: str) -> None:
        self._browser.find_element("id", "input").send_keys(text, "\n")

    def lines(self) -> list[str]:
        script = "return [...document.querySelectorAll('#log li')].map((item) => item.textContent)"
        return list(self._browser.execute_script(script))

    def until(self, holds: Callable[[list[str]], object]) -> list[str]:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not holds(lines := self.lines()):
            assert time.monotonic() < give_up_at, lines
            time.sleep(0.03)
        return lines

    def formed(self, whole: str) -> set[str]:
        """The beginnings of a text that were seen before it was there."""
        seen: set[str] = set()

        def look(lines: list[str]) -> bool:
            seen.update(line for line in lines if whole.startswith(line))
            return whole in lines

        self.until(look)
        return seen - {whole, ""}


@pytest.fixture
def chat(browser: WebDriver, origin: str, home: Home) -> Chat:
    kit = LocalKit.read(home)
    assert kit is not None
    made = Chat(browser, f"{origin}/?api={kit.stream_url}")
    made.open()
    browser.execute_script("sessionStorage.clear()")
    made.open()
    return made


def test_an_answer_is_seen_as_it_forms_and_is_there_after_a_reload(chat: Chat) -> None:
    asked = f"[[trickle 3]] [[say {WORDS}]]"
    chat.say(asked)
    assert len(chat.formed(WORDS)) >= 3
    lines = chat.until(lambda lines: len(lines) == 2)
    assert lines == [f"> {asked}", WORDS]
    chat.reload()
    assert chat.until(lambda lines: len(lines) >= 2) == lines
    chat.say('[[tool get_invoice {"invoice_id": "INV-1001"}]] [[say It is paid.]]')
    assert chat.until(lambda lines: lines[-1:] == ["It is paid."])[:2] == lines
    assert "… get_invoice" in chat.lines()


def test_a_reload_in_the_middle_loses_nothing(chat: Chat) -> None:
    asked = f"[[trickle 4]] [[say {WORDS} again]]"
    chat.say(asked)
    chat.until(lambda lines: any(line.startswith("one two") for line in lines))
    chat.reload()
    chat.until(lambda lines: f"{WORDS} again" in lines)
    assert chat.lines() == [f"> {asked}", f"{WORDS} again"]


def test_a_lost_connection_is_made_up_for(chat: Chat, home: Home) -> None:
    asked = f"[[trickle 2]] [[say first {WORDS}]]"
    chat.say(asked)
    chat.until(lambda lines: any(line.startswith("first one") for line in lines))
    supervisor = Record.read(home).process("front_door")
    assert supervisor is not None
    [pid] = subprocess.run(
        ["pgrep", "-P", str(supervisor.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(pid), signal.SIGKILL)
    chat.until(lambda lines: f"first {WORDS}" in lines)
    assert chat.lines() == [f"> {asked}", f"first {WORDS}"]


def test_a_turn_that_moves_to_the_worker_is_followed(chat: Chat, browser: WebDriver, home: Home) -> None:
    steps = [f'[[trickle 3]] [[tool get_invoice {{"invoice_id": "INV-{number}"}}]]' for number in (1001, 1002, 1003)]
    chat.say(" ".join([*steps, f"[[trickle 2]] [[say At last: {WORDS}]]"]))
    assert chat.formed(f"At last: {WORDS}")
    kit = LocalKit.read(home)
    assert kit is not None
    session_id = browser.execute_script("return sessionStorage.session")
    session = httpx2.get(f"{kit.stream_url}/v1/sessions/{session_id}", trust_env=False).json()
    assert session["runner"] == "fargate"
    assert chat.lines().count("… get_invoice") == 3
