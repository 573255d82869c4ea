"""What training will do, from longer training where it was affordable, rehearsal and findings."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.records import Finding, Forecast, Measurements, Outcome, Rehearsal
from gradaudit.rules._judge import broken_by_our_rate, made_up, too_slow
from gradaudit.rules._outlook import Reading, reading

# Of the forecasts of each kind, the share that came true on the half of the corpus that is tuned on
# (tests/corpus/tune, 428 recipes trained to the end): where training itself was followed ...
_SEEN = 0.99  # 0.994 of 328
_FORESEEN = {"trains": 0.85, "stalls": 0.95, "diverges": 0.99}  # 0.81 of 37, 0.98 of 57
# ... and where the same recipes were only rehearsed for 16 steps, as larger nets are.
_BROKE = 0.97  # all of 79
_FLAT_WITH_FAULT = 0.97  # all of 56
_FELL_FAR = 0.88  # 0.89 of 116
_FELL = 0.55  # 0.55 of 96: below no more than its own start
_MEASURED_ONLY = 0.77  # 0.78 of 81: flat, or falling with a fault that stands
_ENOUGH_STEPS = 15  # below it a rehearsal is weak evidence

_DIVERGES = ("GA001", "GA101", "GA201", "GA601", "GA603")
_STALLS = (
    *("GA102", "GA104", "GA202", "GA302", "GA401", "GA402"),
    *("GA501", "GA502", "GA602", "GA607", "GA612"),
)


def forecast(findings: Sequence[Finding], measurements: Measurements) -> Forecast:
    """What training is expected to do: from training itself, then rehearsal, then the findings.

    ``unknown`` without real data: what was not shown cannot be foreseen.
    """
    if made_up(measurements):
        return Forecast("unknown", 0.0)
    failing = tuple(finding.code for finding in findings if finding.severity == "fail")
    read = reading(measurements)
    if read is not None and read.course != "open":
        return _from_training(read, failing)
    return _from_rehearsal(failing, measurements)


def _from_training(read: Reading, failing: Sequence[str]) -> Forecast:
    confidence = _SEEN if read.sure else _FORESEEN[read.course]
    if read.course == "trains":
        return Forecast("trains", confidence)
    if read.course == "diverges":
        return Forecast("diverges", confidence, _because(failing, _DIVERGES))
    return Forecast("stalls", confidence, _because(failing, _STALLS))


def _from_rehearsal(failing: Sequence[str], measurements: Measurements) -> Forecast:
    rehearsal = measurements.rehearsal
    if broken_by_our_rate(measurements):
        rehearsal = None
    if rehearsal is not None and rehearsal.outcome == "diverges":
        return Forecast("diverges", _BROKE, _because(failing, _DIVERGES))
    if rehearsal is None:
        ways: tuple[tuple[Outcome, tuple[str, ...]], ...]
        ways = (("diverges", _DIVERGES), ("stalls", _STALLS))
        for outcome, kind in ways:
            if any(code in kind for code in failing):
                return Forecast(outcome, _MEASURED_ONLY, _because(failing, kind))
        return Forecast("unknown", 0.0)
    if rehearsal.outcome == "falls":
        # What explodes does so within a few steps. Where it did not, a fault that stands keeps the
        # loss from going where a sound net would take it.
        faults = _because(failing, (*_DIVERGES, *_STALLS))
        if faults:
            return Forecast("stalls", _MEASURED_ONLY, faults)
        if too_slow(rehearsal):
            return Forecast("stalls", _MEASURED_ONLY)
        # Full only where it went past what a constant prediction gets for nothing.
        far = rehearsal.beats_constant is True and _is_telling(rehearsal)
        return Forecast("trains", _FELL_FAR if far else _FELL)
    # A flat start without a fault to explain it may be a slow one.
    sure = bool(failing) and _is_telling(rehearsal)
    confidence = _FLAT_WITH_FAULT if sure else _MEASURED_ONLY
    return Forecast("stalls", confidence, _because(failing, _STALLS))


def _is_telling(rehearsal: Rehearsal) -> bool:
    """Whether it took enough steps of the user's own recipe."""
    return not rehearsal.prescribed and rehearsal.steps >= _ENOUGH_STEPS


def _because(failing: Sequence[str], kind: Sequence[str]) -> tuple[str, ...]:
    """The failing codes that speak for it, else all that fail, once each, in order."""
    chosen = [code for code in failing if code in kind] or list(failing)
    return tuple(dict.fromkeys(chosen))
