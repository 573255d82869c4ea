"""The scale of what the model is fed: every floating tensor of the sample, over all batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.probes.trace import tensors_in
from gradaudit.records import DataRow
from gradaudit.settings import Settings
from gradaudit.subject.opened import Opened

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
# Modules that hand their input on, as a view or thinned out: the next one is the consumer.
_PASSING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd)

_MOST_FEATURES = 64  # beyond it, a list of numbers is no help in a report
Named = tuple[str, str, Tensor]
Storage = tuple[str, int]


class _AllTaken(BaseException):
    """Breaks off a forward pass; not an ``Exception``, so that no model's ``except`` stops it."""


def measure_data(opened: Opened, settings: Settings) -> tuple[DataRow, ...]:
    """One row per floating input and target tensor; integers, booleans and empty ones have none.

    Statistics are over the finite entries of all batches, in float64, ``std`` that of the
    population. The worst feature is the one of the largest rms, or where none is above 1, of the
    smallest non-zero one; features are channels (dimension 1) for images and for what a
    convolution takes, else the last dimension, and a tensor of fewer than two dimensions has none.
    A forward pass on the first batch, broken off once seen, tells which module takes which input
    first.

    To be called inside ``borrowed(model)``: the model is run. What its forward raises passes
    through.
    """
    if not opened.batches:
        return ()
    takers = _first_takers(opened)
    groups: dict[tuple[str, str], list[Tensor]] = {}
    for batch in opened.batches:
        for name, role, tensor in _named(batch.named_inputs(), batch.target):
            groups.setdefault((name, role), []).append(tensor.detach())
    rows = (_row(name, role, parts, takers.get(name)) for (name, role), parts in groups.items())
    return tuple(row for row in rows if row is not None)


def _named(inputs: list[tuple[str, Any]], target: Any) -> Iterator[Named]:
    """Floating tensors with the names messages use: ``input 1``, ``target 'boxes'``."""
    for name, value in inputs:
        yield from _walk(name, "input", value)
    yield from _walk("target", "target", target)


def _walk(name: str, role: str, value: Any) -> Iterator[Named]:
    if isinstance(value, Tensor):
        if value.is_floating_point() and not value.is_sparse:
            yield name, role, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(f"{name} {key!r}", role, item)
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from _walk(f"{name}[{i}]", role, item)


def _first_takers(opened: Opened) -> dict[str, nn.Module]:
    """The first leaf module that is given each floating input, or a view of it."""
    batch = opened.batches[0].fresh()
    watch = _Watch({_storage(t): name for name, _, t in _named(batch.named_inputs(), None)})
    if opened.model is None or not watch.names:
        return {}
    handles = list(_hook(opened.model, watch.take, watch.hand_on))
    try:
        with torch.no_grad(), suppress(_AllTaken):
            batch.call(opened.model)
    finally:
        for handle in handles:
            handle.remove()
    return watch.takers


class _Watch:
    """Follows the inputs, by the storage they lie in, to the modules that take them."""

    def __init__(self, names: dict[Storage, str]) -> None:
        self.names = names
        self.wanted = set(names.values())
        self.takers: dict[str, nn.Module] = {}
        self.kept: list[Any] = []  # a freed tensor's storage could be given out again

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a leaf module runs."""
        if isinstance(module, _PASSING):
            return
        for name in self._inputs_in((args, kwargs)):
            self.takers.setdefault(name, module)
        if self.takers.keys() == self.wanted:
            raise _AllTaken

    def hand_on(self, _module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After a module that only hands its input on."""
        for name in self._inputs_in(args):
            self.names |= {_storage(tensor): name for tensor in tensors_in(output)}
            self.kept.append(output)

    def _inputs_in(self, value: Any) -> list[str]:
        places = [_storage(tensor) for tensor in tensors_in(value)]
        return [self.names[place] for place in places if place in self.names]


def _hook(
    model: nn.Module, take: Callable[..., None], hand_on: Callable[..., None]
) -> Iterator[Any]:
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        leaf = isinstance(module, nn.MultiheadAttention) or not any(True for _ in module.children())
        if leaf:
            yield module.register_forward_pre_hook(take, with_kwargs=True)
        if isinstance(module, _PASSING):
            yield module.register_forward_hook(hand_on)


def _storage(tensor: Tensor) -> Storage:
    if tensor.layout is not torch.strided:
        return str(tensor.layout), id(tensor)
    return str(tensor.device), tensor.untyped_storage().data_ptr()


def _row(name: str, role: str, parts: list[Tensor], taker: nn.Module | None) -> DataRow | None:
    values = [part.double()[torch.isfinite(part)] for part in parts]
    count = sum(part.numel() for part in values)
    if not count:
        return None
    mean, std = _moments(values, count)
    axis = _feature_axis(parts[0], taker)
    means, deviations = _features(parts, axis)
    worst = _worst(means, deviations)
    columns = axis == -1 and 0 < len(means) <= _MOST_FEATURES
    full = [part for part in values if part.numel()]
    return DataRow(
        tensor=name,
        role=role,
        dtype=str(parts[0].dtype).removeprefix("torch."),
        shape=tuple(parts[0].shape),
        mean=mean,
        std=std,
        rms=math.hypot(mean, std),
        minimum=min(float(part.min()) for part in full),
        maximum=max(float(part.max()) for part in full),
        worst_feature=worst,
        worst_feature_mean=None if worst is None else float(means[worst]),
        worst_feature_std=None if worst is None else float(deviations[worst]),
        normalized_by_model=isinstance(taker, _NORMS),
        feature_means=tuple(means.tolist()) if columns else (),
        feature_stds=tuple(deviations.tolist()) if columns else (),
    )


def _moments(values: list[Tensor], count: int) -> tuple[float, float]:
    """Mean and population standard deviation, the latter about the mean: nothing cancels."""
    mean = float(sum(part.sum() for part in values)) / count
    square = float(sum((part - mean).square().sum() for part in values)) / count
    return mean, math.sqrt(square)


def _feature_axis(tensor: Tensor, taker: nn.Module | None) -> int | None:
    if tensor.dim() < 2:
        return None
    if isinstance(taker, (*_CONVOLUTIONS, nn.modules.batchnorm._NormBase)) or tensor.dim() >= 4:
        return 1
    return -1


def _features(parts: list[Tensor], axis: int | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature along ``axis``; empty where there is none."""
    if axis is None or len({part.shape[axis] for part in parts if part.dim()}) != 1:
        return torch.empty(0), torch.empty(0)
    rows = [part.double().movedim(axis, 0).flatten(1) for part in parts]
    finite = [torch.isfinite(part) for part in rows]
    rows = [torch.where(ok, part, 0.0) for part, ok in zip(rows, finite, strict=True)]
    counts = torch.stack([ok.sum(dim=1) for ok in finite]).sum(dim=0).clamp(min=1)
    means = torch.stack([part.sum(dim=1) for part in rows]).sum(dim=0) / counts
    squares = [
        ((part - means[:, None]).square() * ok).sum(dim=1)
        for part, ok in zip(rows, finite, strict=True)
    ]
    return means, (torch.stack(squares).sum(dim=0) / counts).sqrt()


def _worst(means: Tensor, deviations: Tensor) -> int | None:
    """Index of the feature furthest from unit scale; features that are zero do not count."""
    rms = torch.hypot(means, deviations)
    if not bool((rms > 0).any()):
        return None
    largest = float(rms.max()) > 1
    return int(rms.argmax() if largest else rms.masked_fill(rms == 0, torch.inf).argmin())
