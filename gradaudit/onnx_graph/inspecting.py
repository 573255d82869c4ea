"""What an ONNX file declares, without building anything of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from onnx import ModelProto, SparseTensorProto, TensorProto

from gradaudit.errors import UnreadableFile
from gradaudit.onnx_graph.loading import checked_model
from gradaudit.onnx_graph.protos import (
    bodies_of,
    functions_of,
    initializers_of,
    nodes_within,
    tensors_of,
)
from gradaudit.onnx_graph.registry import plain
from gradaudit.onnx_graph.stored import declared_bytes
from gradaudit.onnx_graph.supported import check_supported
from gradaudit.records import Contents, TensorEntry
from gradaudit.telling import quoted

_MOST_KINDS = 12  # of operators, in the note


def inspect_onnx(path: Path) -> Contents:
    """Tensors and operators of the graph. Raises ``UnreadableFile`` for a damaged one."""
    with checked_model(path) as (model, _):
        return Contents(
            source=str(path),
            kind="onnx",
            size=path.stat().st_size,
            tensors=tuple(_entry(name, each) for name, each in _tensors(model)),
            globals=(),
            trust="none",
            why="a graph of operators, which gradaudit computes itself",
            notes=tuple(_notes(model)),
        )


def _tensors(model: ModelProto) -> Iterator[tuple[str, TensorProto | SparseTensorProto]]:
    yield from initializers_of(model.graph).items()
    for body in bodies_of(model, functions_of(model).values()):
        yield from tensors_of(body.nodes)


def _entry(name: str, proto: TensorProto | SparseTensorProto) -> TensorEntry:
    dense = proto.values if isinstance(proto, SparseTensorProto) else proto
    dtype = TensorProto.DataType.Name(dense.data_type).lower()
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    return TensorEntry(name, dtype, tuple(proto.dims), declared_bytes(proto))


def _notes(model: ModelProto) -> Iterator[str]:
    versions = ", ".join(f"{plain(o.domain) or 'ai.onnx'} {o.version}" for o in model.opset_import)
    yield f"opsets: {versions}"
    nodes = [
        node
        for body in bodies_of(model, functions_of(model).values())
        for node, _ in nodes_within(body.nodes)
    ]
    kinds = Counter(node.op_type for node in nodes).most_common()
    shown = ", ".join(f"{count} {quoted(kind)[1:-1]}" for kind, count in kinds[:_MOST_KINDS])
    more = f" and {len(kinds) - _MOST_KINDS} kinds more" if len(kinds) > _MOST_KINDS else ""
    yield f"{len(nodes):,} nodes: {shown}{more}"
    try:
        check_supported(model)
    except UnreadableFile as error:
        yield str(error)
