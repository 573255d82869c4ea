"""From a checked ModelProto to a :class:`Graph`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto
from torch import nn

from gradaudit.onnx_graph.attributes import attributes_of, bound, sparse, subgraphs_of
from gradaudit.onnx_graph.graph import Graph, Step, scope_class
from gradaudit.onnx_graph.layers import Asked, Layer, Parameters, layer_of
from gradaudit.onnx_graph.names import Tree
from gradaudit.onnx_graph.node import Call, Node, node_class, same_types
from gradaudit.onnx_graph.registry import STANDARD, find_operator
from gradaudit.onnx_graph.scopes import Run, Scope, class_names, runs, scopes_of
from gradaudit.onnx_graph.tensors import declared_type

Reader = Callable[[TensorProto], Any]


@dataclass(frozen=True)
class Held:
    """A value that lies in the tree of modules: a parameter, a buffer, or what no tensor is."""

    home: nn.Module
    leaf: str

    @property
    def parameter(self) -> nn.Parameter | None:
        """The parameter, if it is one."""
        return self.home._parameters.get(self.leaf)


@dataclass(frozen=True)
class _Builder:
    """What the graphs of one model share."""

    tree: Tree
    read: Reader
    frozen: Collection[str]
    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str, str], FunctionProto]
    names: dict[nn.Parameter, str] = field(default_factory=dict)  # as the module has them

    def hold(self, name: str, value: Any, *, constant: bool = False) -> Held:
        """Place a value under ``name``; a constant is not in the state dict."""
        if not isinstance(value, torch.Tensor):
            keeper = nn.Module()
            vars(keeper)["value"] = value
            return Held(keeper, "value")
        if value.is_floating_point() and not constant:
            parameter = nn.Parameter(value, requires_grad=name not in self.frozen)
            home, leaf, self.names[parameter] = self.tree.add_parameter(name, parameter)
            return Held(home, leaf)
        return Held(*self.tree.add_buffer(name, value, persistent=not constant))


def build(model: ModelProto, read: Reader, frozen: Collection[str] = ()) -> Graph:
    """The model's graph; ``read`` gives the value of an initializer.

    Floating initializers become parameters, of which those in ``frozen`` require no gradient; all
    others buffers. The model must have passed :mod:`gradaudit.onnx_graph.checks`.
    """
    graph = model.graph
    own = {each.name for each in graph.initializer}
    root = Graph(
        [each.name for each in graph.input if each.name not in own],
        [each.name for each in graph.output],
    )
    builder = _Builder(
        Tree(root),
        read,
        frozenset(frozen),
        _versions(model.opset_import),
        {(f.domain, f.name, f.overload): f for f in model.functions},
    )
    _fill(root, graph.node, builder, _initializers(graph, builder), "")
    return root


def _versions(imports: Iterable[Any]) -> dict[str, int]:
    return {_domain(each.domain): each.version for each in imports}


def _domain(domain: str) -> str:
    return "" if domain in STANDARD else domain


def _initializers(graph: GraphProto, builder: _Builder) -> dict[str, Held]:
    held = {each.name: builder.hold(each.name, builder.read(each)) for each in graph.initializer}
    for each in graph.sparse_initializer:
        held[each.values.name] = builder.hold(each.values.name, sparse(each))
    return held


def _fill(
    graph: Graph,
    nodes: Sequence[NodeProto],
    builder: _Builder,
    visible: dict[str, Held],
    prefix: str,
) -> None:
    """Give ``graph`` its steps; ``visible`` are the values held in the tree."""
    steps, scopes = [], []
    for number, node in enumerate(nodes):
        name = prefix + (node.name or f"{node.op_type}_{number}")
        if node.op_type == "Constant" and _domain(node.domain) == "":
            value = _constant(*next(iter(attributes_of(node).items())))
            visible[node.output[0]] = builder.hold(node.output[0], value, constant=True)
        else:
            steps.append(_step(node, name, builder, visible))
            for made in node.output:  # a subgraph may make a value named as one around it
                visible.pop(made, None)
            scopes.append(scopes_of(node))
    found = runs(scopes)
    caller = _Caller(steps, class_names(found), builder, visible)
    _finish(graph, caller.called(found, set(graph.output_names)), visible)


def _finish(graph: Graph, steps: Sequence[Step], visible: Mapping[str, Held]) -> None:
    graph.set_steps(_with_ends(steps, graph.output_names))
    read = {n for step in steps for n in _reads(step)} | set(graph.output_names)
    graph.set_held({n: (visible[n].home, visible[n].leaf) for n in sorted(read & visible.keys())})


def _reads(step: Step) -> tuple[str, ...]:
    return (*step.inputs, *(step.captures or ()))


class _Caller:
    """Makes the steps of one module call one step."""

    def __init__(
        self,
        steps: Sequence[Step],
        kinds: Mapping[int, str],
        builder: _Builder,
        visible: Mapping[str, Held],
    ) -> None:
        self._steps, self._kinds, self._builder, self._visible = steps, kinds, builder, visible
        self._last = {name: i for i, step in enumerate(steps) for name in _reads(step)}

    def called(self, found: Sequence[Run], outputs: Collection[str]) -> list[Step]:
        """A step for each run; ``outputs`` are read behind them all."""
        return [
            self._steps[run.node] if run.scope is None else self._call(run, run.scope, outputs)
            for run in found
        ]

    def _call(self, run: Run, scope: Scope, outputs: Collection[str]) -> Step:
        nodes = run.nodes()
        own = [self._steps[i] for i in nodes]
        made = [name for step in own for name in step.outputs if name]
        results = [n for n in made if n in outputs or self._last.get(n, -1) > nodes[-1]]
        known = self._visible.keys() | set(made)
        given = [n for n in dict.fromkeys(n for s in own for n in _reads(s)) if n not in known]
        inner = scope_class(self._kinds[id(run)])(given, results)
        _finish(inner, self.called(run.inside, set(results)), self._visible)
        path = self._builder.tree.add_module(scope.path, inner)
        return Step(inner, path, tuple(given), tuple(results), None, ())


def _constant(attribute: str, value: Any) -> Any:
    """What a Constant node holds, by the one attribute it has."""
    if attribute in ("value", "sparse_value"):
        return value
    if attribute.startswith("value_string"):
        return np.array(value, dtype=object)
    floating = attribute.startswith("value_float")
    return torch.tensor(value, dtype=torch.float32 if floating else torch.int64)


def _step(node: NodeProto, name: str, builder: _Builder, visible: dict[str, Held]) -> Step:
    function = builder.functions.get((node.domain, node.op_type, node.overload))
    if function is not None:
        return _function(node, function, name, builder, visible)
    version = builder.opsets.get(_domain(node.domain), 1)
    operator = find_operator(node.domain, node.op_type, version)
    assert operator is not None, f"{node.op_type} was not checked"
    attributes = attributes_of(node)
    context = {"opset": version, "wanted": tuple(bool(each) for each in node.output)}
    keywords = {k: v for k, v in attributes.items() if k in operator.attributes}
    keywords |= {word: context[word] for word in operator.context}
    call = Call(operator, keywords, name, same_types(node.op_type, _domain(node.domain), version))
    parameters = [_parameter(value, visible) for value in node.input]
    absent = frozenset(i for i, value in enumerate(node.input) if not value)
    layer = layer_of(_domain(node.domain), node.op_type, Asked(keywords, parameters, absent))
    layer = layer or Layer(nn.Module)
    bindings = _bindings(node, parameters, layer.leaves)
    attributes = dict(layer.attributes)
    attributes |= {leaf: None for leaf in layer.leaves if leaf and leaf not in bindings}
    module = node_class(node.op_type, layer.base)(call, bindings, attributes)
    path = builder.tree.add_module(name, module)
    _borrow(module, node, builder, visible)
    captures = _subgraphs(module, node, path, builder, visible)
    return Step(module, name, _given(node.input, module), tuple(node.output), captures, ())


def _parameter(value: str, visible: Mapping[str, Held]) -> nn.Parameter | None:
    held = visible.get(value)
    return None if held is None else held.parameter


def _bindings(
    node: NodeProto, parameters: Parameters, leaves: Sequence[str]
) -> list[str | None]:
    """By input: the attribute under which a parameter is bound, "" if given, None if absent."""
    bindings: list[str | None] = []
    for i, (value, parameter) in enumerate(zip(node.input, parameters, strict=True)):
        leaf = (leaves[i] if i < len(leaves) else "") or f"input_{i}"
        bindings.append(None if not value else "" if parameter is None else leaf)
    return bindings


def _borrow(
    module: Node, node: NodeProto, builder: _Builder, visible: Mapping[str, Held]
) -> None:
    for value, leaf in zip(node.input, module.inputs, strict=True):
        parameter = visible[value].parameter if leaf else None
        if leaf and parameter is not None:
            module.borrow(leaf, builder.names[parameter], parameter)


def _given(inputs: Sequence[str], module: Node) -> tuple[str, ...]:
    return tuple(n for n, bound in zip(inputs, module.inputs, strict=True) if bound == "")


def _subgraphs(
    module: Node, node: NodeProto, path: str, builder: _Builder, visible: dict[str, Held]
) -> tuple[str, ...] | None:
    """Add the node's subgraphs to its module; what they read from around, if there are any."""
    captures: dict[str, None] = {}
    protos = subgraphs_of(node)
    for attribute, proto in protos.items():
        inner = Graph(
            [each.name for each in proto.input],
            [each.name for each in proto.output],
            [declared_type(each) for each in proto.output],
        )
        module.add_module(attribute, inner)
        module.bodies += (attribute,)
        within = {**visible, **_initializers(proto, builder)}
        for each in inner.input_names:
            within.pop(each, None)
        _fill(inner, proto.node, builder, within, f"{path}.{attribute}.")
        captures |= {n: None for n in free_names(proto) if n not in within}
    return tuple(captures) if protos else None


