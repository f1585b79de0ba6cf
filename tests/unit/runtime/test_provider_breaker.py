from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.core.errors import ProviderError
from turnkeeper.ports import Model, ModelReply, ModelRequest
from turnkeeper.runtime.provider_breaker import BreakerSettings, ProviderBreaker

REPLY = ModelReply("msg", "m", [], "end_turn", {}, None)
SETTINGS = BreakerSettings(failures=3, calls=5, window_seconds=60, open_seconds=10, longest_open_seconds=40)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Provider:
    """Answers, or fails with what it is told."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.calls = 0

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return REPLY

    def count_tokens(self, request: ModelRequest) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return 7


def outage(status: int | None = 529, retry_after: float | None = None, retryable: bool = True) -> ProviderError:
    return ProviderError(
        "down", retryable=retryable, certainty="unknown", status_code=status, retry_after_seconds=retry_after
    )


def request(model: str = "m") -> ModelRequest:
    return ModelRequest(model, 10, [], [], [])


class Rig:
    def __init__(self, settings: BreakerSettings = SETTINGS) -> None:
        self.clock, self.provider = Clock(), Provider()
        self.breaker = ProviderBreaker(self.provider, self.clock, settings)

    def ask(self, error: BaseException | None = None, model: str = "m") -> str:
        """``ok``, ``failed`` (the provider was asked) or ``refused`` (it was not)."""
        self.provider.error = error
        before = self.provider.calls
        try:
            self.breaker.call(request(model), timeout_seconds=1)
        except ProviderError as raised:
            if self.provider.calls == before:
                assert (raised.retryable, raised.certainty) == (True, "unbilled")
                assert raised.retry_after_seconds is not None
                assert raised.retry_after_seconds > 0
                return "refused"
            assert raised is error
            return "failed"
        return "ok"

    def opened(self) -> Rig:
        for _ in range(3):
            assert self.ask(outage()) == "failed"
        assert self.ask() == "refused"
        return self


def test_it_is_a_model() -> None:
    model: Model = Rig().breaker
    assert model.call(request(), timeout_seconds=1) is REPLY
    assert model.count_tokens(request()) == 7


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529, None])
def test_opens_after_repeated_failures_of_the_provider(status: int | None) -> None:
    rig = Rig()
    assert [rig.ask(outage(status)) for _ in range(4)] == ["failed", "failed", "failed", "refused"]


@pytest.mark.parametrize(
    "error",
    [outage(400, retryable=False), outage(401), outage(409), outage(500, retryable=False), outage(None, None, False)],
)
def test_failures_that_are_not_the_providers_do_not_count(error: ProviderError) -> None:
    rig = Rig()
    assert [rig.ask(error) for _ in range(20)] == ["failed"] * 20


def test_only_the_latest_calls_count() -> None:
    rig = Rig()
    for _ in range(10):
        assert rig.ask(outage()) == "failed"
        assert rig.ask(outage()) == "failed"
        assert [rig.ask() for _ in range(3)] == ["ok"] * 3


def test_only_recent_failures_count() -> None:
    rig = Rig()
    for _ in range(10):
        assert rig.ask(outage()) == "failed"
        rig.clock.sleep(31)


def test_stays_open_for_its_time_then_lets_one_through() -> None:
    rig = Rig().opened()
    rig.clock.sleep(9.99)
    assert rig.ask() == "refused"
    rig.clock.sleep(0.01)
    assert rig.ask() == "ok"
    # Closed again, and what was before is forgotten.
    assert [rig.ask(outage()) for _ in range(2)] == ["failed"] * 2
    assert rig.ask() == "ok"


def test_a_probe_that_fails_opens_again() -> None:
    rig = Rig().opened()
    rig.clock.sleep(10)
    assert rig.ask(outage()) == "failed"
    rig.clock.sleep(9)
    assert rig.ask() == "refused"
    rig.clock.sleep(1)
    assert rig.ask() == "ok"


def test_a_probe_that_is_refused_for_its_own_fault_shows_that_the_provider_is_back() -> None:
    rig = Rig().opened()
    rig.clock.sleep(10)
    assert rig.ask(outage(400, retryable=False)) == "failed"
    assert rig.ask() == "ok"


def test_a_probe_that_says_nothing_leaves_the_question_open() -> None:
    rig = Rig().opened()
    rig.clock.sleep(10)
    with pytest.raises(KeyboardInterrupt):
        rig.ask(KeyboardInterrupt())
    assert rig.ask() == "ok"


@pytest.mark.parametrize(("asked", "waits"), [(None, 10), (5.0, 10), (25.0, 25), (900.0, 40)])
def test_stays_open_as_long_as_the_provider_asks_within_bounds(asked: float | None, waits: int) -> None:
    rig = Rig()
    for _ in range(3):
        rig.ask(outage(429, asked))
    rig.clock.sleep(waits - 0.5)
    assert rig.ask() == "refused"
    rig.clock.sleep(0.5)
    assert rig.ask() == "ok"


def test_tells_how_long_to_wait() -> None:
    rig = Rig().opened()
    rig.clock.sleep(4)
    with pytest.raises(ProviderError) as caught:
        rig.breaker.call(request(), timeout_seconds=1)
    assert caught.value.retry_after_seconds == 6


def test_models_do_not_answer_for_one_another() -> None:
    rig = Rig().opened()
    assert rig.ask(model="another") == "ok"


def test_counting_fails_fast_but_never_opens() -> None:
    rig = Rig()
    rig.provider.error = outage()
    for _ in range(10):
        with pytest.raises(ProviderError, match="down"):
            rig.breaker.count_tokens(request())
    rig.opened()
    before = rig.provider.calls
    with pytest.raises(ProviderError):
        rig.breaker.count_tokens(request())
    assert rig.provider.calls == before
    rig.clock.sleep(10)
    rig.provider.error = None
    assert rig.breaker.count_tokens(request()) == 7
    assert rig.ask() == "ok"


class Gate(Provider):
    """Holds every call until it is told how it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.ends: dict[str, threading.Event] = {}
        self.fails: set[str] = set()

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:
        name = str(request.messages[0]["name"])
        self.calls += 1
        self.entered.release()
        assert self.ends[name].wait(10)
        if name in self.fails:
            raise outage()
        return REPLY


