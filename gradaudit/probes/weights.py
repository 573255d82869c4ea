"""Spectral norms of all weights, each as the linear map it is used as.

Every row also says what iid entries of the same size would give (the Bai-Yin edge), so that a rule
can tell a large norm from a large matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gradaudit.linalg.dense import frobenius_norm
from gradaudit.probes.initialization import name_initialization
from gradaudit.probes.weight_norms import ASSUMED_SIZE, UNIT, Norms, measure_norms
from gradaudit.probes.weight_sites import Site, Weights, find_weights
from gradaudit.records import Estimate, NotMeasured, WeightRow
from gradaudit.settings import Settings


def measure_weights(
    source: Weights,
    input_sizes: Mapping[str, tuple[int, ...]],
    activations: Mapping[str, str],
    settings: Settings,
) -> tuple[tuple[WeightRow, ...], tuple[NotMeasured, ...]]:
    """One row per weight of ``source``, a live model or tensors by name, and what is missing.

    ``input_sizes`` maps a convolution module's name to the spatial size of its input, without
    batch and channels; ``activations`` a module's name to the nonlinearity that follows it. At most
    ``settings.budget.lanczos_steps`` products each way per weight, seeded from ``settings.seed``.
    The model is only read.
    """
    sites, missing = find_weights(source)
    rows: list[WeightRow] = []
    assumed: dict[str, list[str]] = {}
    with torch.no_grad():
        for site in sites:
            row, norms = _row(site, input_sizes.get(site.module), activations, settings)
            rows.append(row)
            missing.extend(norms.missing)
            if norms.assumed:
                assumed.setdefault(norms.assumed, []).append(site.parameter)
    missing.extend(_assumptions(assumed))
    return tuple(rows), tuple(missing)


def _row(
    site: Site,
    size: tuple[int, ...] | None,
    activations: Mapping[str, str],
    settings: Settings,
) -> tuple[WeightRow, Norms]:
    tensor = site.tensor if site.tensor.device.type in ("cpu", "cuda") else site.tensor.cpu()
    tensor = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
    lowest, highest = (float(x) for x in torch.aminmax(tensor))
    finite = math.isfinite(lowest) and math.isfinite(highest)
    norms = _norms(site, tensor, size, settings, finite)
    rms = _rms(tensor, finite)
    estimate, stable_rank = _estimate(norms)
    if estimate is None and not norms.missing:
        lost = NotMeasured(UNIT, site.parameter, "the norm overflows float64")
        norms = Norms(None, None, norms.edge, norms.fan_in, missing=(lost,))
    row = WeightRow(
        parameter=site.parameter,
        module=site.module,
        kind=site.kind,
        shape=tuple(tensor.shape),
        spectral_norm=estimate,
        stable_rank=stable_rank,
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
    )
    return name_initialization(row, tensor, lowest, highest), norms


def _finite_product(a: float, b: float | None) -> float | None:
    return a * b if b is not None and math.isfinite(a * b) else None


def _rms(tensor: Tensor, finite: bool) -> float:
    if not finite:
        tensor = tensor[torch.isfinite(tensor)]
    if tensor.numel() == 0:
        return 0.0
    rms = frobenius_norm(tensor) / math.sqrt(tensor.numel())
    return rms if math.isfinite(rms) else float(tensor.double().abs().max())


def _estimate(norms: Norms) -> tuple[Estimate | None, float | None]:
    bounds = norms.bounds
    if bounds is None or not math.isfinite(bounds.value):
        return None, None
    high = bounds.high if math.isfinite(bounds.high) else None
    estimate = Estimate(bounds.value, bounds.low, high, UNIT)
    if norms.frobenius is None:
        return estimate, None
    if bounds.value == 0:
        return estimate, 0.0
    ratio = norms.frobenius / bounds.value
    return estimate, ratio * ratio if math.isfinite(ratio) else None


def _identical_rows(site: Site, tensor: Tensor) -> bool:
    """Whether all output units (columns of an inputs-first weight) have the same weights."""
    outputs = tensor.T if site.inputs_first else tensor
    if site.geometry is not None and site.geometry.transposed:
        outputs = outputs.transpose(0, 1)
    if outputs.shape[0] < 2 or not torch.equal(outputs[0], outputs[1]):
        return False
    return bool((outputs == outputs[:1]).all())


def _norms(
    site: Site,
    tensor: Tensor,
    size: tuple[int, ...] | None,
    settings: Settings,
    finite: bool,
) -> Norms:
    """The measurements of one weight; of one that is not finite only what shapes can say."""
    if not finite:
        why = "it has entries that are NaN or infinite"
        tensor = torch.zeros_like(tensor)
        shape_only = measure_norms(site, tensor, size, settings)
        lost = (NotMeasured(UNIT, site.parameter, why),)
        return Norms(None, None, shape_only.edge, shape_only.fan_in, missing=lost)
    return measure_norms(site, tensor, size, settings)


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
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        entries.append(NotMeasured(what, ", ".join(names[:3]) + more, why))
    return entries
