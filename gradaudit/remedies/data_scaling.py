"""Shift and scale the data to mean 0 and standard deviation 1, before anything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from gradaudit.records import DataRow, Finding, Measurements, Remedy
from gradaudit.remedies._code import rounded
from gradaudit.rules._scale import unscaled
from gradaudit.settings import Settings

ORDER = 10

_ALIKE = 5.0  # times the median deviation: features further apart have units of their own
_OF_MIDDLE = 0.2

Numbers = float | list[float]


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy for the input, one for the target (LeCun et al. 1998, section 4.3)."""
    found = {finding.code for finding in findings}
    for code, role, variable in (("GA501", "input", "x"), ("GA502", "target", "y")):
        rows = [each.row for each in unscaled(measurements, settings, role)]
        rows = [row for row in rows if not row.normalized_by_model]
        if code in found and rows:
            yield _remedy(rows[0], code, role, variable, several=len(rows) > 1)


def _remedy(row: DataRow, code: str, role: str, variable: str, *, several: bool) -> Remedy:
    shift, scale = shift_and_scale(row)
    lines = [
        f"# `{variable}` is a batch of the model's {row.tensor}: a floating torch.Tensor.",
        "import torch",
        "",
        f"SHIFT = torch.tensor({shift!r})",
        f"SCALE = torch.tensor({scale!r})",
        f"{variable} = ({variable} - SHIFT) / SCALE",
    ]
    if role == "target":
        lines.append("# Turn predictions back with: prediction * SCALE + SHIFT")
    if several:
        lines.append(f"# Treat the other {role}s that are named in the findings likewise.")
    numbers = {"shift": shift, "scale": scale}
    # recipe.json has room for one input and one target; others stay advice.
    parameters: dict[str, object] = {"tensor": row.tensor, "numbers": numbers}
    if row.tensor == role:
        parameters[role] = numbers
    shown = "per feature" if isinstance(shift, list) else f"by shift {shift} and scale {scale}"
    return Remedy(
        f"{role}-scaling",
        "data",
        f"Standardise the {row.tensor} {shown}.",
        parameters,
        "\n".join(lines) + "\n",
        "recipe only",
        (code,),
    )


def shift_and_scale(row: DataRow) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation: per feature where known, else of the whole tensor.

    A constant has no deviation: it is only shifted.
    """
    if row.feature_means:
        least = _least_scale(row.feature_stds)
        pairs = zip(row.feature_means, row.feature_stds, strict=True)
        both = [_pair(mean, max(std, least)) for mean, std in pairs]
        return [shift for shift, _ in both], [scale for _, scale in both]
    return _pair(row.mean, row.std)


def _least_scale(stds: Sequence[float]) -> float:
    """Where features are of one kind, as pixels are, the least that any is divided by.

    A pixel that is dark in nearly every image has hardly a deviation in a sample; divided by it the
    first image in which it is bright would be a hundred deviations away.
    """
    middle = median(stds)
    return _OF_MIDDLE * middle if max(stds) <= _ALIKE * middle else 0.0


def _pair(mean: float, std: float) -> tuple[float, float]:
    return (rounded(mean), rounded(std)) if std > 0 else (rounded(mean), 1.0)
