"""Model files, one module per container; content decides, not the suffix."""

from __future__ import annotations

from pathlib import Path

from gradaudit.onnx_graph import load_onnx
from gradaudit.subject.formats.exported import load_exported
from gradaudit.subject.formats.loaded import Loaded, classify
from gradaudit.subject.formats.safetensors_file import load_safetensors
from gradaudit.subject.formats.sniff import sniff
from gradaudit.subject.formats.torch_file import load_torch_file
from gradaudit.subject.formats.unopened import refuse

__all__ = ["Loaded", "open_file"]


def open_file(path: Path, *, trust: bool, device: str = "cpu") -> Loaded:
    """What the model file at ``path`` holds.

    Raises ``UnreadableFile`` or ``RefusedFile``, each in one line.
    """
    kind = sniff(path)
    if kind == "safetensors":
        return Loaded("safetensors", weights=load_safetensors(path, device=device))
    if kind == "pt2":
        return load_exported(path, trust=trust)
    if kind in ("torch zip", "torch legacy"):
        content = load_torch_file(path, trust=trust, device=device)
        return classify(content, path, prefix="legacy " if kind == "torch legacy" else "")
    if kind == "onnx":
        return Loaded("onnx", model=load_onnx(path))
    raise refuse(kind, path)
