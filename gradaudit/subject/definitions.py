"""The line that defines a class, a function, or a name of a module."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import sys
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from gradaudit.subject.source_files import of_user


class Definition(NamedTuple):
    """An absolute file and a line in it."""

    file: str
    line: int


def class_line(kind: type) -> Definition | None:
    """Where a class of the user's is defined; ``None`` for everybody else's, or without source."""
    try:
        home = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if not isinstance(home, str) or not of_user(home):
            return None
        line = inspect.findsource(kind)[1] + 1
    except Exception:  # no source, or not that of what was loaded, or a module's name that is none
        return None
    return Definition(home, _past_decorators(home, line))


def object_line(found: Any, module: ModuleType | None, name: str) -> Definition | None:
    """Where what a module calls ``name`` is defined: a function, a class, or an assignment."""
    while isinstance(found, functools.partial):
        found = found.func
    if isinstance(found, type):
        return class_line(found)
    found = found.__func__ if isinstance(found, MethodType) else found
    if isinstance(found, FunctionType):
        code = inspect.unwrap(found).__code__
        if of_user(code.co_filename):
            line = _past_decorators(code.co_filename, code.co_firstlineno)
            return Definition(code.co_filename, line)
    return _assigned(module, name.partition(".")[0])


def _past_decorators(file: str, line: int) -> int:
    """The line with ``def`` or ``class``, from the first line of the definition on."""
    lines = linecache.getlines(file)
    for number in range(line, min(line + 50, len(lines) + 1)):
        text = lines[number - 1].lstrip()
        if text.startswith(("def ", "async def ", "class ")):
            return number
        if not text.startswith("@") and number == line:
            return line  # a lambda, or what a decorator made
    return line


def _assigned(module: ModuleType | None, name: str) -> Definition | None:
    """The last statement of a module that gives ``name`` a value."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not of_user(file):
        return None
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return None
    given = [line for node in ast.walk(tree) for line in _gives(node, name)]
    return Definition(file, max(given, default=1))


def _gives(node: ast.AST, name: str) -> Iterator[int]:
    """The line of an assignment to ``name``."""
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        targets = [node.target]
    else:
        return
    yield from (each.lineno for each in targets if isinstance(each, ast.Name) and each.id == name)
