"""Settings of other kits that one on this machine does not take: whoever sets one believes that it counts."""

from __future__ import annotations

import os
from collections.abc import Collection

from turnkeeper_local.cli.output import Output

_PREFIX = "TURNKEEPER_"
#: It is refused where it says what no kit on this machine can do.
_REFUSED = "TURNKEEPER_MODEL_PROVIDER"


def tell_what_is_passed_over(out: Output, taken: Collection[str]) -> None:
    """Name the variables of this shell that would be settings elsewhere, beside those that are taken here."""
    said = {name for name in os.environ if name.startswith(_PREFIX)}.difference(taken, {_REFUSED})
    if not said:
        return
    from turnkeeper.settings import Settings  # Which takes a moment to import.

    if unused := sorted(name for name in said if name.removeprefix(_PREFIX).lower() in Settings.model_fields):
        out.note(f"passed over, for a kit on this machine does not take it: {', '.join(unused)}")
