"""TorchScript code, parsed and held against an exact list of statements and operators."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.next_steps import IF_YOURS
from gradaudit.subject.formats.torchscript.operators import listed
from gradaudit.telling import quoted

_LONGEST = 1 << 24  # bytes of code in a file
_DEEPEST = 120  # nested statements and expressions
_BUILTINS = frozenset(
    {"annotate", "unchecked_cast", "uninitialized", "int", "float", "bool", "str", "range",
     "getattr", "print"}
)  # fmt: skip
_HOME = re.compile(r"\w+(\.\w+)*", re.ASCII)
_ROOTS = ("torch", "ops", "__torch__", "CONSTANTS")
_BASES = ("Module", "NamedTuple", "")
_EXPRESSIONS = (
    ast.Constant | ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.List | ast.Tuple
    | ast.Dict | ast.UnaryOp | ast.USub | ast.Load | ast.Store | ast.keyword
)  # fmt: skip
_STATEMENTS = (
    ast.Assign | ast.AnnAssign | ast.Expr | ast.If | ast.While | ast.For | ast.Return | ast.Pass
    | ast.With | ast.withitem
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScriptFunction:
    """A function or method of the file."""

    name: str  # "__torch__.torch.nn.functional.relu"
    node: ast.FunctionDef

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptFunction:
        return self


@dataclass(frozen=True, eq=False)
class ScriptClass:
    """A class of the file."""

    name: str
    base: str
    methods: Mapping[str, ScriptFunction]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    constants: Mapping[str, Any]
    fields: tuple[str, ...]  # names with a type, in order

    @property
    def kind(self) -> str:
        """The class as its author named it."""
        return self.name.rpartition(".")[2]

    @property
    def place(self) -> str:
        """Its full name without what torch put in to tell classes of one name apart."""
        parts = self.name.split(".")[1:]
        return ".".join(part for part in parts if not part.startswith("___torch_mangle"))

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptClass:
        return self


@dataclass(frozen=True, eq=False)
class Code:
    """All that a file defines, by full name."""

    functions: Mapping[str, ScriptFunction]
    classes: Mapping[str, ScriptClass]
    version: int = 0  # of the operators it was written for

    def __deepcopy__(self, memo: dict[int, Any]) -> Code:
        return self


def parsed(sources: Mapping[str, bytes], version: int = 0) -> Code:
    """The code of a file's ``code/*.py``, by path below ``code/``.

    Raises ``RefusedFile`` naming what is beyond the list; ``UnreadableFile`` for no code at all.
    """
    if sum(map(len, sources.values())) > _LONGEST:
        raise RefusedFile(f"it holds more than {_LONGEST:,} bytes of code")
    functions: dict[str, ScriptFunction] = {}
    classes: dict[str, ScriptClass] = {}
    for path, text in sources.items():
        home = path.removesuffix(".py").replace("/", ".")
        if not _HOME.fullmatch(home):
            raise _beyond(f"a file {quoted(path)}")
        for node in _tree(path, text).body:
            name = f"{home}.{getattr(node, 'name', '')}"
            if isinstance(node, ast.FunctionDef):
                _check(node)
                functions[name] = ScriptFunction(name, node)
            elif isinstance(node, ast.ClassDef):
                classes[name] = _class(name, node)
            else:
                raise _beyond(type(node).__name__)
    return Code(functions, classes, version)


def operators_in(sources: Mapping[str, bytes]) -> dict[str, bool]:
    """Every operator that the code names, and whether it is listed. Raises ``UnreadableFile``."""
    found: dict[str, bool] = {}
    for path, text in sources.items():
        for node in ast.walk(_tree(path, text)):
            name = dotted(node.func) if isinstance(node, ast.Call) else ""
            if name.partition(".")[0] in ("torch", "ops"):
                found[name] = listed(name.removeprefix("torch."))
    return found


def dotted(node: ast.AST) -> str:
    """``torch.relu`` for the expression of that name under a root of its own; else empty."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in _ROOTS or not names:
        return ""
    return ".".join([node.id, *reversed(names)])


def _tree(path: str, text: bytes) -> ast.Module:
    try:
        return ast.parse(text.decode("utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnreadableFile(
            f"the code in {quoted(path)} cannot be read", found=type(error).__name__
        ) from None


def _class(name: str, node: ast.ClassDef) -> ScriptClass:
    base = node.bases[0].id if node.bases and isinstance(node.bases[0], ast.Name) else ""
    if base not in _BASES:
        raise _beyond(f"a class of {quoted(base)}")
    methods: dict[str, ScriptFunction] = {}
    listing: dict[str, tuple[str, ...]] = {}
    constants: dict[str, Any] = {}
    fields: list[str] = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            _check(item)
            methods[item.name] = ScriptFunction(f"{name}.{item.name}", item)
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            fields.append(item.target.id)
            if item.value is not None:
                constants[item.target.id] = _literal(item.value)
        elif isinstance(item, ast.Assign):
            for key, value in _listed(item):
                listing[key] = value
        elif not isinstance(item, ast.Pass):
            raise _beyond(type(item).__name__)
    return ScriptClass(
        name,
        base,
        methods,
        listing.get("__parameters__", ()),
        listing.get("__buffers__", ()),
        constants,
        tuple(fields),
    )


def _listed(item: ast.Assign) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``__parameters__ = [...]``; types of numbered members are passed over."""
    target = item.targets[0]
    if isinstance(target, ast.Name) and isinstance(item.value, ast.List):
        yield target.id, tuple(str(_literal(each)) for each in item.value.elts)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, RecursionError):
        return None


def _check(function: ast.FunctionDef) -> None:
    """Raise ``RefusedFile`` for anything in a function that is not on the list."""
    if function.decorator_list or function.args.vararg or function.args.kwarg:
        raise _beyond("a decorator or starred argument")
    left: list[tuple[ast.AST, int]] = [(item, 0) for item in function.body]
    left += [(item, 0) for item in (*function.args.defaults, *function.args.kw_defaults) if item]
    while left:
        node, depth = left.pop()
        if depth > _DEEPEST:
            raise RefusedFile(f"the code of {function.name} is nested too deeply")
        _check_node(node)
        left += [(child, depth + 1) for child in _inner(node)]


def _inner(node: ast.AST) -> Iterator[ast.AST]:
    """What of a node is evaluated: types are not."""
    if isinstance(node, ast.AnnAssign):
        yield from (each for each in (node.target, node.value) if each is not None)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        typed = node.func.id in ("annotate", "unchecked_cast", "uninitialized")
        yield from node.args[1:] if typed else node.args
        yield from (word.value for word in node.keywords)
    elif isinstance(node, ast.Attribute):
        if not dotted(node):
            yield node.value
    else:
        yield from ast.iter_child_nodes(node)


def _check_node(node: ast.AST) -> None:
    if isinstance(node, ast.Attribute):
        name = dotted(node)
        if name.partition(".")[0] in ("torch", "ops") and not listed(name.removeprefix("torch.")):
            raise RefusedFile(
                f"its code asks for {quoted(name)}, which is not on the list of what is run unseen",
                next_step=IF_YOURS,
            )
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        called = node.func.id
        if called not in _BUILTINS and not called.startswith("_"):
            raise _beyond(f"a call of {quoted(called)}")
    elif not isinstance(node, _EXPRESSIONS | _STATEMENTS):
        raise _beyond(type(node).__name__)


def _beyond(what: str) -> RefusedFile:
    return RefusedFile(
        f"its code has {what}, beyond what is run unseen",
        next_step=IF_YOURS,
    )
