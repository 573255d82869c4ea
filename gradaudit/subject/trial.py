"""Running the model once on a borrowed copy of its state, and explaining what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gradaudit.errors import BadData, GradauditError
from gradaudit.subject.batches import batch_tensors
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.code import user_error
from gradaudit.subject.expect import Expectation, certain_first, expectation
from gradaudit.subject.opened import Batch


def run_once(model: nn.Module, batch: Batch) -> Any:
    """The model's output in training mode, without a graph; the model is left as it was.

    Raises ``BadData`` where the sample does not fit the first layer, else ``ModelError``.
    """
    watch = _Watch()
    with borrowed(model, training=True), torch.no_grad():
        for name, layer in model.named_modules():
            fits = expectation(layer, name)
            if fits is not None:
                layer.register_forward_pre_hook(watch.of(fits))
        try:
            return batch.run(model)
        except GradauditError:
            raise
        except Exception as error:
            raise watch.explain(error, batch) from error


def check_first_layer(model: nn.Module, batches: tuple[Batch, ...]) -> None:
    """Hold every batch against the first layer, where the model's forward cannot reshape before.

    Raises ``BadData`` with what the layer takes and what was found.
    """
    wanted = certain_first(model)
    if wanted is None:
        return
    for i, batch in enumerate(batches):
        if isinstance(batch.inputs, Mapping) or not batch.inputs:
            continue  # keywords come in any order
        name, value = batch.named_inputs()[0]
        if not isinstance(value, torch.Tensor):
            continue
        fault = wanted.fault(value)
        if fault is not None:
            where = name if len(batches) == 1 else f"{name} of batch {i}"
            raise _misfit(where, wanted, fault)


def check_values(batches: tuple[Batch, ...]) -> None:
    """Raise ``BadData`` for an empty sample, an empty tensor, or a NaN or infinity in it.

    A tensor of 0 and -inf alone is an attention mask, and sound.
    """
    if not batches:
        raise BadData("the sample is empty", expected="at least one batch")
    for i, batch in enumerate(batches):
        where = f" of batch {i}" if len(batches) > 1 else ""
        found = batch_tensors(batch)
        if not any(name.startswith("input") for name, _ in found):
            raise BadData(f"the inputs{where} hold no tensor", found=type(batch.inputs).__name__)
        for name, tensor in found:
            if tensor.numel() == 0:
                raise BadData(
                    f"the sample is empty: {name}{where} has shape {list(tensor.shape)}",
                    expected="at least one row",
                )
            _check_finite(tensor, f"{name}{where}")


def _check_finite(tensor: torch.Tensor, name: str) -> None:
    if not tensor.is_floating_point() and not tensor.is_complex():
        return
    bad = ~torch.isfinite(tensor)
    if not bool(bad.any()):
        return
    if not tensor.is_complex() and bool(((tensor == 0) | (tensor == float("-inf"))).all()):
        return
    count, first = int(bad.sum()), bad.nonzero()[0].tolist()
    kind = "NaN" if bool(torch.isnan(tensor[tuple(first)])) else "infinite"
    raise BadData(
        f"{name} holds {count} value{'s' if count > 1 else ''} that are NaN or infinite",
        expected="finite numbers",
        found=f"{kind} first at index {first}",
        next_step="drop or fill them first",
    )


def _misfit(where: str, wanted: Expectation, fault: str) -> BadData:
    kind = "integers" if wanted.indices is not None else str(wanted.dtype).removeprefix("torch.")
    return BadData(
        f"the {where} does not fit the {wanted.place}",
        expected=wanted.wanted,
        found=fault,
        next_step=f"convert the data to {kind}" if " values" in fault else "",
    )


class _Watch:
    """Remembers which layer was entered last, and what was wrong with its input."""

    def __init__(self) -> None:
        self._entered: list[tuple[Expectation, str | None]] = []

    def of(self, wanted: Expectation) -> Any:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], torch.Tensor):
                self._entered.append((wanted, wanted.fault(inputs[0])))

        return before

    def explain(self, error: Exception, batch: Batch) -> GradauditError:
        """One line: the error, and the layer it met if that layer's input was wrong."""
        if self._entered:
            wanted, fault = self._entered[-1]
            if fault is not None and len(self._entered) == 1:
                return _misfit("sample", wanted, f"{fault} ({_shapes(batch)} given)")
            if fault is not None:
                place = wanted.place.removeprefix("first ")
                raised = user_error("the model's forward", error)
                return type(raised)(raised.what, expected=f"{place}: {wanted.wanted}", found=fault)
        raised = user_error("the model's forward", error)
        return type(raised)(raised.what, next_step=f"the sample given: {_shapes(batch)}")


def _shapes(batch: Batch) -> str:
    inputs = [item for item in batch_tensors(batch) if item[0] != "target"]
    return ", ".join(
        f"{name} {str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for name, t in inputs[:4]
    )
