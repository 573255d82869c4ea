"""Whether a PyTorch file's declared contents fit its stored bytes; nothing is loaded.

``weights_only=True`` alone does not help here: a 79 kB deflated archive loads as 80 MB, and a 1.5
kB file yields a tensor of 10^12 repeated elements.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from gradaudit.errors import RefusedFile
from gradaudit.subject.formats.declared import REPEATED, DeclaredTensor, reach
from gradaudit.subject.formats.next_steps import HOSTILE_FILE
from gradaudit.subject.formats.pickles.dry import DryPickle
from gradaudit.telling import quoted

_SLACK = 1 << 20  # bytes a zip's own bookkeeping may differ by
# bytes per element by the name of the storage, or of a type that came after those had names
_ITEM_SIZES = {
    **{
        f"{name}Storage": size
        for size, names in {
            2: ("Half", "BFloat16", "Short"),
            4: ("Float", "Int", "QInt32"),
            8: ("Double", "Long", "ComplexFloat"),
            16: ("ComplexDouble",),
        }.items()
        for name in names
    },
    **{
        name: size
        for size, names in {
            2: ("uint16", "int16", "float16", "half", "bfloat16", "short"),
            4: ("uint32", "int32", "int", "float32", "float", "complex32"),
            8: ("uint64", "int64", "long", "float64", "double", "complex64"),
            16: ("complex128",),
        }.items()
        for name in names
    },
}
_DIMENSIONS = 64  # torch's own limit


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise ``RefusedFile`` if the archive unpacks to more than it stores: torch never deflates."""
    unpacked, stored = sum(item.file_size for item in archive.infolist()), path.stat().st_size
    if unpacked > stored + _SLACK:
        raise RefusedFile(
            f"{path.name} is compressed and unpacks to {unpacked:,} bytes",
            expected="an archive as torch.save writes it, uncompressed",
            found=f"{stored:,} bytes stored",
        )


def check_declared(dry: DryPickle, sizes: Mapping[str, int], path: Path) -> None:
    """Raise ``RefusedFile`` where a storage or tensor claims more than ``sizes`` holds for it."""
    for key, storage in dry.storages.items():
        needed = storage.numel * item_size(storage.dtype)
        if storage.numel < 0 or needed > sizes.get(key, 0):
            raise RefusedFile(
                f"{path.name} declares a storage of {needed:,} bytes",
                expected="as many bytes in the file",
                found=f"{sizes.get(key, 0):,}",
                next_step=HOSTILE_FILE,
            )
    repeated = 0
    for tensor in dry.tensors:
        storage = dry.storages[tensor.storage]
        held = storage.numel * item_size(storage.dtype) // item_size(tensor.dtype)
        _check_extent(tensor, held, path)
        repeated += tensor.numel if tensor.numel > held else 0
        if repeated > REPEATED:
            raise RefusedFile(
                f"{path.name} declares a tensor of {tensor.numel:,} elements",
                found=f"a storage of {held:,} behind it",
                next_step=f"{HOSTILE_FILE}; save the tensor with .contiguous()",
            )


def check_total(dry: DryPickle, size: int, path: Path) -> None:
    """Raise ``RefusedFile`` if all storages together claim more than ``size`` bytes.

    The old format's storages lie one after another, and torch makes room for them beforehand.
    """
    needed = sum(each.numel * item_size(each.dtype) for each in dry.storages.values())
    if needed > size:
        raise RefusedFile(
            f"{path.name} declares storages of {needed:,} bytes",
            expected="as many bytes in the file",
            found=f"{size:,}",
            next_step=HOSTILE_FILE,
        )


def _check_extent(tensor: DeclaredTensor, held: int, path: Path) -> None:
    """Whether a tensor's first and last element lie in the ``held`` ones of its storage."""
    if min((tensor.offset, *tensor.shape, *tensor.stride)) < 0 or len(tensor.shape) > _DIMENSIONS:
        raise RefusedFile(
            f"{path.name} declares a tensor of shape {quoted(list(tensor.shape))}, "
            f"stride {quoted(list(tensor.stride))} and offset {tensor.offset}",
            expected=f"no negative numbers, and at most {_DIMENSIONS} dimensions",
            next_step=HOSTILE_FILE,
        )
    if tensor.numel and tensor.offset + reach(tensor.shape, tensor.stride) > held:
        raise RefusedFile(
            f"{path.name} declares a tensor of shape {quoted(list(tensor.shape))} "
            "that reaches beyond its storage",
            expected=f"at most {held:,} elements",
            found=f"{tensor.offset + reach(tensor.shape, tensor.stride):,}",
            next_step=HOSTILE_FILE,
        )


def item_size(storage: str) -> int:
    """Bytes of an entry, by the name of a storage or of a type."""
    return _ITEM_SIZES.get(storage, 1)
