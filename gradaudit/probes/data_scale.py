"""The scale of what the model is fed: every floating tensor of the sample, over all batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.probes.trace import tensors_in
from gradaudit.records import DataRow
from gradaudit.settings import Settings
from gradaudit.subject.opened import Opened

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_BY_FEATURE = nn.modules.batchnorm._NormBase  # batch and instance norm
_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
_LINEAR = (nn.Linear, *_CONVOLUTIONS)  # a norm directly behind one undoes what it was given
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
    first. ``normalized_by_model``: that is a normalisation layer, or a linear layer or convolution
    with one directly behind it. Behind a layer, a norm over the features of one sample keeps an
    offset, so there it counts only where the offset is no larger than the spread.

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


def _first_takers(opened: Opened) -> dict[str, _Taker]:
    """The first leaf module that is given each floating input, or a view of it."""
    batch = opened.batches[0].fresh()
    watch = _Watch({_storage(t): name for name, _, t in _named(batch.named_inputs(), None)})
    if opened.model is None or not watch.names:
        return {}
    handles = list(_hook(opened.model, watch))
    try:
        with torch.no_grad(), suppress(_AllTaken):
            batch.call(opened.model)
    finally:
        for handle in handles:
            handle.remove()
    return watch.takers


@dataclass
class _Taker:
    """The module that takes an input first, and the norm directly behind it."""

    module: nn.Module
    norm: nn.Module | None = None


class _Watch:
    """Follows the inputs, by the storage they lie in, to the modules that take them."""

    def __init__(self, names: dict[Storage, str]) -> None:
        self.names = names
        self.wanted = set(names.values())
        self.takers: dict[str, _Taker] = {}
        self.made: dict[Storage, str] = {}  # by a linear taker; until the next module has run
        self.kept: list[Any] = []  # a freed tensor's storage could be given out again

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a leaf module runs."""
        if isinstance(module, _PASSING):
            return
        new = [name for name in _names_in((args, kwargs), self.names) if name not in self.takers]
        self.takers |= {name: _Taker(module) for name in new}
        if not new:
            self._follow(module, args)
        running = bool(new) and isinstance(module, _LINEAR)
        if self.takers.keys() == self.wanted and not running and not self.made:
            raise _AllTaken

    def _follow(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """What is made of a linear taker's output is settled by the next module."""
        behind = _names_in(args, self.made)
        if isinstance(module, _NORMS):
            for name in behind:
                self.takers[name].norm = module
        self.made = {k: name for k, name in self.made.items() if behind and name not in behind}

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After a module that hands its input on, or makes a linear map of it."""
        names = _names_in(args, self.names)
        linear = isinstance(module, _LINEAR)
        if linear:
            first = {name for name, taker in self.takers.items() if taker.module is module}
            names = [name for name in names if name in first]
        found = {_storage(tensor): name for name in names for tensor in tensors_in(output)}
        (self.made if linear else self.names).update(found)
        self.kept.append(output)


def _names_in(value: Any, names: Mapping[Storage, str]) -> list[str]:
    places = [_storage(tensor) for tensor in tensors_in(value)]
    return [names[place] for place in places if place in names]


def _hook(model: nn.Module, watch: _Watch) -> Iterator[Any]:
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        leaf = isinstance(module, nn.MultiheadAttention) or not any(True for _ in module.children())
        if leaf:
            yield module.register_forward_pre_hook(watch.take, with_kwargs=True)
        if isinstance(module, (*_PASSING, *_LINEAR)):
            yield module.register_forward_hook(watch.leave)


def _storage(tensor: Tensor) -> Storage:
    if tensor.layout is not torch.strided:
        return str(tensor.layout), id(tensor)
    return str(tensor.device), tensor.untyped_storage().data_ptr()


def _row(name: str, role: str, parts: list[Tensor], taker: _Taker | None) -> DataRow | None:
    values = [part.double()[torch.isfinite(part)] for part in parts]
    count = sum(part.numel() for part in values)
    if not count:
        return None
    mean, std = _moments(values, count)
    axis = _feature_axis(parts[0], taker.module if taker else None)
    means, deviations = _features(parts, axis)
    worst = _worst(means, deviations)
    columns = axis == -1 and 0 < len(means) <= _MOST_FEATURES
    full = [part for part in values if part.numel()]
    moments = (mean, std) if worst is None else (float(means[worst]), float(deviations[worst]))
    offset = abs(moments[0]) > moments[1]
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
        normalized_by_model=taker is not None and _normalizes(taker, offset),
        feature_means=tuple(means.tolist()) if columns else (),
        feature_stds=tuple(deviations.tolist()) if columns else (),
    )


def _normalizes(taker: _Taker, offset: bool) -> bool:
    if isinstance(taker.module, _NORMS) or isinstance(taker.norm, _BY_FEATURE):
        return True
    return taker.norm is not None and not offset


def _moments(values: list[Tensor], count: int) -> tuple[float, float]:
    """Mean and population standard deviation, the latter about the mean: nothing cancels."""
    mean = float(sum(part.sum() for part in values)) / count
    square = float(sum((part - mean).square().sum() for part in values)) / count
    return mean, math.sqrt(square)


def _feature_axis(tensor: Tensor, taker: nn.Module | None) -> int | None:
    if tensor.dim() < 2:
        return None
    if isinstance(taker, (*_CONVOLUTIONS, _BY_FEATURE)) or tensor.dim() >= 4:
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
