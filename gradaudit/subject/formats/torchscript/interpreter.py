"""Running the checked code of a TorchScript file, statement by statement."""

from __future__ import annotations

import ast
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gradaudit.subject.formats.torchscript.operators import Raised, called
from gradaudit.subject.formats.torchscript.source import (
    Code,
    ScriptClass,
    ScriptFunction,
    dotted,
)

_CASTS: Mapping[str, Callable[[Any], Any]] = {"int": int, "float": float, "bool": bool, "str": str}
_NUMBERS = {"inf": math.inf, "nan": math.nan}
_MOST_TURNS = 200_000  # of loops, seconds of work
_MOST_CALLS = 60  # functions within functions


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class Interpreter(ABC):
    """Runs functions of ``code``; what modules are is left to those who derive from it."""

    def __init__(self, code: Code, constants: Mapping[str, Any]) -> None:
        self.code, self.constants = code, constants
        self._depth = self._turns = 0

    def run(self, function: ScriptFunction, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The function's value. Raises ``Raised`` for what the code raises or cannot do."""
        if self._depth >= _MOST_CALLS:
            raise Raised(f"the code calls itself in {function.name}")
        self._depth += 1
        gradients = torch.is_grad_enabled()
        try:
            self._block(function.node.body, self._bound(function, args, kwargs))
        except _Return as done:
            return done.value
        finally:
            self._depth -= 1
            if not self._depth:
                torch.set_grad_enabled(gradients)
        return None

    def _bound(
        self, function: ScriptFunction, args: list[Any], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        taken = function.node.args
        names = [each.arg for each in (*taken.args, *taken.kwonlyargs)]
        defaults = [*taken.defaults, *taken.kw_defaults]
        values = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
        bound = {name: self.value(node, {}) for name, node in values.items() if node is not None}
        bound |= {**dict(zip(names, args, strict=False)), **kwargs}
        missing = [name for name in names if name not in bound]
        if missing or len(args) > len(names) or set(kwargs) - set(names):
            raise TypeError(f"{function.name} takes {', '.join(names)}")
        return bound

    def _block(self, body: list[ast.stmt], names: dict[str, Any]) -> None:
        for node in body:
            self._statement(node, names)

    def _statement(self, node: ast.stmt, names: dict[str, Any]) -> None:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr):
            self._simple(node, names)
        elif isinstance(node, ast.If):
            chosen = self.truth(self.value(node.test, names), node)
            self._block(node.body if chosen else node.orelse, names)
        elif isinstance(node, ast.While):
            while self.truth(self.value(node.test, names), node):
                self._turn()
                self._block(node.body, names)
        elif isinstance(node, ast.For):
            for item in self.value(node.iter, names):
                self._turn()
                self._assign(node.target, item, names)
                self._block(node.body, names)
        elif isinstance(node, ast.Return):
            raise _Return(None if node.value is None else self.value(node.value, names))
        elif isinstance(node, ast.With):
            self._with(node, names)

    def _turn(self) -> None:
        self._turns += 1
        if self._turns > _MOST_TURNS:
            raise Raised(f"the code loops more than {_MOST_TURNS:,} times in one call")

    def _with(self, node: ast.With, names: dict[str, Any]) -> None:
        entered = []
        try:
            for item in node.items:
                owner = self.value(item.context_expr, names)
                self.method(owner, "__enter__", [], {})
                entered.append(owner)
            self._block(node.body, names)
        finally:
            for owner in reversed(entered):
                self.method(owner, "__exit__", [None, None, None], {})

    def _simple(self, node: ast.Assign | ast.AnnAssign | ast.Expr, names: dict[str, Any]) -> None:
        if isinstance(node, ast.Assign):
            value = self.value(node.value, names)
            for target in node.targets:
                self._assign(target, value, names)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self._assign(node.target, self.value(node.value, names), names)
        elif isinstance(node, ast.Expr):
            self.value(node.value, names)

    def _assign(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            values = list(self.unpacked(value, len(target.elts)))
            if len(values) != len(target.elts):
                raise Raised(f"{len(values)} values for {len(target.elts)} names")
            for each, item in zip(target.elts, values, strict=True):
                self._assign(each, item, names)
        elif isinstance(target, ast.Attribute):
            self.set_attribute(self.value(target.value, names), target.attr, value)
        elif isinstance(target, ast.Subscript):
            self.value(target.value, names)[self.value(target.slice, names)] = value
        else:
            raise Raised(f"an assignment to {type(target).__name__}")

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        """What an expression is worth."""
        kind = type(node).__name__
        reader: Callable[[Any, dict[str, Any]], Any] = getattr(self, f"_{kind.lower()}", _nothing)
        return reader(node, names)

    def _constant(self, node: ast.Constant, _names: dict[str, Any]) -> Any:
        return node.value

    def _name(self, node: ast.Name, names: dict[str, Any]) -> Any:
        if node.id in names:
            return names[node.id]
        if node.id in _NUMBERS:
            return _NUMBERS[node.id]
        raise Raised(f"the code uses {node.id!r} before it is set")

    def _list(self, node: ast.List, names: dict[str, Any]) -> list[Any]:
        return [self.value(each, names) for each in node.elts]

    def _tuple(self, node: ast.Tuple, names: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(self.value(each, names) for each in node.elts)

    def _dict(self, node: ast.Dict, names: dict[str, Any]) -> dict[Any, Any]:
        pairs = zip(node.keys, node.values, strict=True)
        return {self.value(k, names): self.value(v, names) for k, v in pairs if k is not None}

    def _unaryop(self, node: ast.UnaryOp, names: dict[str, Any]) -> Any:
        return self.operator("neg", [self.value(node.operand, names)], {})

    def _subscript(self, node: ast.Subscript, names: dict[str, Any]) -> Any:
        return self.item(self.value(node.value, names), self.value(node.slice, names))

    def _attribute(self, node: ast.Attribute, names: dict[str, Any]) -> Any:
        name = dotted(node)
        if name.startswith("CONSTANTS."):
            return self.constants[name.removeprefix("CONSTANTS.")]
        if name:
            return self._named(name)
        return self.attribute(self.value(node.value, names), node.attr)

    def _named(self, name: str) -> Any:
        found = self.code.functions.get(name) or self.code.classes.get(name)
        if found is None:
            raise Raised(f"the file defines no {name}")
        return found

    def _call(self, node: ast.Call, names: dict[str, Any]) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id not in names:
            return self._builtin(node.func.id, node, names)
        args = [self.value(each, names) for each in node.args]
        kwargs = {word.arg or "": self.value(word.value, names) for word in node.keywords}
        name = dotted(node.func)
        if name.partition(".")[0] in ("torch", "ops"):
            return self.operator(name.removeprefix("torch."), args, kwargs)
        if name.endswith(".__new__"):
            return self.new(self._named(name.removesuffix(".__new__")))
        if not name and isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value, names)
            return self.method(owner, node.func.attr, args, kwargs)
        found = self._named(name) if name else self.value(node.func, names)
        if isinstance(found, ScriptFunction):
            return self.run(found, args, kwargs)
        if isinstance(found, ScriptClass) and found.base == "NamedTuple":
            return tuple(args)
        raise Raised(f"a call of {type(found).__name__}")

    def _builtin(self, name: str, node: ast.Call, names: dict[str, Any]) -> Any:
        if name == "uninitialized":
            return None
        if name in ("annotate", "unchecked_cast"):
            value = self.value(node.args[1], names)
            kind = node.args[0].id if isinstance(node.args[0], ast.Name) else ""
            numeric = kind in _CASTS and isinstance(value, Tensor)
            return _CASTS[kind](value) if numeric else value
        args = [self.value(each, names) for each in node.args]
        if name == "getattr":
            return self.attribute(args[0], str(args[1]))
        if name == "range":
            return self.range(args)
        if name == "print":
            return None  # nobody reads it here
        return self.cast(name, args[0])

    def cast(self, name: str, value: Any) -> Any:
        """``int(value)`` and the like."""
        if name not in _CASTS:
            raise Raised(f"a call of {name}")
        return _CASTS[name](value)

    def range(self, args: list[Any]) -> Any:
        """What a loop counts through."""
        return range(*args)

    def item(self, value: Any, key: Any) -> Any:
        """``value[key]``."""
        return value[key]

    def unpacked(self, value: Any, count: int) -> Any:
        """The parts of a tuple or list."""
        return value

    def truth(self, value: Any, node: ast.If | ast.While) -> bool:
        """Which way a branch goes."""
        return bool(value)

    def operator(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The outcome of one of torch's operators."""
        return called(name, args, kwargs)

    @abstractmethod
    def attribute(self, owner: Any, name: str) -> Any:
        """``owner.name``, of a module or a named tuple."""

    @abstractmethod
    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        """``owner.name = value``."""

    def new(self, cls: Any) -> Any:
        """An object of a class of the file's that is no module."""
        raise Raised(f"an object of {cls.name}")

    @abstractmethod
    def method(self, owner: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """``owner.name(*args)``; a module's ``forward`` through its hooks."""


def _nothing(node: ast.expr, _names: dict[str, Any]) -> Any:
    raise Raised(f"the code has {type(node).__name__}")
