"""Dead units and saturated outputs of the nonlinearities, by module and by function call.

A *unit* is an entry of the last dimension behind a dense layer and a channel behind a convolution.
It is dead when no sample and no position moves it: a ReLU-like output that is zero everywhere, or a
GELU-like pre-activation that never leaves the flat negative tail, where the slope stays below 2% of
its peak. A bound at zero (``x.clamp(min=0)``, ``torch.maximum(x, zeros)``) is a ReLU. An output is
*saturated* past the knee: ``|tanh| > 0.99`` (slope below 2% of its peak), a sigmoid beyond 0.01 or
0.99 (below 4%), ``|softsign| > 0.99`` (below 0.01%), or on either flat end of hardtanh and
hardsigmoid (slope zero). The output of ``nn.RNN`` is its nonlinearity's, so it counts. The gates of
an LSTM or GRU are left out: one that stands open or shut does its work (chrono initialization,
Tallec and Ollivier 2018, starts forget gates beyond 0.99 on purpose).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradaudit.probes._hooks import CallStack, ModuleCall, first_floating

Key = tuple[str, int]


@dataclass(frozen=True)
class Nonlinearity:
    """How one kind of nonlinearity dies or saturates."""

    name: str
    dead_side: str = ""  # "input" | "output": the tensor that must rise above `tail` somewhere
    tail: float = 0.0
    saturated: Callable[[Tensor], Tensor] | None = None  # output -> mask


# Tails: the last x left of which the slope stays below 2% of its peak (test_activations.py).
NONLINEARITIES = {
    each.name: each
    for each in (
        Nonlinearity("relu", "output"),
        Nonlinearity("relu6", "output"),
        Nonlinearity("gelu", "input", -2.739),
        Nonlinearity("silu", "input", -5.253),
        Nonlinearity("mish", "input", -5.274),
        Nonlinearity("hardswish", "input", -3.0),
        Nonlinearity("tanh", saturated=lambda y: y.abs() > 0.99),
        Nonlinearity("softsign", saturated=lambda y: y.abs() > 0.99),
        Nonlinearity("sigmoid", saturated=lambda y: (y - 0.5).abs() > 0.49),
        Nonlinearity("hardsigmoid", saturated=lambda y: (y <= 0) | (y >= 1)),
        Nonlinearity("hardtanh", saturated=lambda y: (y <= -1) | (y >= 1)),
    )
}
_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Hardswish: "hardswish",
    nn.Tanh: "tanh",
    nn.Softsign: "softsign",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardtanh: "hardtanh",
}
_APPROXIMATED = {"gelu": "gelu", "silu": "silu", "swish": "silu"}

# Functions that are a ReLU where their lower bound is zero, with the names of their arguments.
_BOUNDED = {
    "clamp": ("input", "min", "max"),
    "clip": ("input", "min", "max"),
    "clamp_min": ("input", "min"),
    "threshold": ("input", "threshold", "value"),
    "maximum": ("input", "other"),
    "max": ("input", "other"),
}

# Which dimension of a tensor holds the units, by the function that made it.
_UNIT_DIM = {
    **dict.fromkeys(("linear", "layer_norm", "rms_norm", "embedding", "matmul", "mm", "addmm"), -1),
    **dict.fromkeys(("__matmul__", "bmm", "baddbmm", "multi_head_attention_forward"), -1),
    **{f"conv{d}d": -1 - d for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": -1 - d for d in (1, 2, 3)},
}


def nonlinearity_of(module: nn.Module) -> Nonlinearity | None:
    """The kind a module is, by its class, its ``nonlinearity`` (``nn.RNN``) or its class's name."""
    if isinstance(module, (nn.RNN, nn.RNNCell)):
        return NONLINEARITIES[str(module.nonlinearity)]
    for kind in type(module).__mro__:
        if kind in _MODULES:
            return _with_bounds(NONLINEARITIES[_MODULES[kind]], module)
    # Hand-written approximations (NewGELUActivation) are made of tanh or sigmoid, which would
    # otherwise be taken for nonlinearities of their own.
    if not any(module.children()) and not any(True for _ in module.parameters()):
        name = type(module).__name__.lower()
        return next((NONLINEARITIES[k] for s, k in _APPROXIMATED.items() if s in name), None)
    return None


def _with_bounds(kind: Nonlinearity, source: Any) -> Nonlinearity:
    """``hardtanh`` with the bounds its module or call sets."""
    if kind.name != "hardtanh":
        return kind
    low, high = source.min_val, source.max_val
    return Nonlinearity("hardtanh", saturated=lambda y: (y <= low) | (y >= high))


