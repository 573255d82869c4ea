"""Training beyond the rehearsal, in words: how far it went, where it came to, why it stopped."""

from __future__ import annotations

from gradaudit.records import Measurements, Outlook, Trial
from gradaudit.reports.charts.compared import named
from gradaudit.reports.numbers import number
from gradaudit.reports.page import Fact
from gradaudit.reports.text import one_line, plural


def words(row: Outlook) -> str:
    """How many of the recipe's steps were taken, why no more, and what stands beside them."""
    whole = row.own.steps >= row.of
    share = f"all {plural(row.of, 'step')}" if whole else f"{row.own.steps:,} of {row.of:,} steps"
    stop = _stop(row.own) or ("" if whole else ", as many as this effort has time for")
    text = f"From the same start, the recipe was then followed for {share}{stop}."
    trial = row.reference
    if trial is None:
        return text
    steps = plural(trial.steps, "step")
    return f"{text} The same start was trained under {named(trial)} for {steps}{_stop(trial)}."


def facts(m: Measurements) -> tuple[Fact, ...]:
    """The losses that both came to, beside what a constant prediction costs."""
    row = m.outlook
    if row is None:
        return ()
    found = [Fact("Loss under the recipe", _end(row.own), _from(row.own))]
    if row.reference is not None:
        label = f"Loss under {named(row.reference)}"
        found.append(Fact(label, _end(row.reference), _from(row.reference)))
    if row.constant is not None:
        found.append(Fact("Best constant guess", number(row.constant), "on the same batches"))
    if row.own.held_out is not None:
        aside = ""
        if row.held_constant is not None:
            aside = f"a constant guess there: {number(row.held_constant)}"
        found.append(Fact("On a batch held out", number(row.own.held_out), aside))
    return tuple(found)


def _stop(trial: Trial) -> str:
    if trial.settled:
        return f"; it was stopped there, for {one_line(trial.settled)}"
    if trial.broke_at is not None:
        return f"; at step {trial.broke_at:,} its loss or gradient was no longer finite"
    return ""


def _end(trial: Trial) -> str:
    return "diverged" if trial.broke_at is not None else number(trial.end)


def _from(trial: Trial) -> str:
    if not trial.losses:
        return "at the first step"
    return f"from {number(trial.start)} in {plural(trial.steps, 'step')}"
