"""Names of the graph as places in a tree of modules, whose paths are joined by dots."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

# Modules within each other; torch walks them by recursion, and copying takes six frames for one.
_DEEPEST = 64


class Holder(nn.Module):
    """A place on the way to a name with dots; never called."""


class Tree:
    """A module being filled with tensors and modules under the graph's own names.

    Where torch cannot have a name (an empty part, an attribute that modules have anyway, a name
    that is taken), its last part gets ``_``, ``_2``, ``_3`` ... behind it, and lies at the root if
    need be.
    """

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._tries: Counter[tuple[int, str]] = Counter()  # by module and name, where one is taken

    def add_parameter(self, name: str, parameter: nn.Parameter) -> tuple[nn.Module, str, str]:
        """Place a parameter; returns the module it is in, its name there, and its whole name."""
        home, path, leaf = self._place(name)
        home.register_parameter(leaf, parameter)
        return home, leaf, f"{path}.{leaf}" if path else leaf

    def add_buffer(
        self, name: str, tensor: torch.Tensor, *, persistent: bool
    ) -> tuple[nn.Module, str]:
        """Place a buffer, which is in the state dict if ``persistent``; the module and name."""
        home, _, leaf = self._place(name)
        home.register_buffer(leaf, tensor, persistent=persistent)
        return home, leaf

    def add_module(self, name: str, module: nn.Module) -> str:
        """Place a module, to be called, under ``name`` or nearly; returns its path.

        A mere place on the way to other names gives way to it, and what is there stays there.
        """
        home, path, leaf = self._place(name, for_module=True)
        before = home._modules.get(leaf)
        if before is not None:
            module._modules.update(before._modules)
            module._parameters.update(before._parameters)
            module._buffers.update(before._buffers)
        home._modules[leaf] = module
        return f"{path}.{leaf}" if path else leaf

    def _place(self, name: str, *, for_module: bool = False) -> tuple[nn.Module, str, str]:
        parts = name.split(".")
        if not all(parts) or len(parts) > _DEEPEST:
            parts = [name.replace(".", "_") or "_"]
        home, path = self._root, parts[:-1]
        for part in path:
            below = home._modules.get(part)
            if below is None and hasattr(home, part):  # nothing can lie beneath a tensor
                home, path, parts = self._root, [], [name.replace(".", "_")]
                break
            if below is None:
                below = home._modules[part] = Holder()
            home = below
        leaf = parts[-1]
        while hasattr(home, leaf) and not (for_module and _gives_way(home, leaf)):
            key = (id(home), parts[-1])
            self._tries[key] += 1  # not from the start each time: files may repeat a name
            leaf = f"{parts[-1]}_{self._tries[key]}" if self._tries[key] > 1 else parts[-1] + "_"
        return home, ".".join(path), leaf


def _gives_way(home: nn.Module, leaf: str) -> bool:
    return type(home._modules.get(leaf)) is Holder
