"""The port Model over the Anthropic SDK: the Messages API, or Claude on Amazon Bedrock.

Raw JSON goes in and comes out: the SDK signs, sends, decodes the stream and knows the errors, while the typed models
in between, which drop what they do not know, are left out. Retries are the engine's, which books every attempt.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from turnkeeper.adapters.anthropic_errors import (
    cannot_sign,
    is_no_address,
    never_sent,
    request_id,
    status_error,
)
from turnkeeper.adapters.anthropic_stream import MalformedAnswer, PartialMessage, counted
from turnkeeper.adapters.bedrock_names import bedrock_name
from turnkeeper.adapters.secrets import KeySource, MissingKey
from turnkeeper.adapters.watchdog import Watchdog
from turnkeeper.core.errors import Certainty, ProviderError, Uncountable
from turnkeeper.core.sent import json_bytes, list_pieces
from turnkeeper.ports import ModelReply, ModelRequest, OnEvent

if TYPE_CHECKING:
    import anthropic
    import httpx2

Provider = Literal["anthropic", "bedrock"]

_CONNECT_SECONDS = 5.0
#: Silence this long is a dead connection: the API sends pings while it thinks.
_IDLE_SECONDS = 90.0
_COUNT_SECONDS = 15.0
#: After the last event only the end of the body is left; it is awaited so that the connection can be used again.
_DRAIN_SECONDS = 1.0
#: What count_tokens takes beside model, system, tools and messages.
_COUNTED = frozenset({"cache_control", "context_management", "output_config", "speed", "thinking", "tool_choice"})
_OURS = frozenset({"betas", "max_tokens", "messages", "model", "stream", "system", "tools"})


class AnthropicModel:
    """One attempt a call, always streamed.

    A call ends within about ``timeout_seconds`` however slowly the answer trickles, and within ``idle_seconds`` of
    silence. An answer counts as complete once its last block is closed and its stop reason is known, even if the
    connection breaks right after. The first call, or :meth:`warm`, pays for importing the SDK.

    ``base_url`` ``None`` leaves the address to the SDK and its environment variables. Bedrock signs with the AWS
    credentials at hand and has names of its own for models (:mod:`turnkeeper.adapters.bedrock_names`).
    """

    def __init__(
        self,
        api_key: KeySource | None = None,
        base_url: str | None = None,
        provider: Provider = "anthropic",
        *,
        idle_seconds: float = _IDLE_SECONDS,
        connect_seconds: float = _CONNECT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if provider == "anthropic" and api_key is None:
            raise ValueError("the Messages API needs a key: pass its source")
        self._api_key = api_key
        self._base_url = base_url
        self._provider = provider
        self._idle_seconds = idle_seconds
        self._connect_seconds = connect_seconds
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._http: httpx2.Client | None = None
        self._client: anthropic.Anthropic | anthropic.AnthropicBedrock | None = None
        self._client_key: str | None = None

    def __repr__(self) -> str:
        return f"AnthropicModel(provider={self._provider!r})"

    def warm(self) -> None:
        """Import the SDK and set up TLS now, so that no user waits for it. Reads no key and opens no connection: what
        is warm may be kept in a snapshot of the process."""
        with self._lock:
            self._warm()

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: OnEvent | None = None) -> ModelReply:
        deadline = self._monotonic() + timeout_seconds
        if timeout_seconds <= 0:
            raise ProviderError("no time is left for a model call", retryable=True, certainty="unbilled")
        request = self._named(request)
        client, key = self._connected()
        stream = self._open(client, key, request, timeout_seconds)
        answer = PartialMessage()
        headers = stream.response.headers
        try:
            with Watchdog(stream.response, deadline - self._monotonic()) as watchdog:
                for event in stream:
                    answer.feed(event)
                    if on_event is not None:
                        on_event(answer.parts)
                    if answer.stopped:
                        watchdog.restart(_DRAIN_SECONDS)
                    elif self._monotonic() >= deadline:
                        break
        except Exception as error:
            if not answer.complete:
                raise self._broken(error, answer, headers, late=self._monotonic() >= deadline) from error
        finally:
            stream.close()
        if not answer.complete:
            late = self._monotonic() >= deadline
            raise _incomplete(_LATE if late else "the stream ended before the answer did", answer, headers)
        return answer.reply(request_id(headers))

    def count_tokens(self, request: ModelRequest) -> int:
        if self._provider == "bedrock":
            raise Uncountable("Bedrock counts no tokens for its inference profiles")
        import anthropic

        client, key = self._connected()
        body = _body(request)
        body = {n: v for n, v in body.items() if n in _COUNTED or (n in _OURS and n not in ("stream", "max_tokens"))}
        options = self._options(request, _COUNT_SECONDS)
        try:
            answer: Any = client.post(
                _path("/v1/messages/count_tokens", request), cast_to=object, body=body, options=options
            )
        except anthropic.APIError as error:
            refused = self._refused(error, key)
            refused.certainty = "unbilled"
            raise refused from error
        try:
            return int(answer["input_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError(
                "the answer to count_tokens holds no count", retryable=True, certainty="unbilled"
            ) from error

    def _named(self, request: ModelRequest) -> ModelRequest:
        if self._provider == "anthropic":
            return request
        try:
            return replace(request, model=bedrock_name(request.model))
        except ValueError as error:
            raise ProviderError(str(error), retryable=False, certainty="unbilled") from error

    # ---- the SDK ----

    def _warm(self) -> httpx2.Client:
        import anthropic

        if self._http is None:
            # At DEBUG the SDK logs requests whole, contents and all.
            for name in ("anthropic", "anthropic._base_client"):
                logger = logging.getLogger(name)
                logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
            self._http = anthropic.DefaultHttpxClient()
        return self._http

    def _connected(self) -> tuple[anthropic.Anthropic | anthropic.AnthropicBedrock, str]:
        import anthropic
        import httpx2

        try:
            key = self._api_key() if self._api_key else ""
        except MissingKey as error:
            raise ProviderError(
                f"No key for the model API: {error}", retryable=error.retryable, certainty="unbilled"
            ) from error
        with self._lock:
            if self._client is None or self._client_key != key:
                # The SDK would open a span for every call. What a call did stands in the transcript's entries.
                settings: dict[str, Any] = {
                    "base_url": self._base_url,
                    "http_client": self._warm(),
                    "max_retries": 0,
                    "open_telemetry": False,
                }
                try:
                    self._client = (
                        anthropic.Anthropic(api_key=key, **settings)
                        if self._provider == "anthropic"
                        else anthropic.AnthropicBedrock(**settings)
                    )
                except (ValueError, httpx2.InvalidURL, anthropic.AnthropicError) as error:
                    raise ProviderError(
                        f"The model API is not configured: {error}", retryable=False, certainty="unbilled"
                    ) from error
                self._client_key = key
            return self._client, key

    def _open(
        self,
        client: anthropic.Anthropic | anthropic.AnthropicBedrock,
        key: str,
        request: ModelRequest,
        timeout_seconds: float,
    ) -> anthropic.Stream[object]:
        import anthropic
        import httpx2

        try:
            return client.post(
                _path("/v1/messages", request),
                cast_to=object,
                **self._sent({**_body(request), "stream": True}),
                options=self._options(request, timeout_seconds),
                stream=True,
                stream_cls=anthropic.Stream[object],
            )
        except anthropic.APIError as error:
            raise self._refused(error, key) from error
        except httpx2.HTTPError as error:
            # Only the body of an error answer is read here; an answer that succeeds is streamed.
            raise ProviderError(
                f"The model API refused and broke off ({type(error).__name__}).", retryable=True, certainty="unbilled"
            ) from error
        except Exception as error:
            if self._provider != "bedrock" or not cannot_sign(error):
                raise
            # The role's credentials may come back.
            raise ProviderError(
                f"The request to Bedrock cannot be signed: {error}", retryable=True, certainty="unbilled"
            ) from error

    def _sent(self, body: dict[str, Any]) -> dict[str, Any]:
        """As bytes, most of which were sent before. Bedrock's client takes the body apart."""
        return {"body": body} if self._provider == "bedrock" else {"content": _encoded(body)}

    def _options(self, request: ModelRequest, timeout_seconds: float) -> Any:
        import httpx2

        idle = min(self._idle_seconds, timeout_seconds)
        connect = min(self._connect_seconds, timeout_seconds)
        betas = request.options.get("betas")
        return {
            "timeout": httpx2.Timeout(connect=connect, read=idle, write=idle, pool=connect),
            "headers": {"anthropic-beta": ",".join(betas)} if betas else {},
        }

    # ---- failures ----

    def _refused(self, error: anthropic.APIError, key: str) -> ProviderError:
        """Before a stream began."""
        import anthropic

        if isinstance(error, anthropic.APIStatusError):
            refused = status_error(
                error.status_code, error.body, error.response.headers, certainty="unbilled", now=self._now()
            )
            if error.status_code == 401 and self._api_key is not None and self._rotated(key):
                refused.retryable = True
                refused.detail = "The model API refused the key; a newer one has been read in the meantime."
                refused.args = (refused.detail,)
            return refused
        cause = error.__cause__
        if is_no_address(cause):
            return ProviderError(
                f"The address of the model API is wrong: {cause}", retryable=False, certainty="unbilled"
            )
        not_sent = never_sent(cause)
        certainty: Certainty = "unbilled" if not_sent else "unknown"
        what = "cannot be reached" if not_sent else "did not answer"
        return ProviderError(
            f"The model API {what} ({type(cause or error).__name__}).", retryable=True, certainty=certainty
        )

    def _rotated(self, key: str) -> bool:
        assert self._api_key is not None
        # Whatever the secret's store answers, the refusal is what is to be told.
        with contextlib.suppress(Exception):
            return self._api_key.refresh() != key
        return False

    def _broken(
        self, error: Exception, answer: PartialMessage, headers: Mapping[str, str], *, late: bool
    ) -> ProviderError | Exception:
        """Inside the stream."""
        import anthropic
        import httpx2

        if isinstance(error, anthropic.APIStatusError):
            return status_error(
                error.status_code,
                error.body,
                headers,
                certainty=_certainty(answer),
                usage=counted(answer.usage) or None,
                now=self._now(),
            )
        if late:
            return _incomplete(_LATE, answer, headers)
        if isinstance(error, httpx2.ReadTimeout):
            return _incomplete(f"the stream fell silent for {self._idle_seconds:g} s", answer, headers)
        if isinstance(error, MalformedAnswer):
            return _incomplete(str(error), answer, headers)
        if isinstance(
            error, (anthropic.APIError, httpx2.HTTPError, httpx2.StreamError, OSError, ValueError, RecursionError)
        ):
            return _incomplete(f"the stream broke ({type(error).__name__})", answer, headers)
        return error


