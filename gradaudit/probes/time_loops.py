"""Gradients back through a loop written by hand: a module called step after step on its own state.

``nn.RNNCell``, ``nn.LSTMCell``, ``nn.GRUCell``, a layer called with one step at a time, or any
module with parameters that is called again on what became of its earlier output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

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


def loop_reaches(
    model: nn.Module, batch: Batch, names: list[str], probes: int, generator: torch.Generator
) -> dict[str, Reach]:
    """``{name: reach}`` of those modules that are called on their own earlier output.

    For each, the gradient of N(0, I) cotangents at its last call's output with respect to the
    output of each earlier call, in one forward pass: in float64 where the model's code allows it,
    else in its own precision. A shared layer applied in parallel is not in the answer, nor a part
    of a module that is.
    """
    try:
        calls, floor = _outputs(model, batch, names, double=True), -600.0
    except (RuntimeError, TypeError, ValueError):  # the model's code insists on its own dtype
        calls, floor = _outputs(model, batch, names, double=False), -70.0
    found: dict[str, Reach] = {}
    for name in sorted(names, key=lambda n: n.count(".") if n else -1):
        if not any(_inside(name, outer) for outer in found):
            reach = _chain(calls[name], probes, generator)
            if reach is not None:
                found[name] = replace(reach, floor=floor)
    return found


def _inside(name: str, outer: str) -> bool:
    return name.startswith(f"{outer}.") if outer else True


def _outputs(
    model: nn.Module, batch: Batch, names: list[str], *, double: bool
) -> dict[str, list[tuple[Tensor, ...]]]:
    """The differentiable tensors each named module returned, call by call."""
    calls: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = tuple(t for t in tensors_in(output) if t.requires_grad)
            calls[name].append(tensors)

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        with torch.enable_grad():
            if double:
                _run_double(model, batch)
            else:
                batch.run(model)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _run_double(model: nn.Module, batch: Batch) -> None:
    values = {
        name: _double(tensor).requires_grad_(tensor.is_floating_point())
        for name, tensor in model.named_parameters()
    }
    values |= {name: _double(tensor) for name, tensor in model.named_buffers()}
    inputs = _in_double(batch.inputs)
    with _default_double():
        if isinstance(inputs, Mapping):
            functional_call(model, values, (), dict(inputs))
        else:
            functional_call(model, values, inputs)


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
    calls = [tensors for tensors in calls if tensors]
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
