"""Convolutions with a constant kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from gradaudit.onnx_graph.layers._made import Asked, Layer, layer

_CONVOLUTIONS: dict[int, tuple[type[nn.Module], type[nn.Module]]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}


@layer("Conv")
def _convolution(asked: Asked) -> Layer | None:
    return _any_convolution(asked, transposed=False)


@layer("ConvTranspose")
def _transposed(asked: Asked) -> Layer | None:
    return None if asked.keywords.get("output_shape") else _any_convolution(asked, transposed=True)


def _any_convolution(asked: Asked, *, transposed: bool) -> Layer | None:
    kernel, keywords = asked.parameter(1), asked.keywords
    if kernel is None or not 3 <= kernel.dim() <= 5:
        return None
    if asked.parameter(2) is None and not asked.missing(2):
        return None
    taps = tuple(kernel.shape[2:])
    ones, groups = (1,) * len(taps), int(keywords.get("group") or 1)
    stride = tuple(keywords.get("strides") or ones)
    dilation = tuple(keywords.get("dilations") or ones)
    pads = _pads(keywords, taps, stride, dilation)
    if pads is None:
        return None
    outer, inner = kernel.shape[0], kernel.shape[1] * groups
    base = _CONVOLUTIONS[len(taps)][transposed]
    attributes = {
        "in_channels": outer if transposed else inner,
        "out_channels": inner if transposed else outer,
        "kernel_size": taps,
        "stride": stride,
        "padding": tuple(before for before, _ in pads),
        "dilation": dilation,
        "groups": groups,
        "padding_mode": "zeros",
        "transposed": issubclass(base, _ConvTransposeNd),
        "output_padding": tuple(keywords.get("output_padding") or (0,) * len(taps)),
    }
    if any(before != after for before, after in pads):
        attributes["uneven_padding"] = pads
    return Layer(base, ("", "weight", "bias"), attributes)


def _pads(
    keywords: Mapping[str, Any],
    taps: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, int], ...] | None:
    """(before, after) in each dimension; ``None`` where it depends on the input's size."""
    mode = keywords.get("auto_pad") or "NOTSET"
    if mode == "VALID":
        return tuple((0, 0) for _ in taps)
    if mode == "NOTSET":
        pads = keywords.get("pads") or [0] * 2 * len(taps)
        return tuple(zip(pads[: len(taps)], pads[len(taps) :], strict=True))
    if any(step != 1 for step in stride):
        return None
    totals = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    ends = [(total // 2, total - total // 2) for total in totals]
    return tuple(ends if mode == "SAME_UPPER" else [end[::-1] for end in ends])
