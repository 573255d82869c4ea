"""The norm of one weight as the linear map it is used as, and what iid entries would give.

Dense and recurrent weights: the matrix. Embeddings: one-hot inputs, so the largest row norm.
Convolutions: the operator on the input size it saw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradaudit.linalg.convolution import convolution_norm, every_geometry_norm, reshaped_norm
from gradaudit.linalg.convolution_map import Convolution, operator_frobenius
from gradaudit.linalg.dense import dense_norm, frobenius_norm, largest_row_norm
from gradaudit.linalg.golub_kahan import NormBounds
from gradaudit.probes.recurrent_gates import UNIT, measure_parts
from gradaudit.probes.weight_sites import Geometry, Site
from gradaudit.records import NotMeasured, WeightPart
from gradaudit.settings import Settings

ASSUMED_SIZE = 32  # spatial size of a convolution's input nobody has seen


@dataclass(frozen=True)
class Norms:
    """What one kind of weight yields; ``edge`` is sigma_1 of iid entries of unit rms."""

    bounds: NormBounds | None
    frobenius: float | None  # of the operator
    edge: float | None
    fan_in: int
    input_size: tuple[int, ...] | None = None
    reshaped: float | None = None
    radius: float | None = None
    parts: tuple[WeightPart, ...] = ()
    missing: tuple[NotMeasured, ...] = ()
    assumed: str = ""  # "size" | "geometry" | "groups": assumptions told once for all weights


def measure_norms(
    site: Site,
    tensor: Tensor,
    size: tuple[int, ...] | None,
    settings: Settings,
    frobenius: float,
) -> Norms:
    """The measurements of one weight with finite entries, whose Frobenius norm is ``frobenius``.

    ``size`` is the spatial size of a convolution's input, ``None`` where nobody has seen it.
    """
    steps = settings.budget.lanczos_steps
    generator = torch.Generator().manual_seed(settings.seed)
    if site.kind == "embedding":
        return _embedding(tensor.flatten(0, -2), frobenius, site.row_limit)
    if site.kind == "convolution":
        if site.geometry is None:
            return _unknown_convolution(tensor, steps, generator)
        return _convolution(site.geometry, tensor, size, steps, generator)
    if site.kind in ("dense", "recurrent") and tensor.ndim == 2:
        return _matrix(site, tensor, steps, generator, frobenius)
    fan_in = math.prod(tensor.shape[1:])
    if site.elementwise:
        scale = NormBounds.exact(float(tensor.abs().max()))
        return Norms(scale, frobenius, None, 1)
    why = f"its module ({site.type}) is none whose use of a weight is known"
    if not site.type:
        why = "name and shape do not say how it is used; with the model's code (--build) it may be"
    return Norms(None, None, None, fan_in, missing=(NotMeasured(UNIT, site.parameter, why),))


def _matrix(
    site: Site, matrix: Tensor, steps: int, generator: torch.Generator, frobenius: float
) -> Norms:
    rows, columns = matrix.shape
    bounds = dense_norm(matrix, steps, generator, frobenius=frobenius)
    parts, missing = measure_parts(
        site.parameter,
        matrix,
        site.parts,
        bounds,
        recurrent="weight_hh" in (site.leaf or site.parameter.rpartition(".")[2]),
        steps=steps,
        generator=generator,
    )
    radii = [part.spectral_radius for part in parts if part.spectral_radius is not None]
    return Norms(
        bounds,
        frobenius,
        math.sqrt(rows) + math.sqrt(columns),
        rows if site.inputs_first else columns,
        reshaped=bounds.value if math.isfinite(bounds.value) else None,
        radius=max(radii, default=None),
        parts=parts,
        missing=missing,
    )


def _embedding(table: Tensor, frobenius: float, limit: tuple[float, float] | None) -> Norms:
    """One-hot inputs: the operator's norm is the largest row's, after its module's ``max_norm``.

    The edge: a row of ``d`` iid entries of unit variance has norm ``sqrt(d)`` with variance 1/2,
    and the largest of ``V`` such exceeds that by about ``sqrt(ln V)``.
    """
    rows, columns = table.shape
    if limit is not None:
        table = _limited(table, *limit)
        frobenius = frobenius_norm(table)
    bounds = NormBounds.exact(largest_row_norm(table, frobenius))
    edge = math.sqrt(columns) + math.sqrt(math.log(rows))
    return Norms(bounds, frobenius, edge, 1)


def _limited(table: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """``table`` as its forward pass reads it: rows that are too long brought back to the limit."""
    norms = torch.linalg.vector_norm(table, norm_type, dim=1, keepdim=True)
    return torch.where(norms > max_norm, table * (max_norm / (norms + 1e-7)), table)


def _convolution(
    geometry: Geometry,
    kernel: Tensor,
    size: tuple[int, ...] | None,
    steps: int,
    generator: torch.Generator,
) -> Norms:
    dimensions = kernel.ndim - 2
    seen = size if size is not None and len(size) == dimensions else None
    taps = zip(kernel.shape[2:], geometry.dilation, strict=True)
    at_least = [d * (k - 1) + 1 for k, d in taps]
    wide = tuple(seen) if seen else tuple(max(ASSUMED_SIZE, e) for e in at_least)
    padding, over = geometry.padding, wide
    if geometry.transposed:
        over, padding = _adjoint_frame(geometry, kernel, wide)
    convolution = Convolution(
        kernel, over, geometry.stride, padding, geometry.dilation, geometry.groups, geometry.mode
    )
    bounds = convolution_norm(convolution, steps, generator)
    matrix = kernel.transpose(0, 1) if geometry.transposed else kernel
    edge, fan_in = _kernel_edge(kernel, geometry)
    return Norms(
        bounds,
        operator_frobenius(convolution),
        edge,
        fan_in,
        wide,
        reshaped_norm(matrix, steps, generator).value,
        assumed="" if seen else "size",
    )


def _adjoint_frame(
    geometry: Geometry, kernel: Tensor, size: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Input size and padding of the convolution that a transposed one on ``size`` is adjoint to.

    Its input is the transposed one's output. Output padding of a stride or more would let the
    kernel land once more; it takes the place of padding behind and then adds entries never written.
    """
    sizes, paddings = [], []
    for i, n in enumerate(size):
        s, (p, _), more = geometry.stride[i], geometry.padding[i], geometry.output_padding[i]
        extent = geometry.dilation[i] * (kernel.shape[2 + i] - 1) + 1
        unread = max(more - p, 0) if more >= s else 0
        sizes.append((n - 1) * s - 2 * p + extent + more - unread)
        paddings.append((p, max(p - more, 0) if more >= s else p))
    return tuple(sizes), tuple(paddings)


