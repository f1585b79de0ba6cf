"""Plays Vercel for a folder that `vercel deploy` would be called in.

    python -m tests.support.vercel_platform FOLDER PORT

Serves ``public/``, hands what ``vercel.json`` rewrites to the function, and ends each request at ``maxDuration``,
whatever it is doing. What is not played: builds, regions, many instances, frozen ones.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import uvicorn
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send


class Platform:
    def __init__(self, folder: Path) -> None:
        stated = json.loads((folder / "vercel.json").read_text())
        [(entry, limits)] = stated["functions"].items()
        self._max_seconds = limits["maxDuration"]
        self._sources = [
            re.compile(re.sub(r":path\*", ".*", rewrite["source"]) + r"\Z") for rewrite in stated["rewrites"]
        ]
        self._static = StaticFiles(directory=folder / "public", html=True)
        self._function = _loaded(folder / entry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if not any(source.match(scope["path"]) for source in self._sources):
            await self._static(scope, receive, send)
            return
        async with asyncio.timeout(self._max_seconds):
            await self._function(scope, receive, send)


def _loaded(file: Path) -> ASGIApp:
    spec = importlib.util.spec_from_file_location("entry", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: ASGIApp = module.app
    return function


def main(folder: Path, port: int) -> None:
    os.chdir(folder)
    uvicorn.run(Platform(folder), port=port, lifespan="off", log_level="warning", access_log=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
