"""Weights under other names than the model has: a part of what was trained, or a wrapped one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from gradaudit.subject.formats.stored_weights import StoredWeights
from gradaudit.telling import quoted

_WRAPPED = ("module.", "_orig_mod.")


def by_own_names(
    own: Sequence[str], weights: StoredWeights
) -> tuple[StoredWeights, tuple[str, ...]]:
    """The weights by the names the model has, and a note on what was taken off theirs.

    Another name is taken only where *every* one of the model's is found under the same prefix (the
    ``model.`` of a Lightning module, say); entries beside that part are left out, and told of. The
    weights as they are where that is so under no prefix.
    """
    if not own or all(name in weights for name in own):
        return weights, ()
    found = list(dict.fromkeys(_prefixes(own, weights)))
    for prefix in found:
        part = {name.removeprefix(prefix): name for name in weights if name.startswith(prefix)}
        entries = [replace(weights.entry(full), name=name) for name, full in part.items()]
        return StoredWeights(entries), (_told(prefix, found[1:], len(weights) - len(part)),)
    for wrapper in _WRAPPED:
        if all(name.removeprefix(wrapper) in weights for name in own):
            short = {name.removeprefix(wrapper): name for name in own}
            entries = [
                replace(entry, name=short.get(entry.name, entry.name))
                for entry in weights.entries()
            ]
            return StoredWeights(entries), ()
    return weights, ()


def _prefixes(own: Sequence[str], weights: StoredWeights) -> Iterator[str]:
    """Prefixes under which the file has every one of the model's names."""
    longest = max(own, key=len)
    for name in weights:
        prefix = name.removesuffix(longest)
        if (
            prefix != name
            and prefix.endswith(".")
            and all(prefix + each in weights for each in own)
        ):
            yield prefix


def _told(prefix: str, others: Sequence[str], beside: int) -> str:
    text = f"Names: the model's weights are those under {quoted(prefix)} in the file"
    if others:
        text += f" (they are there under {quoted(others[0])} too)"
    if beside:
        text += f"; {beside} beside them are left out"
    return f"{text}."
