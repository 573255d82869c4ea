"""Gradients back through a loop written by hand: a module called step after step on its own state.

``nn.RNNCell``, ``nn.LSTMCell``, ``nn.GRUCell``, a layer called with one step at a time, or any
module with parameters that is called again on what became of its earlier output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradaudit.probes.cell_outputs import replaced
from gradaudit.probes.time_gates import cell_gate
from gradaudit.probes.time_sequences import Reach, log_squares
from gradaudit.probes.trace import tensors_in
from gradaudit.subject.opened import Batch

CALLS = 4  # fewer are weight sharing, not a loop over time

# Called again and again without carrying a state: normalisation and look-up.
_STATELESS = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)


def may_loop(module: nn.Module, calls: int) -> bool:
    """Whether a module called so often can be a cell: it has parameters, and maps a state."""
    return (
        calls >= CALLS
        and not isinstance(module, _STATELESS)
        and next(module.parameters(), None) is not None
    )


@dataclass(frozen=True)
class Loop:
    """One cell called on its own earlier output: its reach, and the mean of its keep gate."""

    reach: Reach
    gate: Tensor | None  # float64 [steps, sequences]: mean over the units of LSTM or GRU cells


def find_loops(
    model: nn.Module, batch: Batch, names: list[str], probes: int, generator: torch.Generator
) -> dict[str, Loop]:
    """``{name: loop}`` of those modules that are called on their own earlier output.

    For each, the gradient of N(0, I) cotangents at its last call's output with respect to the
    output of each earlier call, in one forward pass: in float64 where the model's code allows it,
    else in its own precision. A shared layer applied in parallel is not in the answer, nor a part
    of a module that is.
    """
    seen, double = run_watched(model, batch, names, _Outputs)
    found: dict[str, Loop] = {}
    for name in sorted(names, key=lambda n: n.count(".") if n else -1):
        if not any(_inside(name, outer) for outer in found):
            reach = _chain(seen.calls.get(name, []), probes, generator)
            if reach is not None:
                reach = replace(reach, floor=-600.0 if double else -70.0)
                found[name] = Loop(reach, _gate(seen, name, reach))
    return found


def _gate(seen: _Outputs, name: str, reach: Reach) -> Tensor | None:
    """Of the cell itself, or of those in it that are called as often: the mean over them."""
    calls = len(seen.calls[name])
    openings = [
        torch.stack([gates[i] for i in reach.steps])
        for cell, gates in seen.gates.items()
        if (cell == name or _inside(cell, name)) and len(gates) == calls
        if len({gate.shape for gate in gates}) == 1
    ]
    if not openings or len({series.shape for series in openings}) != 1:
        return None
    mean = torch.stack(openings).mean(dim=0)
    return mean if bool(torch.isfinite(mean).all()) else None


def _inside(name: str, outer: str) -> bool:
    return name.startswith(f"{outer}.") if outer else True


class Watcher(Protocol):
    """Sees every call of the named modules; what it returns is handed on as the output."""

    def see(self, name: str, module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        """``given`` holds the positional arguments, then those by keyword."""
        ...


W = TypeVar("W", bound=Watcher)


def run_watched(
    model: nn.Module, batch: Batch, names: Iterable[str], make: Callable[[], W]
) -> tuple[W, bool]:
    """One forward pass with a graph, in float64 if the model's code allows it, and whether it did.

    Each attempt is seen by a watcher of its own. What the model raises in its own precision passes
    through.
    """
    try:
        return _run_watched(model, batch, names, make(), double=True), True
    except (RuntimeError, TypeError, ValueError):  # the model's code insists on its own dtype
        return _run_watched(model, batch, names, make(), double=False), False


def _run_watched(
    model: nn.Module, batch: Batch, names: Iterable[str], watcher: W, *, double: bool
) -> W:
    def hook_of(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            named = sorted(kwargs, key=lambda key: key != "input")  # a cell's come input first
            given = (*args, *(kwargs[key] for key in named))
            return watcher.see(name, module, given, output)

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(hook_of(name), with_kwargs=True)
        for name in names
    ]
    try:
        with torch.enable_grad():
            if double:
                _run_double(model, batch)
            else:
                batch.run(model)
    finally:
        for handle in handles:
            handle.remove()
    return watcher


class _Outputs:
    """Keeps the differentiable tensors each module returned, and how open its gates stood.

    What is handed on are copies of them. The tensors themselves may depend on each other (an LSTM's
    h on its c), and a gradient with respect to c would hold its way through h a second time.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[Tensor, ...]]] = {}
        self.gates: dict[str, list[Tensor]] = {}

    def see(self, name: str, module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        """Keep, and hand on what was returned."""
        if sum(t.requires_grad for t in tensors_in(output)) > 1:
            output = replaced(output, Tensor.clone, strict=False)
        tensors = tuple(t for t in tensors_in(output) if t.requires_grad)
        if tensors:
            self.calls.setdefault(name, []).append(tensors)
            with torch.no_grad():
                gate = cell_gate(module, given)
            if gate is not None:
                self.gates.setdefault(name, []).append(gate)
        return output


def _run_double(model: nn.Module, batch: Batch) -> None:
    values, inputs = _values_in_double(model), _in_double(batch.inputs)
    with _default_double():
        # its own way of tying leaves its tensors in a module that is registered under two names
        if isinstance(inputs, Mapping):
            functional_call(model, values, (), dict(inputs), tie_weights=False)
        else:
            functional_call(model, values, inputs, tie_weights=False)


def _values_in_double(model: nn.Module) -> dict[str, Tensor]:
    """A copy of each parameter and buffer, under every name but those of a module seen before."""
    copies: dict[int, Tensor] = {}
    values = {}
    for prefix, module in model.named_modules():
        for key, tensor in (
            *module.named_parameters(prefix, recurse=False, remove_duplicate=False),
            *module.named_buffers(prefix, recurse=False, remove_duplicate=False),
        ):
            if id(tensor) not in copies:
                trained = isinstance(tensor, nn.Parameter) and tensor.is_floating_point()
                copies[id(tensor)] = _double(tensor).requires_grad_(trained)
            values[key] = copies[id(tensor)]
    return values


def _double(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return copy.double() if tensor.is_floating_point() else copy


def _in_double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _double(value)
    if isinstance(value, Mapping):
        return {key: _in_double(item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_in_double(item) for item in value)
    return value


@contextmanager
def _default_double() -> Iterator[None]:
    # an initial state made inside forward by torch.zeros must match the weights
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _chain(
    calls: list[tuple[Tensor, ...]], probes: int, generator: torch.Generator
) -> Reach | None:
    """The reach over calls; ``None`` where the last call does not depend on three or more."""
    if len(calls) < CALLS:
        return None
    last = calls[-1]
    reached = [i for i, g in enumerate(_pulled(last, calls, None)) if g is not None]
    if len(reached) < CALLS or not _reaches(calls[reached[len(reached) // 2]], calls[reached[0]]):
        return None
    kept = [calls[i] for i in reached]
    logs = []
    for _ in range(probes):
        u = [_normal(tensor, generator) for tensor in last]
        logs.append(torch.stack([g for g in _pulled(last, kept, u) if g is not None]))
    entries = sum(tensor.numel() for tensor in last)
    return Reach(torch.stack(logs, dim=1), entries, False, 0.0, tuple(reached))


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(like.shape, dtype=torch.float64, generator=generator)
    return drawn.to(like.device, like.dtype)


def _reaches(late: tuple[Tensor, ...], early: tuple[Tensor, ...]) -> bool:
    return _pulled(late, [early], None)[0] is not None


def _pulled(
    last: tuple[Tensor, ...], calls: list[tuple[Tensor, ...]], u: list[Tensor] | None
) -> list[Tensor | None]:
    """Log squared norm of the gradient at each call's tensors; ``None`` where none arrives."""
    flat = [tensor for tensors in calls for tensor in tensors]
    cotangents = u or [torch.ones_like(tensor) for tensor in last]
    grads = iter(torch.autograd.grad(last, flat, cotangents, retain_graph=True, allow_unused=True))
    found: list[Tensor | None] = []
    for tensors in calls:
        parts = [g for g in (next(grads) for _ in tensors) if g is not None]
        logs = [log_squares(g.double().cpu().flatten(), (0,)) for g in parts]
        found.append(torch.stack(logs).logsumexp(dim=0) if logs else None)
    return found
