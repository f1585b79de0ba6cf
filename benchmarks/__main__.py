"""`make bench`: every benchmark, one after the other."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time

import benchmarks


def main() -> int:
    """Run each module of this package that has a `main()`; 1 where one failed."""
    failed = 0
    for found in sorted(pkgutil.iter_modules(benchmarks.__path__), key=lambda module: module.name):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"benchmarks.{found.name}")
        if not hasattr(module, "main"):
            continue
        print(f"\n=== {found.name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        started = time.monotonic()
        if module.main() not in (None, 0):
            failed += 1
        print(f"--- {time.monotonic() - started:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
