"""What a model asks for and gradaudit does not have: all of it, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import ModelProto, NodeProto

from gradaudit.errors import UnreadableFile
from gradaudit.onnx_graph.attributes import subgraphs_of
from gradaudit.onnx_graph.registry import STANDARD, find_operator
from gradaudit.telling import listed

_MOST_NODES = 3  # named per operator


def check_supported(model: ModelProto, name: str) -> None:
    """Raise ``UnreadableFile`` naming every operator, with its nodes, that cannot be run."""
    missing: dict[str, list[str]] = {}
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    opsets = _versions(model.opset_import)
    for node, versions in _nodes(model, opsets):
        if (node.domain, node.op_type, node.overload) not in functions:
            lack = _lack(node, versions)
            if lack:
                missing.setdefault(lack, []).append(
                    node.name or f"the one that makes {node.output[0]!r}"
                )
    if missing:
        rows = [f"{lack} (node {listed(nodes, _MOST_NODES)})" for lack, nodes in missing.items()]
        raise UnreadableFile(
            f"{name} uses what gradaudit cannot run",
            found="; ".join(rows),
            next_step="name the code it was exported from instead: file.py:name",
        )


def _versions(imports: object) -> dict[str, int]:
    return {("" if o.domain in STANDARD else o.domain): o.version for o in imports}  # type: ignore[attr-defined]


def _lack(node: NodeProto, versions: Mapping[str, int]) -> str:
    domain = "" if node.domain in STANDARD else node.domain
    label = f"{domain}::{node.op_type}" if domain else node.op_type
    version = versions.get(domain)
    if node.op_type == "Constant" and not domain:
        return ""
    operator = find_operator(domain, node.op_type, version or 1)
    if operator is None:
        return f"operator {label}" + (f" of opset {version}" if version else "")
    graphs = set(subgraphs_of(node))
    unknown = {a.name for a in node.attribute} - operator.attributes - graphs
    if unknown:
        return f"attribute {sorted(unknown)[0]} of {label}"
    if operator.most_inputs is not None and len(node.input) > operator.most_inputs:
        return f"{len(node.input)} inputs of {label}"
    return ""


def _nodes(
    model: ModelProto, opsets: Mapping[str, int]
) -> Iterator[tuple[NodeProto, Mapping[str, int]]]:
    for node in _within(model.graph.node):
        yield node, opsets
    for function in model.functions:
        versions = {**opsets, **_versions(function.opset_import)}
        for node in _within(function.node):
            yield node, versions


def _within(nodes: object) -> Iterator[NodeProto]:
    for node in nodes:  # type: ignore[attr-defined]
        yield node
        for graph in subgraphs_of(node).values():
            yield from _within(graph.node)
