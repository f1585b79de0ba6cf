"""The kit as one function on Vercel: its API, and the chores when the platform's clock asks for them."""

from __future__ import annotations

import hmac
import os

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from functions import process
from functions.api.asgi import application as front_door
from server.chores import Chores
from server.feeds import followers_of
from server.requests import MARGIN_SECONDS, WithinRequests, run_in_requests
from turnkeeper.adapters.logs import set_up
from turnkeeper.bootstrap import Kit
from turnkeeper.settings import Settings

#: What the platform's clock signs its calls with; without it, nobody's are taken.
SECRET = "CRON_SECRET"  # noqa: S105 - the name of a variable
#: "1" where workers run elsewhere, on the same database: then what belongs in the background is theirs.
WORKERS = "TURNKEEPER_WORKERS_ELSEWHERE"


def application(*, max_seconds: float) -> ASGIApp:
    """The application, with the settings of the environment. ``max_seconds``: after which the platform ends a
    request."""
    settings = Settings.from_environment()
    stream_seconds = min(settings.stream_seconds, max(1.0, max_seconds - 2 * MARGIN_SECONDS))
    settings = settings.model_copy(update={"stream_seconds": stream_seconds})
    set_up(settings.log_level)
    kit = Kit(settings)
    run_in_requests(kit, workers=os.environ.get(WORKERS) == "1")
    kit.warm()
    process.share(kit)
    limited = _Routes(front_door(kit), kit, max_seconds)
    return WithinRequests(limited, max_seconds=max_seconds, default_wait_seconds=settings.default_wait_seconds)


class _Routes:
    def __init__(self, api: ASGIApp, kit: Kit, max_seconds: float) -> None:
        self._api = api
        self._chores = Chores(kit, followers_of(kit), name="request")
        self._seconds = max_seconds / 2

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/chores":
            await self._api(scope, receive, send)
            return
        if not _is_the_clock(Request(scope)):
            await PlainTextResponse("forbidden\n", 403)(scope, receive, send)
            return
        done = await anyio.to_thread.run_sync(self._chores.round, self._seconds)
        await PlainTextResponse("done\n" if done else "another does it\n")(scope, receive, send)


def _is_the_clock(request: Request) -> bool:
    secret = os.environ.get(SECRET)
    said = request.headers.get("authorization", "")
    return bool(secret) and hmac.compare_digest(said.encode(), f"Bearer {secret}".encode())
