"""What a PyTorch file holds and asks for, from its pickle; nothing is imported or called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradaudit.records import Contents
from gradaudit.records.contents import TensorEntry, Trust
from gradaudit.subject.formats.declared import STORAGE_TYPES, DeclaredTensor
from gradaudit.subject.formats.pickles.dry import DryPickle, Inert
from gradaudit.subject.formats.sniff import sniff
from gradaudit.subject.formats.stored_weights import StoredTensor
from gradaudit.subject.formats.torch_files.limits import item_size
from gradaudit.subject.formats.torch_files.opening import PROTOCOL, dry_file
from gradaudit.subject.formats.torch_files.trust import DO_NOT_TRUST, asked_for, unlisted
from gradaudit.telling import listed, quoted

_MEMBERS = ("_parameters", "_buffers", "_modules")
_DEEP = 100
_KEYS, _LONGEST = 12, 80  # shown of a dict; letters of a name
_MOST = 1_000_000  # entries that are looked through
_Leaf = StoredTensor | DeclaredTensor


def inspect_torch_file(path: Path) -> Contents:
    """What the file declares. Raises ``UnreadableFile`` or ``RefusedFile`` where it cannot be."""
    kind = sniff(path)
    dry, content = dry_file(path)
    named = dict.fromkeys(_tensors(content, "", 0, [_MOST]))
    trust, why = _trust(dry)
    unnamed = len(dry.tensors) - len(named)
    notes = _told(content)
    notes += (f"{unnamed} tensors lie within objects, without a name",) * (unnamed > 0)
    return Contents(
        source=str(path),
        kind=kind,
        size=path.stat().st_size,
        tensors=tuple(_entry(name, leaf) for name, leaf in named),
        globals=asked_for(dry),
        trust=trust,
        why=why,
        notes=notes,
    )


def _told(content: Any) -> tuple[str, ...]:
    """What the file is, beyond a bag of tensors: an object, or a dict with other things in it."""
    if isinstance(content, Inert):
        return (f"a pickled {quoted(content.made_by, _LONGEST)}",)
    if isinstance(content, dict) and not all(isinstance(v, _Leaf) for v in content.values()):
        keys = [quoted(key, _LONGEST) for key in content if isinstance(key, (str, int))]
        return (f"its keys: {listed(keys, _KEYS)}",) * bool(keys)
    return ()


def _trust(dry: DryPickle) -> tuple[Trust, str]:
    if any(each.standing == "dangerous" for each in asked_for(dry)):
        return "needed", DO_NOT_TRUST
    if unlisted(dry):
        return "needed", "it asks for names that are not on the list of what runs no code"
    if dry.classes_by_source:
        return "needed", "it is a module in torch's format from before 1.6"
    if dry.protocol > PROTOCOL and not dry.plain:
        return "needed", f"torch reads pickles of protocol {dry.protocol} only by running them"
    return "none", "all it asks for is on the list of what runs no code"


def _tensors(content: Any, name: str, depth: int, left: list[int]) -> Iterator[tuple[str, _Leaf]]:
    """Every tensor with the keys that lead to it; those of modules by the modules' own names."""
    if isinstance(content, (StoredTensor, DeclaredTensor)):
        yield name, content
        return
    for key, value in _entries(content):
        left[0] -= 1
        if left[0] < 0 or depth > _DEEP:
            return
        inner = f"{name}.{key}" if name and key else name or key
        yield from _tensors(value, inner, depth + 1, left)


def _entries(content: Any) -> list[tuple[str, Any]]:
    if isinstance(content, Inert) and isinstance(content.state, dict):
        state = content.state
        if "_modules" in state:
            return [("", state[key]) for key in _MEMBERS if key in state]
        return _entries(state)
    if isinstance(content, dict):
        keys = [
            key if isinstance(key, (str, int)) else f"({type(key).__name__})" for key in content
        ]
        return list(zip(map(str, keys), content.values(), strict=True))
    if isinstance(content, (list, tuple)):
        return [(str(number), value) for number, value in enumerate(content)]
    return []


def _entry(name: str, leaf: _Leaf) -> TensorEntry:
    if isinstance(leaf, StoredTensor):
        return replace(leaf, name=name).entry
    size = leaf.numel * item_size(leaf.dtype)
    dtype = leaf.dtype.removesuffix("Storage")
    return TensorEntry(name, STORAGE_TYPES.get(dtype, dtype), leaf.shape, size)
