"""The variants are what they say, so that a rule held against them is held against something."""

from __future__ import annotations

import json

from tests.infra.variants import Variants


def test_every_variant_has_every_stack(variants: Variants) -> None:
    assert len(variants) >= 8
    for variant in variants.values():
        assert {"State", "Api", "Worker", "Observe"} <= set(variant.templates), variant.name


def test_no_two_variants_are_the_same(variants: Variants) -> None:
    written = [json.dumps(variant.templates, sort_keys=True) for variant in variants.values()]
    assert len(set(written)) == len(written)


def test_cdk_nag_finds_nothing_in_any_variant(variants: Variants) -> None:
    for variant in variants.values():
        report = json.loads((variant.assembly / "validation-report.json").read_text())
        assert report["pluginReports"] == [], variant.name
