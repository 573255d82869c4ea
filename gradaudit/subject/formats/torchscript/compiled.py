"""A TorchScript file that is trusted and left to torch's runtime: one module without insides."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradaudit.errors import UnreadableFile
from gradaudit.records import NotMeasured
from gradaudit.subject.formats.loaded import Loaded
from gradaudit.telling import told

_INSIDE = "layers, growth per stage and activations"
_WHY = "torch's runtime runs its code, and lets nobody look inside"


class Compiled(nn.Module):
    """Calls a ``ScriptModule``, which takes no hooks; holds its very parameters by their names."""

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.__dict__["script"] = script
        for name, parameter in script.named_parameters():
            holder, leaf = _holder(self, name)
            holder._parameters[leaf] = parameter
        for name, buffer in script.named_buffers():
            holder, leaf = _holder(self, name)
            holder._buffers[leaf] = buffer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the compiled code computes."""
        return self.__dict__["script"](*args, **kwargs)

    def train(self, mode: bool = True) -> Compiled:
        """Switch the compiled code too."""
        self.__dict__["script"].train(mode)
        return super().train(mode)

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        made = Compiled(copy.deepcopy(self.__dict__["script"]))
        made.train(self.training)
        for old, new in zip(self.parameters(), made.parameters(), strict=True):
            new.requires_grad_(old.requires_grad)
        return made


def load_compiled(path: Path, device: str) -> Loaded:
    """The file as torch's own runtime runs it. Only for a file that is trusted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            script = torch.jit.load(str(path), map_location=device)
        except Exception as error:  # torch raises whatever its reader met
            raise UnreadableFile(
                f"{path.name} cannot be read by torch.jit.load", found=told(error)
            ) from None
    return left_to_torch(script, "A TorchScript file")


def left_to_torch(script: Any, called: str) -> Loaded:
    """The ``ScriptModule`` as a module that can be borrowed; it shares the parameters."""
    return Loaded(
        "torchscript",
        model=Compiled(script),
        notes=(f"{called}, deprecated by PyTorch, run by torch's own runtime.",),
        not_measured=(NotMeasured(_INSIDE, "the TorchScript module", _WHY),),
    )


def _holder(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a tensor of that path, made where it is missing."""
    *path, leaf = name.split(".")
    holder = root
    for part in path:
        if part not in holder._modules:
            holder._modules[part] = nn.Module()
        holder = holder._modules[part]  # type: ignore[assignment]
    return holder, leaf
