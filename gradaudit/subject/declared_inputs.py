"""Inputs that a model declares, as an ONNX graph does: what to draw, and whether data fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.errors import BadData
from gradaudit.onnx_graph.declared import Declared
from gradaudit.subject.drawn import LARGEST, Drawn
from gradaudit.subject.opened import Batch

_ROWS = 8  # of a batch whose size is not fixed
_SIDES = (32, 64, 224, 16, 8)  # tried for all other sizes that vary

_BYTES = {torch.uint8: (256, 0), torch.int8: (128, -128)}  # below, and at least


def declared_by(model: nn.Module) -> tuple[Declared, ...]:
    """What the model says of its inputs; empty where it says nothing."""
    found = getattr(model, "declared", ())
    sound = isinstance(found, tuple) and all(isinstance(each, Declared) for each in found)
    return found if sound else ()


def fixed_rows(model: nn.Module) -> int | None:
    """The batch size that a graph was exported for, where it takes no other."""
    firsts = {each.sizes[0] for each in declared_by(model) if each.sizes}
    numbers = {size for size in firsts if isinstance(size, int)}
    return numbers.pop() if len(numbers) == 1 == len(firsts) else None


def declared_guesses(model: nn.Module) -> Iterator[tuple[Drawn, ...]]:
    """Samples that fit what is declared, with sizes that vary at several values in turn."""
    declared = declared_by(model)
    if not declared or any(each.dtype is None or each.sizes is None for each in declared):
        return
    tried = set()
    for side in _SIDES:
        drawn = tuple(_drawn(each, side, declared[0]) for each in declared)
        small = all(0 < torch.Size(each.shape).numel() <= LARGEST for each in drawn)
        if small and drawn not in tried:
            tried.add(drawn)
            yield drawn


def _drawn(each: Declared, side: int, first: Declared) -> Drawn:
    assert each.dtype is not None
    assert each.sizes is not None
    rows = first.sizes[0] if first.sizes else ""
    shape = []
    for axis, size in enumerate(each.sizes):
        leading = axis == 0 and (size == rows or not size)
        shape.append(size if isinstance(size, int) else _ROWS if leading else side)
    if each.dtype.is_floating_point or each.dtype.is_complex:
        return Drawn(each.dtype, tuple(shape))
    if each.below is None and "mask" in each.name.lower():
        return Drawn(each.dtype, tuple(shape), 2, least=1)  # nothing masked
    if each.below is None and each.dtype in _BYTES:  # as images have them
        return Drawn(each.dtype, tuple(shape), *_BYTES[each.dtype])
    return Drawn(each.dtype, tuple(shape), each.below or 2)


def fitted(model: nn.Module, batches: tuple[Batch, ...]) -> tuple[Batch, ...]:
    """The batches in the types the model declares, unless it declares none.

    Raises ``BadData`` for an input that is missing or unknown, or of another kind or shape.
    """
    declared = declared_by(model)
    if not declared:
        return batches
    whole = fixed_rows(model) is not None
    return tuple(
        replace(batch, inputs=_fitted(declared, batch.inputs), whole=whole) for batch in batches
    )


def _fitted(
    declared: tuple[Declared, ...], inputs: tuple[Any, ...] | Mapping[str, Any]
) -> tuple[Any, ...] | Mapping[str, Any]:
    names = ", ".join(repr(each.name) for each in declared)
    if isinstance(inputs, Mapping):
        given, known = dict(inputs), {each.name for each in declared}
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            raise BadData(f"the graph has no input {unknown!r}", expected=names)
    else:
        if len(inputs) > len(declared):
            raise BadData(f"the sample has {len(inputs)} inputs", expected=f"{names} of the graph")
        given = {each.name: value for each, value in zip(declared, inputs, strict=False)}
    for each in declared:
        if each.name not in given:
            raise BadData(f"the sample lacks the graph's input {each.name!r}", expected=names)
        given[each.name] = _checked(each, given[each.name])
    return given if isinstance(inputs, Mapping) else tuple(given[each.name] for each in declared)


def _checked(declared: Declared, value: Any) -> Any:
    if not isinstance(value, Tensor) or declared.dtype is None:
        return value
    kind = str(value.dtype).removeprefix("torch.")
    found = f"{kind}[{','.join(map(str, value.shape))}]"
    if _family(value.dtype) != _family(declared.dtype):
        wanted = str(declared.dtype).removeprefix("torch.")
        raise BadData(
            f"the input {declared.name!r} does not fit the graph",
            expected=str(declared),
            found=found,
            next_step=f"convert the data to {wanted}",
        )
    sizes = declared.sizes
    if sizes is not None:
        pairs = zip(sizes, value.shape, strict=False)
        if len(sizes) != value.dim() or any(isinstance(s, int) and s != n for s, n in pairs):
            raise BadData(
                f"the input {declared.name!r} does not fit the graph",
                expected=str(declared),
                found=found,
                next_step=_other_size(declared, value),
            )
    return value.to(declared.dtype)


def _other_size(declared: Declared, value: Tensor) -> str:
    """What to do about a batch of the wrong size; empty where something else is wrong."""
    sizes = declared.sizes or ()
    same = len(sizes) == value.dim() and all(
        not isinstance(size, int) or size == n
        for size, n in zip(sizes[1:], value.shape[1:], strict=True)
    )
    if not same:
        return ""
    return f"give batches of {sizes[0]}, or export with a first dimension that may vary"


def _family(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "bool"
    return "complex" if dtype.is_complex else "float" if dtype.is_floating_point else "integer"
