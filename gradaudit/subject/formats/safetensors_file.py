"""Safetensors files: tensors by name, no code."""

from __future__ import annotations

from pathlib import Path

import torch

from gradaudit.errors import UnreadableFile


def load_safetensors(path: Path, *, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Every tensor in the file, by name. Raises ``UnreadableFile`` for a damaged one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path, device=device)
    except (SafetensorError, OSError, ValueError) as error:
        raise UnreadableFile(
            f"{path} is a damaged or truncated safetensors file",
            found=str(error).splitlines()[0],
            next_step="copy or save it again",
        ) from None
    if not tensors:
        raise UnreadableFile(f"{path} holds no tensors", expected="a model's weights")
    return tensors
