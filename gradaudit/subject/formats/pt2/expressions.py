"""Symbolic sizes as text, which torch evaluates: only sums, products and the like of symbols."""

from __future__ import annotations

import ast
import math
import re

_LONGEST = 2000  # characters
_LARGEST = 1 << 63
_POWERS = 4  # raisings to a power in one expression
_EXPONENT = 16
_TERMS = 1000
_EXTREMES, _COMPARED = ("Max", "Min"), 16  # each is compared with each
SYMBOL = re.compile(r"[a-z]{1,4}\d{1,5}")
_NUMBERS = frozenset({"oo", "int_oo", "true", "false", "nan"})
_RAISING = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift", "RShift"})
# sympy's own, as its printers write them, and torch's of torch.utils._sympy.functions
_FUNCTIONS = _RAISING | frozenset(
    [
        "Add",
        "And",
        "CeilDiv",
        "CeilToInt",
        "CleanDiv",
        "Eq",
        "Equality",
        "FloatTrueDiv",
        "Float",
        "FloorDiv",
        "FloorToInt",
        "Ge",
        "GreaterThan",
        "Gt",
        "Identity",
        "IntTrueDiv",
        "Integer",
        "IsNonOverlappingAndDenseIndicator",
        "Le",
        "LessThan",
        "Lt",
        "Max",
        "Min",
        "Mod",
        "ModularIndexing",
        "Mul",
        "Ne",
        "Not",
        "Or",
        "PythonMod",
        "Rational",
        "RoundDecimal",
        "RoundToInt",
        "StrictGreaterThan",
        "StrictLessThan",
        "Symbol",
        "ToFloat",
        "TruncToFloat",
        "TruncToInt",
        "Unequality",
        "Where",
    ]
)
_OPERATORS = (
    ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod | ast.USub | ast.UAdd | ast.Not
    | ast.And | ast.Or | ast.Eq | ast.NotEq | ast.Lt | ast.LtE | ast.Gt | ast.GtE | ast.BitAnd
    | ast.BitOr | ast.Invert | ast.Load
)  # fmt: skip
_INNER = ast.Expression | ast.UnaryOp | ast.BoolOp | ast.Compare | ast.BinOp


def sound_expression(text: object) -> bool:
    """Whether ``text`` is an expression of symbols, numbers, and sympy's known functions only."""
    if not isinstance(text, str) or len(text) > _LONGEST or not text.isascii():
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = list(ast.walk(tree))
    raised = sum(_raises(node) for node in nodes)
    compared = sum(len(getattr(n, "args", ())) for n in nodes if _called(n) in _EXTREMES)
    if raised > _POWERS or compared > _COMPARED or not all(map(_sound, nodes)):
        return False
    try:
        return all(_terms(node) <= _TERMS for node in nodes if isinstance(node, ast.expr))
    except RecursionError:
        return False


def _called(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _terms(node: ast.expr) -> int:
    """Summands once all products are multiplied out, as sympy does; no more than needed."""
    name, parts = _called(node), list(getattr(node, "args", ()))
    if isinstance(node, ast.BinOp):
        name, parts = type(node.op).__name__, [node.left, node.right]
    elif isinstance(node, ast.UnaryOp):
        return _terms(node.operand)
    if name in ("Add", "Sub"):
        return sum(map(_terms, parts))
    if name in ("Mult", "Mul", "Div"):
        return min(math.prod(map(_terms, parts)), _TERMS + 1)
    if name in ("Pow", *_RAISING) and _terms(parts[0]) > 1:
        return int(min(_terms(parts[0]), _TERMS) ** _power(parts[1]))
    return 1


def _power(node: ast.expr) -> float:
    value = node.value if isinstance(node, ast.Constant) else _EXPONENT
    return value if isinstance(value, int | float) and 0 <= value <= _EXPONENT else _EXPONENT


def _raises(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _RAISING
    return isinstance(node, ast.Pow)


def _sound(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _small(node.right)
    if isinstance(node, ast.Constant):
        return _number(node.value) or _named(node.value)
    if isinstance(node, ast.Name):
        known = node.id in _NUMBERS or node.id in _FUNCTIONS
        return known or SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.keyword):
        return bool(re.fullmatch(r"[a-z_]{1,20}", node.arg or "")) and _fact(node.value)
    if isinstance(node, ast.Call):
        return _sound_call(node)
    return isinstance(node, _INNER | _OPERATORS | ast.Pow)


def _sound_call(node: ast.Call) -> bool:
    if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
        return False
    name = node.func.id
    if name == "Symbol":
        return len(node.args) == 1 and _named(getattr(node.args[0], "value", None))
    if node.keywords and not all(word.arg in ("evaluate", "precision") for word in node.keywords):
        return False
    return name not in _RAISING or (len(node.args) == 2 and _small(node.args[1]))


def _named(value: object) -> bool:
    """A symbol's name, or a number as ``Float('1.5')`` has it."""
    if not isinstance(value, str):
        return False
    return bool(SYMBOL.fullmatch(value) or re.fullmatch(r"-?[\d.]{1,25}(e[+-]?\d{1,3})?", value))


def _number(value: object) -> bool:
    return isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= _LARGEST)


def _fact(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (
        isinstance(node.value, bool) or (isinstance(node.value, int) and 0 < node.value < 100)
    )


def _small(node: ast.expr) -> bool:
    """An exponent that makes no giant of a number."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        return node.func.id in ("Integer", "ToFloat") and _small(node.args[0])
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, int | float) and abs(value) <= _EXPONENT
