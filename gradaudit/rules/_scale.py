"""Judging the scale and the offset of one tensor of the sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gradaudit.records import DataRow, Estimate, Limit, Measurements
from gradaudit.rules._judge import Judged, is_adaptive, judge, number, optimizer_in_use
from gradaudit.settings import Settings

UNDER_ADAPTIVE = (
    " The optimizer divides by the gradient's size and the rehearsal's loss falls, so this does "
    "not fail the audit."
)


@dataclass(frozen=True)
class Scale:
    """A tensor whose scale or offset is out of its limits."""

    row: DataRow
    measured: Estimate
    judged: Judged
    why: str  # one sentence: tensor, feature, numbers


def unscaled(measurements: Measurements, settings: Settings, role: str) -> Iterator[Scale]:
    """Floating tensors of that role (``input``, ``target``) that are far from unit scale.

    Masks are left out: their huge negative numbers are meant.
    """
    for row in measurements.data:
        if row.role != role or "float" not in row.dtype or "mask" in row.tensor:
            continue
        found = _too_large(row, settings, role) or _too_small(row, settings, role)
        found = found or _too_far_off(row, settings)
        if found is not None:
            yield found


def data_to_blame(measurements: Measurements, settings: Settings) -> bool:
    """Whether the sample's scale fails, so that a loss which stays says nothing about the rest."""
    return any(
        found.judged.severity == "fail" and not found.row.normalized_by_model
        for role in ("input", "target")
        for found in unscaled(measurements, settings, role)
    )


def lived_with(found: Scale, measurements: Measurements, settings: Settings) -> bool:
    """Whether the rehearsal learns with an input that fails, and its optimizer makes up for it.

    Adam's steps do not grow with the gradient, and so not with the inputs. That has an end: in
    inputs that are larger still, in an offset that hides what varies, and in the gates and cells
    of a loop over time, which stay saturated.
    """
    rehearsal = measurements.rehearsal
    if rehearsal is None or rehearsal.outcome != "falls" or measurements.recurrent:
        return False
    _, mean, std = worst_feature(found.row)
    return (
        is_adaptive(optimizer_in_use(measurements))
        and found.measured.value <= settings.limit("input_scale_adaptive").value
        and abs(mean) <= settings.limit("input_offset_adaptive").value * std
    )


def worst_feature(row: DataRow) -> tuple[str, float, float]:
    """Its name in a sentence, mean and std; the whole tensor where no feature was told apart."""
    if row.worst_feature_mean is None or row.worst_feature_std is None:
        return f"The {row.tensor}", row.mean, row.std
    name = f"Feature {row.worst_feature} of the {row.tensor}"
    return name, row.worst_feature_mean, row.worst_feature_std


def _too_large(row: DataRow, settings: Settings, role: str) -> Scale | None:
    name, mean, std = worst_feature(row)
    rms = math.hypot(mean, std)
    if rms < row.rms:
        name, mean, std, rms = f"The {row.tensor}", row.mean, row.std, row.rms
    warn, fail = settings.limit(f"{role}_scale_warn"), settings.limit(f"{role}_scale_fail")
    measured = Estimate.exact(rms, warn.unit)
    judged = judge(measured, warn=warn, fail=fail)
    if judged is None:
        return None
    why = f"{name} has mean {number(mean)} and standard deviation {number(std)}, not about 0 and 1."
    return Scale(row, measured, judged, why)


def _too_small(row: DataRow, settings: Settings, role: str) -> Scale | None:
    """Only the tensor as a whole: a feature that is nearly always zero is no fault."""
    upper = settings.limit(f"{role}_scale_fail")
    limit = Limit(1 / upper.value, "rms", upper.source)
    if not 0 < row.rms < limit.value:
        return None
    why = f"The {row.tensor} has rms {number(row.rms)}, not about 1."
    return Scale(row, Estimate.exact(row.rms, limit.unit), Judged("warn", limit), why)


def _too_far_off(row: DataRow, settings: Settings) -> Scale | None:
    """An offset that hides the variation; a constant, or one below 1, is no more than a bias."""
    name, mean, std = worst_feature(row)
    limit = settings.limit("offset_warn")
    if std <= 0 or abs(mean) <= 1 or abs(mean) / std <= limit.value:
        return None
    measured = Estimate.exact(abs(mean) / std, limit.unit)
    why = f"{name} varies by {number(std)} around {number(mean)}: the offset hides the variation."
    return Scale(row, measured, Judged("warn", limit), why)
