"""Let the weights train that were frozen at their random start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._code import MODEL, list_literal
from gradaudit.remedies._layers import codes
from gradaudit.rules.mostly_frozen import frozen_weights
from gradaudit.settings import Settings

ORDER = 15


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, never on learned weights, which may be frozen for good reason."""
    if "GA105" not in codes(findings):
        return
    names = frozen_weights(measurements)
    lines = [
        MODEL.replace("before training", "before the optimizer is made"),
        list_literal("FROZEN", names),
        "for name in FROZEN:",
        "    model.get_parameter(name).requires_grad_(True)",
        "",
    ]
    yield Remedy(
        "unfreezing",
        "initialization",
        f"Let {len(names)} frozen parameters train: they hold random numbers.",
        {"parameters": names},
        "\n".join(lines),
        "changes start values",
        ("GA105", "GA104"),
    )
