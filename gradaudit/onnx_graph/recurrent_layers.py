"""ONNX's recurrent nodes seen as torch's layers: weights by torch's names, gates in its order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

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

    # RNNBase keeps a list of its weights beside them; here the graph has them.
    __setattr__ = nn.Module.__setattr__  # type: ignore[assignment]
    _apply = nn.Module._apply

    def flatten_parameters(self) -> None:
        """Nothing: the weights lie as the file has them."""

    def as_torch(self) -> Iterator[tuple[str, Tensor]]:
        """The weights and biases by the names that torch's layer has for them."""
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        for end in _ENDS[: 1 + self.bidirectional]:
            for name in names:
                yield f"{name}_l0{end}", getattr(self, f"{name}_l0{end}")

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

    def torch_weight(self, name: str, direction: int) -> Tensor:
        """One of them, computed from the graph's."""
        if name.startswith("bias"):
            both: Tensor = getattr(self, BIASES)[direction]
            whole = both.chunk(2)[name == "bias_hh"]
        else:
            whole = getattr(self, KERNEL if name == "weight_ih" else HIDDEN)[direction]
        gates = whole.chunk(len(self.order))
        return torch.cat([gates[i] for i in self.order]) if len(gates) > 1 else whole


def _weight(name: str, direction: int) -> property:
    return property(lambda layer: layer.torch_weight(name, direction))


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
