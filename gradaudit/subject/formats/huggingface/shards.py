"""The weights of a Hugging Face folder: one file, or several that an index names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradaudit.errors import UnreadableFile
from gradaudit.json_object import read_object
from gradaudit.subject.formats.members import member
from gradaudit.subject.formats.safetensors_file import stored_safetensors
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights, is_tensor
from gradaudit.subject.formats.torch_files.opening import open_torch_file
from gradaudit.telling import listed, quoted

_LARGEST_INDEX = 64 << 20  # bytes; some 500,000 tensors
# In the order in which transformers looks for them.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_INDEX = ".index.json"
_OTHERS = ("tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "adapter_model.safetensors")


@dataclass(frozen=True)
class Shards:
    """Where the weights lie, and what is to be said of them."""

    first: str  # the file that names all others, or the only one
    files: tuple[Path, ...]
    weights: StoredWeights
    notes: tuple[str, ...] = ()


def read_shards(folder: Path, *, trust: bool = False) -> Shards:
    """All weights of the folder; no tensor is read yet.

    A pickle that would run code is opened with ``trust`` only.

    Raises ``RefusedFile`` for an index that names files outside the folder, ``UnreadableFile`` for
    one that does not fit its shards, for a missing or damaged shard and where there are no weights.
    """
    first = next((name for name in _WEIGHTS if (folder / name).exists()), None)
    if first is None:
        # a link to nothing, as in a cache whose download was broken off, is one of them
        first = next((name for name in _WEIGHTS if (folder / name).is_symlink()), None)
    if first is None:
        there = [name for name in _OTHERS if (folder / name).exists()]
        raise UnreadableFile(
            f"{folder.name} holds no weights",
            expected=", ".join(_WEIGHTS),
            found=listed(there),
            next_step="save the model with save_pretrained",
        )
    path = member(folder, first)
    if not first.endswith(_INDEX):
        weights = StoredWeights(_stored(path, first, trust=trust))
        return Shards(first, (path,), _some(weights, first))
    return _indexed(folder, first, path, trust=trust)


def _some(weights: StoredWeights, name: str) -> StoredWeights:
    if not weights:
        raise UnreadableFile(f"{name} holds no tensors", expected="a model's weights")
    return weights


def _indexed(folder: Path, name: str, path: Path, *, trust: bool) -> Shards:
    where = _weight_map(path, name)
    shards = list(dict.fromkeys(where.values()))
    files = {shard: member(folder, shard) for shard in shards}
    held = {
        shard: {t.name: t for t in _stored(files[shard], shard, trust=trust)} for shard in shards
    }
    absent = [tensor for tensor, shard in where.items() if tensor not in held[shard]]
    if absent:
        raise UnreadableFile(
            f"{name} does not fit its shards",
            expected=f"{quoted(absent[0])} in {quoted(where[absent[0]])}",
            found=f"{len(absent):,} of {len(where):,} tensors missing",
            next_step="copy or download the whole folder again",
        )
    tensors = {tensor: held[shard][tensor] for tensor, shard in where.items()}
    extra = [t for shard in shards for t in held[shard].values() if t.name not in tensors]
    tensors.update((each.name, each) for each in extra)
    notes: tuple[str, ...] = ()
    if extra:
        names = listed([quoted(each.name) for each in extra])
        notes = (f"{len(extra)} tensors lie in the shards and not in {name}: {names}.",)
    return Shards(name, tuple(files.values()), _some(StoredWeights(tensors.values()), name), notes)


def _weight_map(path: Path, name: str) -> Mapping[str, str]:
    found = read_object(path, most=_LARGEST_INDEX).get("weight_map")
    sound = isinstance(found, dict) and all(isinstance(shard, str) for shard in found.values())
    if not sound or not found:
        raise UnreadableFile(
            f"{name} maps no tensors to files",
            expected='{"weight_map": {name of a tensor: name of a file}}',
        )
    assert isinstance(found, dict)
    return found


def _stored(path: Path, name: str, *, trust: bool) -> tuple[StoredTensor, ...]:
    """The tensors in one file; the suffix says of which kind it is, as transformers takes it."""
    if name.endswith(".safetensors"):
        return stored_safetensors(path).entries()
    content = open_torch_file(path, trust=trust)
    if not isinstance(content, Mapping):
        raise UnreadableFile(f"{name} holds no weights", expected="names and tensors")
    tensors = {key: value for key, value in content.items() if is_tensor(value)}
    return StoredWeights.of({str(key): value for key, value in tensors.items()}).entries()