def free_names(graph: GraphProto) -> list[str]:
    """Values that a subgraph reads and does not make, in order of their first use."""
    made = {each.name for each in (*graph.input, *graph.initializer)}
    made |= {each.values.name for each in graph.sparse_initializer}
    free: dict[str, None] = {}
    for node in graph.node:
        inner = [n for g in subgraphs_of(node).values() for n in free_names(g)]
        free |= {name: None for name in (*node.input, *inner) if name and name not in made}
        made.update(node.output)
    free |= {each.name: None for each in graph.output if each.name not in made}
    return list(free)


def _function(
    node: NodeProto,
    function: FunctionProto,
    name: str,
    builder: _Builder,
    visible: dict[str, Held],
) -> Step:
    """A call of a function that the model brings along: its body, as a graph of its own."""
    actual = dict(zip(function.input, (*node.input, *[""] * len(function.input)), strict=False))
    given = {formal: value for formal, value in actual.items() if value and value not in visible}
    inner = Graph(list(given), list(function.output))
    path = builder.tree.add_module(name, inner)
    within = {f: visible[a] for f, a in actual.items() if a in visible}
    within |= {f: builder.hold(f, None) for f, a in actual.items() if not a}
    attributes = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
    nodes = [bound(each, attributes) for each in function.node]
    own = replace(builder, opsets={**builder.opsets, **_versions(function.opset_import)})
    _fill(inner, nodes, own, within, f"{path}.")
    outputs = tuple(node.output) + ("",) * (len(function.output) - len(node.output))
    return Step(inner, name, tuple(given.values()), outputs, None, ())


def _with_ends(steps: Sequence[Step], outputs: Sequence[str]) -> list[Step]:
    """The steps, each with the values nobody reads after it."""
    needed = set(outputs)
    ended: list[Step] = []
    for step in reversed(steps):
        reads = set(_reads(step))
        kept = tuple(name if name in needed else "" for name in step.outputs)
        ended.append(replace(step, outputs=kept, done_with=tuple(sorted(reads - needed))))
        needed |= reads
    return ended[::-1]
