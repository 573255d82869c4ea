"""How a search for a cure ended: an exit code, and what the report's summary does not say."""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.fixing import Fixed
from gradaudit.mending.change import applicable
from gradaudit.rules._judge import made_up


@dataclass(frozen=True)
class Ending:
    """0 sound or cured, 1 no cure found, 3 inconclusive; and a line that says so."""

    code: int
    line: str = ""


def ending(fixed: Fixed) -> Ending:
    """What came of it; a proof and the number of attempts stand in the summary already."""
    report = fixed.report
    prescription = report.prescription
    if fixed.changed:
        return Ending(0)
    if report.verdict == "inconclusive":
        return Ending(3, "Inconclusive: no cure can be shown to work.")
    calls = prescription is not None and applicable(prescription.remedies)
    if made_up(report.measurements) and (calls or report.verdict == "fail"):
        line = "Inconclusive: a cure cannot be shown to work on made-up data; give yours (--data)."
        return Ending(3, line)
    if report.verdict == "fail" or report.forecast.outcome in ("stalls", "diverges"):
        return Ending(1, "No cure was found: only the reports are written.")
    return Ending(0, "Nothing to change.")