def _rectifies(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether this call bounds a tensor that gradients pass at zero from below."""
    given = {**dict(zip(_BOUNDED[name], args, strict=False)), **kwargs}
    tensor = given.get("input")
    if "other" in _BOUNDED[name]:  # of two tensors; `torch.max(x, 0)` is a reduction
        pair = (tensor, given.get("other"))
        if not all(isinstance(each, Tensor) for each in pair):
            return False
        return any(_learns(x) and _zero(bound) for x, bound in (pair, pair[::-1]))
    bounds = (given.get(key) for key in _BOUNDED[name] if key not in ("input", "max"))
    return _learns(tensor) and all(_zero(bound) for bound in bounds)


def _learns(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and tensor.requires_grad


def _zero(bound: Any) -> bool:
    if isinstance(bound, Tensor):
        return not bound.requires_grad and not bool(bound.any())
    return isinstance(bound, int | float) and bound == 0


@dataclass
class Units:
    """What was seen of one nonlinearity's call, over all batches."""

    kind: Nonlinearity
    peak: Tensor | None = None  # [units] highest value seen on the side that tells
    saturated: int = 0
    entries: int = 0

    def see(self, tensor: Tensor, unit_dim: int) -> None:
        """Add a batch's ``tensor`` (of the side that tells)."""
        dims = [d for d in range(tensor.dim()) if d != tensor.dim() + unit_dim]
        peak = tensor.detach().amax(dims) if dims else tensor.detach().clone()
        if self.peak is not None and self.peak.shape == peak.shape:
            peak = torch.maximum(self.peak, peak)
        self.peak = peak

    @property
    def dead_fraction(self) -> float | None:
        """Share of units that no sample woke; a NaN counts as awake."""
        if self.peak is None or not self.peak.numel():
            return None
        return float((self.peak <= self.kind.tail).double().mean())

    @property
    def saturated_fraction(self) -> float | None:
        """Share of outputs past the knee."""
        return self.saturated / self.entries if self.entries else None

    @property
    def units(self) -> int | None:
        """Number of units; ``None`` where they were not told apart."""
        return None if self.peak is None else self.peak.numel()


class ActivationWatch(TorchFunctionMode):
    """Watches one forward pass after another, beside the hooks of a :class:`CallStack`.

    ``seen`` maps (module name, call) to :class:`Units`; a function call such as ``F.relu`` in a
    forward is named after the innermost running module, ``block.0 (relu)``, and is passed on to
    ``on_function(name, call, function, output)``.
    """

    def __init__(self, on_function: Callable[[str, int, str, Tensor], None]) -> None:
        super().__init__()
        self.stack: CallStack | None = None
        self.seen: dict[Key, Units] = {}
        self._on_function = on_function
        self._counts: dict[str, int] = {}
        self._unit_dim: int | None = None

    def forward_begins(self) -> None:
        """Start counting function calls anew."""
        self._counts.clear()
        self._unit_dim = None

    def module_entered(self, call: ModuleCall, inputs: Any) -> None:
        """Before a module call: look at its input, which it may overwrite."""
        kind = nonlinearity_of(call.module)
        if not call.recomputed and kind is not None and kind.dead_side == "input":
            self._look(kind, (call.name, call.index), first_floating(inputs))

    def module_left(self, call: ModuleCall, output: Any) -> None:
        """After a module call: look at its output."""
        kind = nonlinearity_of(call.module)
        if call.recomputed or kind is None or kind.dead_side == "input":
            return
        if isinstance(call.module, (nn.RNN, nn.RNNCell)):
            self._unit_dim = -1
        self._look(kind, (call.name, call.index), first_floating(output))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        self._unit_dim = _UNIT_DIM.get(name, self._unit_dim)
        name = name.strip("_")  # in place: relu_; F.threshold: _threshold
        call = self.stack.current if self.stack is not None else None
        kind = NONLINEARITIES.get(name)
        if call is None:  # in a loss a ReLU is a hinge: where it is silent, a sample is right
            return func(*args, **kwargs)
        if name in _BOUNDED and _rectifies(name, args, kwargs):
            kind = Nonlinearity(name, "output")
        if kind is None or nonlinearity_of(call.module) is not None:
            return func(*args, **kwargs)
        return self._function(func, kind, call.name, args, kwargs)

    def _function(
        self, func: Any, kind: Nonlinearity, module: str, args: Any, kwargs: dict[str, Any]
    ) -> Any:
        name = f"{module} ({kind.name})".strip()
        index = self._counts.get(name, 0)
        self._counts[name] = index + 1
        if kind.name == "hardtanh":
            kind = _with_bounds(kind, _HardtanhBounds(*args[1:3], **_bounds(kwargs)))
        if kind.dead_side == "input":
            self._look(kind, (name, index), first_floating((args, kwargs)))
        output = func(*args, **kwargs)
        if isinstance(output, Tensor):
            if kind.dead_side != "input":
                self._look(kind, (name, index), output)
            self._on_function(name, index, kind.name, output)
        return output

    def _look(self, kind: Nonlinearity, key: Key, tensor: Tensor | None) -> None:
        if tensor is None or not tensor.numel() or tensor.dim() == 0:
            return
        units = self.seen.setdefault(key, Units(kind))
        with torch.no_grad(), torch._C.DisableTorchFunction():
            if kind.saturated is not None:
                units.saturated += int(kind.saturated(tensor.detach()).count_nonzero())
                units.entries += tensor.numel()
            else:
                units.see(tensor, self._units_of(tensor))

    def _units_of(self, tensor: Tensor) -> int:
        """The unit dimension, counted from the end: the last layer's, else by rank."""
        dim = self._unit_dim
        if dim is None:
            dim = -1 if tensor.dim() < 4 else 1 - tensor.dim()
        return dim if -dim <= tensor.dim() else -1


@dataclass(frozen=True)
class _HardtanhBounds:
    min_val: float = -1.0
    max_val: float = 1.0


def _bounds(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key in ("min_val", "max_val")}
