"""Breaks the code on purpose, one small change at a time, and tells which changes no fast test notices.

    python -m tests.support.mutants                   # a random sample, another one each day
    python -m tests.support.mutants --seed 7          # that sample again
    python -m tests.support.mutants 'turnkeeper.core.ledger.*'   # all of one module; a function or one mutant as well

mutmut makes the changes and runs the tests. It wants the package at src/, so it works in a folder of its own, on links
to this tree. A sample traces anew which test comes through which function; where mutants are named, what was traced
last is used again, and only new tests are traced.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import libcst

from tests.support.repository import REPOSITORY

FOLDER = REPOSITORY / ".turnkeeper" / "mutants"
#: A mutant is switched on after everything is imported, so what runs only then cannot be tried.
AT_IMPORT = ("turnkeeper.core.stops.x__row__*",)
#: A test that hangs fails by its own timeout. So a run that has no end was only slow, and says nothing.
KILLED = {"killed", "caught by type check"}


@dataclass(frozen=True)
class Outcome:
    name: str
    status: str
    diff: str

    @property
    def killed(self) -> bool:
        return self.status in KILLED


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="mutants to try, * stands for any text (a sample of all)")
    parser.add_argument("--sample", type=int, default=200, help="how many to try")
    parser.add_argument("--seed", type=int, default=datetime.now(UTC).toordinal(), help="which ones")
    parser.add_argument("--floor", type=float, default=90.0, help="the percentage that has to be noticed")
    arguments = parser.parse_args()

    lay_out(anew=not arguments.names)
    os.chdir(FOLDER)
    every = sorted(mutants())
    if arguments.names:
        chosen = [name for name in every if any(fnmatch.fnmatch(name, pattern) for pattern in arguments.names)]
    else:
        chosen = sorted(random.Random(arguments.seed).sample(every, min(arguments.sample, len(every))))
    print(f"{len(chosen)} of {len(every)} mutants, seed {arguments.seed}", flush=True)
    outcomes = run(chosen)
    return tell(outcomes, arguments.floor)


def lay_out(*, anew: bool) -> None:
    """The folder that mutmut works in: links to what it copies, and nothing that an earlier run copied."""
    if anew:
        shutil.rmtree(FOLDER, ignore_errors=True)
    also = settings()["also_copy"]
    for name in [*also, "tests"]:
        copy = FOLDER / "mutants" / name
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink(missing_ok=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for link, target in {"src": "shared/src", **{name: name for name in [*also, "tests", "pyproject.toml"]}}.items():
        (FOLDER / link).unlink(missing_ok=True)
        (FOLDER / link).symlink_to(REPOSITORY / target)


def settings() -> dict[str, list[str]]:
    table: dict[str, list[str]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mutmut"]
    return table


def mutants() -> Iterator[str]:
    """Names of all mutants that a test could notice. Words for people are left as they are: no test holds their
    letters, nor should one."""
    from mutmut.mutation.file_mutation import create_mutations, mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    for path in sorted(Path("src").rglob("*.py")):
        if not any(fnmatch.fnmatch(str(path), pattern) for pattern in settings()["only_mutate"]):
            continue
        code = path.read_text()
        _, mutations, _, _ = create_mutations(str(path), code)
        by_function = defaultdict(list)
        for mutation in mutations:
            if isinstance(function := mutation.contained_by_top_level_function, libcst.FunctionDef):
                by_function[function].append(mutation)
        in_order = [mutation for group in by_function.values() for mutation in group]
        names = [get_mutant_name(path, name) for name in mutate_file_contents(str(path), code).mutant_names]
        for name, mutation in zip(names, in_order, strict=True):
            prose = _is_prose(mutation.original_node, mutation.mutated_node)
            if not prose and not any(fnmatch.fnmatch(name, each) for each in AT_IMPORT):
                yield name


def _is_prose(before: libcst.CSTNode, after: libcst.CSTNode) -> bool:
    """Whether the change is one of words only: of a text, or of an argument that is one."""
    if isinstance(before, libcst.Call) and isinstance(after, libcst.Call):
        left = {id(argument) for argument in after.args}
        changed = [argument.value for argument in before.args if id(argument) not in left]
        return bool(changed) and all(map(_is_text, changed))
    return _is_text(before)


def _is_text(node: libcst.CSTNode) -> bool:
    match node:
        case libcst.SimpleString():
            return " " in node.value
        case libcst.FormattedString():
            return any(isinstance(part, libcst.FormattedStringText) and " " in part.value for part in node.parts)
        case libcst.ConcatenatedString():
            return _is_text(node.left) or _is_text(node.right)
    return False


def run(names: list[str]) -> list[Outcome]:
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code

    log = FOLDER / "run.log"
    with log.open("w") as output:
        command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "2", *names]
        done = subprocess.run(command, check=False, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"mutmut failed; {log} says why:\n" + log.read_text().replace("\r", "\n")[-2_000:])
    exit_codes: dict[str, int | None] = {}
    paths: dict[str, Path] = {}
    for meta in Path("mutants").rglob("*.meta"):
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        exit_codes |= codes
        paths |= dict.fromkeys(codes, meta.relative_to("mutants").with_suffix(""))
    outcomes = []
    for name in names:
        status = status_by_exit_code[exit_codes[name]]
        outcomes.append(Outcome(name, status, "" if status in KILLED else get_diff_for_mutant(name, path=paths[name])))
    return outcomes


def tell(outcomes: list[Outcome], floor: float) -> int:
    for outcome in outcomes:
        if not outcome.killed:
            print(f"\n{outcome.status}: {outcome.name}\n{outcome.diff}")
    killed = sum(outcome.killed for outcome in outcomes)
    share = 100 * killed / len(outcomes) if outcomes else 0.0
    print(f"\n{killed} of {len(outcomes)} mutants were noticed: {share:.1f} %; at least {floor:g} % have to be")
    return 0 if share >= floor else 1


if __name__ == "__main__":
    sys.exit(main())
