"""The constructs serve another app as well as ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.infra.variants import IAM, JWT


def test_an_app_of_ones_own_holds_several_kits_beside_its_own_stacks(source_root: Path, tmp_path: Path) -> None:
    import aws_cdk as cdk

    from turnkeeper_infra import Config, Kit

    app = cdk.App(outdir=str(tmp_path))
    own = cdk.Stack(app, "Own")
    tree = {"project": source_root, "source_root": source_root}
    for name, identity in (("North", IAM), ("South", JWT)):
        kit = Kit(
            cdk.Stage(app, name),
            Config.of({**identity, **tree, "name": name}),
        )
        assert [stack.stack_name for stack in kit.stacks] == [
            f"{name}-{name}{part}" for part in ("State", "Api", "Worker", "Observe")
        ]
    south = Kit(app, Config.of({**JWT, **tree}))
    cdk.CfnOutput(own, "Table", value=south.state.table.table_name)
    assembly = app.synth()
    assert {stack.stack_name for stack in assembly.stacks} >= {"Own", "TurnkeeperState", "TurnkeeperApi"}


def test_bundling_does_not_start_the_cdk() -> None:
    """The CDK's command line calls the bundler for each asset; jsii would take a second each time."""
    program = "import sys, turnkeeper_infra.bundle; sys.exit('aws_cdk' in sys.modules or 'jsii' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
