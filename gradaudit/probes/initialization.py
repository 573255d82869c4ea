"""Which known initialization a weight looks like, and whether a model's weights are a start.

Iid entries of a known law leave statistics whose sampling errors are known from the number of
entries: mean, variance, kurtosis, the largest entry, the spread of row and column means and
variances, and the top singular value (Johnstone 2001). A weight is called by a law's name only if
all of them agree; training breaks at least one, first of all the evenness of rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradaudit.linalg.dense import pieces
from gradaudit.records import WeightRow

UNKNOWN = "unknown"
_SIGMAS = 5.0  # sampling errors a statistic may be off
_SUMMED_SIGMAS = 6.0  # the same for sums over rows or columns, whose tails are heavier
_TAIL = 1e-6  # probability that the largest of all entries exceeds its limit
_TRACY_WIDOM = 5.0  # quantile of the Tracy-Widom law (beta = 1) at about 1 - 1e-6
_MIN_ENTRIES = 24  # fewer cannot be told apart
_MAX_ENTRIES = 2**19  # of a larger weight some rows are looked at
_MAX_COLUMNS = 2**17  # of a longer row some columns


@dataclass(frozen=True)
class _Law:
    """A symmetric law of iid entries, by its standardized moments and its largest entry."""

    name: str
    kurtosis: float
    kurtosis_error: float  # standard error of the sample kurtosis, times sqrt(N)
    end: float | None  # largest entry in standard deviations; None: unbounded


# n Var(b2) = beta8 - 4 beta4 beta6 + 4 beta4^3 - beta4^2 for symmetric laws.
_UNIFORM = _Law("uniform", 1.8, math.sqrt(1.3166), math.sqrt(3.0))
_NORMAL = _Law("normal", 3.0, math.sqrt(24.0), None)
# The normal law cut at two standard deviations, as flax and keras draw it.
_TRUNCATED = _Law("truncated normal", 2.3659, 1.965, 2.2737)


def name_initialization(row: WeightRow, tensor: Tensor, lowest: float, highest: float) -> WeightRow:
    """``row`` with its ``initialization``; ``lowest`` and ``highest`` bound the finite entries.

    One of ``zeros``, ``constant``, ``identity``, ``orthogonal``, ``torch default``,
    ``kaiming|xavier|lecun normal|uniform``, ``N(0,1)``, ``normal std S``, ``uniform +-B``,
    ``truncated normal std S`` and ``unknown``; a gain follows where it is not one.
    """
    if not row.finite:
        return row
    if lowest == highest:
        return replace(row, initialization="zeros" if lowest == 0 else "constant")
    name = _structured(row, tensor) or _random(row, tensor, max(-lowest, highest))
    return replace(row, initialization=name)


def _structured(row: WeightRow, tensor: Tensor) -> str:
    """``identity`` or ``orthogonal``, possibly stacked by gates, else empty."""
    if tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]:
        diagonal = tensor.diagonal()
        diagonal = diagonal.double()
        same = bool((diagonal == diagonal[0]).all()) and float(diagonal[0]) != 0
        if same and int(torch.count_nonzero(tensor)) == len(diagonal):
            return _with_gain("identity", float(diagonal[0]))
    norm = row.reshaped_norm
    if not norm or row.kind == "embedding":
        return ""
    rows, columns = _sides(row)
    if min(rows, columns) < 2 or tensor.numel() < _MIN_ENTRIES:
        return ""
    # All singular values are equal if and only if ||W||_F^2 = min(m, n) sigma_1^2.
    equal = (row.rms / norm) ** 2 * tensor.numel() / min(rows, columns)
    if equal < 1 - 1e-4:
        return ""
    gates = rows // columns if row.kind == "recurrent" and rows % columns == 0 else 1
    return _with_gain("orthogonal", norm / math.sqrt(gates))


def _with_gain(name: str, gain: float) -> str:
    return name if abs(gain - 1) < 1e-3 else f"{name} gain {gain:.3g}"


def _random(row: WeightRow, tensor: Tensor, largest: float) -> str:
    """The name of the law all statistics agree with, or ``unknown``."""
    matrix = tensor.flatten(0, -2) if row.kind == "embedding" else tensor.flatten(1)
    matrix = matrix[:: max(matrix.numel() // _MAX_ENTRIES, 1)]
    matrix = matrix[:, :: max(math.ceil(matrix.shape[1] / _MAX_COLUMNS), 1)]
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.float()
    if row.kind == "embedding":  # the padding row is zero by convention
        matrix = matrix[matrix.any(dim=1)]
    if matrix.numel() < _MIN_ENTRIES:
        return UNKNOWN
    sample = _statistics(matrix, largest)
    laws = [law for law in (_UNIFORM, _TRUNCATED, _NORMAL) if _fits(law, sample, largest)]
    law = min(laws, key=lambda law: abs(sample.kurtosis - law.kurtosis), default=None)
    if law is None or not _even(law, sample) or _outlier(row):
        return UNKNOWN
    return _scale_name(row, law, sample, largest)


@dataclass(frozen=True)
class _Statistics:
    """Of all entries, and of each line of a matrix: rows first, then columns."""

    shape: tuple[int, int]
    mean: float
    std: float
    kurtosis: float
    means: tuple[Tensor, Tensor]
    variances: tuple[Tensor, Tensor]  # mean squares about the mean of all, over their own mean

    @property
    def count(self) -> int:
        return self.shape[0] * self.shape[1]


def _statistics(matrix: Tensor, largest: float) -> _Statistics:
    """One pass over float64 pieces, so that a large matrix needs little memory.

    Entries are taken in units of a power of two near the ``largest``, so that fourth powers stay
    in float64's range.
    """
    rows, columns = matrix.shape
    unit = math.ldexp(1.0, math.frexp(largest)[1] - 1)
    centre = float(matrix.mean(dtype=torch.float64)) / unit
    row_sums, row_squares, fourth = [], [], 0.0
    column_sums = matrix.new_zeros(columns, dtype=torch.float64)
    column_squares = torch.zeros_like(column_sums)
    for raw in pieces(matrix):
        piece = (raw / unit).sub_(centre)
        row_sums.append(piece.sum(1))
        column_sums += piece.sum(0)
        piece.square_()
        row_squares.append(piece.sum(1))
        column_squares += piece.sum(0)
        flat = piece.flatten()
        fourth += float(flat @ flat)
    variance = float(column_squares.sum()) / matrix.numel()
    return _Statistics(
        (rows, columns),
        unit * (centre + float(column_sums.sum()) / matrix.numel()),
        unit * math.sqrt(variance),
        fourth / matrix.numel() / variance**2 if variance > 0 else math.inf,
        (unit * (centre + torch.cat(row_sums) / columns), unit * (centre + column_sums / rows)),
        (torch.cat(row_squares) / columns / variance, column_squares / rows / variance),
    )


def _fits(law: _Law, sample: _Statistics, largest: float) -> bool:
    root = math.sqrt(sample.count)
    if not 0 < sample.std < math.inf or abs(sample.mean) > _SIGMAS * sample.std / root:
        return False
    # Small samples have a kurtosis biased down by 2 (k - 1) / N or so.
    error = _SIGMAS * law.kurtosis_error / root + 6.0 / sample.count
    if abs(sample.kurtosis - law.kurtosis) > error:
        return False
    reach = largest / sample.std
    if law.end is None:
        return reach <= math.sqrt(2 * math.log(2 * sample.count / _TAIL))
    return reach <= law.end * (1 + _SIGMAS * _std_error(law, sample.count))


def _std_error(law: _Law, count: int) -> float:
    """Relative standard error of the sample standard deviation."""
    return math.sqrt((law.kurtosis - 1) / count) / 2


def _even(law: _Law, sample: _Statistics) -> bool:
    """Whether means and variances of rows and columns spread as those of iid entries do.

    For each of ``m`` lines of ``n`` entries the standardized mean is about N(0, 1), and so is the
    standardized variance; the sums of their squares are about ``m +- sqrt((2 + excess) m)``.
    """
    for length, line_means, line_variances in zip(
        sample.shape[::-1], sample.means, sample.variances, strict=True
    ):
        lines = len(line_means)
        if min(lines, length) < 4:
            continue
        means = (line_means - sample.mean) / sample.std * math.sqrt(length)
        spread = math.sqrt((law.kurtosis - 1) / length)
        variances = (line_variances - 1) / spread
        for scores, excess in ((means, 0.0), (variances, 12.0 / length)):
            off = float(scores.square().sum()) - lines
            if abs(off) > _SUMMED_SIGMAS * math.sqrt((2 + excess) * lines) + 2:
                return False
    return True


def _sides(row: WeightRow) -> tuple[int, int]:
    """Rows and columns of the matrix that ``reshaped_norm`` is of."""
    outputs = row.shape[1 if "Transpose" in row.type else 0]
    return outputs, math.prod(row.shape) // outputs


def _outlier(row: WeightRow) -> bool:
    """Whether the top singular value lies beyond the Tracy-Widom law of iid entries."""
    if not row.reshaped_norm:
        return False
    m, n = (math.sqrt(side) for side in _sides(row))
    spread = (m + n) * (1 / m + 1 / n) ** (1 / 3)
    limit = (m + n) ** 2 + _TRACY_WIDOM * spread
    return row.reshaped_norm > row.rms * math.sqrt(limit)


def _scale_name(row: WeightRow, law: _Law, sample: _Statistics, largest: float) -> str:
    """The known initialization of this law whose scale fits, else the law and its scale."""
    candidates = _known_scales(row) if law is not _TRUNCATED else {}
    tolerance = _SIGMAS * _std_error(law, sample.count) + 1e-4
    misfit = {name: abs(sample.std / std - 1) for name, std in candidates.items()}
    near = sorted((name for name in misfit if misfit[name] <= tolerance), key=misfit.__getitem__)
    if law is _UNIFORM:
        return _uniform_name(near, candidates, largest)
    kind = [name for name in near if name.endswith("normal")]
    if kind:
        return kind[0]
    if law is _NORMAL and abs(sample.std - 1) <= tolerance:
        return "N(0,1)"
    known = 0.02 if abs(sample.std / 0.02 - 1) <= tolerance else float(f"{sample.std:.2g}")
    return f"{law.name} std {known:g}"


def _uniform_name(near: Sequence[str], candidates: dict[str, float], largest: float) -> str:
    """A known uniform law has a sharp end: entries just past it mean that they have moved."""
    ends = {name: candidates[name] * math.sqrt(3) for name in near if not name.endswith("normal")}
    if not ends:
        return f"uniform +-{largest:.2g}"
    within = [name for name, end in ends.items() if largest <= end * (1 + 1e-6)]
    name = min(within, key=ends.__getitem__, default=UNKNOWN)
    return "torch default" if name.startswith("torch default") else name


def _known_scales(row: WeightRow) -> dict[str, float]:
    """Standard deviations of the known initializations for this shape, most usual first.

    Fans as torch counts them: from the stored shape, so (out, in, taps). An ONNX product stores
    the transpose of what was drawn.
    """
    if row.kind == "embedding":
        return {}
    taps = math.prod(row.shape[2:])
    fan_in, fan_out = row.shape[1] * taps, row.shape[0] * taps
    if row.type in ("MatMul", "Gemm") and len(row.shape) == 2:
        fan_in, fan_out = row.fan_in, math.prod(row.shape) // row.fan_in
    if row.kind == "recurrent":
        defaults = {f"torch default {g}": math.sqrt(g / (3 * row.shape[0])) for g in (1, 3, 4)}
    else:
        defaults = {"torch default": 1 / math.sqrt(3 * fan_in)}
    scales = dict(defaults)
    for law in ("uniform", "normal"):
        scales[f"kaiming {law}"] = math.sqrt(2 / fan_in)
        scales[f"xavier {law}"] = math.sqrt(2 / (fan_in + fan_out))
        scales[f"lecun {law}"] = math.sqrt(1 / fan_in)
        scales[f"kaiming fan-out {law}"] = math.sqrt(2 / fan_out)
    return scales
