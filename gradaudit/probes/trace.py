"""One forward pass, written down: every module call, every tensor it made, and who made it.

A ``TorchFunctionMode`` sees each operation of the forward pass with the autograd node it left
behind; forward hooks see the module calls around them. Nothing of the user's is changed and no
activation is kept: of each tensor only its norm and shape stay.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradaudit.subject.eager import eager


@dataclass(eq=False)
class Call:
    """One call of one module; ``first`` and ``last`` bound the ordinals of what ran inside."""

    module: str
    type: str
    number: int
    parent: Call | None
    first: int
    last: int = -1
    input_shape: tuple[int, ...] = ()

    def ancestors(self) -> Iterator[Call]:
        """The call itself and those around it, innermost first."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.parent


@dataclass(eq=False)
class Op:
    """One tensor the forward pass made."""

    ordinal: int
    name: str
    node: Any  # autograd node; None without a graph
    call: Call | None
    shape: tuple[int, ...]
    norm: Tensor  # 0-dim L2 norm
    output: int = 0  # which of the node's results it is

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def rms(self) -> float:
        """Root mean square of the tensor's entries; infinite or NaN where the tensor is."""
        return float(self.norm) / max(self.numel, 1) ** 0.5


@dataclass
class Trace:
    """What one forward pass did, in order."""

    ops: list[Op] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    output: Any = None

    def by_result(self) -> dict[tuple[Any, int], Op]:
        """Each tensor by the autograd node that made it and its number among the node's results."""
        return {(op.node, op.output): op for op in reversed(self.ops) if op.node is not None}

    def by_node(self) -> dict[Any, Op]:
        """The tensor each autograd node stands for: the first recorded of its outputs."""
        found: dict[Any, Op] = {}
        for op in self.ops:
            if op.node is not None:
                found.setdefault(op.node, op)
        return found


def l2_norm(tensor: Tensor) -> Tensor:
    """L2 norm as a 0-dim float64 tensor, exact to rounding also where squares leave the range."""
    flat = tensor.detach()
    if flat.is_complex():
        flat = torch.view_as_real(flat)
    norm = torch.linalg.vector_norm(flat, dtype=torch.float32 if flat.itemsize < 4 else None)
    tiny_or_huge = ~((norm > 1e-15) & (norm < 1e18))
    if bool(tiny_or_huge) and flat.numel():
        peak = flat.abs().max()
        if bool(torch.isfinite(peak)) and bool(peak > 0):
            peak = peak.double()
            return torch.linalg.vector_norm(flat.double() / peak) * peak
    return norm.double()


def joint_norm(tensors: Iterable[Tensor]) -> float:
    """L2 norm of all the tensors' entries together."""
    return math.hypot(*(float(l2_norm(tensor)) for tensor in tensors))


def unit_shift(rms: float, dtype: torch.dtype) -> int:
    """Exponent of the power of two that brings entries of a positive ``rms`` near one.

    Or as near as a factor can that is a normal number of ``dtype`` (products of 16-bit types are
    taken in float32).
    """
    limit = 1000 if dtype in (torch.float64, torch.complex128) else 120
    return max(-limit, min(limit, -math.frexp(rms)[1]))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in a module's output: tensors, (nested) sequences, mappings, dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for entry in dataclasses.fields(value):
            yield from tensors_in(getattr(value, entry.name, None))


# (ordinal, tensor, whether a replacement would be used) -> replacement or None
Watcher = Callable[[int, Tensor, bool], "Tensor | None"]


class _Recorder(TorchFunctionMode):
    """Numbers every floating tensor made by an operation or returned by a module call.

    The numbering depends on the model's code alone, not on gradients being recorded, so that the
    same tensor has the same ordinal in a later pass. ``watch`` may return a replacement for what a
    single operation returned; that of an operation in place is written into its argument.
    """

    def __init__(self, trace: Trace, watch: Watcher | None, keep_norms: bool) -> None:
        super().__init__()
        self.trace, self.watch, self.keep_norms = trace, watch, keep_norms
        self.stack: list[Call] = []
        self.count = 0
        self.seen: set[tuple[Any, int]] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            noted = self.note(result, getattr(func, "__name__", str(func)), replaceable=True)
            if noted is not result and any(result is a for a in (*args, *(kwargs or {}).values())):
                # The model holds an in-place operation's result already, and may drop this one.
                return result.copy_(noted)
            return noted
        if isinstance(result, (tuple, list)) and any(isinstance(r, Tensor) for r in result):
            name = getattr(func, "__name__", str(func))
            for item in result:
                if isinstance(item, Tensor):
                    self.note(item, name)
        return result

    def note_all(self, tensors: Iterable[Tensor], name: str) -> None:
        """Number tensors from inside a hook, where the mode would record our own arithmetic."""
        with torch._C.DisableTorchFunction():
            for tensor in tensors:
                self.note(tensor, name)

    def note(self, tensor: Tensor, name: str, *, replaceable: bool = False) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        call = self.stack[-1] if self.stack else None
        ordinal, self.count = self.count, self.count + 1
        if self.watch is not None:
            replacement = self.watch(ordinal, tensor, replaceable)
            if replacement is not None:
                tensor = replacement
        node = tensor.grad_fn
        result = (node, tensor.output_nr)
        if self.keep_norms and (node is None or result not in self.seen):
            self.seen.add(result)
            shape = tuple(tensor.shape)
            made = Op(ordinal, name, node, call, shape, l2_norm(tensor), tensor.output_nr)
            self.trace.ops.append(made)
        return tensor


def _attach(model: nn.Module, recorder: _Recorder) -> list[Any]:
    counts: dict[str, int] = {}

    def enter(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = list(tensors_in((args, kwargs)))
            shape = tuple(given[0].shape) if given else ()
            # What a custom autograd function (reentrant checkpointing) made is seen here only.
            recorder.note_all(given, "input")
            parent = recorder.stack[-1] if recorder.stack else None
            number = counts.get(name, 0)
            counts[name] = number + 1
            kind = type(module).__name__
            call = Call(name, kind, number, parent, recorder.count, input_shape=shape)
            recorder.trace.calls.append(call)
            recorder.stack.append(call)

        return hook

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        call = recorder.stack[-1]
        # A kernel that the mode does not see is seen by what its module returns.
        recorder.note_all(tensors_in(output), call.type)
        call.last = recorder.count - 1
        recorder.stack.pop()

    handles: list[Any] = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name, module), with_kwargs=True))
        # The model may catch what a module raises, and go on.
        handles.append(module.register_forward_hook(leave, always_call=True))
    return handles


@contextmanager
def _hooked(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    handles = _attach(model, recorder)
    try:
        with recorder:
            yield
    finally:
        for handle in handles:
            handle.remove()


def record(
    model: nn.Module,
    run: Callable[[], Any],
    *,
    watch: Watcher | None = None,
    keep_norms: bool = True,
) -> Trace:
    """Run ``run()`` (a forward pass of ``model``) and write down its calls and tensors.

    Whatever ``run`` raises passes through, with all hooks removed.
    """
    trace = Trace()
    with eager(model), _hooked(model, _Recorder(trace, watch, keep_norms)):
        trace.output = run()
    return trace
