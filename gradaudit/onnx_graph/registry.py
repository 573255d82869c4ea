"""The operators: one short function each, found by domain, name and opset version.

A function's positional parameters are the operator's inputs, ``None`` where an optional one is left
out; its keyword-only parameters are the attributes, with the documented defaults. Three keywords
are no attributes: ``opset``, the version that the model imports of the operator's domain,
``wanted``, which of the outputs somebody reads, and ``outputs``, how many have a name. It returns
one value, or a tuple of several.
A value is a tensor, a list (an ONNX sequence), ``None`` (an empty optional), or a numpy array of
objects (strings). Subgraphs are given as :class:`gradaudit.onnx_graph.node.Body`: callables that
return a tuple, and have the ``output_types`` that the file declares.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

STANDARD = ("", "ai.onnx")
_CONTEXT = ("opset", "wanted", "outputs")

Function = Callable[..., Any]


@dataclass(frozen=True)
class Operator:
    """One implementation, for versions from ``since`` on to the next one registered."""

    domain: str
    name: str
    since: int
    function: Function
    attributes: frozenset[str]
    context: tuple[str, ...]  # the keywords that are no attributes, of those the function takes
    most_inputs: int | None  # None: any number
    as_stored: bool  # takes unsigned integers as torch stores them, not widened to int64
    gradient: str  # how its gradient departs from the derivative, in words; "" where it does not


@dataclass
class _Table:
    rows: dict[tuple[str, str], list[Operator]] = field(default_factory=dict)


_table = _Table()


def operator(
    *names: str, domain: str = "", since: int = 1, as_stored: bool = False, gradient: str = ""
) -> Callable[[Function], Function]:
    """Register a function as the implementation of these operators from opset ``since`` on."""

    def register(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        starred = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        inputs = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        for name in names:
            made = Operator(
                domain,
                name,
                since,
                function,
                frozenset(keywords) - set(_CONTEXT),
                tuple(word for word in _CONTEXT if word in keywords),
                None if starred else len(inputs),
                as_stored,
                gradient,
            )
            versions = _table.rows.setdefault((domain, name), [])
            versions.append(made)
            versions.sort(key=lambda each: each.since)
        return function

    return register


def plain(domain: str) -> str:
    """A domain's name, the standard one's as the empty string."""
    return "" if domain in STANDARD else domain


def find_operator(domain: str, name: str, version: int) -> Operator | None:
    """The implementation that holds in opset ``version`` of ``domain``."""
    key = (plain(domain), name)
    versions = [each for each in operators().get(key, ()) if each.since <= version]
    return versions[-1] if versions else None


@cache
def operators() -> Mapping[tuple[str, str], list[Operator]]:
    """All implementations by (domain, name), the oldest first."""
    package = import_module("gradaudit.onnx_graph.operators")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return _table.rows
