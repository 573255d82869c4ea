"""Whether a layer still tells the samples apart: effective rank and sample correlation.

Of each call of a module with weights, the outputs of up to 64 samples are rows of a matrix (all
positions and units of a sample, or as many of them as fit, make its row).

*Sample correlation* is the mean cosine between two different rows, not centred: the correlation map
of Poole et al. 2016 (arXiv 1606.05340) and Schoenholz et al. 2017 (arXiv 1611.01232), which tends
to 1 with depth in the ordered phase.

*Effective rank* is ``exp(-sum p ln p)`` (Roy and Vetterli 2007) with ``p`` the normalised
eigenvalues of the rows' covariance, which are the squared singular values of the centred matrix. It
counts directions in which samples differ: 1 if all lie on a line, 0 if all are the same to
rounding, at most ``min(samples - 1, entries)``. Centring matters: outputs of a ReLU share a large
mean, which says nothing about how they differ.

Cost: one Gram matrix of at most 64 x 16,384 entries a call, for the first 256 calls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradaudit.probes._hooks import ModuleCall
from gradaudit.probes.trace import tensors_in
from gradaudit.records import NotMeasured
from gradaudit.subject.opened import Opened
from gradaudit.telling import listed

SAMPLES, ENTRIES, CALLS = 64, 16_384, 256
_ROUNDING = 1e-6  # relative difference between float32 outputs that may be rounding alone


@dataclass(frozen=True)
class Rank:
    """What one call's outputs span; ``None`` where it has no value."""

    effective_rank: float | None
    limit: int | None
    correlation: float | None


class Ranks:
    """Gathers :class:`Rank` by (module, call) over the first forward pass it sees.

    ``samples`` is the number of rows of the batch. An output is measured where its first dimension
    (the second, in models whose layers say ``batch_first=False``) has that size.
    """

    def __init__(self, model: nn.Module, samples: int) -> None:
        self._samples = samples
        self._dim = 1 if _time_first(model) else 0
        self._weighted = {
            name
            for name, module in model.named_modules()
            if any(p.dim() > 1 for p in module.parameters())
        }
        self._found: dict[tuple[str, int], Rank] = {}
        self._last: tuple[Tensor, int, Rank] | None = None
        self._over = False
        self._skipped = 0
        self._spoilt: list[str] = []

    def forward_ended(self) -> None:
        """Later passes are not looked at."""
        self._over, self._last = True, None

    def see(self, call: ModuleCall, output: Tensor) -> None:
        """Measure a call's output, if it is one of those that are measured."""
        if self._over or self._samples < 2 or call.name not in self._weighted:
            return
        dim = next((d for d in (self._dim, 0) if d < output.dim() and self._fits(output, d)), None)
        if dim is None:
            return
        if len(self._found) >= CALLS:
            self._skipped += 1
            return
        with torch.no_grad(), torch._C.DisableTorchFunction():
            rank = self._known(output) or measure_rank(output.detach().movedim(dim, 0))
        self._last = (output, output._version, rank)
        self._found[call.name, call.index] = rank
        if rank.limit is None:
            self._spoilt.append(call.name or "the model")

    def _fits(self, output: Tensor, dim: int) -> bool:
        return output.shape[dim] == self._samples and output.numel() > 0

    def _known(self, output: Tensor) -> Rank | None:
        # A container returns its last module's tensor.
        if self._last is not None and self._last[0] is output:
            return self._last[2] if self._last[1] == output._version else None
        return None

    def found(self, missing: list[NotMeasured]) -> dict[tuple[str, int], Rank]:
        """What was measured; what was not goes to ``missing``."""
        what = "effective rank and sample correlation"
        if self._samples < 2:
            missing.append(NotMeasured(what, "the model", "they compare samples: there is one"))
        if self._spoilt:
            missing.append(NotMeasured(what, listed(self._spoilt), "NaN or infinite outputs"))
        if self._skipped:
            why = f"only the first {CALLS} calls of modules with weights are looked at"
            missing.append(NotMeasured(what, f"{self._skipped} calls", why))
        return self._found


def measure_rank(outputs: Tensor) -> Rank:
    """Effective rank and correlation of ``outputs`` [samples, ...], both over the same entries.

    Exact where nothing had to be left out. A sample whose output is zero has no direction and is
    left out of the correlation. All ``None`` where an entry is NaN or infinite.
    """
    rows = _rows(outputs)
    mean = rows.mean(0)
    centred = rows - mean
    gram, norms = centred @ centred.T, rows.square().sum(1)
    if not (bool(gram.isfinite().all()) and bool(norms.isfinite().all())):
        return Rank(None, None, None)
    limit = min(len(rows) - 1, outputs[0].numel())
    return Rank(_effective_rank(gram, float(norms.sum())), limit, _correlation(rows))


def _rows(outputs: Tensor) -> Tensor:
    """Up to 64 samples as rows of up to 16,384 entries, evenly spaced, of largest entry 1."""
    some = outputs[:: math.ceil(len(outputs) / SAMPLES)]
    rows = some.flatten(1) if some.dim() > 1 else some[:, None]
    step = math.ceil(rows.shape[1] / ENTRIES)
    # A step that shares a factor with the sizes would see some units or positions only.
    while step > 1 and math.gcd(step, rows.shape[1]) > 1:
        step += 1
    rows = rows[:, ::step]
    rows = rows.float() if rows.itemsize < 4 else rows
    if rows.is_complex():
        rows = torch.view_as_real(rows).flatten(1)
    peak = rows.abs().max()
    return rows / peak if float(peak) > 0 else rows


def _effective_rank(gram: Tensor, energy: float) -> float | None:
    """From the centred rows' Gram matrix, and the plain rows' sum of squares."""
    values = torch.linalg.eigvalsh(gram.double()).clamp_min(0.0)
    total = float(values.sum())
    if total <= _ROUNDING**2 * energy:
        return 0.0
    shares = values / total
    shares = shares[shares > 0]
    return math.exp(-float((shares * shares.log()).sum()))


def _correlation(rows: Tensor) -> float | None:
    """Mean cosine of different rows: the unit rows' squared sum holds every pair twice.

    In float64: what matters is how far it is from 1.
    """
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    unit = rows[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
    count = len(unit)
    if count < 2:
        return None
    squares, same = float(unit.sum(0).square().sum()), float(unit.square().sum())
    return min(1.0, max(-1.0, (squares - same) / (count * (count - 1))))


def _time_first(model: nn.Module) -> bool:
    return any(getattr(module, "batch_first", None) is False for module in model.modules())


def samples_of(opened: Opened) -> int:
    """Number of samples in the first batch: the target's, where the inputs hold time first."""
    batch = opened.batches[0]
    first = next(tensors_in(batch.inputs), None)
    if first is None or not first.dim():
        return 1
    target = next(tensors_in(batch.target), None)
    if target is not None and target.dim() and first.dim() > 1 and len(target) == first.shape[1]:
        return len(target)
    return len(first)
