"""Spectral norms of all weights, each as the linear map it is used as.

Every row also says what iid entries of the same size would give (the Bai-Yin edge), so that a rule
can tell a large norm from a large matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gradaudit.linalg.dense import frobenius_norm
from gradaudit.linalg.entries import Entries, look_at
from gradaudit.pacing import QUIET, Progress
from gradaudit.probes.folding import Fold, fits, fold
from gradaudit.probes.initialization import name_initialization
from gradaudit.probes.peers import beside_peers
from gradaudit.probes.recurrent_gates import UNIT, bounds_estimate, stable_rank
from gradaudit.probes.weight_norms import ASSUMED_SIZE, Norms, measure_norms
from gradaudit.probes.weight_sites import Site, Weights, find_weights
from gradaudit.records import Estimate, NotMeasured, WeightRow
from gradaudit.settings import Settings
from gradaudit.telling import listed

NOTHING: Mapping[str, Any] = MappingProxyType({})
_COMPARED = 2**18  # entries compared at a time


def measure_weights(
    source: Weights,
    input_sizes: Mapping[str, tuple[int, ...]],
    activations: Mapping[str, str],
    settings: Settings,
    folds: Mapping[str, Fold] | None = None,
    *,
    progress: Progress = QUIET,
) -> tuple[tuple[WeightRow, ...], tuple[NotMeasured, ...]]:
    """One row per weight of ``source``, a live model or tensors by name, and what is missing.

    ``input_sizes`` maps a convolution module's name to the spatial size of its input, without
    batch and channels; ``activations`` a module's name to the nonlinearity that follows it;
    ``folds`` a module's name to the batch norm directly behind it, which is then folded in too. At
    most ``settings.budget.lanczos_steps`` products each way per weight (as many again for each gate
    and for a folded norm), seeded from ``settings.seed``. The model is only read.
    """
    sites, missing = find_weights(source)
    book = WeightBook(settings, missing, activations, input_sizes, folds or {})
    for i, site in enumerate(sites):
        progress.within(i / len(sites), f"weight {i + 1:,} of {len(sites):,}")
        book.measure(site)
    return book.finished()


class WeightBook:
    """The rows so far, and what could not be measured; one weight is in memory at a time."""

    def __init__(
        self,
        settings: Settings,
        missing: Sequence[NotMeasured],
        activations: Mapping[str, str] = NOTHING,
        input_sizes: Mapping[str, tuple[int, ...]] = NOTHING,
        folds: Mapping[str, Fold] = NOTHING,
    ) -> None:
        self._settings = settings
        self._activations, self._sizes, self._folds = activations, input_sizes, folds
        self._rows: list[WeightRow] = []
        self._missing = list(missing)
        self._assumed: dict[str, list[str]] = {}

    @torch.no_grad()
    def measure(self, site: Site) -> WeightRow:
        """Read one weight, once, and write down its row."""
        size = self._sizes.get(site.module)
        row, norms = _row(site, size, self._activations, self._settings)
        found = self._folds.get(site.module)
        if found is not None and row.finite and fits(found, site):
            row, gaps = _folded(row, site, size, found, self._settings)
            self._missing.extend(gaps)
        self._rows.append(row)
        self._missing.extend(norms.missing)
        if norms.assumed:
            self._assumed.setdefault(norms.assumed, []).append(site.parameter)
        return row

    def finished(self) -> tuple[tuple[WeightRow, ...], tuple[NotMeasured, ...]]:
        """All rows, each set beside its peers, and what is missing."""
        return beside_peers(self._rows), (*self._missing, *_assumptions(self._assumed))


def _row(
    site: Site,
    size: tuple[int, ...] | None,
    activations: Mapping[str, str],
    settings: Settings,
) -> tuple[WeightRow, Norms]:
    raw = _reachable(site.values())
    entries = look_at(raw, _output_axis(site))
    tensor = raw if _taken_in_pieces(site) else _readable(raw)
    del raw
    finite, rms = entries.finite, _rms(entries)
    norms = (
        measure_norms(site, tensor, size, settings, entries.frobenius)
        if finite
        else _shape_only(site, tensor, size, settings)
    )
    estimate = None if norms.bounds is None else bounds_estimate(norms.bounds)
    if estimate is None and not norms.missing:
        lost = NotMeasured(UNIT, site.parameter, "the norm overflows float64")
        norms = Norms(None, None, norms.edge, norms.fan_in, missing=(lost,))
    row = WeightRow(
        parameter=site.parameter,
        module=site.module,
        kind=site.kind,
        shape=tuple(tensor.shape),
        spectral_norm=estimate,
        stable_rank=_stable_rank(norms),
        input_size=norms.input_size,
        reshaped_norm=norms.reshaped,
        spectral_radius=norms.radius,
        rms=rms,
        fan_in=norms.fan_in,
        random_edge=_finite_product(rms, norms.edge) if finite else None,
        critical_edge=None if norms.edge is None else norms.edge / math.sqrt(norms.fan_in),
        finite=finite,
        identical_rows=_identical_rows(site, tensor),
        initialization="unknown",
        type=site.type,
        activation=activations.get(site.module, ""),
        parts=norms.parts,
        elsewhere=site.elsewhere,
        bias=site.bias,
        inputs_first=site.elsewhere and site.inputs_first,
        nonfinite_entries=entries.nonfinite,
        outputs=entries.outputs,
        dead_outputs=entries.dead,
        peak=entries.largest / rms if finite and rms > 0 else None,
        random_peak=math.sqrt(2 * math.log(2 * entries.count)),
    )
    return name_initialization(row, tensor, entries.lowest, entries.highest), norms


def _output_axis(site: Site) -> int:
    """The axis along which a weight's output units lie."""
    if site.kind == "embedding":
        return site.tensor.ndim - 1
    transposed = site.geometry is not None and site.geometry.transposed
    return 1 if site.inputs_first or transposed else 0


