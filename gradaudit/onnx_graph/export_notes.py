"""What a reader of an audit has to know of the file: what an export hides, merges and replaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from gradaudit.onnx_graph.node import Node
from gradaudit.telling import listed

_NORM, _DROPOUT = "BatchNormalization", "Dropout"


@dataclass(frozen=True)
class ExportNotes:
    """Sentences for the report; and what training does that the graph does not, with the reason."""

    told: tuple[str, ...] = ()
    hidden: str = ""


def export_notes(root: nn.Module) -> ExportNotes:
    """What there is to say of a graph that has just been built."""
    nodes = [module for module in root.modules() if isinstance(module, Node)]
    hidden = _hidden(nodes)
    told = (hidden, *_shared(root, nodes), *_settings(root), *_departures(nodes))
    return ExportNotes(tuple(filter(None, told)), hidden)


def _hidden(nodes: Sequence[Node]) -> str:
    """Empty where batch norm or dropout trains in the graph."""
    norms = [node for node in nodes if node.call.operator.name == _NORM]
    if any(_trains(node) for node in nodes):
        return ""
    if norms:
        what = f"{len(norms)} batch norm{'s use' if len(norms) > 1 else ' uses'} stored statistics"
        return (
            f"INFERENCE EXPORT: {what} and dropout is gone, so what they do in training is not "
            "measured. Export the model in training mode to see it."
        )
    return (
        "Nothing in the graph trains differently from how it predicts: if the model has dropout, "
        "the export left it out, and if it has batch norm, that is folded into the weights before "
        "it. What they do in training is not measured."
    )


def _trains(node: Node) -> bool:
    keywords, kind = node.call.keywords, node.call.operator.name
    if kind == _NORM:
        if "training_mode" in node.call.operator.attributes:
            return bool(keywords.get("training_mode", 0))
        return bool(keywords.get("outputs", 1) > 1)
    return kind == _DROPOUT and len(node.inputs) > 2 and node.inputs[2] is not None


def _shared(root: nn.Module, nodes: Sequence[Node]) -> Iterator[str]:
    users: dict[int, list[str]] = {}
    trained = [(name, p) for name, p in root.named_parameters() if p.requires_grad]
    weights = {id(p): name for name, p in trained if p.dim() >= 2}
    for node in nodes:
        for parameter in {id(p) for p in node.parameters(recurse=False)}:
            users.setdefault(parameter, []).append(node.call.name)
    for parameter, name in weights.items():
        found = users.get(parameter, [])
        if len(found) > 1:
            yield (
                f"`{name}` is read by {len(found)} nodes ({listed(found)}): tied in the model, or "
                "equal when it was exported, for exporters keep equal tensors once. Their "
                "gradients add up here."
            )


def _settings(root: nn.Module) -> Iterator[str]:
    fixed = [name for name, p in root.named_parameters() if not p.requires_grad]
    if fixed:
        plural = "initializers are" if len(fixed) > 1 else "initializer is"
        yield (
            f"{len(fixed)} floating {plural} not trained here (running statistics, exponents, "
            f"bounds, numbers from the code, or frozen by you): {listed(fixed, 20)}."
        )


def _departures(nodes: Sequence[Node]) -> Iterator[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        operator = node.call.operator
        if operator.gradient:
            found.setdefault((operator.name, operator.gradient), []).append(node.call.name)
    for (name, how), where in found.items():
        yield f"The gradient of {name} is {how} ({listed(where)})."
