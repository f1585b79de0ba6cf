"""The page of ``deploy/vercel`` in a browser, on the function under a limit that is forced: what one request was cut
off from goes on in the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_chat_page import browser
from tests.e2e.conftest import model_url
from tests.e2e.test_vercel import Function, database_url, function
from tests.support.installation import steps_of

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

__all__ = ["browser", "database_url", "function", "model_url"]

pytestmark = pytest.mark.timeout(600)


def eventually(holds: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + 90
    while not (found := holds()):
        assert time.monotonic() < until, what
        time.sleep(0.1)
    return found


def shown(page: WebDriver) -> list[tuple[str, str]]:
    """In one look: what is forming comes and goes."""
    script = "return [...document.querySelectorAll('#log p')].map((line) => [line.className, line.textContent])"
    return [(kind, text) for kind, text in page.execute_script(script)]


def say(page: WebDriver, text: str) -> None:
    page.find_element("id", "input").send_keys(text)
    page.find_element("css selector", "button").click()


def test_a_conversation_over_requests_that_end(browser: WebDriver, function: Function) -> None:
    _, url = function.run()
    browser.get(url)
    agent = browser.find_element("id", "agent")
    agent.clear()
    agent.send_keys("noter")
    say(browser, "[[trickle 2]][[say one two three four five six]]")
    eventually(lambda: any("forming" in kind and text for kind, text in shown(browser)), "text is shown as it forms")
    eventually(lambda: ("assistant", "one two three four five six") in shown(browser), "and then as it was kept")

    say(browser, steps_of(6, seconds=1))
    eventually(lambda: ("assistant", "done") in shown(browser), "a turn of more than one request comes to its end")
    lines = shown(browser)
    assert lines.count(("note", "… note")) == 6
    assert function.noted() == 6
    assert not any("forming" in kind for kind, _ in lines)
