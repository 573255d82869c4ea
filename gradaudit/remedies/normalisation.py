"""Normalisation layers, for a deep plain net whose growth no start values mend.

Layer norm (Ba et al. 2016, arXiv 1607.06450), not batch norm: in a plain net that grows by 1.47 a
layer whatever the weights are (Yang et al. 2019, arXiv 1902.08129).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies import skip_connections
from gradaudit.remedies._code import list_literal
from gradaudit.remedies._layers import codes
from gradaudit.rules._initialization import normed_stages
from gradaudit.settings import Settings

ORDER = 73

_LEAST = 4  # layers

_CODE = """\
from torch import nn

for name in LAYERS:
    layer = model.get_submodule(name)
    if isinstance(layer, nn.Linear):
        norm = nn.LayerNorm(layer.out_features)
    else:
        norm = nn.GroupNorm(1, layer.out_channels)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Sequential(layer, norm))
"""


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, shown, for the hidden layers of a net that has neither norms nor skips."""
    answered = codes(findings) & {"GA101", "GA102"}
    if not answered or normed_stages(measurements) or any(s.residual for s in measurements.stages):
        return
    if not any(True for _ in skip_connections.prescribe(findings, measurements, settings)):
        return  # start values mend it
    hidden = {name for s in measurements.stages if s.role != "head" for name in s.modules}
    layers = [
        row.module
        for row in measurements.weights
        if row.module in hidden and row.type in ("Linear", "Conv1d", "Conv2d", "Conv3d")
    ]
    if len(layers) < _LEAST:
        return
    yield Remedy(
        "normalisation",
        "architecture",
        f"Normalise what each of {len(layers)} hidden layers computes, before its activation.",
        {"layers": tuple(layers)},
        f"# `model` is your torch.nn.Module, before the optimizer is built.\n"
        f"{list_literal('LAYERS', layers)}\n\n{_CODE}",
        "changes architecture: shown, not applied",
        tuple(sorted(answered)),
    )
