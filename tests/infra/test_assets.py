"""Assets are named so that any machine can publish them, and Docker is needed for the worker's image only."""

from __future__ import annotations

import copy

from tests.infra.rules.assets import absolute_paths, images, manifests
from tests.infra.variants import Variants


def test_no_asset_is_named_by_a_path_of_this_machine(variants: Variants) -> None:
    """But for the made-up source tree of these tests, which is not in the repository."""
    for variant in variants.values():
        found = [line for line in absolute_paths(manifests(variant)) if "/tree" not in line]
        assert found == [], variant.name


def test_a_path_of_this_machine_is_found(variants: Variants) -> None:
    broken = copy.deepcopy(manifests(variants["prod-jwt"]))
    asset = next(iter(broken["TurnkeeperApi.assets.json"]["files"].values()))
    asset["source"] = {"executable": ["/home/somebody/.venv/bin/python", "-m", "turnkeeper_infra.bundle", "layer"]}
    assert "TurnkeeperApi.assets.json: /home/somebody/.venv/bin/python" in list(absolute_paths(broken))


def test_docker_is_needed_for_the_worker_alone_and_not_with_an_image_that_is_built(variants: Variants) -> None:
    for variant in variants.values():
        prebuilt = "worker_image" in variant.settings
        assert images(manifests(variant)) == ([] if prebuilt else ["TurnkeeperWorker.assets.json"]), variant.name
