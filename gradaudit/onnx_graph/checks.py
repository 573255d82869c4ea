"""Whether a ModelProto hangs together; nothing is built before it does.

ONNX's own checker is no help here: it wants types and shapes that models in the wild leave out, and
its messages are of many lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, defs

from gradaudit.errors import UnreadableFile
from gradaudit.onnx_graph.attributes import subgraphs_of
from gradaudit.onnx_graph.calls import check_calls, check_depth
from gradaudit.onnx_graph.protos import (
    Tensor,
    bodies_of,
    called,
    initializers_of,
    nodes_within,
    reads,
    tensors_in,
    tensors_of,
)
from gradaudit.onnx_graph.registry import plain
from gradaudit.onnx_graph.signatures import check_attribute, check_signature
from gradaudit.onnx_graph.stored import Stored
from gradaudit.telling import listed, quoted

_EXPORT = "export or copy the model again"
_ORDER = "ONNX wants nodes in the order of their values: sort them, or export the model again"

Scopes = tuple[set[str], ...]  # names that can be read, of the outermost graph first


def check_model(model: ModelProto, stored: Stored) -> None:
    """Raise ``UnreadableFile`` or ``RefusedFile`` for a model that cannot be built.

    ``stored`` checks its tensors. What is sound and merely not supported passes.
    """
    _check_header(model)
    bodies = list(bodies_of(model, model.functions))
    for body in bodies:
        check_depth(body.nodes, body.where)
    _check_texts(model)
    _check_tensors(model, stored)
    for body in bodies:
        for node, _ in nodes_within(body.nodes):
            check_signature(node, body)
    check_calls(model)
    _check_graph(model.graph, "the graph", ())
    _distinct([each.name for each in model.graph.output], "output of the graph")
    for function in model.functions:
        where = f"function {quoted(function.name)}"
        scopes = (set(_distinct(function.input, f"input of {where}")),)
        _check_nodes(function.node, scopes)
        _check_outputs(function.output, scopes, where)


def _check_header(model: ModelProto) -> None:
    if not model.HasField("graph"):
        raise UnreadableFile(
            "it holds no graph", expected="an ONNX model", next_step="it may be cut: copy it again"
        )
    if not 0 < model.ir_version <= onnx.IR_VERSION:
        raise UnreadableFile(
            f"its IR version is {model.ir_version}",
            expected=f"1 to {onnx.IR_VERSION}, which the onnx installed here knows",
            next_step="update onnx, or export the model with an older IR version",
        )
    if not model.opset_import:
        raise UnreadableFile(
            "it does not say which opset it is of", expected="an opset_import", next_step=_EXPORT
        )
    _check_opsets(model.opset_import, "the model")
    for function in model.functions:
        _check_opsets(function.opset_import, f"function {quoted(function.name)}")
    if not model.graph.output:
        raise UnreadableFile("its graph has no outputs", next_step=_EXPORT)


def _check_opsets(imports: Sequence[onnx.OperatorSetIdProto], where: str) -> None:
    domains = [plain(each.domain) for each in imports]
    if len(set(domains)) < len(domains):
        raise UnreadableFile(f"{where} imports a domain twice", found=quoted(sorted(domains)))
    for domain, each in zip(domains, imports, strict=True):
        newest = defs.onnx_opset_version() if not domain else 2**31 - 1
        if each.version > newest:
            raise UnreadableFile(
                f"{where} is of opset {each.version}",
                expected=f"at most {newest}, the last that the onnx installed here knows",
                next_step="update onnx, or export the model with an older opset",
            )
        if each.version < 1:
            raise UnreadableFile(
                f"{where} is of opset {each.version}", expected="1 or newer", next_step=_EXPORT
            )


def _check_texts(model: ModelProto) -> None:
    """Names that are no UTF-8 come out of protobuf as bytes."""
    for names in _texts(model):
        for name in names:
            if not isinstance(name, str):
                raise UnreadableFile(
                    f"the name {quoted(name)} is no text", expected="UTF-8", next_step=_EXPORT
                )


def _texts(model: ModelProto) -> Iterable[Iterable[str | bytes]]:
    yield (each.domain for each in model.opset_import)
    yield _graph_texts(model.graph)
    for function in model.functions:
        yield (function.domain, function.name, function.overload)
        yield (*function.input, *function.output, *function.attribute)
        yield (each.name for each in function.attribute_proto)
        yield (each.domain for each in function.opset_import)
    for body in bodies_of(model, model.functions):
        for node, _ in nodes_within(body.nodes):
            yield (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
            for attribute in node.attribute:
                yield (attribute.name, attribute.ref_attr_name)
            for graph in subgraphs_of(node).values():
                yield _graph_texts(graph)


def _graph_texts(graph: GraphProto) -> list[str]:
    values = [each.name for each in (*graph.input, *graph.output)]
    return [*values, *initializers_of(graph)]


def _check_tensors(model: ModelProto, stored: Stored) -> None:
    def check(label: str, tensor: Tensor) -> None:
        if isinstance(tensor, SparseTensorProto):
            stored.check_sparse(tensor, label)
        else:
            stored.check(tensor, label)

    for name, tensor in initializers_of(model.graph).items():
        check(f"initializer {quoted(name)}", tensor)
    for body in bodies_of(model, model.functions):
        for label, tensor in tensors_of(body.nodes):
            check(label, tensor)
    for function in model.functions:
        for default in function.attribute_proto:
            where = f"function {quoted(function.name)}"
            check_attribute(default, where)
            for label, tensor in tensors_in(default, where):
                check(label, tensor)


def _distinct(names: Sequence[str], what: str) -> Sequence[str]:
    """The names, if they are some and each is there once."""
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            raise UnreadableFile(
                f"an {what} " + (f"is there twice: {quoted(name)}" if name else "has no name"),
                next_step=_EXPORT,
            )
        seen.add(name)
    return names


def _check_graph(graph: GraphProto, where: str, outer: Scopes) -> None:
    inputs = _distinct([each.name for each in graph.input], f"input of {where}")
    stored = [each.name for each in graph.initializer]
    stored += [each.values.name for each in graph.sparse_initializer]
    _distinct(stored, f"initializer of {where}")
    scopes = (*outer, {*inputs, *stored})
    _check_nodes(graph.node, scopes)
    _check_outputs([each.name for each in graph.output], scopes, where)


def _check_outputs(names: Iterable[str], scopes: Scopes, where: str) -> None:
    for name in names:
        if not _known(name, scopes):
            raise UnreadableFile(
                f"nothing makes {quoted(name)}, an output of {where}", next_step=_EXPORT
            )


def _known(name: str, scopes: Scopes) -> bool:
    return any(name in scope for scope in scopes)


def _check_nodes(nodes: Sequence[NodeProto], scopes: Scopes) -> None:
    for node in nodes:
        for name in node.input:
            if name and not _known(name, scopes):
                raise _unmade(name, node, nodes)
        for attribute, graph in subgraphs_of(node).items():
            try:
                _check_graph(graph, f"{quoted(attribute)} of {called(node)}", scopes)
            except _Unmade as missing:
                # it may be this graph that makes the value, and too late
                raise _unmade(missing.value, node, nodes, missing) from None
        for name in filter(None, node.output):
            if _known(name, scopes):
                raise UnreadableFile(
                    f"{called(node)} makes {quoted(name)}, which is there already",
                    expected="a name of its own for each value",
                    next_step=_EXPORT,
                )
            scopes[-1].add(name)


class _Unmade(UnreadableFile):
    """A node reads what nobody has made, in a graph whose outer ones may make it later."""

    value = ""


def _unmade(
    name: str, node: NodeProto, nodes: Sequence[NodeProto], inner: _Unmade | None = None
) -> UnreadableFile:
    makers = [i for i, each in enumerate(nodes) if name in each.output]
    if not makers:
        error = inner or _Unmade(
            f"{called(node)} reads {quoted(name)}, which nothing makes", next_step=_EXPORT
        )
        error.value = name
        return error
    cycle = _cycle(nodes)
    if cycle:
        names = listed([called(each) for each in cycle])
        return UnreadableFile(f"nodes wait for each other: {names}", next_step=_EXPORT)
    return UnreadableFile(
        f"{called(node)} reads {quoted(name)} before {called(nodes[makers[0]])} has run",
        next_step=_ORDER,
    )


def _cycle(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Nodes that wait for each other in a circle; none if the nodes are merely out of order."""
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waits = [{maker[name] for name in reads(node) if name in maker} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for i, makers in enumerate(waits):
        for each in makers:
            readers[each].append(i)
    left = [len(makers) for makers in waits]
    ready = [i for i, count in enumerate(left) if not count]
    for i in ready:  # grows while it is gone through
        for reader in readers[i]:
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    stuck = next((i for i, count in enumerate(left) if count), None)
    path: dict[int, None] = {}
    while stuck is not None and stuck not in path:
        path[stuck] = None
        stuck = next(i for i in waits[stuck] if left[i])
    numbers = list(path)
    return [nodes[i] for i in numbers[numbers.index(stuck) :]] if stuck is not None else []
