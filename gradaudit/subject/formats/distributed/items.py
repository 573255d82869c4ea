"""What a folder of torch.distributed.checkpoint says it holds, held against its files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.distributed.metadata import SavedRecord
from gradaudit.subject.formats.members import member
from gradaudit.subject.formats.next_steps import HOSTILE_FOLDER
from gradaudit.subject.formats.torch_files.archive import Record
from gradaudit.telling import quoted

_MOST_AXES = 64
_MOST_CHUNKS = 1 << 16  # of one tensor: more than processes have ever shared one
_MOST_COMPARED = 64  # chunks in no regular order
_MOST_ELEMENTS = 1 << 62


@dataclass(frozen=True)
class Place:
    """A part of a file, which is an archive of ``torch.save``."""

    file: Path
    part: Record


@dataclass(frozen=True)
class Chunk:
    """A block of a tensor: where it begins along each axis, its sizes, and where it lies."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    place: Place


@dataclass(frozen=True)
class Item:
    """One entry of the checkpoint: a tensor in chunks, or anything else as a pickle."""

    name: str
    path: tuple[str | int, ...]  # where it was in the nested state dict
    dtype: torch.dtype | None  # None: not a tensor
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


def read_items(metadata: SavedRecord, folder: Path) -> tuple[Item, ...]:
    """The entries in the order of the metadata.

    Raises ``RefusedFile`` for files outside the folder and for sizes that their bytes do not bear
    out, ``UnreadableFile`` where an entry is incomplete.
    """
    entries = _mapping(metadata.values.get("state_dict_metadata"), "state_dict_metadata")
    places = _Places(metadata, folder)
    paths = metadata.values.get("planner_data")
    if not all(isinstance(name, str) for name in entries):
        raise UnreadableFile(".metadata has an entry whose name is no text")
    return tuple(
        _item(name, entry, places, _path_of(name, paths)) for name, entry in entries.items()
    )


def _mapping(value: Any, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict) or not value:
        raise UnreadableFile(f".metadata holds no {what}", expected="names and their records")
    return value


class _Places:
    """Where everything lies, by name and offsets."""

    def __init__(self, metadata: SavedRecord, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, tuple[Path, int]] = {}
        stored = _mapping(metadata.values.get("storage_data"), "storage_data")
        self._places: dict[tuple[str, tuple[int, ...] | None], SavedRecord] = {}
        for index, info in stored.items():
            if not (_is(index, "MetadataIndex") and _is(info, "_StorageInfo")):
                raise UnreadableFile(
                    ".metadata says of no file what lies where",
                    expected="the records of torch's own FileSystemWriter",
                    next_step="save the checkpoint with torch.distributed.checkpoint.save",
                )
            name, offset = index.values.get("fqn"), index.values.get("offset")
            offset = None if offset is None else _sizes(offset, "an offset")
            if isinstance(name, str):
                self._places[name, offset] = info

    def find(self, name: str, offset: tuple[int, ...] | None, least: int) -> Place:
        """Where an entry lies; it has ``least`` bytes or more."""
        info = self._places.get((name, offset))
        if info is None:
            raise UnreadableFile(
                f".metadata does not say where {quoted(name)} lies", next_step="save it again"
            )
        values = info.values
        if values.get("transform_descriptors"):
            raise UnreadableFile(
                f"{quoted(name)} is stored compressed or encrypted",
                next_step="save the checkpoint without transforms",
            )
        shard, begin, length = (values.get(k) for k in ("relative_path", "offset", "length"))
        if not isinstance(shard, str) or type(begin) is not int or type(length) is not int:
            raise UnreadableFile(f".metadata does not say where {quoted(name)} lies")
        if shard not in self._files:
            path = member(self._folder, shard)
            self._files[shard] = path, path.stat().st_size
        path, size = self._files[shard]
        if begin < 0 or not least <= length <= size - begin:
            raise RefusedFile(
                f".metadata claims {least:,} bytes or more for {quoted(name)} at {begin:,}",
                found=f"{size:,} bytes in {quoted(shard)}, {length:,} of them for it",
                next_step=HOSTILE_FOLDER,
            )
        return Place(path, Record(begin, length))


def _path_of(name: str, paths: Any) -> tuple[str | int, ...]:
    found = paths.get(name) if isinstance(paths, dict) else None
    if isinstance(found, tuple) and found and all(type(each) in (str, int) for each in found):
        return found
    return (name,)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, SavedRecord) and value.kind == kind


