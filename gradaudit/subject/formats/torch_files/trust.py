"""What a PyTorch file asks for beyond what may be read without trust, and how that is told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gradaudit.errors import RefusedFile
from gradaudit.records.contents import GlobalEntry
from gradaudit.subject.formats.next_steps import IF_YOURS
from gradaudit.subject.formats.pickles.allowed import (
    ACTIVATIONS,
    CALLABLE,
    TORCH_FUNCTIONS,
    allowed_globals,
)
from gradaudit.subject.formats.pickles.dangers import entry_for, is_dangerous
from gradaudit.subject.formats.pickles.dry import INSTANCE, DryPickle
from gradaudit.telling import listed, quoted

_SHOWN = 40
_LONGEST = 100
DO_NOT_TRUST = "it asks for what no training code writes; do not give it"


def asked_for(dry: DryPickle) -> tuple[GlobalEntry, ...]:
    """Every global of a pickle, and what of torch's functions or of objects it looks up."""
    needed = set(unlisted(dry))
    names = dry.names | needed
    return tuple(entry_for(name, allowed=name not in needed) for name in sorted(names))


def unlisted(dry: DryPickle) -> tuple[str, ...]:
    """What would have to be trusted, those known from attacks first."""
    needed = {name for name in dry.names if name not in _known()}
    needed |= (dry.called - CALLABLE) | dry.misuses
    needed |= {
        name if owner == INSTANCE else f"{owner}.{name}"
        for owner, name in dry.attributes
        if owner != TORCH_FUNCTIONS or name not in ACTIVATIONS
    }
    return tuple(sorted(needed, key=lambda name: (not is_dangerous(name), name)))


def refuse_unlisted(dry: DryPickle, path: Path) -> None:
    """Raise ``RefusedFile`` if ``dry`` needs trust."""
    needed = unlisted(dry)
    if needed:
        raise refusal(path.name, needed)
    if dry.classes_by_source:
        raise RefusedFile(
            f"{path.name} is a module pickled in torch's format from before 1.6, "
            "which cannot be opened without running what it names",
            next_step=f"{IF_YOURS}, or save it again with torch.save",
        )


def refusal(what: str, needed: Sequence[str]) -> RefusedFile:
    """The error that lists what a file, or ``what`` of it, would have to be trusted with."""
    dangerous = any(map(is_dangerous, needed))
    return RefusedFile(
        f"{what} would run code to be opened: it needs {named(needed)}",
        next_step="no training code writes what is marked DANGEROUS: do not trust this file"
        if dangerous
        else IF_YOURS,
    )


def named(needed: Sequence[str]) -> str:
    """Names of globals in a line, those known from attacks marked."""
    return listed([_told(name) for name in needed], _SHOWN)


def _told(name: str) -> str:
    plain = name.isascii() and name.isprintable() and 0 < len(name) <= _LONGEST
    return (name if plain else quoted(name)) + (" (DANGEROUS)" if is_dangerous(name) else "")


@cache
def _known() -> frozenset[str]:
    from torch import _weights_only_unpickler

    theirs: dict[str, Any] = _weights_only_unpickler._get_allowed_globals()
    return frozenset({*allowed_globals(), *theirs})
