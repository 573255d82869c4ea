"""How far growth may differ between two starts of one model, by chance alone.

A growth's own interval says how well it was measured on these weights. Weights drawn anew give
another: the log gains of the stages are then drawn anew, and their mean over ``n`` stages varies by
their spread over the root of ``n``, their sum by its root times the spread. The spread is taken
from the stages at hand (Student's interval), so that a net whose stages differ by design is held
to less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from gradaudit.comparing.fields import Field
from gradaudit.records import Estimate

_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # 95%, by freedom
_LARGEST = 700.0  # exp of more is no float


def spread(report: Field) -> tuple[float, int]:
    """Half the 95% interval for one draw of an interior stage's natural log gain; the stages.

    Zero where fewer than two were measured.
    """
    gains = [
        stage.at("backward_gain", "value").maybe_number()
        for stage in report.at("measurements", "stages").items()
        if stage.at("role").text() == "interior"
    ]
    logs = [math.log(max(gain, 1e-300)) for gain in gains if gain is not None]
    if len(logs) < 2:
        return 0.0, len(logs)
    return _quantile(len(logs) - 1) * _deviation(logs), len(logs)


def widened_ratio(estimate: Estimate, half: float) -> Estimate:
    """A ratio whose natural logarithm may lie ``half`` further off, either way."""
    if estimate.value <= 0:
        return estimate
    low, high = (math.log(max(each, 1e-300)) for each in _known(estimate))
    value = math.log(estimate.value)
    return replace(
        estimate,
        low=math.exp(max(value - math.hypot(value - low, half), -_LARGEST)),
        high=math.exp(min(value + math.hypot(high - value, half), _LARGEST)),
    )


def widened_log10(estimate: Estimate, half: float) -> Estimate:
    """A decimal logarithm that may lie ``half`` natural units further off, either way."""
    low, high = _known(estimate)
    more = half / math.log(10)
    value = estimate.value
    return replace(
        estimate,
        low=value - math.hypot(value - low, more),
        high=value + math.hypot(high - value, more),
    )


def _known(estimate: Estimate) -> tuple[float, float]:
    low = estimate.value if estimate.low is None else estimate.low
    return low, estimate.value if estimate.high is None else estimate.high


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((each - mean) ** 2 for each in values) / (len(values) - 1))


def _quantile(freedom: int) -> float:
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else 1.96 + 2.5 / freedom
