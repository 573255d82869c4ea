"""The customary weight decay in place of one that the loss cannot hold against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._code import rounded
from gradaudit.remedies._layers import codes
from gradaudit.rules._decay import is_decoupled, pull_of_decay
from gradaudit.rules._judge import optimizer_in_use
from gradaudit.settings import Settings

ORDER = 57

_DECOUPLED = 0.01  # torch's default for AdamW; Loshchilov and Hutter 2019, arXiv 1711.05101
_IN_GRADIENT = 1e-4  # He et al. 2016, arXiv 1512.03385, and most recipes since
_HARMLESS = 0.1  # of the loss's pull: costs 1% of the fall (tests/benchmarks/weight_decay.py)


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy: the customary decay, or less where that still pulls too hard."""
    given, pull = measurements.recipe.weight_decay, pull_of_decay(measurements)
    if "GA607" not in codes(findings) or not given or not pull:
        return
    customary = _DECOUPLED if is_decoupled(optimizer_in_use(measurements)) else _IN_GRADIENT
    decay = rounded(min(customary, given * _HARMLESS / pull))
    yield Remedy(
        "weight-decay",
        "recipe",
        f"Lower the weight decay from {given:g} to {decay}.",
        {"weight_decay": decay},
        "# `optimizer` is your torch.optim.Optimizer.\n"
        "for group in optimizer.param_groups:\n"
        f'    group["weight_decay"] = min(group["weight_decay"], {decay!r})\n',
        "recipe only",
        ("GA607",),
    )