def _item(name: str, entry: Any, places: _Places, path: tuple[str | int, ...]) -> Item:
    if _is(entry, "BytesStorageMetadata"):
        return Item(name, path, None, (), (Chunk((), (), places.find(name, None, 1)),))
    if not _is(entry, "TensorStorageMetadata"):
        raise UnreadableFile(f".metadata does not say what {quoted(name)} is")
    dtype = _dtype(entry.values.get("properties"), name)
    shape = _sizes(entry.values.get("size"), quoted(name))
    chunks = tuple(_chunks(name, entry, shape, dtype, places))
    _check_cover(name, shape, chunks)
    return Item(name, path, dtype, shape, chunks)


def _dtype(properties: Any, name: str) -> torch.dtype:
    if _is(properties, "TensorProperties"):
        found = properties.order[0] if properties.order else properties.values.get("dtype")
        if isinstance(found, torch.dtype):
            return found
    raise UnreadableFile(f".metadata does not say the type of {quoted(name)}")


def _sizes(value: Any, what: str) -> tuple[int, ...]:
    sound = isinstance(value, (tuple, list)) and len(value) <= _MOST_AXES
    if sound and all(type(each) is int and each >= 0 for each in value):
        # one by one first: the product of numbers of a million digits takes for ever
        small = max(value, default=0) <= _MOST_ELEMENTS
        if small and math.prod(max(1, each) for each in value) <= _MOST_ELEMENTS:
            return tuple(value)
        raise RefusedFile(
            f".metadata claims sizes for {what} that no file holds",
            next_step=HOSTILE_FOLDER,
        )
    raise UnreadableFile(f".metadata gives no sizes for {what}", expected="whole numbers from 0")


def _chunks(
    name: str, entry: SavedRecord, shape: tuple[int, ...], dtype: torch.dtype, places: _Places
) -> Iterator[Chunk]:
    found = entry.values.get("chunks")
    if not isinstance(found, list) or len(found) > _MOST_CHUNKS:
        raise UnreadableFile(f".metadata does not say which parts {quoted(name)} has")
    for each in found:
        if not _is(each, "ChunkStorageMetadata"):
            raise UnreadableFile(f".metadata does not say which parts {quoted(name)} has")
        offsets = _sizes(each.values.get("offsets"), quoted(name))
        sizes = _sizes(each.values.get("sizes"), quoted(name))
        same = len(offsets) == len(sizes) == len(shape)
        if not same or any(o + s > n for o, s, n in zip(offsets, sizes, shape, strict=True)):
            raise RefusedFile(
                f"a part of {quoted(name)} lies outside it",
                expected=f"parts of {list(shape)}",
                found=f"{list(sizes)} at {list(offsets)}",
                next_step=HOSTILE_FOLDER,
            )
        place = places.find(name, offsets, math.prod(sizes) * dtype.itemsize)
        yield Chunk(offsets, sizes, place)


def _check_cover(name: str, shape: tuple[int, ...], chunks: Sequence[Chunk]) -> None:
    """Every element lies in one chunk, and in one only."""
    covered = sum(math.prod(chunk.sizes) for chunk in chunks)
    full = [chunk for chunk in chunks if 0 not in chunk.sizes]
    if covered == math.prod(shape) and (_is_grid(full, len(shape)) or _apart(full)):
        return
    raise UnreadableFile(
        f"the parts of {quoted(name)} do not make up the tensor",
        expected=f"each of its {math.prod(shape):,} elements once",
        found=f"{covered:,} in {len(chunks)} parts",
        next_step="copy or save the folder again",
    )


def _is_grid(chunks: Sequence[Chunk], axes: int) -> bool:
    """Whether the cuts along each axis are the same for all, as those of a mesh of devices are."""
    if len({chunk.offsets for chunk in chunks}) < len(chunks):
        return False
    for axis in range(axes):
        spans = {(chunk.offsets[axis], chunk.sizes[axis]) for chunk in chunks}
        ends = sorted((offset, offset + size) for offset, size in spans)
        if any(after[0] < before[1] for before, after in itertools.pairwise(ends)):
            return False
    return True


def _apart(chunks: Sequence[Chunk]) -> bool:
    """Whether no two overlap, each held against each."""
    pairs = itertools.combinations(chunks, 2)
    return len(chunks) <= _MOST_COMPARED and not any(_overlap(a, b) for a, b in pairs)


def _overlap(a: Chunk, b: Chunk) -> bool:
    spans = zip(a.offsets, a.sizes, b.offsets, b.sizes, strict=True)
    return all(i < j + n and j < i + m for i, m, j, n in spans)
