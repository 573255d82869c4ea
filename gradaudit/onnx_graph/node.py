"""A node of the graph as a module: called with the values that others made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import defs
from torch import Tensor, nn

from gradaudit.errors import ModelError
from gradaudit.onnx_graph.registry import Operator
from gradaudit.onnx_graph.tensors import STORED_ONLY, TensorType
from gradaudit.telling import quoted

# What functions raise on values they were not written for.
_FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Call:
    """How one node calls its operator."""

    operator: Operator
    keywords: Mapping[str, Any]  # attributes and context
    name: str  # the node's own name
    same_type: tuple[tuple[int, ...], ...] = ()  # by output: inputs that have its type


class NodeError(ModelError, RuntimeError):
    """An operator's function raised: which node, on which inputs, and what it said."""

    def __init__(self, call: Call, inputs: Sequence[Any], error: Exception) -> None:
        given = ", ".join(_described(value) for value in inputs)
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        super().__init__(
            f"node {quoted(call.name)} ({call.operator.name}) failed on {given or 'no inputs'}",
            found=said,
        )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"


class Node(nn.Module):
    """One node. ``forward`` takes the inputs that are no parameters, in order.

    Parameters that the node reads are registered here too, beside their own place in the tree, so
    that whoever looks at the module finds its weights; the state dict has them once, there.
    """

    def __init__(
        self, call: Call, inputs: Sequence[str | None], attributes: Mapping[str, Any]
    ) -> None:
        """``inputs``: by input, the attribute a bound tensor has here, "" if given, or ``None``.

        ``attributes`` are what users of torch's layer read of it, where the node is one.
        """
        nn.Module.__init__(self)  # a layer's own would make weights
        for name, value in attributes.items():
            setattr(self, name, value)
        self.call = call
        self.inputs = tuple(inputs)
        self.all_given = not any(bound is None or bound for bound in inputs)
        self.bodies: tuple[str, ...] = ()  # attributes that are subgraphs
        self.borrowed: dict[str, str] = {}  # parameters that have a place elsewhere: their names

    def borrow(self, leaf: str, name: str, parameter: nn.Parameter) -> None:
        """Register a parameter here as well, unless this is its own place."""
        if self._parameters.get(leaf) is not parameter:
            self.register_parameter(leaf, parameter)
            self.borrowed |= self.shown_as(leaf, name)

    def name_parts(self, names: Mapping[nn.Parameter, str]) -> None:
        """Add to ``borrowed`` what it shows of parameters that come to it moved; here nothing."""

    def shown_as(self, leaf: str, name: str) -> dict[str, str]:
        """Names by attribute, for a parameter that is ``leaf`` here and has a place as ``name``."""
        return {leaf: name}

    def train(self, mode: bool = True) -> Node:
        """Nothing: what a node does in training, the graph says."""
        return self

    def extra_repr(self) -> str:
        """The node's own name."""
        return self.call.name

    def forward(self, *given: Any, captured: Mapping[str, Any] | None = None) -> Any:
        """The operator's results: one value, or a tuple."""
        if self.all_given:
            return self.compute(given, captured)
        values = iter(given)
        inputs = [
            None if bound is None else getattr(self, bound) if bound else next(values)
            for bound in self.inputs
        ]
        return self.compute(inputs, captured)

    def compute(self, inputs: Sequence[Any], captured: Mapping[str, Any] | None) -> Any:
        """Call the operator's function."""
        keywords = self.call.keywords
        if captured is not None:
            inner = {name: Body(self._modules[name], captured) for name in self.bodies}
            keywords = {**keywords, **inner}
        operator = self.call.operator
        try:
            if not operator.as_stored and _has_stored_only(inputs):
                return _through_int64(operator.function, inputs, keywords, self.call)
            return operator.function(*inputs, **keywords)
        except (NodeError, torch.OutOfMemoryError):
            raise
        except _FAILURES as error:
            raise NodeError(self.call, inputs, error) from error

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        nn.Module._save_to_state_dict(self, destination, prefix, keep_vars)
        for name in self.borrowed:
            destination.pop(prefix + name, None)

    def _load_from_state_dict(self, *args: Any) -> None:
        parameters = dict(self._parameters)
        for name in self.borrowed:
            self._parameters.pop(name, None)
        try:
            nn.Module._load_from_state_dict(self, *args)
        finally:
            self._parameters.clear()
            self._parameters.update(parameters)


@dataclass(frozen=True)
class Body:
    """A subgraph as a function of its inputs alone."""

    graph: Any
    captured: Mapping[str, Any]

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """The subgraph's outputs."""
        results: tuple[Any, ...] = self.graph(*inputs, captured=self.captured)
        return results

    @property
    def output_types(self) -> tuple[TensorType, ...]:
        """What the file declares of each output."""
        types: tuple[TensorType, ...] = self.graph.output_types
        return types


def _has_stored_only(inputs: Sequence[Any]) -> bool:
    kinds = [value.dtype for value in inputs if isinstance(value, Tensor)]
    return not STORED_ONLY.isdisjoint(kinds)


def _through_int64(
    function: Callable[..., Any], inputs: Sequence[Any], keywords: Mapping[str, Any], call: Call
) -> Any:
    """``function`` on unsigned integers wider than a byte, which torch stores but cannot compute.

    Results of the type of such an input are cast back. uint64 goes by its bits, so what compares
    or divides is right up to 2^63 - 1.
    """
    kinds = [value.dtype if isinstance(value, Tensor) else None for value in inputs]
    wide = [
        value.to(torch.int64) if kind in STORED_ONLY else value
        for value, kind in zip(inputs, kinds, strict=True)
    ]
    results = function(*wide, **keywords)
    several = results if isinstance(results, tuple) else (results,)
    back = []
    for result, sources in zip(several, (*call.same_type, *[()] * len(several)), strict=False):
        kind = next((kinds[i] for i in sources if i < len(kinds) and kinds[i] in STORED_ONLY), None)
        back.append(result.to(kind) if kind is not None and isinstance(result, Tensor) else result)
    return tuple(back) if isinstance(results, tuple) else back[0]


def same_types(operator: str, domain: str, version: int) -> tuple[tuple[int, ...], ...]:
    """For each output of the operator, the inputs whose type its documentation gives it."""
    try:
        schema = defs.get_schema(operator, version, domain)
    except defs.SchemaError:
        return ()
    inputs = [each.type_str for each in schema.inputs]
    return tuple(
        tuple(i for i, kind in enumerate(inputs) if kind == output.type_str)
        for output in schema.outputs
    )


_classes: dict[tuple[str, type[nn.Module]], type[Node]] = {}


def node_class(kind: str, layer: type[nn.Module]) -> type[Node]:
    """A class named as the operator, for whoever prints a module's type; also a ``layer``."""
    if (kind, layer) not in _classes:
        bases = (layer,) if issubclass(layer, Node) else (Node, layer)
        bases = (Node,) if layer is nn.Module else bases
        names = {"__module__": __name__, "__doc__": f"ONNX's {kind}."}
        _classes[kind, layer] = type(kind, bases, names)
    return _classes[kind, layer]
