"""What a function may come to call, told from the types: a call graph over what is deployed, made by mypy.

An edge leads from where something is named to what it is: a function, a class (with what runs when it is made, and the
methods that Python calls by itself), a variable of a module (with what its value names). What is named through a port
leads to each class that fits, through a base to each class that is derived. So more can be reached than is ever called,
and nothing is missed, but for what is looked up by a name that is only text, or has no type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mypy.build import BuildSource, build
from mypy.find_sources import create_source_list
from mypy.nodes import (
    AssignmentStmt,
    CallExpr,
    ClassDef,
    Decorator,
    Expression,
    FuncDef,
    MemberExpr,
    MypyFile,
    NameExpr,
    Node,
    OverloadedFuncDef,
    RefExpr,
    StrExpr,
    SymbolNode,
    TypeInfo,
    Var,
)
from mypy.options import Options
from mypy.state import state
from mypy.subtypes import is_subtype
from mypy.types import (
    CallableType,
    Instance,
    Overloaded,
    ProperType,
    TupleType,
    Type,
    TypeType,
    TypeVarType,
    UnionType,
    get_proper_type,
)
from mypy.typevars import fill_typevars

from tests.support.repository import REPOSITORY

DEPLOYED = ("shared/src/turnkeeper", "functions", "fargate_worker")
#: Not deployed with a purpose: fakes for tests.
_FAKES = "turnkeeper.testing"
_LEAVES = ("functions.", "fargate_worker.")
_PREFIXES = ("turnkeeper.", *_LEAVES)


@dataclass
class Definition:
    """What a definition names, which classes it calls, and the texts that stand in it."""

    names: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)


class CallGraph:
    def __init__(self, files: Iterable[MypyFile], types: dict[Expression, Type]) -> None:
        self.definitions: dict[str, Definition] = defaultdict(Definition)
        self.infos: dict[str, TypeInfo] = {}
        self.methods: set[str] = set()
        self._reached: dict[tuple[str, frozenset[str]], frozenset[str]] = {}
        self._fitting: dict[str, list[TypeInfo]] = {}
        for file in files:
            _Reader(self, types).read(file)
        self._classes = [info for name, info in self.infos.items() if not name.startswith(_FAKES)]

    def reached_from(self, entry: str, never: frozenset[str] = frozenset()) -> frozenset[str]:
        """Full names of all that can be come to, and not through what is `never` called. What stands in another leaf
        is not in the entry's process."""
        if (entry, never) not in self._reached:
            self._reached[entry, never] = frozenset(self._walk(entry, never))
        return self._reached[entry, never]

    def _walk(self, entry: str, never: frozenset[str]) -> set[str]:
        leaf = entry.rsplit(".", 2)[0]
        assert entry in self.definitions, entry
        seen = set(never)
        ahead = [entry]
        while ahead:
            name = ahead.pop()
            if name in seen or name.startswith(_FAKES) or (name.startswith(_LEAVES) and not name.startswith(leaf)):
                continue
            seen.add(name)
            ahead += [*self.definitions.get(name, Definition()).names, *self._implementations(name)]
        return seen - never

    def _implementations(self, name: str) -> Iterator[str]:
        owner, _, method = name.rpartition(".")
        info = self.infos.get(owner)
        if info is None:
            return
        if owner not in self._fitting:
            others = [other for other in self._classes if other is not info and not other.is_protocol]
            self._fitting[owner] = [other for other in others if _fits(other, info)]
        for other in self._fitting[owner]:
            found = other.get(method)
            if found is not None and found.node is not None:
                yield _full_name(found.node, other, method)


def _fits(info: TypeInfo, other: TypeInfo) -> bool:
    """Whether a value of the first class can stand where the second is asked for."""
    if not other.is_protocol:
        return other in info.mro
    with state.strict_optional_set(True):
        return is_subtype(fill_typevars(info), fill_typevars(other))


