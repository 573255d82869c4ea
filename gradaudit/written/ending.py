"""How a search for a cure ended: in words, and as an exit code."""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.fixing import Fixed
from gradaudit.mending.change import applicable
from gradaudit.reports.text import plural
from gradaudit.rules._judge import made_up
from gradaudit.written.words import proof_line


@dataclass(frozen=True)
class Ending:
    """0 sound or cured, 1 no cure found, 3 inconclusive; and the lines that say so."""

    code: int
    lines: tuple[str, ...]


def ending(fixed: Fixed) -> Ending:
    """What came of it."""
    report = fixed.report
    prescription = report.prescription
    if prescription is not None and fixed.changed:
        batches = prescription.proof.batches if prescription.proof else ""
        return Ending(0, (f"Shown to work: {proof_line(prescription)}; batches: {batches}",))
    if report.verdict == "inconclusive":
        return Ending(3, ("Inconclusive: no cure can be shown to work.",))
    calls = prescription is not None and applicable(prescription.remedies)
    if made_up(report.measurements) and (calls or report.verdict == "fail"):
        line = "Inconclusive: a cure cannot be shown to work on made-up data; give yours (--data)."
        return Ending(3, (line,))
    tried = prescription.tried if prescription is not None else ()
    if report.verdict == "fail" or report.forecast.outcome in ("stalls", "diverges"):
        found = f"{plural(len(tried), 'set')} of changes tried, none trains" if tried else (
            "nothing that could be applied answers the findings"
        )  # fmt: skip
        return Ending(1, (f"No cure was found: {found}; the report says what was tried.",))
    if tried:
        line = f"{plural(len(tried), 'set')} of changes tried, none trains better"
        return Ending(0, (f"Nothing to change: {line}.",))
    return Ending(0, ("Nothing to change.",))
