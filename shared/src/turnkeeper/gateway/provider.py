"""The provider behind the gateway: Anthropic's API, to which bytes go on as they came, or Amazon Bedrock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from turnkeeper.adapters.anthropic_errors import cannot_sign, never_sent
from turnkeeper.adapters.bedrock_names import bedrock_name
from turnkeeper.adapters.secrets import KeySource, MissingKey
from turnkeeper.core.errors import Certainty, InvalidRequest, ProviderError, Uncountable
from turnkeeper.gateway.asking import Asked

if TYPE_CHECKING:
    import anthropic
    import httpx2

ANTHROPIC_URL = "https://api.anthropic.com"
#: A stream sends pings; an answer in one piece may take minutes to begin.
_SILENT_SECONDS = 600.0
_CONNECT_SECONDS = 10.0
#: What goes back of the provider's headers. Its rate limits are of the account, which is nobody's business.
_TOLD = ("content-type", "request-id", "retry-after", "x-should-retry")


class Answer(Protocol):
    """What the provider answered, as it comes."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Raises ProviderError where it breaks off."""

    async def close(self) -> None: ...


class Provider(Protocol):
    async def ask(self, path: str, asked: Asked, body: bytes) -> Answer:
        """One attempt, never retried. ``path``: ``/v1/messages`` or ``/v1/messages/count_tokens``.

        Raises:
            ProviderError: no answer; says what is certain about its money.
        """

    async def close(self) -> None: ...


def provider_of(key: KeySource | None, base_url: str | None) -> Callable[[], Provider]:
    """Who answers: Anthropic where there is a key, else Bedrock, with the account's own credentials."""
    return lambda: BedrockProvider(base_url) if key is None else AnthropicProvider(key, base_url)


