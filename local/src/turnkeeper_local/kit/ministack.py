"""The AWS emulator: started on a free loopback port, with nothing of this machine's accounts in its reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3

from turnkeeper_local.kit.environments import ensure_ministack
from turnkeeper_local.kit.errors import with_log_tail
from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.http import answers, wait_until
from turnkeeper_local.kit.ports import HOST, free_port, picking
from turnkeeper_local.kit.processes import OnStart, Started, clean_environment, spawn
from turnkeeper_project import Project

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient

REGION = "us-east-1"
ACCOUNT = "000000000000"
_START_SECONDS = 30
_BOOTSTRAP_VERSION = "30"

#: A session makes one client at a time.
_making = Lock()


@cache
def _session() -> boto3.Session:
    """One for all clients: what each reads of botocore's data takes longer than making it."""
    return boto3.Session("test", "test", region_name=REGION)


@dataclass(frozen=True, slots=True)
class Ministack:
    """A running emulator."""

    endpoint_url: str
    process: Started

    def healthy(self) -> bool:
        return self.process.alive() and answers(f"{self.endpoint_url}/_ministack/health")

    def environment(self) -> dict[str, str]:
        """What makes any AWS client, in any language, talk to this emulator and to nothing else."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Profiles of this machine's user could name another region or endpoint.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def client(self, service: str) -> Any:
        """A client of one of its services."""
        make: Any = _session().client
        with _making:
            return make(service, endpoint_url=self.endpoint_url)

    def bootstrap(self) -> None:
        """What `cdk bootstrap` would leave and `cdk deploy` looks for: an asset bucket and a version number.

        The roles that it would make too are not needed: the emulator lets anyone take on any.
        """
        s3: S3Client = self.client("s3")
        s3.create_bucket(Bucket=f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}")
        ssm: SSMClient = self.client("ssm")
        ssm.put_parameter(
            Name="/cdk-bootstrap/hnb659fds/version", Value=_BOOTSTRAP_VERSION, Type="String", Overwrite=True
        )

    def api_url(self, api_id: str) -> str:
        """Where a plain HTTP client finds an HTTP API.

        AWS's own form, `http://{id}.execute-api.{host}`, needs a name that resolves or a Host header of one's own; the
        emulator also takes the API's id in the path. The `$default` stage adds nothing to it.
        """
        return f"{self.endpoint_url}/_aws/execute-api/{api_id}"


def start_ministack(
    home: Home,
    project: Project,
    *,
    first_port: int,
    keep: bool = False,
    before_start: Callable[[str], None] = lambda _: None,
    on_start: OnStart = lambda _: None,
) -> Ministack:
    """Start an emulator and wait until it answers. The caller ends it: `.process.end(...)`.

    With `keep` it begins with what is in `home.state`, and writes its state there when it is asked to end.
    `before_start` is told the address that it will have.
    """
    folder = ensure_ministack(project)
    home.make()
    log = home.log("ministack")
    with picking():
        port = free_port(first_port)
        endpoint_url = f"http://{HOST}:{port}"
        before_start(endpoint_url)
        environment = clean_environment(
            {
                "GATEWAY_PORT": str(port),
                "BIND_HOST": HOST,
                "MINISTACK_HOST": HOST,  # in queue URLs; "localhost" may mean ::1, where nobody listens
                "MINISTACK_REGION": REGION,
                "MINISTACK_ACCOUNT_ID": ACCOUNT,
                # A waiting front door and a running turn hold a thread each, and their table calls need more.
                "MINISTACK_WORKER_THREADS": "256",
                "TMPDIR": str(home.temporary),
                "STATE_DIR": str(home.state),
                "S3_DATA_DIR": str(home.state / "s3"),
                "PERSIST_STATE": "1" if keep else "0",
                "S3_PERSIST": "1" if keep else "0",
                "AWS_ENDPOINT_URL": endpoint_url,  # handed on to the Lambdas
                "PYTHONDONTWRITEBYTECODE": "1",  # every Lambda process has a folder of its own, thrown away
            }
        )
        process, popen = spawn(
            [folder / "bin" / "ministack"],
            environment=environment,
            log=log,
            folder=home.path,
            on_start=on_start,
        )
        ministack = Ministack(endpoint_url, process)
        if not wait_until(ministack.healthy, within_seconds=_START_SECONDS, while_alive=lambda: popen.poll() is None):
            process.end(grace_seconds=0)
            raise with_log_tail("the AWS emulator did not start", log)
    return ministack
