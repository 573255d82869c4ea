"""What a TorchScript file holds and asks for, without opening it."""

from __future__ import annotations

from pathlib import Path

from gradaudit.errors import GradauditError
from gradaudit.records.contents import Contents, GlobalEntry, TensorEntry, Trust
from gradaudit.subject.formats.dry_pickle import dry_read
from gradaudit.subject.formats.stored_records import Records, stored_records
from gradaudit.subject.formats.torchscript.opening import code_of, objects_of
from gradaudit.subject.formats.torchscript.source import operators_in, parsed


def inspect_torchscript(path: Path) -> Contents:
    """The tensors and operators of a file.

    Raises ``UnreadableFile`` or ``RefusedFile`` for one that cannot even be listed.
    """
    with stored_records(path) as records:
        sources = code_of(records)
        asked = operators_in(sources)
        trust: Trust = "none"
        why = "every statement and operator of its code is on the exact list"
        try:
            parsed(sources)
            objects_of(records)
        except GradauditError as error:
            trust, why = "needed", error.what
    return Contents(
        source=str(path),
        kind="torchscript",
        size=path.stat().st_size,
        tensors=(),
        globals=tuple(
            GlobalEntry(name, "allowed" if asked[name] else "unlisted") for name in sorted(asked)
        ),
        trust=trust,
        why=why,
    )
