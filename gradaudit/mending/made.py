"""The optimizer that a proof trained with, as it was made: its class, its groups, their numbers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gradaudit.probes._training import choose_optimizer
from gradaudit.subject import Opened

_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Group:
    """Some of the parameters, by name, and what is set for them that is not the class's default."""

    parameters: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """An optimizer over a model's parameters."""

    name: str  # its class
    of_torch: bool  # whether ``torch.optim`` has it under that name
    every: bool  # one group that holds every parameter of the model
    trainable: bool  # one group that holds those that are trained
    groups: tuple[Group, ...]


def made(opened: Opened) -> Made:
    """What training ``opened`` makes; call it on a loan of the model."""
    model = opened.model
    assert model is not None
    optimizer = choose_optimizer(opened).build(model)
    kind = type(optimizer)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = tuple(
        Group(
            tuple(names[id(p)] for p in group["params"] if id(p) in names),
            _options(kind, group),
        )
        for group in optimizer.param_groups
    )
    held = set(groups[0].parameters) if len(groups) == 1 else set()
    return Made(
        kind.__name__,
        getattr(torch.optim, kind.__name__, None) is kind,
        held == set(names.values()),
        held == _trained(model),
        groups,
    )


def _trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def _options(kind: type[torch.optim.Optimizer], group: Mapping[str, Any]) -> dict[str, Any]:
    """The rate, and what differs from the default of the class's argument of that name."""
    found = {}
    for name, argument in inspect.signature(kind).parameters.items():
        if name == "params" or name not in group:
            continue
        value = _plain(group[name])
        if value is not ... and (name == "lr" or value != argument.default):
            found[name] = value
    return found


def _plain(value: Any) -> Any:
    """A value that can be written down, or ``...``."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, (tuple, list)) and all(isinstance(each, _PLAIN) for each in value):
        return tuple(value)
    return value if isinstance(value, _PLAIN) else ...