def test_one_probe_at_a_time_and_late_answers_count_for_nothing() -> None:
    gate, clock = Gate(), Clock()
    breaker = ProviderBreaker(gate, clock, BreakerSettings(failures=1, calls=1, open_seconds=10))

    def begin(name: str, *, fails: bool) -> threading.Thread:
        gate.ends[name] = threading.Event()
        if fails:
            gate.fails.add(name)

        def run() -> None:
            with contextlib.suppress(ProviderError):
                breaker.call(ModelRequest("m", 1, [], [], [{"name": name}]), timeout_seconds=1)

        thread = threading.Thread(target=run)
        thread.start()
        assert gate.entered.acquire(timeout=10)
        return thread

    def end(name: str, thread: threading.Thread) -> None:
        gate.ends[name].set()
        thread.join(10)

    slow_failure, slow_success = begin("slow failure", fails=True), begin("slow success", fails=False)
    end("first", begin("first", fails=True))
    # Open: what began before it says nothing now.
    end("slow success", slow_success)
    with pytest.raises(ProviderError, match="not asked again"):
        breaker.call(request(), timeout_seconds=1)
    clock.sleep(10)
    probe = begin("probe", fails=False)
    with pytest.raises(ProviderError) as caught:
        breaker.call(request(), timeout_seconds=1)
    assert caught.value.retry_after_seconds == 2.0
    end("probe", probe)
    end("slow failure", slow_failure)
    end("after", begin("after", fails=False))
    assert gate.calls == 5


@given(st.lists(st.tuples(st.sampled_from(["ok", "down", "fault"]), st.integers(0, 30)), max_size=60))
def test_never_stays_open_for_longer_than_it_says(steps: list[tuple[str, int]]) -> None:
    rig = Rig()
    refused_since: float | None = None
    for outcome, wait in steps:
        error = {"ok": None, "down": outage(), "fault": outage(400, retryable=False)}[outcome]
        if rig.ask(error) == "refused":
            refused_since = rig.clock.seconds if refused_since is None else refused_since
            assert rig.clock.seconds - refused_since < SETTINGS.longest_open_seconds
        else:
            refused_since = None
        rig.clock.sleep(wait)


@pytest.mark.parametrize(
    "bad", [{"failures": 0}, {"failures": 6, "calls": 5}, {"open_seconds": 0}, {"open_seconds": 500}]
)
def test_settings_that_make_no_sense(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="has to be"):
        BreakerSettings(**bad)
