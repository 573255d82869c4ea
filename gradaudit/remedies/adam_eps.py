"""Give Adam an eps that fp16 can hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._layers import codes
from gradaudit.settings import Settings

ORDER = 58


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, where the weights are in fp16 and eps is too small for it."""
    if "GA704" not in codes(findings):
        return
    eps = settings.limit("half_eps_min").value
    yield Remedy(
        "adam-eps",
        "recipe",
        f"Set the optimizer's eps to {eps!r}, which fp16 can hold.",
        {"eps": eps},
        "# `optimizer` is your torch.optim.Optimizer.\n"
        "for group in optimizer.param_groups:\n"
        f'    group["eps"] = {eps!r}\n',
        "recipe only",
        ("GA704",),
    )
