"""From what ``torch.export.unflatten`` gives to modules without graphs, fakes and symbols in them.

torch's own unflattened modules cannot be copied where a size varies, and know their layers by no
class. Here each becomes a :class:`Part`, or torch's own layer where it computes what that does.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradaudit.subject.formats.programs.leaves import Ask, Given, Leaf, Made, Own
from gradaudit.subject.formats.programs.own_layers import own_layer
from gradaudit.subject.formats.programs.own_recurrent import order_of
from gradaudit.subject.formats.pt2.parts import (
    ExportedProgram,
    Part,
    Ref,
    Signature,
    Step,
    Steps,
)
from gradaudit.subject.formats.recurrent_sizes import checked

_LAYERS = "torch.nn.modules."


def rebuilt(unflattened: Any) -> ExportedProgram:
    """The program as one module; parameters, buffers and names are those of the exported module."""
    signature = unflattened.module_call_graph[0].signature
    root = _part(unflattened, {}, ExportedProgram)
    names = tuple(signature.forward_arg_names or root.steps.inputs)
    root.signature = Signature(names, signature.in_spec, signature.out_spec)
    root.steps = replace(root.steps, output=_as_tuple(root.steps.output))
    return root


def _as_tuple(output: Any) -> tuple[Any, ...]:
    return tuple(output) if isinstance(output, list | tuple) else (output,)


def _part(source: nn.Module, seen: dict[int, nn.Module], base: type[Part]) -> Any:
    """The part that ``source`` becomes, with all below it."""
    name = _type_of(source).rpartition(".")[2]
    part = type(name if name.isidentifier() else base.__name__, (base,), {})()
    seen[id(source)] = part
    graph: fx.Graph = source.graph  # type: ignore[assignment]
    _hold(part, source, graph)
    for child, module in _children(source, graph):
        part.add_module(child, _made(module, seen))
    part.steps = _steps(graph, source, part)
    part.train(_trained(part))
    return part


def _trained(part: nn.Module) -> bool:
    """Whether it was exported in training, as far as the layers below tell."""
    told = [m.training for m in part.modules() if type(m).__module__.startswith(_LAYERS)]
    return all(told)


def _made(source: nn.Module, seen: dict[int, nn.Module]) -> nn.Module:
    if id(source) in seen:
        return seen[id(source)]
    if not hasattr(source, "graph"):
        holder = nn.Module()
        seen[id(source)] = holder
        for child, module in source.named_children():
            holder.add_module(child, _made(module, seen))
        _hold(holder, source, fx.Graph())
        return holder
    leaf = _leaf(source)
    layer = None if leaf is None else own_layer(leaf)
    if layer is not None:
        seen[id(source)] = layer
        return layer
    made: nn.Module = _part(source, seen, Part)
    return made


def _type_of(source: nn.Module) -> str:
    named = getattr(source, "type_name", None)
    return str(named() or "") if callable(named) else ""


def _children(source: nn.Module, graph: fx.Graph) -> list[tuple[str, nn.Module]]:
    """In the order in which they are called."""
    order: dict[str, int] = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            order.setdefault(str(node.target).partition(".")[0], len(order))
    children = list(source.named_children())
    return sorted(children, key=lambda child: order.get(child[0], len(order)))


def _hold(part: nn.Module, source: nn.Module, graph: fx.Graph) -> None:
    """Give ``part`` the very tensors of ``source``, and those that its graph reads besides."""
    for name, parameter in source.named_parameters(recurse=False):
        part.register_parameter(name, parameter)
    for name, buffer in source.named_buffers(recurse=False):
        lasting = name not in source._non_persistent_buffers_set
        part.register_buffer(name, buffer, persistent=lasting)
    for node in graph.nodes:
        name = str(node.target)
        if node.op != "get_attr" or "." in name or hasattr(part, name):
            continue
        found = getattr(source, name, None)
        if isinstance(found, Tensor):
            part.register_buffer(name, found, persistent=False)


def _steps(graph: fx.Graph, source: nn.Module, part: nn.Module) -> Steps:
    inputs, steps, output = [], [], None
    for node in graph.nodes:
        if node.op == "placeholder":
            inputs.append(node.name)
        elif node.op == "output":
            output = _plain(node.args[0])
        else:
            steps.append(_step(node, source, part))
    return Steps(tuple(inputs), tuple(steps), output, _last_uses(graph))


def _step(node: fx.Node, source: nn.Module, part: nn.Module) -> Step:
    args, kwargs = _plain(node.args), _plain(node.kwargs)
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        target = checked(target._schema.name.removeprefix("aten::"), target)
    step = Step(node.name, target, tuple(args), kwargs, held=node.op == "get_attr")
    if node.op != "call_module":
        return step
    leaf = _leaf(source.get_submodule(str(node.target)))
    layer = part.get_submodule(str(node.target))
    if leaf is None or not isinstance(layer, nn.RNNBase):
        return step
    parts = tuple(made.part or 0 for made in leaf.outputs)
    bare = not isinstance(_returned(source.get_submodule(str(node.target))), list | tuple)
    return replace(step, picked=parts, bare=bare, order=order_of(leaf))


def _returned(source: Any) -> Any:
    return next(node.args[0] for node in source.graph.nodes if node.op == "output")


def _last_uses(graph: fx.Graph) -> Mapping[int, tuple[str, ...]]:
    """What no step after the one of that number reads."""
    last: dict[str, int] = {}
    number = -1
    for node in graph.nodes:
        number += node.op not in ("placeholder", "output")
        for used in node.all_input_nodes:
            last[used.name] = -1 if node.op == "output" else number
    done: dict[int, list[str]] = {}
    for name, at in last.items():
        done.setdefault(at, []).append(name)
    done.pop(-1, None)
    return {at: tuple(names) for at, names in done.items()}


def _plain(value: Any) -> Any:
    """Arguments with references in place of nodes, in plain containers."""
    if isinstance(value, fx.Node):
        return Ref(value.name)
    if isinstance(value, tuple):
        return tuple(_plain(each) for each in value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, slice):
        return slice(_plain(value.start), _plain(value.stop), _plain(value.step))
    return value


def _leaf(source: nn.Module) -> Leaf | None:
    """What ``source`` does, if it is of a class of torch's own and calls nothing but operators."""
    kind = _type_of(source)
    if not kind.startswith(_LAYERS) or next(source.children(), None) is not None:
        return None
    known: dict[str, Any] = {}
    asks: list[Ask] = []
    inputs = 0
    for node in source.graph.nodes:  # type: ignore[union-attr]
        if node.op == "placeholder":
            known[node.name], inputs = Given(inputs), inputs + 1
        elif node.op == "get_attr":
            known[node.name] = Own(str(node.target))
        elif node.op == "call_function":
            known[node.name] = _asked(node, known, asks)
    tensors: dict[str, Tensor] = dict(source.named_parameters(recurse=False))
    tensors |= dict(source.named_buffers(recurse=False))
    returned = _as_tuple(_resolved(_returned(source), known))
    return Leaf(kind.rpartition(".")[2], tuple(asks), returned, tensors)


def _asked(node: fx.Node, known: Mapping[str, Any], asks: list[Ask]) -> Any:
    args = _resolved(node.args, known)
    if node.target is operator.getitem and isinstance(args[0], Made):
        return Made(args[0].number, args[1])
    name = str(node.target)
    if isinstance(node.target, torch._ops.OpOverload):
        name = node.target._schema.name.removeprefix("aten::")
    asks.append(Ask(name, tuple(args), _resolved(node.kwargs, known)))
    return Made(len(asks) - 1)


def _resolved(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, fx.Node):
        return known[value.name]
    if isinstance(value, list | tuple):
        return (
            [_resolved(each, known) for each in value]
            if isinstance(value, list)
            else tuple(_resolved(each, known) for each in value)
        )
    if isinstance(value, Mapping):
        return {key: _resolved(each, known) for key, each in value.items()}
    return value
