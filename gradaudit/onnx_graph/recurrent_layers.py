"""ONNX's recurrent nodes seen as torch's layers: weights by torch's names, gates in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.onnx_graph.moved import Instead, Moved, origins
from gradaudit.onnx_graph.node import Node

KERNEL, HIDDEN, BIASES = (
    "kernel",
    "recurrent_kernel",
    "biases",
)  # [D, G H, I], [D, G H, H], [D, 2 G H]
_ENDS = ("", "_reverse")


class _AsTorch(Node, nn.RNNBase):
    """One layer in one direction or two; computes as torch's would (no peepholes, no clip).

    Called with the sequence ``[T, N, I]`` and, where the graph gives them, the initial states.
    """

    order: tuple[int, ...]  # torch's gates in ONNX's numbering
    hidden_size: int
    moved: Mapping[str, Moved]  # weights that come to it from parameters elsewhere

    # RNNBase keeps a list of its weights beside them; here the graph has them.
    __setattr__ = nn.Module.__setattr__  # type: ignore[assignment]
    __setstate__ = nn.Module.__setstate__
    _apply = nn.Module._apply

    def __getstate__(self) -> dict[str, Any]:
        return vars(self).copy()

    def flatten_parameters(self) -> None:
        """Nothing: the weights lie as the file has them."""

    def as_torch(self, instead: Instead = lambda value: value) -> dict[str, Tensor]:
        """The weights and biases by the names that torch's layer has for them.

        Or what they would be with others ``instead`` of the graph's.
        """
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        return {
            f"{name}_l0{end}": self.torch_weight(name, direction, instead)
            for direction, end in enumerate(_ENDS[: 1 + self.bidirectional])
            for name in names
        }

    def initial_states(self, given: Sequence[Any]) -> tuple[Tensor, ...]:
        """The states among the values the node is called with; empty where it starts from zeros."""
        called = [i for i, bound in enumerate(self.inputs) if bound == ""]
        return tuple(value for i, value in zip(called, given, strict=True) if i in (5, 6))

    def name_parts(self, names: Mapping[nn.Parameter, str]) -> None:
        """Find the parameters that its weights are made of, where they come to it moved."""
        sources = list(dict.fromkeys(p for each in self.moved.values() for p in each.parameters()))

        def made(instead: Instead) -> dict[str, Tensor]:
            parts = self.as_torch(instead).items()
            return {leaf: part for leaf, part in parts if _stored(leaf) in self.moved}

        if sources:
            found = origins(made, sources)
            self.borrowed |= {leaf: names[parameter] for leaf, parameter in found.items()}

    def shown_as(self, leaf: str, name: str) -> dict[str, str]:
        """Its own name, and that of each direction's part by torch's."""
        shown = {KERNEL: ("weight_ih",), HIDDEN: ("weight_hh",), BIASES: ("bias_ih", "bias_hh")}
        if not self.bidirectional:
            return {leaf: name, **{f"{each}_l0": name for each in shown.get(leaf, ())}}
        parts = {
            f"{each}_l0{end}": f"{name}[{i}]"
            for each in shown.get(leaf, ())
            for i, end in enumerate(_ENDS)
        }
        return {leaf: name, **parts}

    def torch_weight(self, name: str, direction: int, instead: Instead) -> Tensor:
        """One of them, computed from the graph's."""
        leaf = _stored(name)
        moved = self.moved.get(leaf)
        stored = instead(getattr(self, leaf)) if moved is None else moved.evaluate(instead)
        whole: Tensor = stored[direction]
        if leaf == BIASES:
            whole = whole.chunk(2)[name == "bias_hh"]
        gates = whole.chunk(len(self.order))
        return torch.cat([gates[i] for i in self.order]) if len(gates) > 1 else whole


def _stored(name: str) -> str:
    """In which of the graph's tensors one of torch's lies."""
    return {"weight_ih": KERNEL, "weight_hh": HIDDEN}.get(name[: len("weight_ih")], BIASES)


def _weight(name: str, direction: int) -> property:
    return property(lambda layer: layer.torch_weight(name, direction, lambda value: value))


for _name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
    for _direction, _end in enumerate(_ENDS):
        setattr(_AsTorch, f"{_name}_l0{_end}", _weight(_name, _direction))


class LstmLayer(_AsTorch, nn.LSTM):
    """ONNX orders the gates input, output, forget, cell."""

    order = (0, 2, 3, 1)


class GruLayer(_AsTorch, nn.GRU):
    """ONNX orders the gates update, reset, hidden."""

    order = (1, 0, 2)


class RnnLayer(_AsTorch, nn.RNN):
    """No gates."""

    order = (0,)


def layer_attributes(
    kernel: Tensor, hidden: Tensor, *, bias: bool, time_first: bool, **more: Any
) -> dict[str, Any]:
    """What users of torch's layer read of it."""
    return {
        "input_size": kernel.shape[-1],
        "hidden_size": hidden.shape[-1],
        "num_layers": 1,
        "bias": bias,
        "batch_first": not time_first,
        "dropout": 0.0,
        "bidirectional": kernel.shape[0] == 2,
        "proj_size": 0,
        **more,
    }
