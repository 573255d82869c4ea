"""Find what cuts parameters off from the loss, or freeze them where it is meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._code import list_literal
from gradaudit.remedies._layers import codes
from gradaudit.settings import Settings

ORDER = 70


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, shown: only the author knows whether it is meant."""
    if "GA104" not in codes(findings):
        return
    names = [r.parameter for r in measurements.parameters if r.trainable and not r.connected]
    lines = [
        "# `model` is your torch.nn.Module. If these are meant to be fixed, say so; if not, look",
        "# for detach(), no_grad(), .item(), .numpy() or an unused submodule on their way.",
        list_literal("CUT_OFF", names),
        "for name in CUT_OFF:",
        "    model.get_parameter(name).requires_grad_(False)",
        "",
    ]
    yield Remedy(
        "reconnection",
        "architecture",
        "Remove what cuts these parameters off from the loss, or freeze them where it is meant.",
        {"parameters": tuple(names)},
        "\n".join(lines),
        "changes architecture: shown, not applied",
        ("GA104",),
    )
