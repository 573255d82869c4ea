"""What kind of file this is, by its content; nothing is loaded."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import Literal

from gradaudit.errors import UnreadableFile
from gradaudit.subject.formats.next_steps import SAVE_AGAIN
from gradaudit.telling import missing, quoted

Kind = Literal[
    "torch zip",
    "torch legacy",
    "safetensors",
    "torchscript",
    "torch package",
    "pt2",
    "onnx",
    "huggingface",
    "distributed checkpoint",
]
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # 0x1950a86a20f9469cfc6c as a pickled integer
_LOADABLE = "a PyTorch file (.pt, .pth, .bin, .ckpt), .safetensors, .onnx, or code as file.py:name"

_UNKNOWN = "unknown binary data"
_NEXT_FIELD = b'\x12\x1a"(2:B'  # producer, its version, domain, version, doc, graph or opset


def sniff(path: Path) -> Kind:
    """The kind of the file or directory at ``path``.

    Raises ``UnreadableFile`` for what is missing, empty, special, truncated or unknown.
    """
    try:
        if not path.exists():
            raise missing(path)
        if path.is_dir():
            return _sniff_folder(path)
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFile(f"{path} is not a regular file", expected=_LOADABLE)
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise UnreadableFile(
            f"{quoted(str(path))} cannot be read", found=error.strerror or str(error)
        ) from None
    if not head:
        raise UnreadableFile(f"{path} is empty", expected=_LOADABLE)
    return _sniff_bytes(head, path)


_FOLDER_SIGNS: tuple[tuple[str, Kind], ...] = (
    (".metadata", "distributed checkpoint"),
    ("config.json", "huggingface"),
    ("model.safetensors.index.json", "huggingface"),
    ("model.safetensors", "huggingface"),
    ("pytorch_model.bin.index.json", "huggingface"),
    ("pytorch_model.bin", "huggingface"),
)


def _sniff_folder(path: Path) -> Kind:
    for name, kind in _FOLDER_SIGNS:
        if (path / name).is_file():
            return kind
    raise UnreadableFile(
        f"{path} is a directory",
        expected=f"{_LOADABLE}, or a folder of Hugging Face or torch.distributed.checkpoint",
    )


def _sniff_bytes(head: bytes, path: Path) -> Kind:
    if head.startswith(b"PK"):
        return _sniff_zip(path)
    if head[:1] == b"\x80" and _LEGACY_MAGIC in head[:16]:
        return "torch legacy"
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= 100_000_000:
        return "safetensors"
    if _is_onnx(head, path):
        return "onnx"
    raise UnreadableFile(f"{path} is not a model", expected=_LOADABLE, found=_guess(head, path))


def _is_onnx(head: bytes, path: Path) -> bool:
    """A ModelProto has no signature; it opens with its IR version, in field 1."""
    if head[:1] == b"\x08" and b"\0" < head[1:2] < b"\x20" and head[2:3] in _NEXT_FIELD:
        return True
    # one whose fields come in another order, or which is damaged, is told by its name
    return path.suffix.lower() == ".onnx" and _guess(head, path) == _UNKNOWN


def _guess(head: bytes, path: Path) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (run `git lfs pull`)"
    if head.startswith(b"\x93NUMPY"):
        return "a numpy array (a data sample is given with --data)"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file (Keras is not supported)"
    if head[257:262] == b"ustar":
        return (
            "a tar archive, which torch wrote before version 0.1.10 and NeMo does "
            "(unpack it, and name a file in it)"
        )
    if head[:1] == b"\x80":
        return "a plain pickle (save the model with torch.save)"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # a cut multi-byte character at the end of the window is still text
        if error.start < len(head) - 4:
            return _UNKNOWN
    if b"\0" in head:
        return _UNKNOWN
    hint = f" (code is named as {path.name}:name)" if path.suffix == ".py" else ""
    return f"text{hint}"


def _sniff_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # Python's reader raises half a dozen kinds
        raise UnreadableFile(
            f"{path} is a damaged or truncated zip archive",
            expected="a complete PyTorch file",
            next_step=SAVE_AGAIN,
        ) from None
    tails = {name.partition("/")[2] for name in names}
    if ".data/extern_modules" in tails | set(names):
        return "torch package"
    if "archive_format" in tails or any(name.endswith("exported_program.json") for name in names):
        return "pt2"
    if "constants.pkl" in tails or any(tail.startswith("code/") for tail in tails):
        return "torchscript"
    if "data.pkl" in tails:
        return "torch zip"
    found = (
        "numpy arrays (a data sample is given with --data)" if _all_npy(names) else "other files"
    )
    raise UnreadableFile(
        f"{path} is a zip archive without a model", expected=_LOADABLE, found=found
    )


def _all_npy(names: list[str]) -> bool:
    return bool(names) and all(name.endswith(".npy") for name in names)
