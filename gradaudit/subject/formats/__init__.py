"""Model files, one module per container; content decides, not the suffix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gradaudit.errors import RefusedFile
from gradaudit.onnx_graph import load_onnx
from gradaudit.onnx_graph.inspecting import inspect_onnx
from gradaudit.records import Contents
from gradaudit.subject.formats.checkpoints.classify import classify
from gradaudit.subject.formats.checkpoints.sound import UsesPlainData
from gradaudit.subject.formats.distributed.opening import inspect_distributed, load_distributed
from gradaudit.subject.formats.huggingface.opening import (
    huggingface_weights,
    inspect_huggingface,
    load_huggingface,
)
from gradaudit.subject.formats.loaded import Loaded
from gradaudit.subject.formats.package import inspect_package, refuse_package
from gradaudit.subject.formats.pt2 import inspect_exported, load_exported
from gradaudit.subject.formats.safetensors_file import inspect_safetensors, stored_safetensors
from gradaudit.subject.formats.sniff import Kind, sniff
from gradaudit.subject.formats.torch_files.inspecting import inspect_torch_file
from gradaudit.subject.formats.torch_files.opening import load_trusted, open_torch_file
from gradaudit.subject.formats.torchscript import inspect_torchscript, load_torchscript

__all__ = ["Loaded", "inspect_file", "open_file"]


def open_file(
    path: Path, *, trust: bool, device: str = "cpu", weights_only: bool = False
) -> Loaded:
    """What the model file or folder at ``path`` holds.

    ``weights_only``: the model is built elsewhere, so where a file has weights without one, none is
    built of what lies beside them. Raises ``UnreadableFile`` or ``RefusedFile``, each in one line.
    """
    kind = sniff(path)
    if kind == "huggingface" and weights_only:
        return huggingface_weights(path, "--build names the code of the model")
    return _OPENERS[kind](path, trust, device)


def inspect_file(path: Path) -> Contents:
    """What the model file or folder at ``path`` holds and asks for; nothing of it is executed.

    Raises ``UnreadableFile`` for what is no model, or is too damaged to be described.
    """
    return _INSPECTORS[sniff(path)](path)


def _torch(path: Path, trust: bool, device: str, prefix: str = "") -> Loaded:
    content = open_torch_file(path, trust=trust, device=device)
    try:
        return classify(content, path, prefix=prefix, trust=trust)
    except UsesPlainData as error:
        if not trust:
            raise RefusedFile(error.what, next_step=error.next_step) from None
    content = load_trusted(path, device=device)
    return classify(content, path, prefix=prefix, trust=True)


def _torch_legacy(path: Path, trust: bool, device: str) -> Loaded:
    return _torch(path, trust, device, "legacy ")


def _safetensors(path: Path, _trust: bool, _device: str) -> Loaded:
    return Loaded("safetensors", weights=stored_safetensors(path))


def _exported(path: Path, trust: bool, device: str) -> Loaded:
    return load_exported(path, trust=trust, device=device)


def _torchscript(path: Path, trust: bool, device: str) -> Loaded:
    return load_torchscript(path, trust=trust, device=device)


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
    "torchscript": _torchscript,
    "torch package": refuse_package,
    "onnx": _onnx,
    "huggingface": _huggingface,
    "distributed checkpoint": _distributed,
}

_INSPECTORS: Mapping[Kind, Callable[[Path], Contents]] = {
    "torch zip": inspect_torch_file,
    "torch legacy": inspect_torch_file,
    "safetensors": inspect_safetensors,
    "torch package": inspect_package,
    "pt2": inspect_exported,
    "torchscript": inspect_torchscript,
    "onnx": inspect_onnx,
    "huggingface": inspect_huggingface,
    "distributed checkpoint": inspect_distributed,
}
