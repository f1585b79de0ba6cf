"""What the engine asks of the world, and what it may rely on: ordering, retries, idempotency.

Every port has an adapter for AWS and a fake in ``turnkeeper.testing``; both pass the same conformance suite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from turnkeeper.core.contents import Download
from turnkeeper.core.continuation import Continuation
from turnkeeper.core.session import Container, Head
from turnkeeper.core.usage import Usage

if TYPE_CHECKING:
    from turnkeeper.core.deltas import Part
    from turnkeeper.core.suspicion import Finding

# ---- the queue and the other Lambda ----


class Message(NamedTuple):
    message_id: str
    receipt: str
    body: str
    receive_count: int
    group: str | None = None


class Queue(Protocol):
    """A standard queue: at least once, in any order. Raises Unavailable in an outage."""

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        """Raises InputTooLarge over 1 MiB."""

    def receive(self, *, most: int, wait_seconds: int, visibility_seconds: int) -> list[Message]: ...

    def extend(self, message: Message, visibility_seconds: int) -> None:
        """The message stays invisible this long from now; 0 gives it back at once. A message that is gone is fine."""

    def delete(self, message: Message) -> None: ...

    def reject(self, message: Message, *, error_code: str, detail: str) -> None:
        """To the dead-letter queue with the reason as message attribute ``error_code``, then off the queue."""

    def backlog(self) -> int:
        """How many messages can be received now or are in somebody's hand; approximate. Delayed ones do not count
        before their time."""


class Wakes(Protocol):
    """The service that works on the queue."""

    def at_least(self, tasks: int) -> None:
        """Ask for at least so many tasks, as far as there may be so many. Never asks for fewer than there are, and
        never raises: what could not be asked is logged, and the sweep asks again."""


class Turns(Protocol):
    """Starts the turn Lambda, or what takes its place."""

    def start(self, tenant_id: str, session_id: str) -> Head | None:
        """At least once. ``None`` where it runs from now on; the head as it was left where it was run before this
        returns, since nothing goes on behind it."""


class Alerts(Protocol):
    def alert(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        """Tell on-call, at least once. Raises Unavailable where nobody could be told now: whoever can, tries again, and
        whoever cannot does first what it tells of. It is logged in any case."""


# ---- the web ----


class Web(Protocol):
    """What stands behind public addresses. Everything else is out of reach, whatever name leads to it."""

    def get(self, url: str, *, most: Callable[[str], int], timeout_seconds: float) -> Download:
        """The content, fetched anew. Called from several threads at once.

        Args:
            most: bytes that are taken of a content of this media type; 0 for none.
            timeout_seconds: for everything together, redirects included.

        Raises:
            NotFetched: there is none, or none that is taken; or, ``retryable``, nobody there answers now.
        """


# ---- word that a turn has ended ----


class Words(Protocol):
    """The queue of what is to be told. At least once, in any order; no group holds up another. Raises Unavailable.

    Its verb is not the job queue's ``send``: roles are held against who may come to which of the two."""

    def tell(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        """At most 900 s of delay."""


class Bus(Protocol):
    """Whoever in the account wants to hear of every turn."""

    def put(self, event_type: str, at: datetime, body: str) -> None:
        """At least once, in any order. Raises Unavailable where it was not taken."""


class Posted(NamedTuple):
    """What was answered to a post."""

    status: int
    #: Its beginning, as text; empty where it cannot be read.
    head: str
    #: The header of that name.
    retry_after: str | None = None


class Webhooks(Protocol):
    """Posts to addresses that somebody outside named: only to public ones, never by way of a redirect."""

    def check(self, url: str, hosts: Collection[str]) -> None:
        """Raises InvalidRequest where it is no address that may be posted to, or leads to none of these hosts."""

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float) -> Posted:
        """The answer, whatever it says. Called from several threads at once.

        Raises:
            NotPosted: there was none, or the address leads where nothing may be posted to.
        """


class Replies(Protocol):
    """The queues that jobs may have their results sent to, by the names that the deployment gave them."""

    @property
    def names(self) -> Collection[str]: ...

    def send(self, name: str, body: str, *, group: str, message_id: str) -> None:
        """At least once.

        Raises:
            NotPosted: it was not taken.
            InputTooLarge: it never will be.
        """