def _taken_in_pieces(site: Site) -> bool:
    """Whether its norm is taken without a copy in float32 as a whole."""
    return site.kind == "embedding" or (
        site.kind in ("dense", "recurrent") and site.tensor.ndim == 2
    )


def _reachable(tensor: Tensor) -> Tensor:
    """``tensor`` on a device that linear algebra works on."""
    return tensor if tensor.device.type in ("cpu", "cuda") else tensor.cpu()


def _finite_product(a: float, b: float | None) -> float | None:
    return a * b if b is not None and math.isfinite(a * b) else None


def _readable(tensor: Tensor) -> Tensor:
    """``tensor`` on a device and in a precision that linear algebra works in."""
    tensor = _reachable(tensor)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _rms(entries: Entries) -> float:
    """Root mean square of the finite entries; the largest, where the sum overflows."""
    return entries.rms if math.isfinite(entries.rms) else entries.largest


def _stable_rank(norms: Norms) -> float | None:
    bounds = norms.bounds
    if bounds is None or norms.frobenius is None or not math.isfinite(bounds.value):
        return None
    return stable_rank(norms.frobenius, bounds.value)


def _folded(
    row: WeightRow, site: Site, size: tuple[int, ...] | None, found: Fold, settings: Settings
) -> tuple[WeightRow, tuple[NotMeasured, ...]]:
    """``row`` with the norm it has with its batch norm folded in, free for a common factor."""
    if not found.finite:
        why = f"the running statistics of `{found.module}` are not finite numbers"
        return row, (NotMeasured("norm with batch norm folded in", row.parameter, why),)
    if found.factor is not None:
        after = _scaled(row.spectral_norm, abs(found.factor))
    else:
        tensor = fold(_readable(site.tensor), site, found.scale)
        frobenius = frobenius_norm(tensor)
        norms = measure_norms(site, tensor, size, settings, frobenius)
        # Folding rounds every entry by up to one epsilon; the norm of that is at most Frobenius'.
        slack = torch.finfo(tensor.dtype).eps * frobenius
        after = None if norms.bounds is None else bounds_estimate(norms.bounds.widened(slack))
    return replace(row, folded_norm=after, folded_with=found.module), ()


def _scaled(estimate: Estimate | None, factor: float) -> Estimate | None:
    if estimate is None:
        return None
    low, high = (None if b is None else b * factor for b in (estimate.low, estimate.high))
    return Estimate(estimate.value * factor, low, high, estimate.unit)


def _identical_rows(site: Site, tensor: Tensor) -> bool:
    """Whether all output units (columns of an inputs-first weight) have the same weights."""
    outputs = tensor.T if site.inputs_first else tensor
    if site.geometry is not None and site.geometry.transposed:
        outputs = outputs.transpose(0, 1)
    if outputs.shape[0] < 2 or not torch.equal(outputs[0].float(), outputs[1].float()):
        return False
    first = outputs[0].double()
    rows = max(_COMPARED // max(first.numel(), 1), 1)
    return all(bool((part.double() == first).all()) for part in outputs.split(rows))


def _shape_only(
    site: Site, tensor: Tensor, size: tuple[int, ...] | None, settings: Settings
) -> Norms:
    """Of a weight that is not finite, what its shape can say."""
    zero = torch.zeros(1, dtype=tensor.dtype, device=tensor.device)
    zeros = measure_norms(site, zero.expand(tensor.shape), size, settings, 0.0)
    why = "it has entries that are NaN or infinite"
    lost = (NotMeasured(UNIT, site.parameter, why),)
    return Norms(None, None, zeros.edge, zeros.fan_in, missing=lost)


_ASSUMPTIONS = {
    "size": (
        "operator norm on the input size seen",
        f"no run showed the input size; {ASSUMED_SIZE} per dimension was assumed",
    ),
    "geometry": (
        "operator norm on the input size seen; stable rank",
        "stride, padding and input size are not stored with the weight: the value is for stride 1 "
        "and circular padding, the interval holds for every stride, zero padding and input "
        "at least twice the kernel's size (without groups)",
    ),
    "groups": (
        "operator norm on the input size seen; stable rank",
        "a single input channel, so it may be depthwise: the value is for one group at stride 1, "
        "the interval holds for every grouping, stride, zero padding and input at least twice the "
        "kernel's size",
    ),
}


def _assumptions(assumed: Mapping[str, list[str]]) -> list[NotMeasured]:
    """One entry per assumption, naming the weights it was made for."""
    entries = []
    for key, names in assumed.items():
        what, why = _ASSUMPTIONS[key]
        entries.append(NotMeasured(what, listed(names), why))
    return entries
