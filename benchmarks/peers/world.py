"""What the peers measure against: the table and the model of `benchmarks.step_world`, and what the peers ask for beyond
the kit: other keys, puts, objects as S3 has them."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.step_world import Body, Handler, Table, serve
from turnkeeper.adapters.table_values import WireItem, item_size


class PeerTable(Table):
    """DynamoDB as LangGraph's saver asks for it, its keys named ``PK`` and ``SK``."""

    def answer(self, operation: str, body: Body) -> Body:
        match operation:
            case "PutItem":
                self._put(body["Item"])
                return {}
            case "GetItem":
                found = self.items.get(_key(body["Key"]))
                return {"Item": found} if found else {}
            case "Query":
                values = [value["S"] for value in body["ExpressionAttributeValues"].values()]
                prefix = values[1] if len(values) > 1 else ""
                keys = sorted(key for key in self.items if key[0] == values[0] and key[1].startswith(prefix))
                if not body.get("ScanIndexForward", True):
                    keys.reverse()
                return {"Items": [self.items[key] for key in keys]}
        raise ValueError(operation)

    def _put(self, item: WireItem) -> None:
        key = _key(item)
        before = item_size(self.items.get(key, {}))
        self.items[key] = item
        self.count("units", -(-max(before, item_size(item)) // 1024))


def _key(item: WireItem) -> tuple[str, str]:
    return item["PK"]["S"], item["SK"]["S"]


class PeerHandler(Handler):
    """Takes objects as well."""

    objects: dict[str, bytes] = {}  # noqa: RUF012 - one world a process

    def handle_expect_100(self) -> bool:
        """botocore asks before it puts, and waits a second for the answer."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def do_PUT(self) -> None:
        raw = self.body()
        self.table.count("objects written")
        self.table.count("bytes of objects", len(raw))
        self.objects[unquote(urlsplit(self.path).path)] = raw
        self.send("application/xml", b"")

    def do_HEAD(self) -> None:
        self.send("application/xml", b"", 200 if unquote(urlsplit(self.path).path) in self.objects else 404)

    def do_GET(self) -> None:
        if self.path == "/counts":
            return super().do_GET()
        self.table.count("objects read or listed")
        address = urlsplit(self.path)
        path, asked = unquote(address.path), parse_qs(address.query)
        if "list-type" in asked:
            start = f"{path.rstrip('/')}/{asked.get('prefix', [''])[0]}"
            keys = sorted(key for key in self.objects if key.startswith(start))
            rows = "".join(f"<Contents><Key>{key.split('/', 2)[2]}</Key></Contents>" for key in keys)
            found = f"<ListBucketResult><KeyCount>{len(keys)}</KeyCount>{rows}</ListBucketResult>".encode()
        else:
            found = self.objects.get(path, b"")
        if found:
            return self.send("application/xml", found)
        return self.send("application/xml", b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>", 404)


if __name__ == "__main__":
    serve(PeerTable(), PeerHandler)
