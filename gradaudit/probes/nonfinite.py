"""Who produced the first NaN or infinity, as opposed to all that passed it on.

*Forward*: every aten operation is seen below autograd, so also those inside fused functions. The
output of an operation is traced to its *birth*: the operation that made NaN without being given
one, or infinity out of finite numbers. An infinity written on purpose (``masked_fill(-inf)``, a
constant, the log of a mask) is no fault; where it turns into NaN, the operation that could not
bear it is named (the softmax of a fully masked row), while for an infinity from overflow the
overflow is named. Where the loss itself cannot bear an infinity that the model's forward let
through, the origin of that infinity is named. A buffer or constant that was not finite to begin
with is named with the operation that took it first. Only what reaches the loss, or as a fault the
model's output, is reported.

*Backward*: of the autograd nodes, the first that was given finite gradients and returned others,
if what it returned reached a parameter, which is named.

Both come with the line of the user's code that called the operation, where there is one on the
stack; a backward node's is that of the forward operation that made it, known by its number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gradaudit.probes._hooks import (
    CallStack,
    ModuleCall,
    all_finite,
    backward,
    clear_gradients,
    take_objective,
)
from gradaudit.probes.graph import leaf_variable, reachable
from gradaudit.probes.source_lines import calling_line
from gradaudit.probes.trace import tensors_in
from gradaudit.records import NonFinite
from gradaudit.subject.opened import Batch, Objective
from gradaudit.subject.places import modules_of
from gradaudit.subject.source_files import SourceLine

_FINITE, _INFINITE, _NAN = 0, 1, 2


def nonfinite_weights(source: nn.Module | Mapping[str, torch.Tensor]) -> tuple[NonFinite, ...]:
    """One row per parameter, or weight of a file, that holds NaN or infinity at the start."""
    if isinstance(source, Mapping):
        named = [(name, name.rpartition(".")[0], weight) for name, weight in source.items()]
    else:
        owners = modules_of(source)
        named = [(name, owners[name], weight) for name, weight in source.named_parameters()]
    return tuple(
        NonFinite("weights", "", module, 0, parameter=name)
        for name, module, weight in named
        if weight.is_floating_point() or weight.is_complex()  # others cannot hold one
        if not all_finite([weight.float() if weight.itemsize == 1 else weight])  # no sums of 8 bits
    )


def find_producer(
    model: nn.Module, objective: Objective, batch: Batch, *, step: int | None = None
) -> NonFinite | None:
    """The birth of the first non-finite number in one forward and backward pass on ``batch``.

    ``None`` where all is finite, or where the number was in the batch already. The pass is run
    again with every operation watched, several times slower than without, so call it only when
    something is known to be wrong, with the random state put back. Gradients are dropped
    afterwards. Raises :class:`ModelError` as the pass itself does.
    """
    batch = batch.fresh()
    with CallStack(model) as stack:
        provenance = _Provenance(stack, model, batch)
        with provenance:
            output = batch.call(model)
            provenance.phase = "loss"
            loss = take_objective(objective, output, batch)
        stack.forward_ended()
        birth = provenance.birth_of(loss.detach())
        if birth is None and loss.requires_grad:
            found = provenance.fault_in(output)
            birth = found or _first_in_backward(model, stack, loss, provenance.lines)
    clear_gradients(model)
    if birth is None or (birth.external and not birth.op):
        return None
    return NonFinite(
        "constant" if birth.external else birth.phase,
        birth.op,
        birth.module,
        birth.call,
        step,
        birth.parameter,
        birth.line.file if birth.line else "",
        birth.line.line if birth.line else None,
    )


@dataclass(frozen=True)
class _Birth:
    """Where a non-finite number came from; the lower ``order``, the earlier."""

    order: int
    phase: str
    op: str
    module: str
    call: int
    deliberate: bool = False  # an infinity that somebody wrote on purpose
    external: bool = False  # in a buffer or constant, of which ``op`` is the first taker; or batch
    line: SourceLine | None = None
    parameter: str = ""  # the first whose gradient it spoilt, or the buffer that holds it


_UNWRITTEN = _Birth(-1, "forward", "empty", "", 0)


class _Provenance(TorchDispatchMode):
    """Follows non-finite numbers from tensor to tensor, by the storage that holds them."""

    def __init__(self, stack: CallStack, model: nn.Module, batch: Batch) -> None:
        super().__init__()
        self._buffers = {_storage(buffer): name for name, buffer in model.named_buffers()}
        self._batch = {_storage(t) for t in tensors_in((batch.inputs, batch.target))}
        self.phase = "forward"
        self._stack = stack
        self._births: dict[int, _Birth] = {}
        self._alive: list[Tensor] = []  # a storage in the table must not be freed and used again
        self._order = 0
        self.lines: dict[int, SourceLine | None] = {}  # sequence number of a node -> its call

    def birth_of(self, tensor: Tensor) -> _Birth | None:
        """The origin of the non-finite numbers in ``tensor``; ``None`` where there are none."""
        if _state(tensor) == _FINITE:
            return None
        found = self._births.get(_storage(tensor))
        return found or _Birth(0, self.phase, "", "", 0, deliberate=True, external=True)

    def _origin_of(self, tensor: Tensor, func: Any) -> _Birth | None:
        """The origin of what ``func`` is about to take; of a buffer or constant it is noted."""
        birth, place = self.birth_of(tensor), _storage(tensor)
        if birth is None or place in self._births or place in self._batch:
            return birth
        birth = replace(
            self._born(_aten_name(func)), deliberate=True, external=True,
            parameter=self._buffers.get(place, ""), order=0,
        )  # fmt: skip
        self._remember(tensor, birth)
        return birth

    def fault_in(self, output: Any) -> _Birth | None:
        """The birth of a NaN or an overflow in the model's output: not of a written infinity."""
        for tensor in tensors_in(output):
            birth = self.birth_of(tensor.detach())
            if birth is not None and not (birth.deliberate and _state(tensor) == _INFINITE):
                return birth
        return None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(tensors_in((args, kwargs)))
        made = int(torch._C._autograd._get_sequence_nr()) - 1  # a node is made before it is run
        if made not in self.lines:
            self.lines[made] = calling_line()
        # before the operation, which may write over them
        states = [_state(t) for t in given]
        origins = [self._origin_of(t, func) for t in given]
        output = func(*args, **kwargs)
        for tensor in tensors_in(output):
            state = _state(tensor)
            if state != _FINITE:
                sources = [
                    (s, o)
                    for s, o in zip(states, origins, strict=True)
                    if o is not None and o is not _UNWRITTEN
                ]
                self._remember(tensor, self._origin(state, sources, func, (args, kwargs)))
        return output

    def _remember(self, tensor: Tensor, birth: _Birth) -> None:
        self._births[_storage(tensor)] = birth
        self._alive.append(tensor)

    def _origin(
        self, state: int, sources: list[tuple[int, _Birth]], func: Any, arguments: Any
    ) -> _Birth:
        """Who is to blame for an output in ``state``, given the non-finite inputs' origins."""
        if state == _NAN:
            blamed = [o for s, o in sources if s == _NAN]
            blamed = blamed or [o for _, o in sources if not o.deliberate]
            if not blamed and self.phase == "loss":  # a loss can rely on finite predictions
                blamed = [o for _, o in sources if o.phase == "forward"]
        else:
            blamed = [o for _, o in sources if not o.deliberate] or [o for _, o in sources]
        if blamed:
            return min(blamed, key=lambda o: o.order)
        op = _aten_name(func)
        if op.startswith(("empty", "new_empty")):
            return _UNWRITTEN
        self._order += 1
        deliberate = state == _INFINITE and _on_purpose(op, arguments)
        return replace(self._born(op), deliberate=deliberate)

    def _born(self, op: str) -> _Birth:
        """A birth here and now."""
        call = self._stack.current
        return _Birth(
            self._order,
            "loss" if op.endswith("_loss") else self.phase,
            op,
            call.name if call is not None else "",
            max(call.index, 0) if call is not None else 0,
            line=calling_line(),
        )


