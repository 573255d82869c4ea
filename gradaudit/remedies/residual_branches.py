"""Scale the last weight of each residual branch down, so that the branches add up to one stream.

Or zero it (Fixup, Zhang et al. 2019, arXiv 1901.09321; ReZero, Bachlechner et al. 2020, arXiv
2003.04887): of 40 blocks under Adam that left 18% and 33% of the loss (rates 1e-3 and 1e-4) where
scaling left 20% and 35%; of 10 blocks, and under plain SGD, scaling was better in three runs of
five and worse in one (tests/benchmarks/branch_starts.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy, StageRow
from gradaudit.remedies._code import MODEL, list_literal, rounded
from gradaudit.remedies._layers import codes, is_parameter, may_reset, resets
from gradaudit.rules._initialization import normed_stages
from gradaudit.rules._judge import is_adaptive, optimizer_in_use
from gradaudit.settings import Settings

ORDER = 25

_LAYERS = ("dense", "convolution")
_ZEROED_FROM = 30  # blocks, under an adaptive method

_ZERO = """\
with torch.no_grad():
    for name in LAST_OF_BRANCH:
        model.get_parameter(name).zero_()
        layer = model.get_submodule(name.rpartition(".")[0])
        if getattr(layer, "bias", None) is not None:
            layer.bias.zero_()
"""


_ZERO_ELSEWHERE = """\
with torch.no_grad():
    for name in [*LAST_OF_BRANCH, *BIASES]:
        model.get_parameter(name).zero_()
"""


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy where a residual net without normalisation explodes.

    A block x + f(x) has gain 1 + b, b that of the branch; scaled by c it has 1 + c^2 b, and
    c = 1 / sqrt(sum b) bounds the product by e. For b = 1 that is 1 / sqrt(L) (Hanin and Rolnick
    2018, arXiv 1803.01719).
    """
    if "GA101" not in codes(findings) or not may_reset(measurements):
        return
    normed = normed_stages(measurements)
    stages = [s for s in measurements.stages if s.residual and s.index not in normed]
    last = [name for stage in stages if (name := _last_weight(stage, measurements))]
    redrawn = {start.parameter for start in resets(findings, measurements, settings)}
    factor = rounded(_factor(stages, redrawn))
    if not last or factor >= 1:
        return
    zeroed = len(last) >= _ZEROED_FROM and is_adaptive(optimizer_in_use(measurements))
    scale = (
        "with torch.no_grad():\n"
        "    for name in LAST_OF_BRANCH:\n"
        f"        model.get_parameter(name).mul_({factor!r})\n"
    )
    tables, zero = _zeroing(last, measurements)
    yield Remedy(
        "zeroed-branches" if zeroed else "residual-branches",
        "initialization",
        f"Zero the last layer of each of {len(last)} residual branches."
        if zeroed
        else f"Scale the last weight of each of {len(last)} residual branches by {factor}.",
        {"factor": 0.0 if zeroed else factor, "weights": tuple(last)},
        f"{MODEL}\nimport torch\n\n{list_literal('LAST_OF_BRANCH', last)}\n"
        + (tables + zero if zeroed else scale),
        "changes start values",
        ("GA101",),
        sets=tuple(last),
    )


def _zeroing(last: Sequence[str], measurements: Measurements) -> tuple[str, str]:
    """A table of biases, where weights and biases lie elsewhere than their layers; and the code."""
    rows = [row for row in measurements.weights if row.parameter in last and row.elsewhere]
    if not rows:
        return "", _ZERO
    return list_literal("BIASES", [r.bias for r in rows if r.bias]) + "\n", _ZERO_ELSEWHERE


def _factor(stages: Sequence[StageRow], redrawn: set[str]) -> float:
    """From the measured gains, or b = 1 per block where its weights are drawn anew."""
    branches = 0.0
    for stage in stages:
        gain = None if stage.backward_gain is None else stage.backward_gain.value
        anew = bool(redrawn & set(stage.parameters))
        branches += 1.0 if anew or gain is None else max(0.0, gain - 1.0)
    return 1.0 / math.sqrt(branches) if branches > 0 else 1.0


def _last_weight(stage: StageRow, measurements: Measurements) -> str | None:
    weights = {row.parameter for row in measurements.weights if row.kind in _LAYERS}
    inside = [name for name in stage.parameters if name in weights]
    return inside[-1] if inside and is_parameter(inside[-1], measurements) else None
