"""From whatever the user gives as a sample to :class:`Batch` records."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gradaudit.errors import BadData
from gradaudit.subject.code import call
from gradaudit.subject.declared_inputs import declared_by
from gradaudit.subject.formats.checkpoints import ultralytics_model
from gradaudit.subject.formats.loaded import describe
from gradaudit.subject.opened import Batch

DEFAULT_BATCH_SIZE = 32
_WANTED = "a tensor, (inputs, target), or a mapping"


def read_batches(
    raw: Any, model: nn.Module | None, *, limit: int, batch_size: int | None, label: str
) -> tuple[Batch, ...]:
    """At most ``limit`` batches out of ``raw``.

    ``raw`` is a batch, an iterable of batches, a ``Dataset``, or a callable giving any of these. A
    batch is a tensor, ``(inputs, target)``, or a mapping in which ``x`` and ``y`` are inputs and
    target and the rest are keywords of the model. ``batch_size`` slices a single batch (``None``:
    as it is). Raises ``BadData`` for anything else, ``ModelError`` where user code raises.
    """
    if not _is_batch(raw) and not isinstance(raw, Iterable) and callable(raw):
        raw = call(raw, label)
    if isinstance(raw, Dataset):
        size = batch_size or DEFAULT_BATCH_SIZE
        raw = DataLoader(raw, size, shuffle=not isinstance(raw, IterableDataset))
    to_batch = _Converter(model)
    if _is_batch(raw):
        whole = to_batch(raw)
        if batch_size is None or whole.whole:
            return (whole,)
        return _sliced(whole, batch_size, limit)
    if isinstance(raw, (str, bytes)) or not isinstance(raw, Iterable):
        raise BadData(f"{label} is no sample", expected=_WANTED, found=describe(raw))
    if isinstance(raw, tuple) and _is_flat_batch(raw):
        raise _wrong_length(raw)
    items = call(lambda: list(islice(raw, limit)), label)
    return tuple(to_batch(item) for item in items)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray))


def _is_batch(raw: Any) -> bool:
    if _is_tensor(raw) or isinstance(raw, Mapping):
        return True
    if not isinstance(raw, (list, tuple)) or len(raw) != 2:
        return False
    # a list of two (inputs, target) pairs is two batches: a target is never a pair of tensors
    pairs = all(isinstance(item, (list, tuple)) and len(item) == 2 for item in raw)
    return not (isinstance(raw, list) and pairs and all(map(_is_tensor, raw[1])))


def _is_flat_batch(raw: tuple[Any, ...]) -> bool:
    # (input 1, input 2, target) by mistake, not batches: those would be alike
    tensors = len(raw) > 2 and all(map(_is_tensor, raw))
    return tensors and len({tuple(item.shape[1:]) for item in raw}) > 1


class _Converter:
    """Turns one raw batch into a :class:`Batch` on the model's device."""

    def __init__(self, model: nn.Module | None) -> None:
        parameters = [] if model is None else list(model.parameters())
        floating = [p for p in parameters if p.is_floating_point()]
        self._dtype = floating[0].dtype if floating else torch.get_default_dtype()
        self._device = parameters[0].device if parameters else torch.device("cpu")
        self._model = model

    def __call__(self, raw: Any) -> Batch:
        if _is_tensor(raw):
            return Batch((self._value(raw),))
        if isinstance(raw, Mapping):
            return self._from_mapping(raw)
        if isinstance(raw, (list, tuple)) and len(raw) == 1 and _is_tensor(raw[0]):
            return Batch((self._value(raw[0]),))  # what a loader over TensorDataset(x) gives
        if isinstance(raw, (list, tuple)) and len(raw) == 2:
            return Batch(self._inputs(raw[0]), self._value(raw[1]))
        if isinstance(raw, (list, tuple)) and raw and all(map(_is_tensor, raw)):
            raise _wrong_length(raw)
        raise BadData("a batch is of no known form", expected=_WANTED, found=describe(raw))

    def _inputs(self, raw: Any) -> tuple[Any, ...] | dict[str, Any]:
        if isinstance(raw, Mapping):
            return {str(key): self._value(value) for key, value in raw.items()}
        if isinstance(raw, (list, tuple)):
            return tuple(self._value(value) for value in raw)
        return (self._value(raw),)

    def _from_mapping(self, raw: Mapping[Any, Any]) -> Batch:
        if not raw:
            raise BadData("the sample is an empty mapping", expected=_WANTED)
        if ultralytics_model.IMAGE in raw and ultralytics_model.is_ultralytics(self._model):
            named = {str(key): self._value(value) for key, value in raw.items()}
            return ultralytics_model.as_batch(named)
        target = self._value(raw["y"]) if "y" in raw else None
        rest = {str(key): self._value(raw[key]) for key in raw if key not in ("x", "y")}
        if "x" not in raw:
            if not rest:
                raise BadData("the sample has a target 'y' but no inputs", next_step="add 'x'")
            return Batch(rest, target)
        inputs = self._inputs(raw["x"])
        if not rest:
            return Batch(inputs, target)
        named = inputs if isinstance(inputs, Mapping) else self._named(inputs)
        return Batch({**named, **rest}, target)

    def _named(self, inputs: tuple[Any, ...]) -> dict[str, Any]:
        model = self._model
        names = [] if model is None else _input_names(model)
        if len(names) < len(inputs):
            raise BadData("'x' cannot be joined with keywords", next_step="name all inputs instead")
        return dict(zip(names, inputs, strict=False))

    def _value(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(self._device)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, Mapping):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and value:
            return self._list(value)
        return value

    def _list(self, value: Any) -> Any:
        if all(isinstance(item, (int, float, list)) for item in value):
            try:
                return self._array(np.asarray(value))
            except ValueError:
                raise BadData(
                    "a list of numbers in the sample is ragged",
                    expected="rows of one length",
                    next_step="pad them to one length",
                ) from None
        if type(value) not in (list, tuple):
            return value
        return type(value)(self._value(item) for item in value)

    def _array(self, value: np.ndarray[Any, Any]) -> torch.Tensor:
        if value.dtype.kind not in "biufc":
            raise BadData(
                "the sample holds an array that is not numeric",
                expected="numbers",
                found=f"dtype {value.dtype}",
            )
        native = value.astype(value.dtype.newbyteorder("="), copy=True)
        if native.dtype in (np.uint16, np.uint32, np.uint64):
            native = native.astype(np.int64)
        tensor = torch.from_numpy(native).to(self._device)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor


