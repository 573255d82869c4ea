"""Run a remedy's code as a person would paste it, and see what it did to a real model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Measurements, Prescription, Remedy, WeightRow
from gradaudit.remedies import prescribe
from gradaudit.rules import run_rules
from gradaudit.settings import BUDGETS, Settings

# What the findings call for, before any search: neither longer training nor trials.
BY_CAUSE = Settings(threads=1, spent=replace(BUDGETS["standard"], allowance=0.0, search_steps=0))


def prescription(seen: Measurements, settings: Settings | None = None) -> Prescription:
    """What is prescribed for what the rules find."""
    settings = settings or Settings()
    made, _ = prescribe(run_rules(seen, settings), seen, settings)
    assert made is not None
    return made


def remedy(seen: Measurements, wanted: str, settings: Settings | None = None) -> Remedy:
    """The prescribed remedy of that id."""
    found = {each.id: each for each in prescription(seen, settings).remedies}
    assert wanted in found, list(found)
    return found[wanted]


def ids(seen: Measurements) -> list[str]:
    """Ids of all that is prescribed, in order."""
    made, _ = prescribe(run_rules(seen, Settings()), seen, Settings())
    return [] if made is None else [each.id for each in made.remedies]


def paste(code: str, **names: Any) -> dict[str, Any]:
    """Execute ``code`` with nothing but ``names`` in reach, and return its names."""
    torch.manual_seed(0)
    exec(compile(code, "remedy", "exec"), names)
    return names


def weight_rows(model: nn.Module, activation: str) -> tuple[WeightRow, ...]:
    """Rows of a plain chain of ``nn.Linear`` or ``nn.Conv2d``; none follows the last one."""
    found = [
        (f"{name}.weight", name, module)
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    return tuple(
        WeightRow(
            parameter=parameter,
            module=name,
            kind="dense" if isinstance(module, nn.Linear) else "convolution",
            shape=tuple(module.weight.shape),
            spectral_norm=None,
            stable_rank=None,
            input_size=None,
            reshaped_norm=None,
            spectral_radius=None,
            rms=float(module.weight.detach().square().mean().sqrt()),
            fan_in=module.weight[0].numel(),
            random_edge=None,
            critical_edge=None,
            finite=True,
            identical_rows=bool((module.weight == module.weight[:1]).all()),
            initialization="unknown",
            type=type(module).__name__,
            activation=activation if i < len(found) - 1 else "",
        )
        for i, (parameter, name, module) in enumerate(found)
    )


def log10_growth(model: nn.Sequential, width: int) -> float:
    """log10 of the squared gain from the first hidden tensor to the output, in float64."""
    torch.manual_seed(1)
    model = model.double()
    hidden = model[:2](torch.randn(16, width, dtype=torch.float64)).detach().requires_grad_()
    output = model[2:](hidden)
    cotangent = torch.randn_like(output)
    (gradient,) = torch.autograd.grad(output, hidden, cotangent)
    return float((gradient.square().sum() / cotangent.square().sum()).log10())


def plain_net(activation: type[nn.Module], depth: int = 20, width: int = 64) -> nn.Sequential:
    """``depth`` dense layers with that activation behind all but the last."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers[:-1])


def variance(weight: Tensor) -> float:
    """Variance times fan-in."""
    return float(weight.detach().square().mean()) * weight[0].numel()
