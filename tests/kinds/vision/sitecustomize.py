"""Runs at the start of a process that imports Ultralytics; found by its place on the path.

torchvision's operators are compiled for another torch than the one for CPUs; it imports once they
are declared. None of them is called.
"""

import importlib.abc
import sys

_OPERATORS = (
    "roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool",
    "_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "nms", "qnms", "qroi_align",
    "deform_conv2d", "_deform_conv2d_backward",
)  # fmt: skip


class _Declare(importlib.abc.MetaPathFinder):
    """Declares the operators when torchvision is asked for, and finds nothing itself."""

    library = None

    def find_spec(self, name, path=None, target=None) -> None:
        if name == "torchvision" and self.library is None:
            import torch

            _Declare.library = torch.library.Library("torchvision", "DEF")
            for each in _OPERATORS:
                self.library.define(f"{each}(Tensor x) -> Tensor")


sys.meta_path.insert(0, _Declare())
