"""What the documentation says of the code is what the code says."""

from __future__ import annotations

from tests.support.docs import generated


def test_the_generated_parts_are_current() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path.name} is not current: `make docs`"
