"""Shift batch norms so that the ReLUs behind them work in their linear part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._code import MODEL, list_literal
from gradaudit.remedies._layers import codes, is_parameter, may_reset
from gradaudit.settings import Settings

ORDER = 27

_SHIFT = 2.0
_BENT = ("relu", "leakyrelu", "elu", "selu", "gelu", "silu")


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy for deep plain nets that explode although (because) they are normalised.

    Normalising before a bent activation makes the gradient grow by pi / (pi - 1) = 1.47 a layer
    (squared) whatever the weights are; the more linear the activation, the less (Yang et al. 2019,
    arXiv 1902.08129). With a bias of 2 in the norm a ReLU passes 98% of its inputs: nets of 50
    layers that stalled at chance then learn (tests/corpus/tune/batchnorm.py).
    """
    if "GA101" not in codes(findings) or not may_reset(measurements):
        return
    if not any(row.type.lower() in _BENT for row in measurements.modules):
        return
    residual = {name for s in measurements.stages if s.residual for name in s.modules}
    norms = [
        row.module
        for row in measurements.modules
        if row.type.startswith("BatchNorm") and row.call == 0 and row.module not in residual
        if is_parameter(f"{row.module}.bias", measurements)  # affine=False has none
    ]
    if len(norms) < 2:
        return
    yield Remedy(
        "norm-shift",
        "initialization",
        f"Start the bias of {len(norms)} batch norms at {_SHIFT:g}, so that what is behind them "
        "works in its linear part.",
        {"bias": _SHIFT, "modules": tuple(norms)},
        "\n".join(
            [
                MODEL,
                "from torch import nn",
                "",
                list_literal("NORMS", norms),
                "for name in NORMS:",
                "    layer = model.get_submodule(name)",
                "    if layer.bias is not None:",
                f"        nn.init.constant_(layer.bias, {_SHIFT!r})",
                "",
            ]
        ),
        "changes start values",
        ("GA101",),
        sets=tuple(f"{name}.bias" for name in norms),
    )
