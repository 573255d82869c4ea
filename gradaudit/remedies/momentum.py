"""Lower a momentum that adds up more of the past than the rate bears."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._layers import codes
from gradaudit.rules._judge import optimizer_in_use
from gradaudit.settings import Settings

ORDER = 59

_CUSTOMARY = 0.9
_ANSWERS = ("GA601", "GA603", "GA604")


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy where the rate is too high and momentum adds up twenty steps and more.

    Steps add up to 1 / (1 - momentum) of their length: a hundred at 0.99 (Sutskever et al. 2013,
    who reach it only late in training).
    """
    given = measurements.recipe.momentum or 0.0
    if "adam" in optimizer_in_use(measurements).lower():
        return  # its momentum is beta1, and another matter
    if given <= 0.95 or not codes(findings) & set(_ANSWERS):
        return
    yield Remedy(
        "momentum",
        "recipe",
        f"Train with a momentum of {_CUSTOMARY} instead of {given:g}.",
        {"momentum": _CUSTOMARY},
        "# `optimizer` is your torch.optim.Optimizer.\n"
        "for group in optimizer.param_groups:\n"
        f'    group["momentum"] = {_CUSTOMARY}\n',
        "recipe only",
        _ANSWERS,
    )