def _kernel_edge(kernel: Tensor, geometry: Geometry | None) -> tuple[float, int]:
    """The norm that iid entries of unit variance give a wide convolution, and the fan-in.

    At each frequency the polyphase symbol is a random ``out x (in * phases)`` matrix whose entries
    sum ``taps / phases`` kernel entries, so its edge is ``sqrt(taps) * (sqrt(out / phases) +
    sqrt(in))``, channels per group. The fan-in of a transposed convolution is shared by phases.
    """
    taps = math.prod(kernel.shape[2:])
    groups = geometry.groups if geometry else 1
    stride = geometry.stride if geometry else (1,) * (kernel.ndim - 2)
    phases = math.prod(min(s, k) for s, k in zip(stride, kernel.shape[2:], strict=True))
    outputs, inputs = kernel.shape[0] / groups, kernel.shape[1]
    edge = math.sqrt(taps) * (math.sqrt(outputs / phases) + math.sqrt(inputs))
    if geometry and geometry.transposed:
        return edge, max(round(outputs * taps / phases), 1)
    return edge, inputs * taps


def _unknown_convolution(kernel: Tensor, steps: int, generator: torch.Generator) -> Norms:
    """A kernel without a module: bounds for every stride, padding and input size.

    With a single input channel it may be depthwise, so only single kernels bound it from below.
    """
    bounds = every_geometry_norm(kernel, steps, generator)
    edge, fan_in = _kernel_edge(kernel, None)
    depthwise = kernel.shape[1] == 1 < kernel.shape[0]
    if depthwise:
        low = largest_row_norm(kernel.flatten(1))
        bounds = NormBounds(bounds.value, min(low, bounds.value), bounds.high, bounds.steps)
    matrix = reshaped_norm(kernel, steps, generator)
    return Norms(
        bounds,
        None,
        edge,
        fan_in,
        reshaped=matrix.value,
        assumed="groups" if depthwise else "geometry",
    )