class HookSecrets(Protocol):
    """What webhooks are signed with: a secret for each tenant, which no other tenant's follows from."""

    def of(self, tenant_id: str) -> Sequence[str]:
        """``whsec_...``: the one in force, then the one before it, for as long as both verify. Raises Unavailable."""


# ---- the model ----


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of the Messages API, as raw JSON; ``options`` are further top-level fields."""

    model: str
    max_tokens: int
    system: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A complete answer. ``content`` is raw JSON, unknown blocks kept as they came."""

    message_id: str
    model: str
    content: list[dict[str, Any]]
    stop_reason: str
    usage: dict[str, Any]
    request_id: str | None
    #: The one that the provider ran code in, if any.
    container: Container | None = None

    @property
    def tokens(self) -> Usage:
        return Usage.of(self.usage)


#: Told of each event of an answer that is under way, with what makes the blocks that have come of it so far. Never
#: raises, never waits; what it was given may be asked from any thread.
OnEvent = Callable[[Callable[[], Sequence["Part"]]], None]


class Model(Protocol):
    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: OnEvent | None = None) -> ModelReply:
        """One attempt, streamed; never retries by itself.

        Raises:
            ProviderError: incomplete, refused, unreachable; says what is certain about its money.
        """

    def count_tokens(self, request: ModelRequest) -> int:
        """Input tokens of the request, as the provider counts them.

        Raises:
            ProviderError: could not be asked.
            Uncountable: this provider cannot be asked at all.
        """


class Rates(NamedTuple):
    """Upper bounds of a model's prices for one call, in nano-dollars a million tokens: the dearest tier, the dearest
    way to write the cache that we use, multipliers included."""

    model: str
    version: str
    input_nanousd: int
    output_nanousd: int
    #: Added once a call, for server tools at their maximum.
    fixed_nanousd: int = 0
    #: Tokens that a request of the model may have; ``None`` where it is not known.
    window: int | None = None


class Prices(Protocol):
    def rates(self, model: str, options: Mapping[str, Any]) -> Rates:
        """Raises UnpricedModel where nobody can price the model or one of its options."""

    def cost_nanousd(self, model: str, usage: Mapping[str, Any], options: Mapping[str, Any]) -> int:
        """What the usage costs, rounded up. Raises UnpricedModel."""


# ---- time and chance ----


class Clock(Protocol):
    def now(self) -> datetime:
        """UTC, aware."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    def session_id(self) -> str:
        """``ses_`` and 26 characters that nobody can guess, in the order of creation."""

    def token(self) -> str:
        """Unguessable; for lease owners and nonces."""

    def jitter(self) -> float:
        """Uniform in [0, 1)."""


# ---- secrets ----


class Redacts(Protocol):
    """Takes secrets out of what the kit writes down or shows. Never raises."""

    def redact(self, value: Any, *, known: Iterable[str] = ()) -> Any:
        """The same JSON without its secrets; ``known`` are values that are secret here."""

    def redact_text(self, text: str, *, known: Iterable[str] = ()) -> str: ...

    def without_given(self, value: Any, /) -> Any:
        """The same JSON without the secrets that tools of this process were given, and else as it is."""

    def with_names(self, secret_names: Iterable[str], /) -> Redacts:
        """One that takes values under these names for secret as well."""

    def values(self, arguments: Any) -> tuple[str, ...]:
        """The values under secret names, to be taken out of texts that quote them."""


# ---- instructions in data ----


class InjectionDetector(Protocol):
    """Does a text that a tool returned read like instructions to a model? A flag for people and policies, never the
    defence itself: that is that a session holds few tools, that each is guarded, and that results are wrapped as data.
    """

    def check(self, text: str) -> Finding | None:
        """A finding of ``FLAG_AT`` or more if it does, else ``None``.

        Never raises, also for an empty text or half of a surrogate pair. Takes bounded time: of a long text it may
        examine a part. Called from several threads at once, since tools run side by side.
        """


# ---- continuation tokens ----


class Tokens(Protocol):
    """Signs what a holder of a continuation token may go on with."""

    def sign(self, continuation: Continuation) -> str:
        """URL-safe."""

    def verify(self, token: str) -> Continuation:
        """Raises Unauthenticated where it is forged or altered, ContinuationExpired where it is too old."""
