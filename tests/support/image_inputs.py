"""What an image of the worker is built from: the context that Docker would be sent, and the locked wheels."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.support import clean_root
from tests.support.image_build import BuildError
from tests.support.repository import CACHE, REPOSITORY
from turnkeeper_local.kit.home import file_lock
from turnkeeper_local.kit.processes import tool_environment

REQUIREMENTS = REPOSITORY / "requirements.lock"


class NoRegistry(Exception):
    """No package registry could be reached; which is no fault of what was to be built."""


def wheels_for(base: clean_root.Base) -> Path:
    """A folder with the locked wheels for the base's Python, as pip found them by their hashes. Kept by the lock file's
    own hash in the clone's cache; filling it needs a package registry, as `make setup` does.

    Raises:
        NoRegistry: pip could not ask for them.
        BuildError: there is none for this Python, or it has another hash.
    """
    digest = hashlib.sha256(base.version.encode() + b"\0" + REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = CACHE / "wheels" / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(CACHE / "wheels" / "lock"):
        if folder.exists():
            return folder
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        python = base.python / "bin" / f"python{base.version}"
        options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(REQUIREMENTS)]
        command = [str(python), "-m", "pip", "download", "--quiet", "--retries", "2", *options, "--dest", str(draft)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=tool_environment())
        if done.returncode:
            last = done.stderr.strip()[-300:]
            unreached = "Retry(total=0" in done.stderr  # what pip says before it gives up on an address
            raise (NoRegistry if unreached else BuildError)(f"pip could not get the locked wheels: {last}")
        for old in folder.parent.glob("[0-9a-f]*"):
            if old != draft:
                shutil.rmtree(old)
        draft.rename(folder)
    return folder


def build_context(assembly: Path) -> Path:
    """What Docker would be sent: what CDK stages of this repository."""
    import aws_cdk as cdk  # jsii starts with this import
    from aws_cdk import aws_ecs as ecs

    from turnkeeper_infra.config import Config
    from turnkeeper_infra.image import worker_image

    config = Config(identity="iam", trusted_principals=("arn:aws:iam::111122223333:role/Backend",))
    # Only the asset is wanted: CDK's rules for templates take ten seconds to load.
    app = cdk.App(outdir=str(assembly), builtin_cloud_formation_validation=False)
    stack = cdk.Stack(app, "Context")
    task = ecs.FargateTaskDefinition(stack, "Task")
    task.add_container("worker", image=worker_image(stack, config))
    app.synth()
    [dockerfile] = assembly.glob("asset.*/Dockerfile")
    return dockerfile.parent
