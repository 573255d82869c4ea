"""The two half-precision formats, and which operations autocast runs in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class HalfFormat:
    """A 16-bit format under round to nearest, ties to even (IEEE 754-2019, section 4.3.1)."""

    name: str  # as in the recipe
    dtype: torch.dtype
    largest: float  # largest finite number
    infinite_from: float  # magnitudes from here on round to infinity
    zero_to: int  # magnitudes up to 2 to this power round to zero


FP16 = HalfFormat("fp16", torch.float16, 65504.0, 65520.0, -25)
# 8 bits of significand: the largest is (2 - 2^-7) 2^127, the tie above it (2 - 2^-8) 2^127.
BF16 = HalfFormat("bf16", torch.bfloat16, (2 - 2**-7) * 2.0**127, (2 - 2**-8) * 2.0**127, -134)
FORMATS = (FP16, BF16)
HALVES = {each.dtype: each for each in FORMATS}

_HEADROOM = 16  # room for gradients to grow before the scale has to come down
_FLOAT32_TOP = 127


def loss_scale(largest_gradient: float, loss: float = 0.0) -> float:
    """``2^floor(log2(65504 / (16 max|g|)))``, held where the scaled loss stays in float32's range.

    Raises ``ValueError`` where the gradient is not positive and finite.
    """
    if not 0 < largest_gradient < math.inf:
        raise ValueError(f"a loss scale needs a positive, finite gradient, not {largest_gradient}")
    # In logs: the quotient of float32's smallest gradients still fits into a Python float.
    power = math.floor(math.log2(FP16.largest / _HEADROOM) - math.log2(largest_gradient))
    room = _FLOAT32_TOP - max(0, math.ceil(math.log2(abs(loss) or 1.0)))
    return 2.0 ** min(power, room)


# What torch.autocast runs in half precision and in float32; all else runs in what it is given, a
# mix of both in float32. Aten's names, from "CUDA Ops that can autocast" and its CPU counterpart:
# https://docs.pytorch.org/docs/stable/amp.html
TO_HALF = frozenset((
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "addr", "dot", "vdot",
    "convolution", "conv_tbc", "prelu", "mkldnn_rnn_layer", "cudnn_rnn", "miopen_rnn",
    "thnn_fused_lstm_cell", "thnn_fused_gru_cell", "linalg_vecdot",
))  # fmt: skip
ATTENTION = "scaled_dot_product"  # fused kernels: inputs in half, logits inside in float32
_LOSSES = frozenset((
    "log_softmax", "nll_loss", "nll_loss2d", "mse_loss", "smooth_l1_loss", "huber_loss",
    "kl_div", "l1_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "multi_margin_loss", "multilabel_margin_loss", "soft_margin_loss", "ctc_loss",
))  # fmt: skip
_CUDA = frozenset((
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p",
    "reciprocal", "rsqrt", "sinh", "tan", "pow", "softplus", "native_layer_norm",
    "native_group_norm", "norm", "dist", "pdist", "cdist", "renorm", "logsumexp", "softmax",
    "safe_softmax", "cumsum", "cumprod", "prod", "sum", "linalg_vector_norm",
))  # fmt: skip
_CPU = frozenset({"prod", "cdist", "grid_sampler_2d", "grid_sampler_3d", "trace"})
TO_FLOAT = {"cuda": _LOSSES | _CUDA, "cpu": _LOSSES | _CPU}
# Functions of several operations: this one accumulates in float32 inside, ...
WHOLE = frozenset({"rms_norm"})
# ... and autocast feeds these losses float32.
COMPOSITE_LOSSES = frozenset((
    "l1_loss", "kl_div", "cosine_embedding_loss", "cosine_similarity",
    "margin_ranking_loss", "hinge_embedding_loss", "poisson_nll_loss", "gaussian_nll_loss",
    "triplet_margin_loss",
))  # fmt: skip
