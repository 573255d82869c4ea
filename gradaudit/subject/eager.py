"""Compiled modules run as the Python they were compiled from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """With the model's compiled modules run as the Python they were compiled from.

    A compiled module shows no operations, and compiling it anew for every probe takes minutes.
    """
    compiled = any(
        "_orig_mod" in module._modules or module._compiled_call_impl is not None
        for module in model.modules()
    )
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
