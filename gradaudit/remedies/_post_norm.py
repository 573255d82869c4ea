"""Post-norm blocks: residual stages whose norm comes after the sum."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradaudit.records import Finding, Measurements, StageRow

_NORMS = ("layernorm", "rmsnorm")
_DEEP = 6  # layers: Xiong et al. 2020, arXiv 2002.04745, train 6 without warm-up only at low rates
_SAME = 1e-3


def post_norm_stages(measurements: Measurements) -> tuple[StageRow, ...]:
    """Residual stages that end with a layer norm: what leaves the stage is what it returned."""
    return tuple(
        stage
        for stage in measurements.stages
        if stage.residual and _ends_with_norm(stage, measurements)
    )


def sublayers(measurements: Measurements) -> int:
    """Layer norms in post-norm stages: one for each residual sum."""
    inside = {name for stage in post_norm_stages(measurements) for name in stage.modules}
    norms = {row.module for row in measurements.modules if row.type.lower() in _NORMS}
    return len(inside & norms)


def is_deep_post_norm(measurements: Measurements) -> bool:
    """Whether there are as many such blocks as need care."""
    return sublayers(measurements) >= 2 * _DEEP


def past_limits(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Codes that say growth, or training at the recipe's rate, fails."""
    wanted = ("GA101", "GA102", "GA404", "GA601", "GA603", "GA604")
    return tuple(sorted({f.code for f in findings} & set(wanted)))


def _ends_with_norm(stage: StageRow, measurements: Measurements) -> bool:
    """Rows of modules come in the order in which calls end, a block after what is inside it."""
    inner = [
        row
        for row in measurements.modules
        if row.module in stage.modules
        and not any(other.startswith(f"{row.module}.") for other in stage.modules)
    ]
    if not inner or inner[-1].type.lower() not in _NORMS:
        return False
    last, whole = inner[-1].output_rms, stage.output_rms
    return last is not None and whole is not None and math.isclose(last, whole, rel_tol=_SAME)
