"""Model files, one module per container; content decides, not the suffix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gradaudit.onnx_graph import load_onnx
from gradaudit.subject.formats.loaded import Loaded, classify
from gradaudit.subject.formats.pt2 import load_exported
from gradaudit.subject.formats.safetensors_file import load_safetensors
from gradaudit.subject.formats.sniff import Kind, sniff
from gradaudit.subject.formats.torch_file import load_torch_file
from gradaudit.subject.formats.torchscript import load_torchscript
from gradaudit.subject.formats.unopened import refuse

__all__ = ["Loaded", "open_file"]


def open_file(path: Path, *, trust: bool, device: str = "cpu") -> Loaded:
    """What the model file or folder at ``path`` holds.

    Raises ``UnreadableFile`` or ``RefusedFile``, each in one line.
    """
    kind = sniff(path)
    if kind not in _OPENERS:
        raise refuse(kind, path)
    return _OPENERS[kind](path, trust, device)


def _torch(path: Path, trust: bool, device: str) -> Loaded:
    return classify(load_torch_file(path, trust=trust, device=device), path)


def _torch_legacy(path: Path, trust: bool, device: str) -> Loaded:
    return classify(load_torch_file(path, trust=trust, device=device), path, prefix="legacy ")


def _safetensors(path: Path, _trust: bool, device: str) -> Loaded:
    return Loaded("safetensors", weights=load_safetensors(path, device=device))


def _exported(path: Path, trust: bool, device: str) -> Loaded:
    return load_exported(path, trust=trust, device=device)


def _torchscript(path: Path, trust: bool, device: str) -> Loaded:
    return load_torchscript(path, trust=trust, device=device)


def _onnx(path: Path, _trust: bool, _device: str) -> Loaded:
    return Loaded("onnx", model=load_onnx(path))


# (path, trust, device) -> what it holds
_OPENERS: Mapping[Kind, Callable[[Path, bool, str], Loaded]] = {
    "torch zip": _torch,
    "torch legacy": _torch_legacy,
    "safetensors": _safetensors,
    "pt2": _exported,
    "torchscript": _torchscript,
    "onnx": _onnx,
}
