"""Bring a weight whose spectral norm is too large back to the norm of critical random weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._code import MODEL, dict_literal, rounded
from gradaudit.remedies._layers import is_parameter, may_reset
from gradaudit.remedies.catalogue import all_remedies
from gradaudit.settings import Settings

ORDER = 45


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """Start weights are scaled down; for learned ones a spectral-norm cap is shown."""
    wanted = {finding.where.parameter for finding in findings if finding.code == "GA301"}
    changed = _changed_before(findings, measurements, settings)
    factors = {}
    for row in measurements.weights:
        norm, edge = row.spectral_norm, row.critical_edge
        if row.parameter not in wanted - changed or norm is None or edge is None or norm.value <= 0:
            continue
        if is_parameter(row.parameter, measurements):
            factors[row.parameter] = rounded(edge / norm.value)
    if not factors:
        return
    yield _scaled(factors) if may_reset(measurements) else _capped(sorted(factors))


def _changed_before(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> set[str]:
    """Weights that an earlier remedy changes: the norm that was measured is no longer theirs."""
    earlier = (each for each in all_remedies() if each.order < ORDER)
    remedies = (r for each in earlier for r in each.prescribe(findings, measurements, settings))
    return {name for remedy in remedies for name in remedy.sets}


def _scaled(factors: dict[str, float]) -> Remedy:
    lines = [
        MODEL,
        "import torch",
        "",
        dict_literal("FACTOR", factors),
        "with torch.no_grad():",
        "    for name, factor in FACTOR.items():",
        "        model.get_parameter(name).mul_(factor)",
        "",
    ]
    return Remedy(
        "spectral-scale",
        "initialization",
        "Scale the weights that stretch too far down to the norm of critical random weights.",
        {"factor": factors},
        "\n".join(lines),
        "changes start values",
        ("GA301",),
        sets=tuple(factors),
    )


def _capped(names: Sequence[str]) -> Remedy:
    lines = [
        "# `model` is your torch.nn.Module. Keeps the largest singular value at 1 while it trains",
        "# (for convolutions: that of the reshaped kernel, which is not a bound on the operator).",
        "from torch.nn.utils.parametrizations import spectral_norm",
        "",
        f"for name in {list(names)!r}:",
        '    module, _, weight = name.rpartition(".")',
        "    spectral_norm(model.get_submodule(module), weight)",
        "",
    ]
    return Remedy(
        "spectral-cap",
        "architecture",
        "Cap the spectral norm of the weights that stretch too far.",
        {"weights": tuple(names)},
        "\n".join(lines),
        "changes architecture: shown, not applied",
        ("GA301",),
    )
