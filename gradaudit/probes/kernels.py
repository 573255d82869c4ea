"""Which kernels run while a context lasts: those that can be seen, or differentiated twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def math_kernels(model: nn.Module) -> Iterator[None]:
    """:func:`unfused`, without what torch warns of in a repeated pass, which is no news."""
    with unfused(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def unfused(model: nn.Module) -> Iterator[None]:
    """Without the fused kernels that have no forward-mode or second derivative.

    Those of scaled dot product attention; where the model has recurrent layers, also mkldnn and
    cuDNN, which without such layers make convolutions several times as fast.
    """
    fused = not any(isinstance(module, nn.RNNBase) for module in model.modules())
    # torch.backends.mkldnn.flags() also sets a flag of Intel GPUs, and warns where there is none.
    mkldnn, cudnn = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    torch._C._set_mkldnn_enabled(mkldnn and fused)
    torch._C._set_cudnn_enabled(cudnn and fused)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)
        torch._C._set_cudnn_enabled(cudnn)
