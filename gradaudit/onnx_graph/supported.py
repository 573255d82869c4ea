"""What a model asks for and gradaudit does not have: all of it, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, defs

from gradaudit.errors import UnreadableFile
from gradaudit.onnx_graph.attributes import READABLE
from gradaudit.onnx_graph.calls import reached
from gradaudit.onnx_graph.protos import (
    Tensor,
    bodies_of,
    called,
    functions_of,
    initializers_of,
    key_of,
    nodes_within,
    tensors_in,
    tensors_of,
    versions_of,
)
from gradaudit.onnx_graph.registry import find_operator, plain
from gradaudit.onnx_graph.signatures import kind_name
from gradaudit.onnx_graph.tensors import DTYPES
from gradaudit.telling import listed, quoted

_MOST_LACKS = 8  # named, and of each one place, or three if there are few
# Before this opset an operator that has changed since is refused, unless it has a function of its
# own, or is one of these, whose changes were additions.
_FIRST_MODERN = 7
_SAME_BEFORE = {"AveragePool", "Dropout"}
_CODE = "name the code it was exported from instead: file.py:name"
_OLD = "convert it: onnx.version_converter.convert_version(model, 21)"
_CARRIED = {*DTYPES, TensorProto.STRING}


def check_supported(model: ModelProto) -> None:
    """Raise ``UnreadableFile`` naming every operator, with its nodes, that cannot be run.

    So for types of tensors. Functions that nothing calls are not looked at.
    """
    missing: dict[str, list[str]] = {}
    for lack, place in (*_node_lacks(model), *_tensor_lacks(model)):
        missing.setdefault(lack, []).append(place)
    if missing:
        shown = 3 if len(missing) <= 3 else 1
        old = versions_of(model.opset_import).get("", _FIRST_MODERN) < _FIRST_MODERN
        rows = [f"{lack} ({listed(found, shown)})" for lack, found in missing.items()]
        raise UnreadableFile(
            "it uses what gradaudit cannot run",
            found=listed(rows, _MOST_LACKS),
            next_step=_OLD if old else _CODE,
        )


def _node_lacks(model: ModelProto) -> Iterator[tuple[str, str]]:
    """What is lacking, and the node that needs it."""
    functions = functions_of(model)
    for body in bodies_of(model, reached(model)):
        for node, _ in nodes_within(body.nodes):
            if key_of(node) not in functions:
                for lack in _lacks(node, body.versions):
                    yield lack, called(node)


def _lacks(node: NodeProto, versions: Mapping[str, int]) -> Iterator[str]:
    domain = plain(node.domain)
    label = quoted(f"{domain}::{node.op_type}" if domain else node.op_type)[1:-1]
    if node.op_type == "Constant" and not domain:
        return
    version = versions.get(domain)
    operator = find_operator(domain, node.op_type, version or 1)
    if operator is None or _changed_since(node.op_type, domain, version or 1):
        yield f"operator {label}" + (f" of opset {version}" if version else "")
        return
    for each in node.attribute:
        if each.name not in operator.attributes:
            yield f"attribute {quoted(each.name)} of {label}"
        elif each.type not in READABLE:
            yield f"an attribute of {label} of type {kind_name(each.type)}"
    if operator.most_inputs is not None and len(node.input) > operator.most_inputs:
        yield f"{len(node.input)} inputs of {label}"


def _changed_since(operator: str, domain: str, version: int) -> bool:
    """Whether an old version of the operator is not the one that is implemented."""
    if domain or version >= _FIRST_MODERN or operator in _SAME_BEFORE:
        return False
    try:
        then = defs.get_schema(operator, version, "").since_version
        later = defs.get_schema(operator, _FIRST_MODERN, "").since_version
    except defs.SchemaError:
        return False
    same = find_operator("", operator, version) is find_operator("", operator, _FIRST_MODERN)
    return then != later and same


def _tensor_lacks(model: ModelProto) -> Iterator[tuple[str, str]]:
    """Types that torch does not carry, and the tensor that is of one."""
    for label, tensor in _tensors(model):
        proto = tensor.values if isinstance(tensor, SparseTensorProto) else tensor
        if proto.data_type not in _CARRIED:
            yield f"tensors of type {TensorProto.DataType.Name(proto.data_type)}", label


def _tensors(model: ModelProto) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in initializers_of(model.graph).items():
        yield f"initializer {quoted(name)}", tensor
    functions = reached(model)
    for body in bodies_of(model, functions):
        yield from tensors_of(body.nodes)
    for each in functions:
        for default in each.attribute_proto:
            yield from tensors_in(default, f"function {quoted(each.name)}")
