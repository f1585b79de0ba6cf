"""Every variant keeps every rule, and a fault of each kind is found by its rule."""

from __future__ import annotations

import itertools

import pytest

from tests.infra.rules import adopting, assets, front, keys, network, regions, taking_down
from tests.infra.rules.exports import export_deadlocks, exports
from tests.infra.rules.rule import Rule, planted
from tests.infra.variants import Variants

RULES = (
    *taking_down.RULES,
    *network.RULES,
    *keys.RULES,
    *assets.RULES,
    *front.RULES,
    *adopting.RULES,
    *regions.RULES,
)

named = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


@named
def test_every_variant_keeps_the_rule(rule: Rule, variants: Variants) -> None:
    about = [variant for variant in variants.values() if rule.about(variant)]
    assert about
    assert [line for variant in about for line in rule.check(variant)] == []


@named
def test_a_planted_fault_is_found(rule: Rule, variants: Variants) -> None:
    for variant in variants.values():
        if rule.about(variant):
            assert list(rule.check(planted(variant, rule.plant))), variant.name


def test_any_variant_can_become_any_other(variants: Variants) -> None:
    """What any of them exports, all export, and with the same value."""
    pairs = list(itertools.permutations(variants.values(), 2))
    assert len(pairs) >= 8 * 7
    assert all(len(exports(variant)) > 15 for variant in variants.values())
    assert [line for before, after in pairs for line in export_deadlocks(before, after)] == []


def test_an_export_that_goes_or_changes_is_found(variants: Variants) -> None:
    before = variants["prod-jwt"]
    for name, output in before.templates["State"]["Outputs"].items():
        if "Export" not in output:
            continue
        gone = planted(before, lambda templates, name=name: templates["State"]["Outputs"].pop(name))
        changed = planted(before, lambda templates, name=name: templates["State"]["Outputs"][name].update(Value="x"))
        assert len(list(export_deadlocks(before, gone))) == 1
        assert len(list(export_deadlocks(before, changed))) == 1
