"""A small source tree to synthesize and deploy: handlers that answer, so that the stacks can be tested alone."""

from __future__ import annotations

from pathlib import Path

from tests.support.repository import REPOSITORY

_FRONT_DOOR = """
import json, os, boto3

def handler(event, context):
    match event["rawPath"]:
        case "/v1/health":
            body = {"status": "ok"}
        case "/v1/settings":
            body = {key: value for key, value in os.environ.items() if key.startswith(("TURNKEEPER_", "ANTHROPIC_"))}
        case "/v1/start":
            answer = boto3.client("lambda").invoke(
                FunctionName=os.environ["TURNKEEPER_TURN_FUNCTION"], InvocationType="Event",
                Payload=json.dumps({"tenant_id": "acme", "session_id": "s1"}),
            )
            body = {"status": answer["StatusCode"]}
        case _:
            body = event
    return {"statusCode": 200, "body": json.dumps(body)}
"""

_TURN = """
import json, os, boto3

def handler(event, context):
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["TURNKEEPER_SIGNING_SECRET_ID"])
    boto3.client("dynamodb").put_item(TableName=os.environ["TURNKEEPER_TABLE"], Item={
        "pk": {"S": event["tenant_id"]}, "sk": {"S": "turn"},
        "arn": {"S": context.invoked_function_arn},
        "turn_seconds": {"S": os.environ["TURNKEEPER_TURN_SECONDS"]},
        "edition": {"S": "first"},
        "secret_keys": {"SS": sorted(json.loads(secret["SecretString"]))},
    })
    boto3.client("sqs").send_message(
        QueueUrl=os.environ["TURNKEEPER_QUEUE_URL"], MessageBody="from the turn", MessageGroupId=event["tenant_id"]
    )
"""

_OBSERVE = """
import os, boto3

def handler(event, context):
    for record in event["Records"]:
        if record["dynamodb"]["Keys"]["sk"]["S"] == "turn":
            boto3.client("dynamodb").put_item(
                TableName=os.environ["TURNKEEPER_TABLE"], Item={"pk": {"S": "acme"}, "sk": {"S": "seen"}}
            )
    return {"batchItemFailures": []}
"""

_PROCESS = """
import http.server, os, signal, sys

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass

class Server(http.server.HTTPServer):
    allow_reuse_port = True

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Server(("127.0.0.1", int(os.environ["{port}"])), Health).serve_forever()
"""
_WORKER = _PROCESS.replace("{port}", "TURNKEEPER_HEALTH_PORT")
_SERVER = _PROCESS.replace("{port}", "TURNKEEPER_API_PORT")


def make_tree(root: Path) -> Path:
    """Write the tree below `root`."""
    files = {
        "policy.toml": (REPOSITORY / "policy.toml").read_text(),
        "agents/_shared/words.py": "SYSTEM = 'You are a test.'\n",
        "functions/__init__.py": "",
        "functions/api/__init__.py": "",
        "functions/api/handler.py": _FRONT_DOOR,
        "functions/api/serve.py": _SERVER,
        "functions/turn/__init__.py": "",
        "functions/turn/handler.py": _TURN,
        "functions/observe/__init__.py": "",
        "functions/observe/handler.py": _OBSERVE,
        "functions/prove/handler.py": (REPOSITORY / "functions" / "prove" / "handler.py").read_text(),
        "functions/sweep/__init__.py": "",
        "functions/sweep/handler.py": "def handler(event, context): ...\n",
        "fargate_worker/__init__.py": "",
        "fargate_worker/__main__.py": _WORKER,
        "fargate_worker/Dockerfile": "FROM scratch\n",
        "requirements/agent-sdk.txt": "claude-agent-sdk==0\n",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root
