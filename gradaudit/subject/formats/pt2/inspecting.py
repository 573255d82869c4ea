"""What a ``.pt2`` archive holds and asks for, without opening it."""

from __future__ import annotations

from pathlib import Path

from gradaudit.errors import GradauditError
from gradaudit.records.contents import Contents, GlobalEntry, TensorEntry, Trust
from gradaudit.subject.formats.pickles.dangers import entry_for
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
from gradaudit.subject.formats.torch_files.trust import DO_NOT_TRUST
from gradaudit.telling import quoted


def inspect_exported(path: Path) -> Contents:
    """The tensors, operators and pickled names of an archive.

    Raises ``UnreadableFile`` or ``RefusedFile`` for one that cannot even be listed.
    """
    with stored_records(path) as records:
        asked: dict[str, GlobalEntry] = {}
        tensors: tuple[TensorEntry, ...] = ()
        trust: Trust = "none"
        why = "every operator, name and size in it is on the exact list"
        try:
            program = program_of(records, path)
            asked.update((name, _operator(name)) for name in operators_of(program))
            tensors = _tensors(records)
            if INPUTS in records.entries:
                names = dry_inner(records.read(INPUTS), path).names
                asked.update((name, entry_for(name, allowed=name in ALLOWED)) for name in names)
            checked_program(program, "cpu")
        except GradauditError as error:
            trust, why = "needed", error.what
        found = tuple(asked[name] for name in sorted(asked))
        beyond = [each.name for each in found if each.standing != "allowed"]
        if beyond:
            trust, why = "needed", f"it asks for {quoted(beyond[0])}, which is not on the list"
        if any(each.standing == "dangerous" for each in found):
            why = DO_NOT_TRUST
    return Contents(
        source=str(path),
        kind="pt2",
        size=path.stat().st_size,
        tensors=tensors,
        globals=found,
        trust=trust,
        why=why,
    )


def _operator(name: str) -> GlobalEntry:
    return GlobalEntry(name, "allowed" if listed_operator(name) else "unlisted")


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
