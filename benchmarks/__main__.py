"""`make bench`: every benchmark, or those that are named, one after the other.

python -m benchmarks [step step_peers ...] [--results FOLDER]
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import benchmarks
from benchmarks._results import FOLDER_VARIABLE, KEPT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run modules of this package that have a `main()`, and keep what they find; 1 where one failed."""
    names = sorted(found.name for found in pkgutil.iter_modules(benchmarks.__path__) if not found.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(names))
    parser.add_argument("--results", type=Path, default=KEPT, help="where figures are kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(names):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    os.environ[FOLDER_VARIABLE] = str(options.results)
    failed: list[str] = []
    for name in options.names or names:
        module = importlib.import_module(f"benchmarks.{name}")
        if not hasattr(module, "main"):
            continue
        print(f"\n=== {name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        started = time.monotonic()
        try:
            wrong = module.main()
        except Exception:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            wrong = 1
        if wrong:
            failed.append(name)
        print(f"--- {time.monotonic() - started:.1f} s")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
