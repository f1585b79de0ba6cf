"""What `benchmarks.step` measures against, in a process of its own: a table and a model that answer over HTTP.

The table takes DynamoDB's protocol as the kit speaks it, keeps the items, and counts what each request brings and would
be billed. It checks no condition: nobody else is there. The model asks for one tool call after the other.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from turnkeeper.adapters.table_values import WireItem, item_size

Body = dict[str, Any]


class Table:
    """Items by key, and what was asked for since the counts were last taken."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], WireItem] = {}
        self.counts: dict[str, float] = {}

    def count(self, name: str, by: float = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def answer(self, operation: str, body: Body) -> Body:
        match operation:
            case "TransactWriteItems":
                for entry in body["TransactItems"]:
                    self._write(entry, transactional=True)
                return {}
            case "UpdateItem":
                return {"Attributes": self._write({"Update": body}, transactional=False)}
            case "GetItem":
                found = self.items.get(_key(body["Key"]))
                return {"Item": found} if found else {}
            case "BatchGetItem":
                [(table, wanted)] = body["RequestItems"].items()
                items = [self.items[_key(key)] for key in wanted["Keys"] if _key(key) in self.items]
                return {"Responses": {table: items}, "UnprocessedKeys": {}}
            case "Query":
                return {"Items": self._query(body)}
        raise ValueError(operation)

    def _write(self, entry: Body, *, transactional: bool) -> WireItem:
        [(verb, what)] = entry.items()
        key = _key(what["Item"] if verb == "Put" else what["Key"])
        item: WireItem = {} if verb == "Put" else dict(self.items.get(key, what["Key"]))
        before = item_size(item)
        if verb == "Put":
            item = dict(what["Item"])
        elif verb == "Update":
            _update(item, what)
        if verb != "ConditionCheck":
            self.items[key] = item
        units = -(-max(before, item_size(item)) // 1024) * (2 if transactional else 1)
        self.count("units", units)
        self.count(f"units of {_kind(key)}", units)
        return item

    def _query(self, body: Body) -> list[WireItem]:
        values = [value["S"] for value in body["ExpressionAttributeValues"].values()]
        first, last = values[1] if len(values) > 1 else "", values[2] if len(values) > 2 else "\uffff"
        return [item for (pk, sk), item in sorted(self.items.items()) if pk == values[0] and first <= sk <= last]


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _kind(key: tuple[str, str]) -> str:
    """Which kind of item it is, by its key."""
    pk, sk = key
    holder = pk.split("#")[2] if pk.count("#") > 1 else "T"
    return sk.split("#")[0].lower() if holder == "S" else {"U": "user", "SHARD": "tenant"}.get(holder, holder.lower())


def _update(item: WireItem, what: Body) -> None:
    names, values = what.get("ExpressionAttributeNames", {}), what.get("ExpressionAttributeValues", {})
    verb = ""
    for word in what["UpdateExpression"].replace(",", " ").replace(" = ", " ").split():
        if word in ("SET", "ADD", "REMOVE"):
            verb, name = word, ""
        elif not word.startswith(":"):
            name = names.get(word, word)
            if verb == "REMOVE":
                item.pop(name, None)
        elif verb == "SET":
            item[name] = values[word]
        else:
            item[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + int(values[word]["N"]))}


def answer_of(request: Body) -> bytes:
    """The next tool call, as the API streams it. It says that little was read: no window ends what is measured."""
    made = sum(message["role"] == "assistant" for message in request["messages"])
    usage = {"input_tokens": 500 + made, "output_tokens": 1}
    block = {"type": "tool_use", "id": f"toolu_{made:06}", "name": "look", "input": {}}
    message = {"id": f"msg_{made}", "type": "message", "role": "assistant", "model": request["model"], "content": []}
    pieces = [json.dumps({"page": made})[:4], json.dumps({"page": made})[4:]]
    events: list[Body] = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 60}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


def whole_answer(request: Body) -> bytes:
    """The next tool call in one piece, for those who do not stream."""
    made = sum(message["role"] == "assistant" for message in request["messages"])
    block = {"type": "tool_use", "id": f"toolu_{made:06}", "name": "look", "input": {"page": made}}
    usage = {"input_tokens": 500 + made, "output_tokens": 60}
    message: dict[str, Any] = {"id": f"msg_{made}", "type": "message", "role": "assistant", "model": request["model"]}
    message |= {"content": [block], "stop_reason": "tool_use", "stop_sequence": None, "usage": usage}
    return json.dumps(message).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    table: Table

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        self.answer(self.body())

    def do_GET(self) -> None:
        """The counts since they were last asked for."""
        counts, self.table.counts = self.table.counts, {}
        self.send("application/json", json.dumps(counts).encode())

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, raw: bytes) -> None:
        if self.path.startswith("/v1/messages"):
            self.table.count("bytes to the model", len(raw))
            request = json.loads(raw)
            if not request.get("stream"):
                return self.send("application/json", whole_answer(request))
            return self.send("text/event-stream", answer_of(request))
        operation = self.headers["X-Amz-Target"].split(".")[1]
        self.table.count(operation)
        self.table.count("bytes to the table", len(raw))
        found = self.table.answer(operation, json.loads(raw))
        return self.send("application/x-amz-json-1.0", json.dumps(found).encode())

    def send(self, kind: str, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def serve(table: Table, handler: type[Handler]) -> None:
    """Answers until standard input ends, as it does with whoever started this; tells its port there first."""
    handler.table = table
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    serve(Table(), Handler)
