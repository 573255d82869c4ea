"""Folders of torch.distributed.checkpoint: tensors in chunks, read one at a time, no code run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradaudit.errors import GradauditError, RefusedFile, UnreadableFile
from gradaudit.records import Contents
from gradaudit.subject.formats.checkpoints.classify import classify
from gradaudit.subject.formats.distributed.items import Chunk, Item, Place, read_items
from gradaudit.subject.formats.distributed.metadata import globals_of, read_metadata
from gradaudit.subject.formats.loaded import Loaded
from gradaudit.subject.formats.members import member
from gradaudit.subject.formats.pickles.dangers import entry_for
from gradaudit.subject.formats.pickles.dry import dry_read
from gradaudit.subject.formats.pickles.tree import check_tree
from gradaudit.subject.formats.stored_weights import StoredTensor
from gradaudit.subject.formats.torch_files.archive import read_archive
from gradaudit.subject.formats.torch_files.limits import check_declared
from gradaudit.subject.formats.torch_files.stored import TensorMaker
from gradaudit.telling import quoted, told

_METADATA = ".metadata"
_LARGEST_VALUE = 1 << 20  # bytes of an entry that is no tensor
_MOST_DEEP = 64


def load_distributed(path: Path) -> Loaded:
    """The weights in the folder, and the recipe that an optimizer's state beside them tells.

    Raises ``RefusedFile`` or ``UnreadableFile`` for a folder that is damaged, names more than
    torch's own records, or leads outside itself.
    """
    items = read_items(read_metadata(member(path, _METADATA)), path)
    return replace(classify(_tree(items), path), format="distributed checkpoint")


def inspect_distributed(path: Path) -> Contents:
    """What the folder declares; of the tensors nothing is read. Raises as above."""
    metadata = member(path, _METADATA)
    found = globals_of(metadata)
    refused = [name for name, allowed in found if not allowed]
    items = () if refused else read_items(read_metadata(metadata), path)
    plain = sum(item.dtype is None for item in items)
    files = {metadata, *(chunk.place.file for item in items for chunk in item.chunks)}
    return Contents(
        source=str(path),
        kind="distributed checkpoint",
        size=sum(file.stat().st_size for file in files),
        tensors=tuple(_stored(item).entry for item in items if item.dtype is not None),
        globals=tuple(entry_for(name, allowed=allowed) for name, allowed in found),
        trust="never" if refused else "none",
        why="its .metadata names more than torch's own records" if refused
        else "its .metadata names torch's own records only, which are read by stand-ins",
        notes=(f"{plain} entries that are no tensors",) * (plain > 0),
    )  # fmt: skip


def _tree(items: Iterable[Item]) -> dict[str, Any]:
    """The nested state dict that was saved; what is no tensor is read, where it is plain."""
    root: dict[Any, Any] = {}
    for item in items:
        here = root
        for part in item.path[:_MOST_DEEP][:-1]:
            inside = here.setdefault(part, {})
            if not isinstance(inside, dict):
                raise UnreadableFile(f".metadata has {quoted(item.name)} inside another entry")
            here = inside
        leaf = item.path[:_MOST_DEEP][-1]
        if leaf in here:
            raise UnreadableFile(f".metadata has {quoted(item.name)} twice")
        here[leaf] = _value(item) if item.dtype is None else _stored(item)
    found: dict[str, Any] = _lists(root)
    return found


def _lists(found: Any) -> Any:
    """Dicts whose keys count from 0 were lists."""
    if not isinstance(found, dict):
        return found
    inside = {key: _lists(value) for key, value in found.items()}
    if found and list(found) == list(range(len(found))):
        return list(inside.values())
    return inside


def _stored(item: Item) -> StoredTensor:
    assert item.dtype is not None
    place = item.chunks[0].place if len(item.chunks) == 1 else item.name
    return StoredTensor(item.name, item.dtype, item.shape, partial(_assembled, item), place)


def _assembled(item: Item) -> Tensor:
    """The tensor out of its chunks, which cover it."""
    assert item.dtype is not None
    if len(item.chunks) == 1:
        return _chunk(item, item.chunks[0])
    whole = torch.empty(item.shape, dtype=item.dtype)
    for chunk in item.chunks:
        block = whole
        for axis, (offset, size) in enumerate(zip(chunk.offsets, chunk.sizes, strict=True)):
            block = block.narrow(axis, offset, size)
        block.copy_(_chunk(item, chunk))
    return whole


def _chunk(item: Item, chunk: Chunk) -> Tensor:
    found = _content(item.name, chunk.place)
    sound = isinstance(found, StoredTensor)
    if not sound or found.shape != chunk.sizes or found.dtype != item.dtype:
        raise UnreadableFile(
            f"{quoted(item.name)} is not what .metadata says",
            expected=f"{item.dtype} of {list(chunk.sizes)}",
            found=f"{found.dtype} of {list(found.shape)}" if sound else type(found).__name__,
            next_step="copy or save the folder again",
        )
    return found.read()


def _value(item: Item) -> Any:
    """A number, text or list; ``None`` for an object that only code could make."""
    place = item.chunks[0].place
    if place.part.size > _LARGEST_VALUE:
        return None
    try:
        return _content(item.name, place)
    except GradauditError:
        return None  # the weights do not need it


def _content(name: str, place: Place) -> Any:
    """What the archive of ``torch.save`` at ``place`` holds, where it needs no code to be made."""
    try:
        found = read_archive(place.file, place.part)
        make = TensorMaker(place.file, found.storages)
        dry, (content,) = dry_read(found.pickle, make=make)
        check_tree(content, place.file)
        check_declared(dry, found.sizes, place.file)
    except GradauditError:
        raise
    except Exception as error:  # a pickle raises whatever it meets
        raise _damaged(name, place, told(error)) from None
    if not (dry.plain and found.direct) or make.unknown:
        raise RefusedFile(
            f"{quoted(name)} in {quoted(place.file.name)} is not a plain tensor",
            found=", ".join(quoted(each) for each in sorted(dry.names)[:5]),
            next_step="save the checkpoint with torch.distributed.checkpoint.save",
        )
    return content


def _damaged(name: str, place: Place, found: str) -> UnreadableFile:
    return UnreadableFile(
        f"{quoted(name)} in {quoted(place.file.name)} is damaged",
        found=found,
        next_step="copy or save the folder again",
    )