def _input_names(model: nn.Module) -> list[str]:
    declared = [each.name for each in declared_by(model)]
    return declared or list(inspect.signature(model.forward).parameters)


def _wrong_length(raw: Any) -> BadData:
    return BadData(
        f"a batch is a {type(raw).__name__} of {len(raw)} tensors",
        expected=_WANTED,
        next_step="group several inputs: ((a, b), target)",
    )


def tensors_in(value: Any, name: str) -> list[tuple[str, torch.Tensor]]:
    """Every tensor in nested containers, with the name messages use."""
    if isinstance(value, torch.Tensor):
        return [(name, value)]
    if isinstance(value, Mapping):
        return [t for key, item in value.items() for t in tensors_in(item, f"{name} {key!r}")]
    if isinstance(value, (list, tuple)):
        return [t for i, item in enumerate(value) for t in tensors_in(item, f"{name} {i}")]
    return []


def batch_tensors(batch: Batch) -> list[tuple[str, torch.Tensor]]:
    """Every tensor of a batch, inputs first, with the names messages use."""
    named = [*batch.named_inputs(), ("target", batch.target)]
    return [found for name, value in named for found in tensors_in(value, name)]


def sample_count(batch: Batch) -> int | None:
    """How many samples a batch holds, or ``None`` where that cannot be told.

    The first axis, if it is the same for all tensors. Else the target's first axis, where the first
    input has it too: inputs may be time first. Without a target, the one size in all the shapes.
    """
    inputs = [t for name, v in batch.named_inputs() for _, t in tensors_in(v, name) if t.dim()]
    targets = [t for _, t in tensors_in(batch.target, "target") if t.dim()]
    firsts = {int(t.shape[0]) for t in (*inputs, *targets)}
    if len(firsts) < 2:
        return next(iter(firsts), None)
    if inputs and targets:
        count = int(targets[0].shape[0])
        return count if count in inputs[0].shape else None
    shared = set.intersection(*({int(size) for size in t.shape} for t in (*inputs, *targets)))
    return shared.pop() if len(shared) == 1 else None


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """``value`` with ``change`` applied to every tensor in nested containers."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map_tensors(item, change) for item in value)
    return value


def _sliced(whole: Batch, size: int, limit: int) -> tuple[Batch, ...]:
    tensors = [(name, t) for name, t in batch_tensors(whole) if t.dim()]
    if not tensors:
        return (whole,)
    (first, leader), *others = tensors
    rows = len(leader)
    for name, tensor in others:
        if len(tensor) != rows:
            raise BadData(
                f"{first} has {rows} rows and {name} has {len(tensor)}",
                expected="as many rows in every tensor of the sample",
            )
    starts = list(range(0, rows, size))
    if len(starts) > 1 and rows - starts[-1] == 1:
        starts.pop()  # batch norm cannot be trained on a single row
    if len(starts) > limit:
        # spread over the file: arrays are often sorted by class or time
        starts = [starts[i * (len(starts) - 1) // max(limit - 1, 1)] for i in range(limit)]
    return tuple(_rows(whole, start, start + size) for start in starts) or (whole,)


def _rows(whole: Batch, start: int, end: int) -> Batch:
    def cut(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[start:end] if tensor.dim() else tensor

    return Batch(map_tensors(whole.inputs, cut), map_tensors(whole.target, cut))
