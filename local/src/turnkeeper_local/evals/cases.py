"""The files of cases: ``agents/NAME/evals/*.yaml``, datasets of pydantic-evals with the kit's evaluators."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError
from pydantic_evals.evaluators import EvaluationReason, EvaluatorContext
from pydantic_evals.evaluators import Evaluator as PydanticEvaluator

from turnkeeper.core.scoring import Evaluator
from turnkeeper.core.trajectory import Trajectory
from turnkeeper.evaluation import BUILT_IN, evaluate
from turnkeeper_local.evals.case import About, CaseSet, Inputs, reasons

#: Evaluators of a project's own, in a module of this name beside the cases.
OWN_EVALUATORS = "evaluators.py"
#: What every report and terminal can show: something, and neither control characters nor half a one.
_NAME = re.compile(r"(?=.*\S)[^\x00-\x1f\x7f\ud800-\udfff]+")


class CaseError(Exception):
    """A file of cases that cannot be used; says which, where, and what to do."""


@dataclass(frozen=True)
class Suite:
    """The cases of one file."""

    agent: str
    path: Path
    dataset: CaseSet


class _Kit(PydanticEvaluator[Inputs, Trajectory, About]):
    """One of the kit's evaluators, as pydantic-evals has them."""

    kind: type[Evaluator]

    def __post_init__(self) -> None:
        self._made()  # so that what it does not take is told when the file is read

    def _made(self) -> Evaluator:
        return self.kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    def evaluate(self, ctx: EvaluatorContext[Inputs, Trajectory, About]) -> Mapping[str, EvaluationReason]:
        return reasons(evaluate([self._made()], ctx.output))


class _Loader(yaml.SafeLoader):
    """Dates without quotes are texts, which is all that a model can send and that JSON has."""


_Loader.yaml_implicit_resolvers = {
    sign: [one for one in found if one[0] != "tag:yaml.org,2002:timestamp"]
    for sign, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@cache
def _wrapped(kind: type[Evaluator]) -> type[_Kit]:
    """With the same fields, whose types are written out: the module that reads them knows no names of another one. One
    that names what is there for type checkers only takes anything."""
    try:
        hints = typing.get_type_hints(kind)
    except NameError:
        hints = {}
    fields: list[Any] = []
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if not field.init:
            continue
        default = dataclasses.field(default=field.default, kw_only=field.kw_only)
        if field.default_factory is not dataclasses.MISSING:
            default = dataclasses.field(default_factory=field.default_factory, kw_only=field.kw_only)
        fields.append((field.name, hints.get(field.name, Any), default))
    own = {"kind": kind, "__doc__": kind.__doc__}
    return cast(type[_Kit], dataclasses.make_dataclass(kind.__name__, fields, bases=(_Kit,), namespace=own, repr=False))


# ---- reading ----


def suites(folders: Iterable[Path], only: str | None = None) -> Iterator[Suite]:
    """The suites of all agents below these folders of agents.

    Raises:
        CaseError: a file that cannot be used.
    """
    known: dict[tuple[str, str | None], Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("[!_.]*/evals/*.yaml")):
            agent = path.parent.parent.name
            if only not in (None, agent):
                continue
            suite = read(path, agent)
            for case in suite.dataset.cases:
                if (first := known.setdefault((agent, case.name), path)) != path:
                    raise CaseError(f"{path}: {first.name} has a case {case.name!r}, too: baselines go by the name")
            yield suite


def read(path: Path, agent: str) -> Suite:
    """Raises CaseError."""
    own = _own_evaluators(path.parent / OWN_EVALUATORS)
    try:
        wrapped = [*map(_wrapped, (*BUILT_IN.values(), *own)), *_asking()]
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe one
        dataset = CaseSet.from_dict(document, wrapped, default_name=path.stem)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit, of what an evaluator does when it is made
        # The library's own error quotes the path, and whole files; what pydantic said stands behind it.
        cause = error.__cause__ if isinstance(error.__cause__, ValidationError) else error
        raise CaseError(f"{path}: {_told(cause)}") from error
    named = [_NAME.fullmatch(case.name or "") for case in dataset.cases]
    unnamed = [number for number, name in enumerate(named, start=1) if not name]
    if unnamed:
        raise CaseError(f"{path}: case {unnamed[0]} has no name of one line: reports and baselines go by it")
    for case in dataset.cases:
        case.inputs = _with_files(case.inputs, path)
    return Suite(agent, path, dataset)


def _with_files(inputs: Inputs, path: Path) -> Inputs:
    """With results that stand in files beside the cases."""

    def read_in(answer: Any) -> Any:
        if answer.result_file is None:
            return answer
        try:
            # As it is, line breaks included: it is what the tool answered.
            text = (path.parent / answer.result_file).read_bytes().decode()
        except (OSError, ValueError) as error:
            raise CaseError(f"{path}: result_file {answer.result_file}: {error}") from error
        try:
            result = json.loads(text) if answer.result_file.endswith(".json") else text
        except ValueError as error:
            raise CaseError(f"{path}: result_file {answer.result_file}: {error}") from error
        return answer.model_copy(update={"result": result})

    tools = {
        name: read_in(faked).model_copy(update={"answers": list(map(read_in, faked.answers))})
        for name, faked in inputs.tools.items()
    }
    return inputs.model_copy(update={"tools": tools})


def schema() -> str:
    """The JSON Schema of a file of cases."""
    wrapped = [*map(_wrapped, BUILT_IN.values()), *_asking()]
    return json.dumps(CaseSet.model_json_schema_with_evaluators(wrapped), indent=2) + "\n"


def _asking() -> list[type[PydanticEvaluator[Inputs, Trajectory, About]]]:
    """Evaluators that ask a model: no functions of what was recorded alone."""
    from turnkeeper_local.evals.judged import Judged

    return [Judged]


def _own_evaluators(path: Path) -> list[type[Evaluator]]:
    if not path.exists():
        return []
    spec = importlib.util.spec_from_file_location(f"turnkeeper_evaluators_{path.parent.parent.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where annotations are texts, a dataclass looks its module up.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: no cases that pass because none was run
        raise CaseError(f"{path}: {type(error).__name__}: {error}") from error
    return [
        kind
        for kind in dict.fromkeys(each for each in vars(module).values() if isinstance(each, type))
        if dataclasses.is_dataclass(kind) and issubclass(kind, Evaluator)
        and kind.__module__ == module.__name__
    ]  # fmt: skip


def _told(error: BaseException) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(map(_told, error.exceptions))
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors(include_url=False)[:5]
        )
    return str(error)
