"""The port InjectionDetector by rules: no model, no network."""

from turnkeeper.adapters.injection.detector import RuleDetector

__all__ = ["RuleDetector"]
