"""What `benchmarks.capacity` measures against: the table of `benchmarks.step_world`, a queue, and a model that takes
its time and tells when each of its calls came and ended.

It checks no condition and gives each message out once, so a session has one runner.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from benchmarks.step_world import Handler, Table, answer_of, serve

#: How long a call takes, and in how many pieces its answer comes meanwhile.
CALL_SECONDS = 2.0
PIECES = 10

Body = dict[str, Any]


class World(Table):
    def __init__(self) -> None:
        super().__init__()
        self.messages: deque[Body] = deque()
        self.arrived = threading.Condition()
        #: Session, when its call came, and when its last piece was sent.
        self.calls: list[tuple[str, float, float]] = []

    def answer(self, operation: str, body: Body) -> Body:
        match operation:
            case "SendMessage":
                text = body["MessageBody"]
                digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
                name = str(time.monotonic_ns())
                with self.arrived:
                    self.messages.append({"MessageId": name, "ReceiptHandle": name, "Body": text, "MD5OfBody": digest})
                    self.arrived.notify()
                return {"MessageId": name, "MD5OfMessageBody": digest}
            case "ReceiveMessage":
                with self.arrived:
                    self.arrived.wait_for(lambda: self.messages, body.get("WaitTimeSeconds", 0))
                    most = min(body.get("MaxNumberOfMessages", 1), len(self.messages))
                    return {"Messages": [self.messages.popleft() for _ in range(most)]}
            case "DeleteMessage" | "ChangeMessageVisibility":
                return {}
            case "GetSecretValue":
                return {"SecretString": json.dumps({"current": "a key of the benchmark"})}
        return super().answer(operation, body)


class SlowHandler(Handler):
    table: World

    def handle(self) -> None:
        # A worker that is ended leaves in the middle of its requests.
        with suppress(ConnectionError, ValueError):
            super().handle()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self.send("application/json", json.dumps(self.table.calls).encode())

    def answer(self, raw: bytes) -> None:
        if not self.path.startswith("/v1/messages"):
            return super().answer(raw)
        came = time.monotonic()
        request = json.loads(raw)
        session = request["messages"][0]["content"]
        name = session if isinstance(session, str) else session[0]["text"]
        # The first one ends at any time: nothing holds sessions in step with each other.
        began = len(request["messages"]) > 1
        seconds = CALL_SECONDS * (1 if began else random.random())
        events = answer_of(request)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(events)))
        self.end_headers()
        for number in range(1, PIECES + 1):
            time.sleep(max(0.0, came + seconds * number / PIECES - time.monotonic()))
            piece = events[len(events) * (number - 1) // PIECES : len(events) * number // PIECES]
            self.wfile.write(piece)
            self.wfile.flush()
        self.table.calls.append((name, came, time.monotonic()))
        return None


if __name__ == "__main__":
    serve(World(), SlowHandler)
