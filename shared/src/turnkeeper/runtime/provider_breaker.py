"""A circuit breaker in front of the model API: while it is down, calls fail at once instead of piling up on it.

::

    closed ──(failures of the latest calls)──> open ──(open_seconds)──> half-open: one call goes through
       ^                                         ^                          │
       └──────────────(it was answered)──────────┼──────────────────────────┤
                                                 └───────(it failed)────────┘

The state is this process's own, one circuit for each model: one that is overloaded says nothing about another.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from turnkeeper.core.errors import ProviderError
from turnkeeper.ports import Clock, Model, ModelReply, ModelRequest, OnEvent


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Opens when ``failures`` of the latest ``calls`` failed within ``window_seconds``; stays open ``open_seconds``, or
    as long as the provider asked for, up to ``longest_open_seconds``."""

    failures: int = 10
    calls: int = 15
    window_seconds: float = 60.0
    open_seconds: float = 5.0
    longest_open_seconds: float = 120.0
    #: What a call is told to wait while another one finds out whether the provider is back.
    probe_wait_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.failures <= self.calls:
            raise ValueError("failures has to be between 1 and calls")
        if not 0 < self.open_seconds <= self.longest_open_seconds:
            raise ValueError("open_seconds has to be above 0 and at most longest_open_seconds")


@dataclass
class _Circuit:
    #: Time and whether it failed, of the latest calls.
    latest: deque[tuple[float, bool]]
    open_until: float | None = None
    probing: bool = False
    #: Grows with each change of state: a call that began in an earlier one says nothing about this.
    period: int = field(default=0)


class ProviderBreaker:
    """A Model like the one that it wraps. While the circuit is open, :meth:`call` raises ProviderError: retryable,
    unbilled, with the time to wait. Safe to share between threads."""

    def __init__(self, model: Model, clock: Clock, settings: BreakerSettings | None = None) -> None:
        self._model = model
        self._clock = clock
        self._settings = settings or BreakerSettings()
        self._lock = threading.Lock()
        self._circuits: dict[str, _Circuit] = {}

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: OnEvent | None = None) -> ModelReply:
        with self._lock:
            circuit = self._circuit(request.model)
            probe = self._admit(circuit, request.model)
            period = circuit.period
        verdict: bool | None = None
        retry_after: float | None = None
        try:
            reply = self._model.call(request, timeout_seconds=timeout_seconds, on_event=on_event)
            verdict = True
        except ProviderError as error:
            verdict = not _is_outage(error)
            retry_after = error.retry_after_seconds
            raise
        finally:
            with self._lock:
                self._judge(circuit, period, verdict, retry_after, probe=probe)
        return reply

    def count_tokens(self, request: ModelRequest) -> int:
        """Fails at once while the circuit is open. Its own failures do not count: it has limits of its own."""
        with self._lock:
            circuit = self._circuit(request.model)
            if circuit.open_until is not None and self._clock.monotonic() < circuit.open_until:
                raise self._refusal(request.model, circuit.open_until - self._clock.monotonic())
        return self._model.count_tokens(request)

    def _circuit(self, model: str) -> _Circuit:
        if model not in self._circuits:
            self._circuits[model] = _Circuit(deque(maxlen=self._settings.calls))
        return self._circuits[model]

    def _admit(self, circuit: _Circuit, model: str) -> bool:
        """Whether the call is the probe of a half-open circuit; raises where it may not go through."""
        if circuit.open_until is None:
            return False
        remaining = circuit.open_until - self._clock.monotonic()
        if remaining > 0:
            raise self._refusal(model, remaining)
        if circuit.probing:
            raise self._refusal(model, self._settings.probe_wait_seconds)
        circuit.probing = True
        return True

    def _judge(
        self, circuit: _Circuit, period: int, verdict: bool | None, retry_after: float | None, *, probe: bool
    ) -> None:
        if circuit.period != period:
            return
        if probe:
            circuit.probing = False
            if verdict is None:
                # It ended without a word on the provider: the next call finds out.
                return
            if verdict:
                self._close(circuit)
            else:
                self._open(circuit, retry_after)
            return
        if verdict is None or circuit.open_until is not None:
            return
        now = self._clock.monotonic()
        circuit.latest.append((now, not verdict))
        since = now - self._settings.window_seconds
        if sum(failed for at, failed in circuit.latest if at >= since) >= self._settings.failures:
            self._open(circuit, retry_after)

    def _open(self, circuit: _Circuit, retry_after: float | None) -> None:
        wait = min(max(self._settings.open_seconds, retry_after or 0.0), self._settings.longest_open_seconds)
        circuit.open_until = self._clock.monotonic() + wait
        circuit.period += 1
        circuit.latest.clear()

    def _close(self, circuit: _Circuit) -> None:
        circuit.open_until = None
        circuit.period += 1
        circuit.latest.clear()

    def _refusal(self, model: str, wait_seconds: float) -> ProviderError:
        return ProviderError(
            f"The model API failed repeatedly for {model}; it is not asked again for {wait_seconds:.1f} s.",
            retryable=True,
            certainty="unbilled",
            retry_after_seconds=wait_seconds,
            asked=False,
        )


def _is_outage(error: ProviderError) -> bool:
    """Rate limits, overload, server errors, and connections that failed or broke: what waiting mends."""
    return error.retryable and (error.status_code is None or error.status_code == 429 or error.status_code >= 500)
