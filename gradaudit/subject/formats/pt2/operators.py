"""Which operators a graph of ``torch.export`` may name."""

from __future__ import annotations

import re

import torch

from gradaudit.subject.formats.programs.aten_names import NAMES

# What symbolic sizes are computed with; exactly those that torch.export itself writes.
_SIZES = frozenset(
    {
        f"_operator.{name}"
        for name in [
            "eq",
            "ne",
            "le",
            "ge",
            "lt",
            "gt",
            "neg",
            "pos",
            "mul",
            "add",
            "sub",
            "floordiv",
            "mod",
            "pow",
            "truediv",
            "and_",
            "or_",
            "lshift",
            "rshift",
            "getitem",
        ]
    }
    | {"math.trunc"}
    | {f"torch.sym_{name}" for name in ["not", "int", "float", "ite", "max", "min", "sqrt"]}
)
_NESTED = frozenset(
    {"torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.higher_order.cond"}
)
_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
_PRIMS = frozenset({"torch.ops.prims.convert_element_type.default"})


def listed_operator(target: object) -> bool:
    """Whether ``target`` is a sound operator: on the exact list, and known to this torch."""
    if not isinstance(target, str):
        return False
    if target in _SIZES or target in _NESTED or target in _PRIMS:
        return True
    match = _ATEN.fullmatch(target)
    return match is not None and match[1] in NAMES and _registered(match[1], match[2])


def _registered(name: str, overload: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and overload in packet.overloads()
