"""What a model returned: its main tensor, and its own loss if it has one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

_MAIN = ("logits", "last_hidden_state", "prediction_logits", "out", "output", "pred", "prediction")


def main_tensor(output: Any) -> torch.Tensor | None:
    """The tensor a loss is taken of.

    A tensor itself; of a tuple the first tensor, as RNNs return it; of a mapping or a record the
    ``logits`` or their like, else the first floating tensor.
    """
    if isinstance(output, torch.Tensor):
        return output
    fields = _fields(output)
    if fields is not None:
        for name in _MAIN:
            if isinstance(fields.get(name), torch.Tensor):
                return fields[name]
        return _first([value for name, value in fields.items() if name != "loss"])
    return _first(output) if isinstance(output, (list, tuple)) else None


def own_loss(output: Any) -> torch.Tensor | None:
    """``output.loss`` or ``output["loss"]`` where it is a one-element tensor."""
    found = getattr(output, "loss", None)
    if found is None and isinstance(output, Mapping):
        found = output.get("loss")
    if isinstance(found, torch.Tensor) and found.numel() == 1:
        return found.reshape(())
    return None


def _fields(output: Any) -> Mapping[Any, Any] | None:
    if isinstance(output, Mapping):
        return output
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    return None


def _first(values: Any) -> torch.Tensor | None:
    for value in values:
        found = main_tensor(value)
        if found is not None and found.is_floating_point():
            return found
    return None
