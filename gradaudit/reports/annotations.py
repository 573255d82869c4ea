"""GitHub's workflow commands: an annotation for each rule, ten at most.

GitHub shows ten errors and ten warnings of a step and drops the rest without a word, so a rule is
one annotation whatever the number of its findings, and the last one names the rules left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.records import Audited, Run, Severity
from gradaudit.reports.claims import claims, gathered, regressed, several, told
from gradaudit.reports.numbers import TERMINAL
from gradaudit.reports.spots import Spot, spot
from gradaudit.reports.text import one_line, shorten

MOST = 10
_COMMANDS: dict[Severity, str] = {"fail": "error", "warn": "warning", "note": "notice"}
_TITLE_LETTERS, _MESSAGE_LETTERS = 120, 1_000


@dataclass(frozen=True)
class _Annotation:
    severity: Severity
    title: str
    message: str
    spot: Spot

    def __str__(self) -> str:
        """One line, of which a runner reads ``%``, line breaks, ``:`` and ``,`` in coded form."""
        title = _property(shorten(self.title, _TITLE_LETTERS))
        file = _property(self.spot.file)
        message = _data(shorten(self.message, _MESSAGE_LETTERS))
        return (
            f"::{_COMMANDS[self.severity]} file={file},line={self.spot.line},title={title}"
            f"::{message}\n"
        )


def render(run: Run) -> str:
    """The annotations of a run, worst first, a line each; empty where there is nothing to say.

    What the baseline knows is left out.
    """
    found = [each for audited in run.audits for each in _of(run, audited)]
    found.sort(key=lambda each: list(_COMMANDS).index(each.severity))
    if len(found) > MOST:
        found = [*found[: MOST - 1], _rest(run, found[MOST - 1 :])]
    return "".join(map(str, found))


def failed(run: Run, message: str) -> str:
    """The one annotation of a run that could not be made."""
    return str(_Annotation("fail", "gradaudit cannot run", message, spot(run, None)))


def _of(run: Run, audited: Audited) -> list[_Annotation]:
    name = f" in {audited.name}" if len(run.audits) > 1 else ""
    report = audited.report
    if report is None:
        title = f"gradaudit cannot run{name}"
        return [_Annotation("fail", title, audited.error, spot(run, None))]
    found = []
    for group in gathered([claim for claim in claims(audited) if not claim.known]):
        worst = group.worst
        title = f"{group.code} {group.name}{name}"
        message = f"{several(group, TERMINAL)}. {worst.why}"
        found.append(_Annotation(group.severity, title, message, spot(run, report, worst.where)))
    worse = regressed(report)
    if worse:
        message = " ".join(told(each) for each in worse)
        title = f"worse than the baseline{name}"
        found.append(_Annotation("fail", title, message, spot(run, report)))
    if audited.verdict == "inconclusive":
        title = f"gradaudit is inconclusive{name}"
        found.append(_Annotation("warn", title, report.cause, spot(run, report)))
    return found


def _rest(run: Run, left: list[_Annotation]) -> _Annotation:
    titles = ", ".join(one_line(each.title) for each in left)
    return _Annotation(
        left[0].severity, f"and {len(left)} more", f"Also found: {titles}", left[0].spot
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
