"""Reset the layers that feed dead or saturated units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy, WeightRow
from gradaudit.remedies._layers import drawn_within, is_parameter, may_reset, resets, start_of
from gradaudit.remedies.initialization import code
from gradaudit.rules._initialization import needed_variance
from gradaudit.settings import Settings

ORDER = 40

_LAYERS = ("dense", "convolution")


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """New weights and a zero bias where the layer in front is known; a leaky activation, shown."""
    dead = [f.where.module for f in findings if f.code == "GA401"]
    modules = dead + [f.where.module for f in findings if f.code == "GA402"]
    if may_reset(measurements):
        drawn = {start.parameter for start in resets(findings, measurements, settings)}
        rows = {
            row.parameter: row
            for module in modules
            for row in _feeding(module, measurements)
            if row.parameter not in drawn
        }
        if rows:
            yield _reset(tuple(rows.values()), findings, measurements)
    if dead:
        yield _leaky(dead, measurements)


def _reset(
    rows: Sequence[WeightRow], findings: Sequence[Finding], measurements: Measurements
) -> Remedy:
    starts = [start_of(row, measurements) for row in rows]
    names = ", ".join(f"`{row.module}`" for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
    return Remedy(
        "unit-reset",
        "initialization",
        f"Draw the weights of {names} anew and set the biases to zero.",
        {"std": {start.parameter: start.std for start in starts}},
        code(starts),
        "changes start values",
        ("GA401", "GA402", *drawn_within(findings, [start.parameter for start in starts])),
        sets=tuple(start.parameter for start in starts),
    )


def _feeding(module: str, measurements: Measurements) -> list[WeightRow]:
    """The layers whose activation ``module`` is: weights of its stage, with that activation."""
    kinds = {row.type for row in measurements.modules if row.module == module}
    stage = next((s for s in measurements.stages if module in s.modules), None)
    if stage is None:
        return []
    return [
        row
        for row in measurements.weights
        if row.parameter in stage.parameters
        and row.kind in _LAYERS
        and is_parameter(row.parameter, measurements)
        and needed_variance(row.activation) is not None
        and row.activation.lower().replace("_", "") in {kind.lower() for kind in kinds}
    ]


def _leaky(modules: Sequence[str], measurements: Measurements) -> Remedy:
    relus = [
        row.module
        for row in measurements.modules
        if row.module in modules and row.type == "ReLU" and row.call == 0
    ]
    lines = [
        "# `model` is your torch.nn.Module. A leaky activation cannot die.",
        "from torch import nn",
        "",
        f"for name in {relus!r}:",
        "    model.set_submodule(name, nn.LeakyReLU(0.01))",
        "",
    ]
    return Remedy(
        "leaky-activation",
        "architecture",
        "Or use a leaky activation, which passes some gradient everywhere.",
        {"modules": tuple(modules), "slope": 0.01},
        "\n".join(lines),
        "changes architecture: shown, not applied",
        ("GA401",),
    )