class _Reader:
    """Notes what each definition of a module names."""

    def __init__(self, graph: CallGraph, types: dict[Expression, Type]) -> None:
        self._graph = graph
        self._types = types

    def read(self, file: MypyFile) -> None:
        for statement in file.defs:
            self._read(statement, file.fullname, top=True)

    def _read(self, node: Node, inside: str, *, top: bool = False) -> None:
        here = self._graph.definitions[inside]
        match node:
            case ClassDef():
                inside = node.fullname
                self._class(node)
            case FuncDef() if "." in node.fullname:  # one in a function is a part of that one
                inside = node.fullname
                self._graph.methods.add(inside)
            case AssignmentStmt(lvalues=[NameExpr(node=Var(fullname=str(name))), *_]) if top and "." in name:
                inside = name
            case NameExpr() | MemberExpr(node=SymbolNode()):
                if "." in node.fullname:
                    here.names.add(node.fullname)
            case MemberExpr() if (base := self._types.get(node.expr)) is not None:
                here.names |= set(_members(get_proper_type(base), node.name))
            case CallExpr(callee=RefExpr(node=TypeInfo(fullname=made))):
                here.made.add(made)
            case StrExpr():
                here.texts.add(node.value)
        _ = self._graph.definitions[inside]
        for child in _children(node):
            self._read(child, inside)

    def _class(self, node: ClassDef) -> None:
        """A class that is named may be made: its initializer runs, and what Python calls by itself."""
        self._graph.infos[node.fullname] = node.info
        for info in node.info.mro:
            special = {f"{info.fullname}.{name}" for name in info.names if name.startswith("__")}
            self._graph.definitions[node.fullname].names |= special


#: Attributes of a node that lead to what it means, not to its parts.
_MEANINGS = frozenset(
    {
        *("node", "info", "type", "unanalyzed_type", "analyzed", "expanded"),
        *("original_def", "original_decorators", "var", "def_var", "variable"),
    }
)


def _children(node: Node) -> Iterator[Node]:
    kind: Any = type(node)  # mypy takes classes of its nodes for nothing that has a hash.
    for name in _parts(kind):
        yield from _nodes(getattr(node, name, None))


@cache
def _parts(kind: type[Node]) -> list[str]:
    # mypy's own visitors are compiled, and not to be derived from.
    return [
        name
        for base in kind.__mro__
        for name in getattr(base, "__mypyc_attrs__", ())
        if name not in _MEANINGS and name in vars(base)
    ]


def _nodes(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item)


def _members(base: ProperType, name: str) -> Iterator[str]:
    """What `name` of a value of this type is."""
    match base:
        case Instance():
            found = base.type.get(name)
            if found is not None and found.node is not None:
                yield _full_name(found.node, base.type, name)
        case UnionType():
            for item in base.items:
                yield from _members(get_proper_type(item), name)
        case TypeType():
            yield from _members(base.item, name)
        case CallableType() if base.is_type_obj():
            yield from _members(get_proper_type(base.ret_type), name)
        case Overloaded():
            yield from _members(base.items[0], name)
        case TupleType():
            yield from _members(base.partial_fallback, name)
        case TypeVarType():
            yield from _members(get_proper_type(base.upper_bound), name)


def _full_name(node: SymbolNode | Node, owner: TypeInfo, name: str) -> str:
    if isinstance(node, FuncDef | OverloadedFuncDef | Decorator | Var) and "." in node.fullname:
        return node.fullname
    return f"{owner.fullname}.{name}"


@cache
def call_graph() -> CallGraph:
    """Of everything that is deployed. Takes mypy a while, though it passes over what libraries are made of."""
    options = Options()
    options.python_version = (3, 11)
    options.export_types = True
    options.preserve_asts = True
    options.incremental = False
    options.namespace_packages = options.explicit_package_bases = True
    options.mypy_path = [str(REPOSITORY / "shared" / "src"), str(REPOSITORY)]
    options.ignore_missing_imports = True
    options.follow_imports = "skip"
    sources: list[BuildSource] = create_source_list([str(REPOSITORY / folder) for folder in DEPLOYED], options)
    result = build(sources, options)
    assert not [error for error in result.errors if "syntax" in error]
    files = [file for name, file in result.files.items() if f"{name}.".startswith(_PREFIXES)]
    return CallGraph(files, result.types)