def _on_purpose(op: str, arguments: Any) -> bool:
    """Whether an infinity was asked for: a scalar argument, or the log of a constant (a mask)."""
    if op == "log":
        return not any(t.requires_grad for t in tensors_in(arguments))
    args, kwargs = arguments
    return any(isinstance(a, float) and math.isinf(a) for a in (*args, *kwargs.values()))


def _aten_name(func: Any) -> str:
    """``softmax`` for ``aten::_softmax.default``, ``nll_loss`` for ``aten::nll_loss_forward``."""
    name = str(func.name()).rpartition("::")[2].partition(".")[0]
    if name == "lift_fresh":  # how ``torch.tensor(...)`` hands over what it has made
        return "tensor"
    return name.strip("_").removesuffix("_forward")


def _state(tensor: Tensor) -> int:
    if not (tensor.is_floating_point() or tensor.is_complex()) or all_finite([tensor]):
        return _FINITE
    return _NAN if bool(tensor.detach().isnan().any()) else _INFINITE


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)


def _first_in_backward(
    model: nn.Module, stack: CallStack, loss: Tensor, lines: Mapping[int, SourceLine | None]
) -> _Birth | None:
    """Run ``loss.backward()`` with a hook on every node of its graph."""
    births: dict[Any, _Birth] = {}  # node -> origin of what it was given
    leaves: dict[Any, _Birth] = {}
    count = 0

    def watch(node: Any) -> Callable[[Any, Any], None]:
        def hook(returned: Any, given: Any) -> None:
            nonlocal count
            spoilt = [i for i, g in enumerate(returned) if g is not None and not all_finite([g])]
            if not spoilt:
                return
            birth = births.get(node)
            if birth is None or all_finite([g for g in given if g is not None]):
                count += 1
                number = node._sequence_nr()
                birth = _born_in(node, stack.owner(number), count, lines.get(number))
            for i in spoilt:
                parent = node.next_functions[i][0]
                target = leaves if leaf_variable(parent) is not None else births
                if parent not in target or birth.order < target[parent].order:
                    target[parent] = birth

        return hook

    handles = [node.register_hook(watch(node)) for node in reachable([loss.grad_fn])]
    try:
        backward(loss)
    finally:
        for handle in handles:
            handle.remove()
    reached = {id(leaf_variable(node)): birth for node, birth in leaves.items()}
    spoilt = [
        replace(reached[id(p)], parameter=name)
        for name, p in model.named_parameters()
        if id(p) in reached and p.grad is not None and not all_finite([p.grad])
    ]
    return min(spoilt, key=lambda b: b.order, default=None)


def _born_in(node: Any, call: ModuleCall | None, order: int, line: SourceLine | None) -> _Birth:
    name = re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])
    op = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    module, index = (call.name, max(call.index, 0)) if call is not None else ("", 0)
    if op == "checkpoint_function":  # what went wrong inside is not seen, only where it began
        line = None
    return _Birth(order, "backward", op, module, index, line=line)
