"""Draw the last layer small enough for the logits to start near zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy, WeightRow
from gradaudit.remedies import embedding_scale
from gradaudit.remedies._code import MODEL, rounded
from gradaudit.remedies._layers import codes, drawn_within, is_parameter, may_reset, resets
from gradaudit.settings import Settings

ORDER = 35

_LOGIT_STD = 0.3  # adds 0.3^2 / 2 = 0.05 to the loss of a uniform guess


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy; none where the head is drawn anew for its growth already."""
    if "GA503" not in codes(findings) or not may_reset(measurements):
        return
    if "GA503" in embedding_scale.blamed(findings, measurements, settings):
        return
    head = _head(measurements)
    drawn = {start.parameter for start in resets(findings, measurements, settings)}
    if head is None or head.parameter in drawn or not is_parameter(head.parameter, measurements):
        return
    width = math.prod(head.shape[1:])
    # A tied embedding's logits sum over its columns, whatever its own fan-in is.
    std = rounded(min(head.rms, _LOGIT_STD / (_rms_before(measurements) * math.sqrt(width))))
    if std >= head.rms:
        return
    yield Remedy(
        "head-scale",
        "initialization",
        f"Draw `{head.parameter}` with standard deviation {std}, so that the logits start near 0.",
        {"std": {head.parameter: std}},
        "\n".join(
            [
                MODEL,
                "from torch import nn",
                "",
                f"nn.init.normal_(model.get_parameter({head.parameter!r}), std={std!r})",
                "",
            ]
        ),
        "changes start values",
        ("GA503", *drawn_within(findings, [head.parameter])),
        sets=(head.parameter,),
    )


def _head(measurements: Measurements) -> WeightRow | None:
    """The weight of the head stage, else the last one."""
    inside = {
        name for stage in measurements.stages if stage.role == "head" for name in stage.parameters
    }
    rows = [row for row in measurements.weights if row.kind != "other"]
    return next(
        (row for row in reversed(rows) if row.parameter in inside), rows[-1] if rows else None
    )


def _rms_before(measurements: Measurements) -> float:
    """Root mean square of what the head is given; 1 where it was not measured."""
    before = [stage.output_rms for stage in measurements.stages if stage.role != "head"]
    return before[-1] if before and before[-1] else 1.0
