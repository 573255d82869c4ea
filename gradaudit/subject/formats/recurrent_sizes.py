"""Sizes that torch's recurrent kernels take on trust: with wrong ones they read beyond a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

# operator -> gates per unit
KERNELS: Mapping[str, int] = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
_REST = (
    "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first",
)  # fmt: skip
_PADDED, _PACKED = ("input", *_REST), ("data", "batch_sizes", *_REST)


class WrongSizes(RuntimeError):
    """A recurrent operator's tensors do not fit each other."""


def checked(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``kernel`` itself, or, if ``name`` is one that needs it, with its sizes checked first."""
    if name not in KERNELS:
        return kernel

    def run(*args: Any, **kwargs: Any) -> Any:
        check_recurrent(name, args, kwargs)
        return kernel(*args, **kwargs)

    return run


def check_recurrent(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise :class:`WrongSizes` where ``torch.<name>`` would not notice that sizes disagree.

    The arguments are those of either overload: a padded batch, or packed data with its batch sizes.
    """
    packed = "batch_sizes" in kwargs or (len(args) > 3 and isinstance(args[3], list | tuple))
    given = {**dict(zip(_PACKED if packed else _PADDED, args, strict=False)), **kwargs}
    states = given.get("hx")
    states = list(states) if isinstance(states, list | tuple) else [states]
    weights = list(given.get("params") or ())
    data: Any = given.get("data" if packed else "input")
    sizes: Any = given.get("batch_sizes")
    tensors = [data, *states, *weights, *([sizes] if packed else [])]
    if not all(isinstance(each, Tensor) for each in tensors) or data.dim() != (2 if packed else 3):
        raise WrongSizes(f"torch.{name} is given what it does not take")
    first = 0 if given.get("batch_first") else 1
    batch = _packed(sizes, data) if packed else data.shape[first]
    directions = 2 if given.get("bidirectional") else 1
    blocks = _blocks(weights, int(given.get("num_layers", 1)) * directions)
    biased = bool(given.get("has_biases", True))
    widths = _check_weights(blocks, KERNELS[name], data.shape[-1], directions, biased)
    for state, width in zip(states, widths, strict=False):
        _fits("a state", state, (len(blocks), batch, width))


def _packed(sizes: Tensor, data: Tensor) -> int:
    """The batch size of packed data."""
    counts = sizes.tolist() if sizes.dim() == 1 else []
    falling = counts == sorted(counts, reverse=True)
    if not counts or not falling or counts[-1] < 1 or sum(counts) != data.shape[0]:
        raise WrongSizes(f"the batch sizes of {data.shape[0]} packed rows do not add up to them")
    return int(counts[0])


def _blocks(weights: list[Tensor], count: int) -> list[list[Tensor]]:
    """The weights of each layer and direction."""
    each, left = divmod(len(weights), max(count, 1))
    if count < 1 or left or not 2 <= each <= 5:
        raise WrongSizes(f"{len(weights)} weights do not make {count} layers and directions")
    return [weights[i * each : (i + 1) * each] for i in range(count)]


def _check_weights(
    blocks: list[list[Tensor]], gates: int, width: int, directions: int, biased: bool
) -> tuple[int, int]:
    """Check them; returns the width of the hidden and of the cell state."""
    hidden, cell = blocks[0][1].shape[-1], blocks[0][0].shape[0] // gates
    for number, block in enumerate(blocks):
        taken = width if number < directions else hidden * directions
        wanted: list[tuple[int, ...]] = [(gates * cell, taken), (gates * cell, hidden)]
        wanted += _others(len(block), gates * cell, (hidden, cell), biased)
        if len(wanted) != len(block):
            raise WrongSizes(f"{len(block)} weights in a layer that takes {len(wanted)}")
        for tensor, sizes in zip(block, wanted, strict=True):
            _fits("a weight", tensor, sizes)
    return hidden, cell


def _others(
    count: int, rows: int, widths: tuple[int, int], biased: bool
) -> Iterator[tuple[int, ...]]:
    """Sizes of the biases, and of an LSTM's projection."""
    if biased:
        yield from ((rows,), (rows,))
    if count % 2:
        yield widths
    elif widths[0] != widths[1]:
        raise WrongSizes(f"expected recurrent weights for {widths[1]} units, found {widths[0]}")


def _fits(what: str, tensor: Tensor, sizes: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != sizes:
        raise WrongSizes(f"expected {what} of sizes {sizes}, found {tuple(tensor.shape)}")
