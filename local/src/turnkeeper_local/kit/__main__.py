"""`python -m turnkeeper_local.kit up|down`: the library's own smallest command, for working on the kit itself."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from turnkeeper_local.kit import KitError, down, up


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["up"]:
                print(json.dumps(asdict(up(progress=lambda step: print(f"{step} ...", file=sys.stderr))), indent=2))
            case ["down"]:
                down()
            case _:
                print("usage: python -m turnkeeper_local.kit up|down", file=sys.stderr)
                return 2
    except KitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