_LATE = "the answer took longer than the call may"


def _path(path: str, request: ModelRequest) -> str:
    return f"{path}?beta=true" if request.options.get("betas") else path


def _body(request: ModelRequest) -> dict[str, Any]:
    """The request as the API takes it. Tools among the options (the provider's own) come after the agent's."""
    body = {name: value for name, value in request.options.items() if name not in _OURS}
    body |= {"model": request.model, "max_tokens": request.max_tokens, "messages": request.messages}
    if request.system:
        body["system"] = request.system
    if tools := [*request.tools, *request.options.get("tools", ())]:
        body["tools"] = tools
    return body


def _encoded(body: Mapping[str, Any]) -> bytes:
    around = json_bytes({name: value for name, value in body.items() if name != "messages"})
    return b"".join([around[:-1], b',"messages":', *list_pieces(body["messages"]), b"}"])


def _certainty(answer: PartialMessage) -> Certainty:
    return "known" if answer.usage_is_final else "unknown"


def _incomplete(why: str, answer: PartialMessage, headers: Mapping[str, str]) -> ProviderError:
    return ProviderError(
        f"The model's answer is incomplete: {why}.",
        retryable=True,
        certainty=_certainty(answer),
        usage=counted(answer.usage) or None,
        request_id=request_id(headers),
    )
