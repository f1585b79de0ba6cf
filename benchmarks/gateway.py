"""What the gateway adds to the first byte: beside a plain reverse proxy made of the same parts, on this machine.

The stand-in model, the proxy and the gateway are a process each; the gateway's ledger is a table of the AWS emulator.
The calls take turns, so that whatever else the machine does meets both. A call streams; what is measured is the time
from sending it to the first byte of its answer's body, over a connection that is open already.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
import uuid
from statistics import median, quantiles
from typing import Any

import httpx2

from benchmarks._results import Results
from tests.e2e.gateway_traffic import serve
from tests.e2e.money_traffic import Place, aws, till_of
from tests.support.emulator import ministack
from tests.support.gateway import MODEL, standin
from tests.support.money import TENANT
from turnkeeper.testing.schema import create_table
from turnkeeper_local.standin.serving import serving

_SPAWN = multiprocessing.get_context("spawn")
#: A first turn of a coding program, and a few words.
_BODIES = {"a few words": 0, "70 kB": 70_000}


def _standin(url: Any) -> None:
    with standin() as found:
        url.put(found)
        threading.Event().wait()


def _proxy(target: str, url: Any) -> None:
    """Passes everything on as it comes, as a reverse proxy does that does nothing else."""
    from starlette.requests import Request

    client = httpx2.AsyncClient(timeout=600)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        headers = {"content-type": "application/json", "x-api-key": "k", "anthropic-version": "2023-06-01"}
        built = client.build_request("POST", target + request.url.path, content=await request.body(), headers=headers)
        answer = await client.send(built, stream=True)
        told = [(b"content-type", answer.headers["content-type"].encode())]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": told})
        async for chunk in answer.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with serving(app) as found:
        url.put(found)
        threading.Event().wait()


def _first_byte_ms(client: httpx2.Client, url: str, token: str, body: bytes) -> float:
    began = time.perf_counter()
    with client.stream("POST", f"{url}/v1/messages", content=body, headers={"x-api-key": token}) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        took = time.perf_counter() - began
        for _ in pieces:
            pass
        assert answer.status_code == 200
    return took * 1000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=150)
    calls = parser.parse_args([] if arguments is None else arguments).calls
    # The emulator takes any.
    os.environ.update(AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench")
    queue = _SPAWN.Queue()
    started: list[Any] = []

    def start(work: Any, *rest: Any) -> str:
        process = _SPAWN.Process(target=work, args=(*rest, queue), daemon=True)
        process.start()
        started.append(process)
        return str(queue.get(timeout=120))

    try:
        with Results("gateway") as results, ministack() as emulator, httpx2.Client(timeout=60) as client:
            place = Place(emulator, f"bench-{uuid.uuid4().hex}", (), 0.0)
            create_table(aws(emulator).dynamodb, place.table)
            till = till_of(place)
            till.tenants.set(TENANT, actor="bench", shards=4)
            token, _ = till.tokens.mint(TENANT, "ann", actor="bench")
            model = start(_standin)
            urls = {"proxy": start(_proxy, model), "gateway": start(serve, place, model)}
            for name, size in _BODIES.items():
                words = [{"role": "user", "content": "x" * size + "[[say hello]]"}]
                body = json.dumps({"model": MODEL, "max_tokens": 50, "stream": True, "messages": words}).encode()
                times: dict[str, list[float]] = {each: [] for each in urls}
                for number in range(calls + 10):
                    for each, url in urls.items():
                        took = _first_byte_ms(client, url, token, body)
                        if number >= 10:  # Connections are open, and everything is imported.
                            times[each].append(took)
                for each, found in times.items():
                    results.wall("first byte", found, of=each, body=name)
                    results.wall("first byte, 95th percentile", quantiles(found, n=20)[-1], of=each, body=name)
                results.wall("first byte, added", median(times["gateway"]) - median(times["proxy"]), body=name)
    finally:
        for process in started:
            process.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
