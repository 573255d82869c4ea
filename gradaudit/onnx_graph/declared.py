"""What a graph says of its inputs: types, sizes, and how large an index may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from onnx import GraphProto, NodeProto, ValueInfoProto

from gradaudit.onnx_graph.protos import initializers_of
from gradaudit.onnx_graph.tensors import DTYPES

# Operators that hand indices on as they are.
_PASSING = {"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Expand"}


@dataclass(frozen=True)
class Declared:
    """One input. ``sizes``: numbers, names of dimensions that vary ("" without one), or ``None``.

    ``dtype`` is ``None`` for what is no tensor of numbers; ``below`` is the number of rows of the
    table that the input's values pick from, where they do.
    """

    name: str
    dtype: torch.dtype | None
    sizes: tuple[int | str, ...] | None
    below: int | None = None

    def __str__(self) -> str:
        kind = "unknown" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        if self.sizes is None:
            return kind
        return f"{kind}[{','.join(str(size or '?') for size in self.sizes)}]"


def declared_inputs(graph: GraphProto) -> tuple[Declared, ...]:
    """The graph's inputs in order, without those that initializers fill."""
    tables = {name: tuple(each.dims) for name, each in initializers_of(graph).items()}
    rows = _rows(graph.node, tables)
    return tuple(
        Declared(each.name, *_declared(each), rows.get(each.name))
        for each in graph.input
        if each.name not in tables
    )


def _declared(value: ValueInfoProto) -> tuple[torch.dtype | None, tuple[int | str, ...] | None]:
    if value.type.WhichOneof("value") != "tensor_type":
        return None, None
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return DTYPES.get(kind.elem_type), None
    sizes = tuple(
        size.dim_value if size.HasField("dim_value") else size.dim_param for size in kind.shape.dim
    )
    return DTYPES.get(kind.elem_type), sizes


def _rows(nodes: Iterable[NodeProto], tables: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """By value: the fewest rows of a constant table that it, handed on, picks from."""
    rows: dict[str, int] = {}
    for node in reversed(list(nodes)):
        if node.op_type == "Gather" and node.input[0] in tables:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            sizes = tables[node.input[0]]
            found = [sizes[axis]] if -len(sizes) <= axis < len(sizes) else []
        elif node.op_type in _PASSING:
            found = [rows[output] for output in node.output if output in rows]
        else:
            continue
        for value in node.input[1:2] if node.op_type == "Gather" else node.input[:1]:
            rows[value] = min([*found, rows[value]] if value in rows else found, default=0)
    return {name: count for name, count in rows.items() if count > 0}
