"""Model files, one module per container; content decides, not the suffix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gradaudit.onnx_graph import load_onnx
from gradaudit.subject.formats.checkpoint import classify
from gradaudit.subject.formats.distributed import load_distributed
from gradaudit.subject.formats.exported import load_exported
from gradaudit.subject.formats.huggingface import load_huggingface
from gradaudit.subject.formats.loaded import Loaded
from gradaudit.subject.formats.safetensors_file import stored_safetensors
from gradaudit.subject.formats.sniff import Kind, sniff
from gradaudit.subject.formats.torch_file import open_torch_file
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
    return classify(open_torch_file(path, trust=trust, device=device), path, trust=trust)


def _torch_legacy(path: Path, trust: bool, device: str) -> Loaded:
    content = open_torch_file(path, trust=trust, device=device)
    return classify(content, path, prefix="legacy ", trust=trust)


def _safetensors(path: Path, _trust: bool, _device: str) -> Loaded:
    return Loaded("safetensors", weights=stored_safetensors(path))


def _exported(path: Path, trust: bool, _device: str) -> Loaded:
    return load_exported(path, trust=trust)


def _distributed(path: Path, _trust: bool, _device: str) -> Loaded:
    return load_distributed(path)


def _huggingface(path: Path, trust: bool, _device: str) -> Loaded:
    return load_huggingface(path, trust=trust)


def _onnx(path: Path, _trust: bool, _device: str) -> Loaded:
    return Loaded("onnx", model=load_onnx(path))


# (path, trust, device) -> what it holds
_OPENERS: Mapping[Kind, Callable[[Path, bool, str], Loaded]] = {
    "torch zip": _torch,
    "torch legacy": _torch_legacy,
    "safetensors": _safetensors,
    "pt2": _exported,
    "onnx": _onnx,
    "huggingface": _huggingface,
    "distributed checkpoint": _distributed,
}
