"""The file and line of every finding, from where the user's code makes the layer it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gradaudit.records import Finding, Measurements, Where
from gradaudit.subject import Opened
from gradaudit.subject.source_files import SourceLine


def located(
    findings: Sequence[Finding], opened: Opened, measurements: Measurements
) -> tuple[Finding, ...]:
    """The findings with a line of the user's code each, where one is known.

    One about a layer has the line that makes it, one about a stage that of its first layer, and one
    about the model, its data or its recipe that of the code which makes the model.
    """
    modules = {row.index: row.modules for row in measurements.stages}
    row = opened.row
    whole = SourceLine(row.file, row.line or 1) if row.file else None
    return tuple(_located(each, opened.lines, modules, whole) for each in findings)


def _located(
    finding: Finding,
    lines: Mapping[str, SourceLine],
    modules: Mapping[int, tuple[str, ...]],
    whole: SourceLine | None,
) -> Finding:
    where = finding.where
    if where.file:
        return finding
    found = next((lines[name] for name in _names(where, modules) if name in lines), whole)
    if found is None:
        return finding
    return replace(finding, where=replace(where, file=found.file, line=found.line))


def _names(where: Where, modules: Mapping[int, tuple[str, ...]]) -> Iterator[str]:
    """Modules that a place lies in, the innermost first; not the model as a whole."""
    stage = () if where.stage is None else modules.get(where.stage, ())
    for name in (where.module, where.parameter, *stage):
        parts = name.split(".") if name else []
        for count in range(len(parts), 0, -1):
            yield ".".join(parts[:count])
