"""Whether a node is called as the operator's documentation has it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn

from onnx import AttributeProto, NodeProto, defs

from gradaudit.errors import UnreadableFile
from gradaudit.onnx_graph.attributes import subgraphs_of
from gradaudit.onnx_graph.protos import Body, called
from gradaudit.onnx_graph.registry import plain
from gradaudit.telling import quoted

_FIELDS = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    AttributeProto.TYPE_PROTOS: "type_protos",
}
# The others may be left out for a zero or an empty list.
_NEEDED = frozenset({"t", "g", "sparse_tensor", "tp"})
# By operator: how many inputs its subgraphs have (None: as many as the node), and how many results
# on top of the node's.
_BODIES = {"If": (0, 0), "Loop": (None, 1), "Scan": (None, 0), "SequenceMap": (None, 0)}


def kind_name(kind: int) -> str:
    """An attribute's type in ONNX's words."""
    return str(AttributeProto.AttributeType.Name(kind))


def check_attribute(attribute: AttributeProto, where: str) -> None:
    """Raise ``UnreadableFile`` unless the attribute holds a value of its type and nothing else."""
    label = f"attribute {quoted(attribute.name)} of {where}"
    field = _FIELDS.get(attribute.type)
    if field is None:
        raise UnreadableFile(f"{label} has no type")
    used = {each.name for each, _ in attribute.ListFields()} & set(_FIELDS.values())
    if attribute.ref_attr_name:
        fits = not used
    else:
        fits = used == {field} or (not used and field not in _NEEDED)
    if not fits:
        raise UnreadableFile(
            f"{label} does not hold what it says",
            expected=f"one {kind_name(attribute.type)}",
            found=", ".join(sorted(used)) or "nothing",
        )


def check_signature(node: NodeProto, body: Body) -> None:
    """Raise ``UnreadableFile`` where the operator's documentation has it otherwise.

    Operators that ONNX does not document, and attributes it does not, are left to
    :func:`gradaudit.onnx_graph.supported.check_supported`.
    """
    where = called(node)
    names = [each.name for each in node.attribute]
    if len(names) > len(set(names)):
        raise UnreadableFile(f"{where} has an attribute twice", found=quoted(names))
    for attribute in node.attribute:
        check_attribute(attribute, where)
    if not any(node.output):
        raise UnreadableFile(f"{where} ({quoted(node.op_type)}) makes nothing")
    domain = plain(node.domain)
    if domain == "" and domain not in body.versions:
        raise UnreadableFile(
            f"{where} is of ONNX's own operators, of which {body.where} imports no version",
            next_step="export the model again: its opset_import is incomplete",
        )
    schema = schema_of(node.op_type, body.versions.get(domain, 1), domain)
    if schema is not None and not schema.deprecated:
        _check_values(node, schema, where)
        _check_kinds(node, schema, where)
    if node.op_type == "Constant" and not domain:
        _check_constant(node, where)
    if node.op_type in _BODIES and not domain:
        _check_bodies(node, body.versions[domain], where)


@lru_cache(maxsize=4096)
def schema_of(operator: str, version: int, domain: str) -> Any:
    """ONNX's documentation of the operator in that version, if there is any."""
    try:
        return defs.get_schema(operator, version, domain)
    except defs.SchemaError:
        return None


def is_needed(node: NodeProto, attribute: str, body: Body) -> bool:
    """Whether a node of ONNX's operators is nothing without the attribute."""
    domain = plain(node.domain)
    if node.op_type == "Constant" and not domain:
        return True
    schema = schema_of(node.op_type, body.versions.get(domain, 1), domain)
    return schema is not None and _required(schema, attribute)


def _required(schema: Any, attribute: str) -> bool:
    known = schema.attributes.get(attribute)
    return known is not None and bool(known.required)


def _check_values(node: NodeProto, schema: Any, where: str) -> None:
    given = len(node.input)
    while given and not node.input[given - 1]:
        given -= 1
    if given > schema.max_input:
        _refuse(node, where, f"at most {schema.max_input} inputs", f"{given}")
    for i, formal in enumerate(schema.inputs):
        single = formal.option == defs.OpSchema.FormalParameterOption.Single
        if single and (i >= given or not node.input[i]):
            _refuse(node, where, f"an input {formal.name}", "none")
    if not schema.min_output <= len(node.output) <= schema.max_output:
        wanted = f"{schema.min_output} to {schema.max_output} outputs"
        _refuse(node, where, wanted, f"{len(node.output)}")


def _check_kinds(node: NodeProto, schema: Any, where: str) -> None:
    known = schema.attributes
    for attribute in node.attribute:
        if attribute.name in known:
            wanted = known[attribute.name].type.value
            if attribute.type != wanted:
                label = f"attribute {attribute.name} as "
                _refuse(node, where, label + kind_name(wanted), kind_name(attribute.type))
    given = {each.name for each in node.attribute}
    for name in known:
        if _required(schema, name) and name not in given:
            _refuse(node, where, f"an attribute {name}", "none")


def _check_constant(node: NodeProto, where: str) -> None:
    kinds = schema_of("Constant", defs.onnx_opset_version(), "").attributes
    names = [each.name for each in node.attribute]
    if len(names) != 1 or names[0] not in kinds:
        _refuse(node, where, "one value", quoted(names) if names else "none")
    if node.attribute[0].type != kinds[names[0]].type.value:
        _refuse(node, where, kind_name(kinds[names[0]].type.value), quoted(names))
    if len(node.output) != 1:
        _refuse(node, where, "one output", f"{len(node.output)}")


def _check_bodies(node: NodeProto, version: int, where: str) -> None:
    takes, more = _BODIES[node.op_type]
    if takes is None:
        takes = len(node.input) - (node.op_type == "Scan" and version < 9)
    for attribute, graph in subgraphs_of(node).items():
        if len(graph.input) != takes:
            expected = f"{takes} inputs of its {attribute}"
            _refuse(node, where, expected, f"{len(graph.input)}")
        if len(graph.output) < len(node.output) + more:
            expected = f"{len(node.output) + more} outputs of its {attribute}"
            _refuse(node, where, expected, f"{len(graph.output)}")


def _refuse(node: NodeProto, where: str, expected: str, found: str) -> NoReturn:
    raise UnreadableFile(
        f"{where} does not call {node.op_type} as its documentation has it",
        expected=expected,
        found=found,
    )