class AnthropicProvider:
    """Sends on what came, with the real key in place of the client's token."""

    def __init__(self, key: KeySource, base_url: str | None) -> None:
        self._key = key
        self._base_url = (base_url or ANTHROPIC_URL).rstrip("/")
        self._client: httpx2.AsyncClient | None = None

    async def ask(self, path: str, asked: Asked, body: bytes) -> Answer:
        key = self._read()
        answer = await self._send(path, asked, body, key)
        if answer.status_code == 401 and (newer := self._newer(key)) is not None:
            # The key was rotated: nothing was billed, and the client knows nothing of keys.
            await answer.aclose()
            answer = await self._send(path, asked, body, newer)
        return _Raw(answer)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _send(self, path: str, asked: Asked, body: bytes, key: str) -> httpx2.Response:
        import httpx2

        client = self._connected()
        url = f"{self._base_url}{path}" + (f"?{asked.query}" if asked.query else "")
        headers = {**asked.headers, "x-api-key": key, "accept-encoding": "identity"}
        try:
            request = client.build_request("POST", url, content=body, headers=headers)
        except (httpx2.InvalidURL, ValueError) as error:
            # Without the cause: it may quote the key.
            raise _failed("no such request can be made", error, "unbilled") from None
        try:
            return await client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise _unanswered("the model API", error, error) from error

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2

            self._client = httpx2.AsyncClient(
                timeout=httpx2.Timeout(_SILENT_SECONDS, connect=_CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
                follow_redirects=False,
            )
        return self._client

    def _read(self) -> str:
        try:
            return self._key()
        except MissingKey as error:
            raise _failed("the gateway has no key for the model API", error, "unbilled") from error

    def _newer(self, refused: str) -> str | None:
        try:
            key = self._key.refresh()
        except Exception:  # noqa: BLE001 - whatever it is, the provider's refusal is what is told
            return None
        return key if key != refused else None


@dataclass
class _Raw:
    """Bytes as they come, but for those of who compresses them though it was asked not to: the usage could not be read
    while it passes, and the client would not know."""

    response: httpx2.Response

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return {name: self.response.headers[name] for name in _TOLD if name in self.response.headers}

    async def chunks(self) -> AsyncIterator[bytes]:
        import httpx2

        try:
            async for chunk in self.response.aiter_bytes():
                yield chunk
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise _failed("the model's answer broke off", error, "unknown") from error

    async def close(self) -> None:
        await self.response.aclose()


class BedrockProvider:
    """Through the SDK's client for Bedrock. Its streams are another protocol: each event is told again as the API would
    tell it, so a stream has the same events but not the same bytes."""

    def __init__(self, base_url: str | None = None) -> None:
        self._base_url = base_url
        self._client: anthropic.AsyncAnthropicBedrock | None = None

    async def ask(self, path: str, asked: Asked, body: bytes) -> Answer:
        if path.endswith("/count_tokens"):
            raise Uncountable("Bedrock counts no tokens for its inference profiles")
        import anthropic
        import httpx2

        try:
            request = {**json.loads(body), "model": bedrock_name(asked.model)}
        except ValueError as error:
            raise InvalidRequest(str(error), errors=[{"where": "model", "why": str(error)}]) from error
        options: Any = {
            "headers": {"anthropic-beta": ",".join(asked.betas)} if asked.betas else {},
            "timeout": _SILENT_SECONDS,
        }
        client = self._connected()
        try:
            if not asked.streams:
                whole: Any = await client.post("/v1/messages", cast_to=object, body=request, options=options)
                return _Told(200, {"content-type": "application/json"}, json.dumps(whole).encode())
            events: Any = await client.post(
                "/v1/messages",
                cast_to=object,
                body=request,
                options=options,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
            return _Events(events)
        except anthropic.APIStatusError as error:
            answer = error.body if isinstance(error.body, dict) and "error" in error.body else _as_error(error)
            headers = {"content-type": "application/json"}
            headers |= {name: error.response.headers[name] for name in _TOLD[2:] if name in error.response.headers}
            return _Told(error.status_code, headers, json.dumps(answer).encode())
        except anthropic.APIError as error:
            raise _unanswered("Bedrock", error, error.__cause__) from error
        except httpx2.HTTPError as error:
            # Only the body of an error answer is read outside of the SDK's own care.
            raise _failed("Bedrock refused and broke off", error, "unbilled") from error
        except Exception as error:
            if not cannot_sign(error):
                raise
            raise _failed("the request to Bedrock cannot be signed", error, "unbilled") from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _connected(self) -> anthropic.AsyncAnthropicBedrock:
        if self._client is None:
            import anthropic
            import httpx2

            try:
                self._client = anthropic.AsyncAnthropicBedrock(base_url=self._base_url, max_retries=0)
            except (ValueError, httpx2.InvalidURL, anthropic.AnthropicError) as error:
                raise _failed("Bedrock is not configured", error, "unbilled") from error
        return self._client


@dataclass
class _Told:
    """An answer in one piece."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body

    async def close(self) -> None:
        pass


class _Events:
    """Bedrock's events as the API streams them."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "text/event-stream; charset=utf-8"}

    def __init__(self, events: Any) -> None:
        self._events = events

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for event in self._events:
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        except Exception as error:
            raise _failed("the model's answer broke off", error, "unknown") from error

    async def close(self) -> None:
        await self._events.close()


def _as_error(error: anthropic.APIStatusError) -> dict[str, Any]:
    kinds = {400: "invalid_request_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status_code, "api_error")
    return {"type": "error", "error": {"type": kind, "message": str(error.message)[:1000]}}


def _unanswered(who: str, error: Exception, cause: BaseException | None) -> ProviderError:
    if never_sent(cause):
        return _failed(f"{who} cannot be reached", error, "unbilled")
    return _failed(f"{who} did not answer", error, "unknown")


def _failed(what: str, error: Exception, certainty: Certainty) -> ProviderError:
    return ProviderError(f"{what} ({type(error).__name__})", retryable=True, certainty=certainty)


__all__ = ["Answer", "AnthropicProvider", "BedrockProvider", "Provider", "provider_of"]
