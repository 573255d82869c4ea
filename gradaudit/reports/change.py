"""What the section on changes says: the proof side by side, why there is none, what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradaudit.records import Attempt, Outcome, Prescription, Proof, Remedy, Report, Side
from gradaudit.reports import page
from gradaudit.reports.numbers import (
    PAGE,
    Style,
    number,
    percent,
    power,
    power_interval,
    root_log10,
)
from gradaudit.reports.text import one_line, plural

_TRIED_SHOWN = 60
_SHOWN_ONLY = "changes architecture: shown, not applied"
_CODES_SHOWN = 12
_ICONS: dict[Outcome, str] = {
    "trains": "pass",
    "stalls": "fail",
    "diverges": "fail",
    "unknown": "inconclusive",
}
_SEARCH = "Run with `--effort standard`, or `gradaudit fix`, to have them tried and measured again."


@dataclass(frozen=True)
class Held:
    """One side of a row: a symbol's name or none, its text, an aside below."""

    text: str
    aside: str = ""
    icon: str = ""


@dataclass(frozen=True)
class Row:
    """A quantity before and after the changes."""

    label: str
    help: str
    before: Held
    after: Held


@dataclass(frozen=True)
class Try:
    """One attempt in words: the symbol, the word beside it, the changes, and why."""

    icon: str
    word: str
    titles: tuple[str, ...]
    why: str


def rows(proof: Proof) -> tuple[Row, ...]:
    """Before and after, line by line; what neither side has is left out."""
    made = (
        ("Verdict", "of the whole audit", _verdict),
        ("Forecast", "what training is expected to do", _forecast),
        ("Failing findings", "codes of the rules whose limit is passed for certain", _failing),
        (
            "Growth in all",
            "of the gradient's norm, from output back to the first hidden layer",
            _growth,
        ),
        ("Gradient norm", "of the real loss, median over batches, not squared", _norm),
        ("Loss", "at the start and at the end of the training that was tried", _loss),
    )
    found = (Row(label, words, *map(side, _sides(proof))) for label, words, side in made)
    return tuple(row for row in found if row.before.text != "–" or row.after.text != "–")


def proven(proof: Proof) -> str:
    """What the changes do, and what that was measured on: goes on after "Proven:"."""
    before, after = (page.VERDICTS[side.verdict].lower() for side in _sides(proof))
    turn = f"stays at {after}" if before == after else f"goes from {before} to {after}"
    held = "held back from the search"
    batches = held if proof.batches == held else f"that are {one_line(proof.batches)}"
    text = (
        f"with these changes {_does(proof.after)}, and the verdict {turn}. "
        f"Measured again on batches {batches}"
    )
    first, last = proof.after.first_loss, proof.after.last_loss
    if first is None or last is None:
        return f"{text}."
    steps = plural(proof.steps, "step")
    return f"{text}; the loss went from {number(first)} to {number(last)} in {steps}."


def no_proof(report: Report) -> str:
    """Why the changes come without a proof; empty where they have one or there are none."""
    prescription = report.prescription
    if prescription is None or prescription.proof is not None or prescription.tried:
        return ""
    sample = report.measurements.sample
    if sample.source == "none":
        return "Nothing here was tried: without code and data there is nothing to train."
    if "made up" in (sample.source, sample.target):
        return (
            "Nothing here was tried: the data are made up, and what works on noise is no proof. "
            "Name your own with `--data`."
        )
    if all(remedy.safety == _SHOWN_ONLY for remedy in prescription.remedies):
        return "Nothing here was tried: these changes alter the architecture, which is left to you."
    if report.settings.get("effort") == "quick":
        return f"Nothing here was tried: the quick effort does not search. {_SEARCH}"
    return f"Nothing here was tried. {_SEARCH}"


def not_found(report: Report) -> str:
    """What a search without a result comes to; empty where it has one or none was made."""
    prescription = report.prescription
    if prescription is None or prescription.proof is not None or not prescription.tried:
        return ""
    tried = prescription.tried
    sets = plural(len(tried), "set") + " of changes"
    if report.verdict == "fail" or report.forecast.outcome in ("stalls", "diverges"):
        among = f"among {sets}" if len(tried) > 1 else "in the one set of changes that was tried"
        return f"No cure was found {among}."
    return f"Left as it is: {sets} did no better."


def shown_only(remedies: tuple[Remedy, ...]) -> int:
    """How many of the changes are shown and were not applied."""
    return sum(remedy.safety == _SHOWN_ONLY for remedy in remedies)


def tries(tried: tuple[Attempt, ...]) -> tuple[tuple[Try, ...], int]:
    """The attempts in words, as many as a page needs, and how many are left out."""
    return tuple(_try(attempt) for attempt in tried[:_TRIED_SHOWN]), len(tried[_TRIED_SHOWN:])


def target_scaled(prescription: Prescription | None) -> bool:
    """Whether the loss after the changes is in other units than the one before."""
    target = (prescription.recipe or {}).get("target") if prescription is not None else None
    return isinstance(target, Mapping) and target.get("scale") is not None


def turned(side: Side, style: Style = PAGE) -> str:
    """The loss that a side's training came to, in words."""
    if side.last_loss is not None:
        return number(side.last_loss, style)
    return "diverged" if side.losses else "not trained"


def _try(attempt: Attempt) -> Try:
    why = "" if attempt.passed else one_line(attempt.why)
    if attempt.last_loss is not None:
        why = "; ".join(filter(None, (why, f"loss {number(attempt.last_loss)} at the end")))
    if attempt.passed:
        return Try("pass", "Passes", attempt.titles, why)
    if attempt.outcome == "not applied":
        return Try("inconclusive", "Not applied", attempt.titles, why)
    return Try("fail", "Does not pass", attempt.titles, why)


def _does(side: Side) -> str:
    return {
        "trains": "the model trains",
        "stalls": "the model still stalls",
        "diverges": "the model still diverges",
        "unknown": "the limits are kept, though training cannot be foreseen",
    }[side.forecast.outcome]


def _sides(proof: Proof) -> tuple[Side, Side]:
    return proof.before, proof.after


def _verdict(side: Side) -> Held:
    return Held(page.VERDICTS[side.verdict], icon=side.verdict)


def _forecast(side: Side) -> Held:
    outcome = side.forecast.outcome
    sure = f"{percent(side.forecast.confidence)} confident" if outcome != "unknown" else ""
    return Held(page.OUTCOMES[outcome], sure, _ICONS[outcome])


def _failing(side: Side) -> Held:
    if not side.failing:
        return Held("none")
    left = len(side.failing) - _CODES_SHOWN
    return Held(", ".join(side.failing[:_CODES_SHOWN]), f"and {left} more" if left > 0 else "")


def _growth(side: Side) -> Held:
    if side.total_growth_log10 is None:
        return Held("–")
    total = root_log10(side.total_growth_log10)
    return Held(power(total.value), power_interval(total))


def _norm(side: Side) -> Held:
    return Held("–" if side.gradient_norm is None else number(side.gradient_norm))


def _loss(side: Side) -> Held:
    if side.first_loss is None:
        return Held("–")
    return Held(f"{number(side.first_loss)} → {turned(side)}", f"in {plural(side.steps, 'step')}")
