"""What a ``.pt2`` archive holds and asks for, without opening it."""

from __future__ import annotations

from pathlib import Path

from gradaudit.errors import GradauditError
from gradaudit.records.contents import Contents, GlobalEntry, TensorEntry, Trust
from gradaudit.subject.formats.programs.stored_records import Records, stored_records
from gradaudit.subject.formats.pt2.archive import (
    CONSTANTS,
    INPUTS,
    WEIGHTS,
    declared_tensors,
    program_of,
)
from gradaudit.subject.formats.pt2.operators import listed_operator
from gradaudit.subject.formats.pt2.pickled_inputs import ALLOWED, dry_inner
from gradaudit.subject.formats.pt2.program import checked_program, operators_of


def inspect_exported(path: Path) -> Contents:
    """The tensors, operators and pickled names of an archive.

    Raises ``UnreadableFile`` or ``RefusedFile`` for one that cannot even be listed.
    """
    with stored_records(path) as records:
        asked: dict[str, bool] = {}
        tensors: tuple[TensorEntry, ...] = ()
        trust: Trust = "none"
        why = "every operator, name and size in it is on the exact list"
        try:
            program = program_of(records, path)
            asked.update({name: listed_operator(name) for name in operators_of(program)})
            tensors = _tensors(records)
            if INPUTS in records.entries:
                names = dry_inner(records.read(INPUTS), path).names
                asked.update({name: name in ALLOWED for name in names})
            checked_program(program, "cpu")
        except GradauditError as error:
            trust, why = "needed", error.what
        beyond = [name for name, listed in asked.items() if not listed]
        if beyond:
            trust, why = "needed", f"it asks for {beyond[0]}, which is not on the list"
    return Contents(
        source=str(path),
        kind="pt2",
        size=path.stat().st_size,
        tensors=tensors,
        globals=tuple(
            GlobalEntry(name, "allowed" if asked[name] else "unlisted") for name in sorted(asked)
        ),
        trust=trust,
        why=why,
    )


def _tensors(records: Records) -> tuple[TensorEntry, ...]:
    return tuple(
        TensorEntry(
            each.name,
            str(each.dtype).removeprefix("torch."),
            each.shape,
            each.numel * each.dtype.itemsize,
        )
        for folder in (WEIGHTS, CONSTANTS)
        for each in declared_tensors(records, folder)[1]
    )
