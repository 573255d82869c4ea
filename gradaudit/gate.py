"""From findings to a verdict and the one sentence at the top."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradaudit.records import (
    Finding,
    Measurements,
    NotMeasured,
    Verdict,
)
from gradaudit.rules._judge import learned, made_up, number, plural, power
from gradaudit.settings import Settings

_GROWTH = ("GA101", "GA102", "GA201", "GA202")
_SENTENCES = 2  # of a finding: what is wrong with how much, and what that does to training


def verdict(
    findings: Sequence[Finding],
    measurements: Measurements,
    not_measured: Sequence[NotMeasured],
    settings: Settings,
) -> Verdict:
    """``fail`` if any finding fails, ``inconclusive`` if too little was measured, else the worst.

    Notes do not matter. A made-up sample still judges architecture and weights.
    """
    worst = {finding.severity for finding in findings}
    if "fail" in worst:
        return "fail"
    if missing(measurements, not_measured):
        return "inconclusive"
    return "warn" if "warn" in worst else "pass"


def missing(measurements: Measurements, not_measured: Sequence[NotMeasured]) -> str:
    """Why no verdict can be given, or nothing if one can.

    Needed is the model run on a sample: its growth or a rehearsal; and, where the data and the loss
    are real, the rehearsal.
    """
    if measurements.sample.source == "none":
        return _reason(not_measured, "only the weights could be read")
    rehearsed = measurements.rehearsal is not None
    trained_on = measurements.sample.target in ("given", "in the model")
    if not made_up(measurements) and trained_on and not rehearsed:
        return _reason(not_measured, "the recipe was not rehearsed", about="rehears")
    if not rehearsed and not measurements.trunk.found and not measurements.recurrent:
        return _reason(not_measured, "neither growth nor a rehearsal could be measured")
    return ""


def _reason(not_measured: Sequence[NotMeasured], plainly: str, about: str = "") -> str:
    """The stated fact, with the reason on record where one speaks of it."""
    for item in not_measured:
        if about in item.what.lower():
            return f"{plainly} ({item.what}: {item.why.rstrip('.')})"
    return plainly


def cause(
    findings: Sequence[Finding],
    outcome: Verdict,
    measurements: Measurements,
    not_measured: Sequence[NotMeasured],
) -> str:
    """The headline: one sentence with the verdict's reason, in the order to fix things in.

    ``findings`` come as :func:`gradaudit.rules.run_rules` sorts them: worst first, and among
    equals the true cause (non-finite numbers, data, growth, ...) first.
    """
    if outcome == "pass":
        return _passed(measurements)
    if outcome == "inconclusive":
        lacks = f"Too little could be measured to judge: {missing(measurements, not_measured)}"
        return lacks + _weights_alone(findings, measurements) + "."
    top = next(finding for finding in findings if finding.severity == outcome)
    said = sentences(top.why)[:_SENTENCES]
    start = next((f for f in findings if f.code == "GA302" and f.severity != "note"), None)
    if top.code in _GROWTH and start is not None:
        said.append(first_sentence(start.why))
    return " ".join(said)


def _weights_alone(findings: Sequence[Finding], measurements: Measurements) -> str:
    """What the weights say where nothing else could be read."""
    if measurements.sample.source != "none" or not measurements.weights:
        return ""
    taken = "learned" if learned(measurements) else "a start"
    told = next((first_sentence(f.why).rstrip(".") for f in findings if f.severity == "warn"), "")
    held = f"Of {plural(len(measurements.weights), 'weight')} measured, taken as {taken},"
    return f". {held} one stands out: {told}" if told else f". {held} none calls for a change"


def sentences(text: str) -> list[str]:
    """The text at every full stop that is followed by a new sentence."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`\d])", text.strip())


def first_sentence(text: str) -> str:
    """Up to the first full stop that is followed by a new sentence."""
    return sentences(text)[0]


def _passed(measurements: Measurements) -> str:
    grounds = []
    growth, rehearsal = measurements.trunk.total_growth_log10, measurements.rehearsal
    if growth is not None:
        grounds.append(
            f"gradients keep their size within a factor {power(abs(growth.value) / 2)} over "
            f"{plural(measurements.trunk.stages, 'stage')}"
        )
    if not made_up(measurements) and rehearsal is not None and len(rehearsal.losses) > 1:
        first, last = rehearsal.losses[0], rehearsal.losses[-1]
        grounds.append(
            f"the loss goes from {number(first)} to {number(last)} in "
            f"{plural(rehearsal.steps, 'rehearsed step')}"
        )
    ground = f": {' and '.join(grounds)}" if grounds else ""
    scope = (
        "; the sample is made up, so data and recipe are not judged"
        if made_up(measurements)
        else ""
    )
    claim = "Nothing was found that keeps this model from training"
    if not made_up(measurements) and rehearsal is not None and rehearsal.outcome == "flat":
        claim = "No rule is broken, but the rehearsal shows no lasting fall of the loss yet"
    return f"{claim}{ground}{scope}."
