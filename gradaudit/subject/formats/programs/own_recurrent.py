"""Recurrent layers of torch's own, made again of a leaf that runs one of torch's kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from gradaudit.subject.formats.programs.leaves import Given, Leaf, Made, Own

KERNELS = {"LSTM": ("lstm",), "GRU": ("gru",), "RNN": ("rnn_tanh", "rnn_relu")}


def recurrent(leaf: Leaf) -> nn.Module | None:
    """The layer whose kernel the leaf runs, on its own weights; else ``None``."""
    found = [(i, ask) for i, ask in enumerate(leaf.asks) if ask.name in KERNELS[leaf.kind]]
    if len(found) != 1 or len(found[0][1].args) < 9:
        return None
    number, ask = found[0]
    given, states, weights, biased, layers, dropout, training, both, first = ask.args[:9]
    started = isinstance(given, Given) and _started(states, leaf)
    if not started or not _all_returned(leaf, number):
        return None
    shape = leaf.tensors["weight_ih_l0"].shape
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[leaf.kind]
    extra: dict[str, Any] = {}
    if "weight_hr_l0" in leaf.tensors:
        extra["proj_size"] = leaf.tensors["weight_hr_l0"].shape[0]
    if ask.name == "rnn_relu":
        extra["nonlinearity"] = "relu"
    made: nn.RNNBase = getattr(nn, leaf.kind)(
        shape[1], shape[0] // gates, layers, bias=biased, batch_first=first,
        dropout=dropout, bidirectional=both, **extra,
    )  # fmt: skip
    if tuple(weights) != tuple(Own(name) for name in made._flat_weights_names):
        return None
    return made.train(bool(training))


def _started(states: Any, leaf: Leaf) -> bool:
    """At zero, or with the states given beside the sequence."""
    states = states if isinstance(states, list | tuple) else [states]
    if all(isinstance(each, Given) for each in states):
        return True
    return all(
        isinstance(each, Made) and leaf.asks[each.number].name in ("zeros", "new_zeros")
        for each in states
    )


def _all_returned(leaf: Leaf, number: int) -> bool:
    return all(isinstance(each, Made) and each.number == number for each in leaf.outputs)


def taken(layer: nn.Module, args: Sequence[Any], order: Sequence[int] = ()) -> Sequence[Any]:
    """A leaf's inputs as the layer takes them: in its order, an LSTM's states in one tuple."""
    if len(order) == len(args):
        args = [args[number] for number in order]
    if isinstance(layer, nn.LSTM) and len(args) == 3:
        return args[0], (args[1], args[2])
    return args


def order_of(leaf: Leaf) -> tuple[int, ...]:
    """The numbers of a recurrent leaf's inputs in the order in which the layer takes them."""
    for ask in leaf.asks:
        if ask.name in sum(KERNELS.values(), ()):
            states = ask.args[1] if isinstance(ask.args[1], list | tuple) else [ask.args[1]]
            return tuple(e.number for e in (ask.args[0], *states) if isinstance(e, Given))
    return ()
