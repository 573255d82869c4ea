"""A float32 forward pass, watched: the largest number that half precision would have to hold.

Every aten operation is seen below autograd, so that what lies between modules counts too
(attention logits, squares in norms and losses). A ``TorchFunctionMode`` beside it sees the casts to
float32 by which user code leaves half precision, which do nothing in a float32 run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gradaudit.probes._half_types import Kind, SimulatedTypes, floating, storage
from gradaudit.probes._hooks import CallStack
from gradaudit.probes.half_formats import COMPOSITE_LOSSES, FP16, WHOLE, HalfFormat
from gradaudit.probes.trace import tensors_in

_CASTS = frozenset({"float", "double", "to", "type"})
_WIDE = (torch.float32, torch.float64)
# Of these only the first result is rounded: statistics and workspaces stay in float32.
_ONE_RESULT = ("native_", "scaled_dot_product", "nll_loss")
LOSS, MODEL = "the loss", "the model"
WEIGHT, CAST = "weight", "cast"  # what autocast feeds to an operation


@dataclass(frozen=True)
class Place:
    """Who made a tensor: the innermost module that ran, and the operation."""

    module: str
    op: str


@dataclass
class Seen:
    """Largest magnitudes in order of execution, and what was made in half precision."""

    peaks: list[tuple[Place, float]] = field(default_factory=list)
    # sequence number of an autograd node -> who made its tensor; None for views
    nodes: dict[int, Place | None] = field(default_factory=dict)
    half: set[int] = field(default_factory=set)  # numbers of the nodes whose tensor is half

    def largest(self) -> tuple[Place, float] | None:
        """The first of the largest; a weight only where it does not fit into fp16."""
        return max(
            (p for p in self.peaks if p[0].op != WEIGHT or p[1] >= FP16.infinite_from),
            key=lambda peak: peak[1],
            default=None,
        )

    def overflows(self, form: HalfFormat) -> tuple[str, ...]:
        """Modules that make or are fed what is infinite in ``form``, in order of execution."""
        past = (place.module for place, peak in self.peaks if peak >= form.infinite_from)
        return tuple(dict.fromkeys(past))


class ForwardWatch(TorchDispatchMode):
    """Sees one forward pass and its loss; with ``emulate`` what overflows in it becomes infinite.

    Use :meth:`watching` around both. Only finite magnitudes count: an infinity that the float32 run
    holds already (a mask) is no overflow.
    """

    def __init__(
        self,
        stack: CallStack,
        types: SimulatedTypes,
        parameters: Iterable[Tensor],
        emulate: HalfFormat | None = None,
    ) -> None:
        super().__init__()
        self.seen = Seen()
        self.in_loss = False
        self._stack, self._types, self._emulate = stack, types, emulate
        self._whole = 0  # how many functions are open that accumulate in float32 inside
        # parameters do not change during the pass: each is looked at once
        self._fixed = {storage(p) for p in parameters}
        self._checked: set[int] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around the forward pass and the loss, not the backward pass."""
        with ExitStack() as stack:
            stack.enter_context(_Casts(self))
            stack.enter_context(self)
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op, given = _name(func), floating(tensors_in((args, kwargs)))
        if self._types.casts(op, given) and not self._whole:
            self._cast(op, given)
            args, kwargs = self._overflown((args, kwargs))
        kind = self._types.made_by(op, given, kwargs.get("dtype"))
        in_place, view = _aliases(func)
        if in_place and given:
            kind = self._types.kind(given[0])
        if self._whole:
            kind = Kind.FULL
        squares = _peak_inside(op, given) if kind is Kind.HALF else 0.0
        result = func(*args, **kwargs)
        made = floating(tensors_in(result))
        for tensor in made:
            self._types.put(tensor, kind)
        if view or op.startswith("unsafe_"):
            self._note_node(None)
            return result
        if kind is Kind.HALF and not op.startswith(("empty", "new_empty")):
            place = self._place(op)
            for tensor in made[:1] if op.startswith(_ONE_RESULT) else made:
                self._see(tensor, place, squares)
        self._note_node(self._place(op), half=kind is Kind.HALF)
        return result

    @contextmanager
    def whole(self, given: list[Tensor], *, as_given: bool) -> Iterator[Callable[[Any], None]]:
        """A function that computes in float32 inside; yields what to tell its result to."""
        kind = self._types.kind(given[0]) if given and as_given else Kind.FULL
        self._whole += 1

        def finish(result: Any) -> None:
            for tensor in floating(tensors_in(result)):
                self._types.put(tensor, kind)
                if kind is Kind.HALF:
                    self._see(tensor.detach(), self._place("rms_norm"))

        try:
            yield finish
        finally:
            self._whole -= 1

    def upcast(self, tensor: Tensor) -> None:
        """User code has asked for float32, and this is its copy."""
        self._types.put(tensor, Kind.FULL)
        if tensor.grad_fn is not None:
            self.seen.half.discard(tensor.grad_fn._sequence_nr())

    def _place(self, op: str) -> Place:
        call = self._stack.current
        name = LOSS if self.in_loss else call.name if call is not None else ""
        return Place(name or MODEL, op)

    def _cast(self, op: str, given: list[Tensor]) -> None:
        """Autocast rounds what it feeds to ``op``: weights, data, what was kept in float32."""
        for tensor in given:
            if self._types.kind(tensor) is Kind.HALF:
                continue
            key = storage(tensor)
            if key in self._checked:
                continue
            if key in self._fixed:
                self._checked.add(key)
            what = WEIGHT if key in self._fixed else CAST
            self._see(tensor, self._place(what), change=False)

    def _see(self, tensor: Tensor, place: Place, peak: float = 0.0, *, change: bool = True) -> None:
        peak = max(peak, magnitude(tensor))
        self.seen.peaks.append((place, peak))
        if change and self._emulate is not None and peak >= self._emulate.infinite_from:
            overflow_(tensor, self._emulate)

    def _overflown(self, arguments: Any) -> Any:
        """The arguments with what the cast makes infinite, where that is emulated."""
        form = self._emulate
        if form is None:
            return arguments

        def cast(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point() or magnitude(tensor) < form.infinite_from:
                return tensor
            return overflow_(tensor.clone(), form)

        return torch.utils._pytree.tree_map_only(Tensor, cast, arguments)

    def _note_node(self, place: Place | None, *, half: bool = False) -> None:
        """The autograd node of the running operation was the last to be numbered."""
        number = int(torch._C._autograd._get_sequence_nr()) - 1
        if number in self.seen.nodes:
            return  # an operation without a node of its own, inside or behind another
        self.seen.nodes[number] = place
        if half:
            self.seen.half.add(number)


class _Casts(TorchFunctionMode):
    """Sees what user code asks of torch by name."""

    def __init__(self, watch: ForwardWatch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in WHOLE or name in COMPOSITE_LOSSES:
            given = floating(tensors_in(args))
            with self._watch.whole(given, as_given=name in WHOLE) as finish:
                result = func(*args, **kwargs)
            finish(result)
            return result
        result = func(*args, **kwargs)
        if name in _CASTS and isinstance(result, Tensor) and result.dtype in _WIDE:
            if args and result is args[0]:
                if not (name in ("float", "double") or _asks_for_dtype(args[1:], kwargs)):
                    return result
                result = result.clone()  # as the cast would copy it
            self._watch.upcast(result)
        return result


def _asks_for_dtype(args: Any, kwargs: Any) -> bool:
    return any(isinstance(each, (torch.dtype, str, type)) for each in args) or "dtype" in kwargs


def magnitude(tensor: Tensor) -> float:
    """Largest finite ``|x|``; 0.0 for an empty tensor."""
    flat = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    if not flat.numel() or flat.layout is not torch.strided:
        return 0.0
    low, high = (float(end) for end in flat.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        flat = flat[flat.isfinite()]
        return magnitude(flat)
    return max(-low, high)


def overflow_(tensor: Tensor, form: HalfFormat) -> Tensor:
    """Make infinite, in place, what is infinite in ``form``."""
    return tensor.masked_fill_(tensor >= form.infinite_from, math.inf).masked_fill_(
        tensor <= -form.infinite_from, -math.inf
    )


def _peak_inside(op: str, given: list[Tensor]) -> float:
    """The largest term of a mean that an operation rounds before it averages."""
    if op != "mse_loss" or len(given) < 2:
        return 0.0
    return magnitude(given[0].detach() - given[1].detach()) ** 2


def _name(func: Any) -> str:
    """``mul_scalar`` for ``aten::mul.Scalar``, ``softmax`` for ``aten::_softmax.default``."""
    name, _, overload = str(func.name()).rpartition("::")[2].partition(".")
    name = name.strip("_").removesuffix("_forward")
    return "mul_scalar" if (name, overload) == ("mul", "Scalar") else name


def _aliases(func: Any) -> tuple[bool, bool]:
    """Whether the operation writes into its argument, and whether it returns a view of it."""
    kinds = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
    written = any(kind.is_write for kind in kinds)
    return written, bool(kinds) and not written
